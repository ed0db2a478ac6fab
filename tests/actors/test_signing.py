"""Signed clips, read back by C2PA's own reader."""

import builtins
import hashlib
import subprocess
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import av
import c2pa
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from actors import __version__, video
from actors.errors import ConfigError, VideoError
from actors.marks.credentials import Credentials
from actors.marks.signing import Signer
from actors.marks.source_types import MADE_BY_AI
from tests.actors.test_marks import EXIFTOOL, IN_MP4, boxes, encode
from tests.certificates import NOW, Authority, pem_of

KEY = ec.generate_private_key(ec.SECP256R1())
AUTHORITY = Authority()
CREDENTIALS = Credentials(AUTHORITY.vouch(KEY), pem_of(KEY))
SALT = b"c2sh"


def signed(folder: Path, codec: str = "h264") -> Path:
    folder.mkdir(exist_ok=True)
    path = encode(folder / "clip.mp4", codec)
    Signer(CREDENTIALS).sign(path, MADE_BY_AI)
    assert [one.name for one in folder.iterdir()] == ["clip.mp4"]
    return path


def read(path: Path) -> tuple[dict[str, Any], str | None, list[str]]:
    """The manifest, whether it holds, and what does not."""
    with c2pa.Reader(str(path)) as reader:
        manifest, results = reader.get_active_manifest(), reader.get_validation_results()
        assert manifest is not None
        assert results is not None
        return manifest, reader.get_validation_state(), [one["code"] for one in results["activeManifest"]["failure"]]


@pytest.mark.parametrize("codec", IN_MP4)
def test_c2pas_reader_finds_what_was_signed(tmp_path: Path, codec: str) -> None:
    manifest, state, faults = read(signed(tmp_path, codec))
    assert (state, faults) == ("Valid", ["signingCredential.untrusted"])  # who is trusted is the reader's to say
    assert manifest["title"] == "clip.mp4"
    generator = manifest["claim_generator_info"][0]
    assert (generator["name"], generator["version"]) == ("stillreel", __version__)
    actions = next(one["data"]["actions"] for one in manifest["assertions"] if one["label"] == "c2pa.actions.v2")
    agent = {"name": "stillreel", "version": __version__}
    assert actions == [{"action": "c2pa.created", "digitalSourceType": MADE_BY_AI, "softwareAgent": agent}]
    assert manifest["signature_info"]["common_name"] == "signer"


@pytest.mark.parametrize("codec", IN_MP4)
def test_a_signed_file_plays_as_before_and_keeps_record_and_mark(tmp_path: Path, codec: str) -> None:
    before = list(boxes(encode(tmp_path / "plain.mp4", codec).read_bytes()))
    path = signed(tmp_path / "signed", codec)
    after = list(boxes(path.read_bytes()))
    assert [kind for kind, _ in after] == [b"ftyp", b"uuid", b"moov", b"free", b"mdat", b"uuid"]
    # The index has moved, so it says other places of the pictures.
    assert [one for one in after if one[0] != b"moov"][2:] == [one for one in before if one[0] != b"moov"][1:]
    assert video.read_tag(path) == "{}"
    frames = []
    for one in (tmp_path / "plain.mp4", path):
        with av.open(str(one)) as container:
            frames.append([frame.to_ndarray().tobytes() for frame in container.decode(video=0)])
    assert len(frames[1]) == 5
    assert frames[0] == frames[1]


def test_whoever_trusts_the_authority_trusts_the_file(tmp_path: Path) -> None:
    root = AUTHORITY.certificate().public_bytes(Encoding.PEM).decode()
    context = c2pa.Context.from_dict({"trust": {"user_anchors": root}})
    with c2pa.Reader(str(signed(tmp_path)), context=context) as reader:
        assert reader.get_validation_state() == "Trusted"


def test_a_certificate_that_has_ended_meanwhile_is_said(tmp_path: Path) -> None:
    ended = Credentials(AUTHORITY.vouch(KEY, ends=NOW - timedelta(seconds=1)), pem_of(KEY))
    path = encode(tmp_path / "clip.mp4", "h264")
    with pytest.raises(VideoError, match=r"could not be signed: .* not valid at time of signing"):
        Signer(ended).sign(path, MADE_BY_AI)


def test_a_change_of_a_picture_breaks_the_signature(tmp_path: Path) -> None:
    path = signed(tmp_path)
    data = bytearray(path.read_bytes())
    data[data.index(b"mdat") + 400] ^= 1
    path.write_bytes(data)
    _, state, faults = read(path)
    assert state == "Invalid"
    assert "assertion.bmffHash.mismatch" in faults


def jumbf(data: bytes, within: str = "") -> Iterator[tuple[str, bytes]]:
    """The innermost boxes, with the labels that they lie under; a box's description ends with its salt."""
    for kind, content in boxes(data):
        if kind == b"jumb":
            (_, description), *_ = boxes(content)
            label = description[17 : description.index(0, 17)].decode()
            yield from jumbf(content, f"{within}/{label}")
        elif kind == b"jumd" and SALT in content:
            at = content.index(SALT) - 4
            yield f"{within} {kind.decode()}", content[:at]
            yield f"{within} salt", content[at:]
        else:
            yield f"{within} {kind.decode()}", content


def test_of_two_signed_files_only_signature_salts_and_what_hashes_them_differ(tmp_path: Path) -> None:
    one, two = (signed(tmp_path / name).read_bytes() for name in ("a", "b"))
    assert one != two
    assert len(one) == len(two)
    (_, store_one), (_, store_two) = (list(boxes(data))[1] for data in (one, two))
    assert one.replace(store_one, b"") == two.replace(store_two, b"")
    at = store_one.index(b"jumb") - 4
    parts = list(zip(jumbf(store_one[at:]), jumbf(store_two[at:]), strict=True))
    assert all(first[0] == second[0] for first, second in parts)
    other = [first[0] for first, second in parts if first[1] != second[1]]
    manifest = "/c2pa/urn:c2pa:" + read(tmp_path / "a/clip.mp4")[0]["label"].removeprefix("urn:c2pa:")
    assertions = f"{manifest}/c2pa.assertions"
    assert other == [
        f"{assertions}/c2pa.actions.v2 salt",
        f"{assertions}/c2pa.hash.bmff.v3 salt",
        f"{manifest}/c2pa.claim.v2 cbor",
        f"{manifest}/c2pa.signature cbor",
    ]
    ((claim_one, claim_two),) = [(first[1], second[1]) for first, second in parts if "claim.v2 cbor" in first[0]]
    num_other = sum(x != y for x, y in zip(claim_one, claim_two, strict=True))
    assert num_other <= 2 * hashlib.sha256().digest_size  # of the two assertions' boxes, which hold the salts


def test_ids_are_of_the_clip_and_differ_between_clips(tmp_path: Path) -> None:
    manifests = []
    for name in ("a.mp4", "b.mp4"):
        path = encode(tmp_path / name, "h264")
        Signer(CREDENTIALS).sign(path, MADE_BY_AI)
        manifests.append(read(path)[0])
    assert len({one["label"] for one in manifests}) == 2
    assert len({one["instance_id"] for one in manifests}) == 2


def test_what_is_no_video_is_not_signed_and_nothing_lies_about(tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    path.write_bytes(b"no video")
    with pytest.raises(VideoError, match="could not be signed"):
        Signer(CREDENTIALS).sign(path, MADE_BY_AI)
    assert [one.name for one in tmp_path.iterdir()] == ["clip.mp4"]
    assert path.read_bytes() == b"no video"


def test_a_worker_without_the_library_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    imported = builtins.__import__

    def without(name: str, *args: Any, **options: Any) -> Any:
        if name == "c2pa":
            raise ImportError(name)
        return imported(name, *args, **options)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ConfigError, match=r"pip install 'stillreel\[c2pa\]' on each node"):
        Signer(CREDENTIALS)


@pytest.mark.skipif(EXIFTOOL is None, reason="exiftool is not installed")
def test_exiftool_reads_the_mark_of_a_signed_file(tmp_path: Path) -> None:
    command = [str(EXIFTOOL), "-G", str(signed(tmp_path))]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert "[XMP]           Digital Source Type             : " + MADE_BY_AI in said
    assert "Warning" not in said
