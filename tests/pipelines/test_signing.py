"""What clips are signed with: looked at before a run begins, handed to the workers, and seen by nobody."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import c2pa
import pytest
import yaml
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from actors import secrets
from actors.errors import ConfigError
from actors.marks.signing import Signer
from actors.marks.source_types import MADE_BY_AI
from actors.storage import Storage
from pipelines.config import Config, load_config, to_yaml
from pipelines.signing import credentials_of
from tests.actors.test_marks import encode
from tests.certificates import NOW, YEAR, Authority, locked, pem_of, time_stamping_service, write_credentials

STORAGE = Storage()


@pytest.fixture(autouse=True)
def _nothing_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(secrets, "_known", secrets._Known())


def config_for(*overrides: str) -> Config:
    return load_config([], ["generator='null'", "manifest=m.parquet", "output=out", *overrides])


def refused(*overrides: str) -> str:
    with pytest.raises(ConfigError) as raised:
        credentials_of(config_for(*overrides), STORAGE)
    return str(raised.value)


def test_without_the_setting_nothing_is_signed() -> None:
    assert credentials_of(config_for(), STORAGE) is None


def test_certificate_and_key_are_read_from_files(tmp_path: Path) -> None:
    credentials = credentials_of(config_for(*write_credentials(tmp_path)), STORAGE)
    assert credentials is not None
    assert credentials.certificate == (tmp_path / "chain.pem").read_bytes()
    assert credentials.key == (tmp_path / "key.pem").read_bytes()
    assert (credentials.algorithm, credentials.timestamp_url) == ("es256", None)


def test_the_key_may_be_text_from_the_environment_and_is_saved_as_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate, _ = write_credentials(tmp_path)
    monkeypatch.setenv("C2PA_KEY", (tmp_path / "key.pem").read_text())
    config = config_for(certificate, "video.c2pa.key=${oc.env:C2PA_KEY}")
    credentials = credentials_of(config, STORAGE)
    assert credentials is not None
    assert credentials.key == (tmp_path / "key.pem").read_bytes()
    assert yaml.safe_load(to_yaml(config))["video"]["c2pa"]["key"] == "${oc.env:C2PA_KEY}"


def test_the_key_is_in_nothing_that_is_printed_or_saved(tmp_path: Path) -> None:
    _, key = write_credentials(tmp_path)
    text = (tmp_path / "key.pem").read_text()
    for written in (key, f"video.c2pa.key='{text}'"):
        config = config_for(f"video.c2pa.certificate={tmp_path}/chain.pem", written)
        credentials = credentials_of(config, STORAGE)
        assert credentials is not None
        assert credentials.key.decode() == text  # YAML made spaces of the ends of lines
        lines = [line for line in text.splitlines() if not line.startswith("-")]
        said = f"{config!r} {config} {config.video!r} {credentials!r} {to_yaml(config)} {config.model_dump_json()}"
        assert not [line for line in lines if line in said]
        assert f"{tmp_path}/key.pem" not in said
        assert all(line in text for line in lines)
        assert lines[1] not in secrets.hidden(f"the library said {lines[1]}, and no more")


def write_pair(folder: Path, certificate: bytes, key: bytes) -> list[str]:
    (folder / "chain.pem").write_bytes(certificate)
    (folder / "key.pem").write_bytes(key)
    return [f"video.c2pa.certificate={folder}/chain.pem", f"video.c2pa.key={folder}/key.pem"]


def pair(fault: str) -> tuple[bytes, bytes]:
    key, authority = ec.generate_private_key(ec.SECP256R1()), Authority()
    good, pem = authority.vouch(key), pem_of(key)
    other = ec.generate_private_key(ec.SECP256R1())
    made: dict[str, tuple[bytes, bytes]] = {
        "ended": (authority.vouch(key, ends=NOW - timedelta(days=1)), pem),
        "not begun": (authority.vouch(key, begins=NOW + timedelta(days=2), ends=NOW + YEAR), pem),
        "no certificate": (pem, pem),
        "no key": (good, good),
        "locked": (good, locked(key)),
        "another key": (good, pem_of(other)),
        "no purpose": (authority.vouch(key, purpose=None), pem),
        "own": (authority.certificate().public_bytes(Encoding.PEM), pem_of(authority.key)),
    }
    return made[fault]


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("ended", f"video.c2pa.certificate: a certificate in it ended on {NOW - timedelta(days=1):%Y-%m-%d}"),
        ("not begun", f"video.c2pa.certificate: a certificate in it begins only on {NOW + timedelta(days=2):%Y-%m-%d}"),
        ("no certificate", "video.c2pa.certificate: is no certificate in PEM"),
        ("no key", "video.c2pa.key: is no private key in PEM"),
        ("locked", "video.c2pa.key: is locked by a passphrase"),
        ("another key", "video.c2pa.key: is not that of the first certificate in video.c2pa.certificate"),
        ("no purpose", "video.c2pa.certificate: C2PA asks for one that an authority has given to sign with"),
        ("own", "video.c2pa.certificate: C2PA asks for one that an authority has given to sign with"),
    ],
)
def test_what_cannot_sign_is_refused_in_a_sentence(tmp_path: Path, fault: str, said: str) -> None:
    text = refused(*write_pair(tmp_path, *pair(fault)))
    assert text.startswith(said)
    assert "\n" not in text
    assert len(text) < 350


@pytest.mark.parametrize(
    ("algorithm", "key"),
    [
        ("es256", ec.generate_private_key(ec.SECP256R1())),
        ("es384", ec.generate_private_key(ec.SECP384R1())),
        ("es512", ec.generate_private_key(ec.SECP521R1())),
        ("ps256", rsa.generate_private_key(65537, 2048)),
        ("ed25519", ed25519.Ed25519PrivateKey.generate()),
    ],
    ids=["es256", "es384", "es512", "ps256", "ed25519"],
)
def test_each_algorithm_signs_with_its_own_kind_of_key_and_no_other(tmp_path: Path, algorithm: str, key: Any) -> None:
    overrides = write_pair(tmp_path, Authority().vouch(key), pem_of(key))
    assert credentials_of(config_for(*overrides, f"video.c2pa.algorithm={algorithm}"), STORAGE) is not None
    for another in {"es256", "es384", "ps512", "ed25519"} - {algorithm, "ps512" if algorithm == "ps256" else ""}:
        said = refused(*overrides, f"video.c2pa.algorithm={another}")
        assert said.startswith(f"video.c2pa.algorithm: {another} needs a")


def test_the_older_form_of_a_key_is_read_too(tmp_path: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    older = key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
    assert b"BEGIN EC PRIVATE KEY" in older
    credentials = credentials_of(config_for(*write_pair(tmp_path, Authority().vouch(key), older)), STORAGE)
    assert credentials is not None
    assert credentials.key == pem_of(key)


@pytest.mark.parametrize("name", ["certificate", "key"])
def test_a_file_that_is_not_there_is_named_by_its_setting(tmp_path: Path, name: str) -> None:
    overrides = write_credentials(tmp_path)
    said = refused(*overrides, f"video.c2pa.{name}={tmp_path}/nowhere.pem")
    assert said.startswith(f"video.c2pa.{name}: cannot be read")


def test_a_time_stamp_is_of_the_service_that_is_named(tmp_path: Path) -> None:
    overrides = write_credentials(tmp_path)
    with time_stamping_service(tmp_path) as url:
        credentials = credentials_of(config_for(*overrides, f"video.c2pa.timestamp_url={url}/tsr"), STORAGE)
        assert credentials is not None
        path = encode(tmp_path / "clip.mp4", "h264")
        Signer(credentials).sign(path, MADE_BY_AI)
    with c2pa.Reader(str(path)) as reader:
        manifest = reader.get_active_manifest()
        assert manifest is not None
        assert manifest["signature_info"]["time"].startswith(f"{NOW:%Y-%m-%d}")


def test_a_service_that_gives_no_time_stamps_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[int] = []

    def wait_s(number: int) -> float:
        waited.append(number)
        return 0.0

    monkeypatch.setattr("actors.retries.wait_s", wait_s)
    said = refused(*write_credentials(tmp_path), "video.c2pa.timestamp_url=http://me:hush-hush@127.0.0.1:9/tsr")
    assert said.startswith("video.c2pa.timestamp_url: the service gave no time stamp (RFC 3161); a trial failed")
    assert "hush" not in said
    assert waited == [1, 2, 3, 4]


def test_a_missing_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert "pip install 'stillreel[c2pa]'" in refused(*write_credentials(tmp_path))
