"""Secrets, planted wherever somebody may have one: none is in the output, in messages, logs, or any file of a run."""

import base64
import http.server
import io
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn
from urllib.parse import quote

import c2pa
import psutil
import pyarrow.parquet as pq
import pytest
import yaml
from rich.console import Console

from actors import secrets
from actors.contracts import Loaded, Planned, Stage
from actors.generators.null import NullGenerator
from actors.stages.load import Load
from actors.storage import Storage
from pipelines import run as runs
from pipelines.config import load_config
from pipelines.planning.clips import open_manifest, wanted_clips
from pipelines.planning.identity import Identity
from tests.certificates import write_credentials
from tests.clusters import Head
from tests.jobs import in_process, write_null_config, write_pictures
from tests.web import serving

pytestmark = pytest.mark.slow

# A name for each place that has one; what stands there is `plant(name)`.
PLACES = (
    "header", "proxy_password", "environment", "fallback", "manifest_login", "manifest_token", "image_signature",
    "image_credential", "image_login", "azure", "redirect", "reason", "damaged", "cloudfront", "worker", "worker_cause",
)  # fmt: skip


def plant(name: str) -> str:
    """A secret that can be found again, whatever stands around it."""
    return f"PLANT{name.replace('_', '')}9x7"


def found_in(text: str) -> list[str]:
    """The places whose secret stands in a text, in any of its spellings."""
    everything = text.casefold()
    spelt = {
        name: {plant(name).casefold(), base64.b64encode(plant(name).encode()).decode().strip("=").casefold()[:-2]}
        for name in (*PLACES, "mistake")
    }
    return [name for name, spellings in spelt.items() if any(one in everything for one in spellings)]


@dataclass
class Web:
    """A web server that asks for what it has given out, and what it was asked for."""

    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)


@pytest.fixture
def web() -> Iterator[Web]:
    state = Web()

    class Answering(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            state.asked.append(self.path)
            state.headers.append(dict(self.headers))
            data = state.files.get(self.path)
            if self.path.startswith("/moved"):
                self.send_response(302)
                self.send_header("Location", f"https://cdn.example.com/x.png?sig={plant('redirect')}")
            elif data is None:
                said = f"no {state.url}{self.path} for {self.headers.get('Authorization')} token={plant('reason')}"
                self.send_response(403, said)
            else:
                self.send_response(200)
            self.send_header("Content-Length", str(len(data or b"")))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(data or b"")

        do_HEAD = do_GET

    with serving(Answering) as state.url:
        yield state


@pytest.fixture(autouse=True)
def _nothing_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(secrets, "_known", secrets._Known())


def texts_of(folder: Path) -> str:
    """All that the files in a folder hold: their names, their bytes, and the cells of Parquet, which are packed."""
    parts = []
    for path in sorted(folder.rglob("*")):
        if not path.is_file() or path.is_socket():
            continue
        parts += [path.name, path.read_bytes().decode("latin-1")]
        if path.suffix == ".parquet":
            parts.append(repr(pq.read_table(path).to_pylist()))
    return "\n".join(parts)


def logs_of_ray(head: Head) -> str:
    """What Ray has written into its session's folder, with what workers wrote on standard error."""
    (place,) = {
        argument.partition("=")[2]
        for argument in psutil.Process(head.pid).cmdline()
        if argument.startswith("--temp-dir=")
    }
    return "\n".join(
        path.read_bytes().decode("latin-1") for path in Path(place).glob("session_*/logs/**/*") if path.is_file()
    )


def write_job(folder: Path, web: Web) -> Path:
    """A job whose manifest and images are signed: four of its images can be had, four cannot."""
    pictures = [path.read_bytes() for path in write_pictures(folder / "pictures", 4)]
    signed = f"X-Amz-Credential={plant('image_credential')}%2F2026&X-Amz-Signature={plant('image_signature')}"
    azure = f"sv=2026-01-01&se=2026&sr=b&sig={plant('azure')}%3D"
    front = f"Expires=1&Policy={plant('cloudfront')}&Signature={plant('cloudfront')}&Key-Pair-Id=K"
    good = [f"/a%2Fb.png?{signed}", f"/b.png?w=3&{azure}", f"/c+d.png?{front}", "/d.png"]
    web.files = dict(zip(good, pictures, strict=True))
    web.files[f"/damaged.png?sig={plant('damaged')}"] = b"no picture"
    host = web.url.removeprefix("http://")
    urls = [f"{web.url}{path}" for path in good[:3]]
    urls.append(f"http://user:{plant('image_login')}@{host}/d.png")
    urls += [f"{web.url}/none.png?{signed}", f"{web.url}/damaged.png?sig={plant('damaged')}", f"{web.url}/moved/x.png"]
    urls.append(f"ftp://user:{plant('image_login')}@elsewhere/x.png?sig={plant('azure')}")
    token = f"?token={plant('manifest_token')}/{quote('ä')}"
    web.files[f"/list.csv{token}"] = "\n".join(["url,caption", *(f"{url},x" for url in urls)]).encode()
    login = f"me:{plant('manifest_login')}"
    options = {
        "http": {
            "headers": {"X-Api-Key": plant("header")},
            "client_kwargs": {"cookies": {"session": "${oc.env:STILLREEL_TEST_ONE}"}},
        },
        "s3": {"key": "${oc.env:STILLREEL_TEST_TWO," + plant("fallback") + "}", "proxy": _proxy()},
    }
    return write_null_config(
        folder / "job.yaml",
        f"http://{login}@{host}/list.csv{token}",
        folder / "out",
        storage={"options": options, "tries": 1, "schemes": ["http"]},
        run={"flush_s": 1, "log_interval_s": 1, "max_failed_share": 1},
    )


def _proxy() -> str:
    return f"http://proxy:{plant('proxy_password')}@10.0.0.1:3128"


def test_a_run_keeps_all_secrets(tmp_path: Path, web: Web, head: Head, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STILLREEL_TEST_ONE", plant("environment"))
    job = [write_job(tmp_path, web), *write_credentials(tmp_path)]
    planned = in_process("plan", "--config", *job)
    done = in_process("run", "--config", *job, f"ray.address={head.address}")
    again = in_process("run", "--config", *job, f"ray.address={head.address}")
    said = "\n".join(text for one in (planned, done, again) for text in (one.stdout, one.stderr))
    assert done.returncode == 0, said
    assert "Nothing left to do" in again.stdout, said
    assert found_in(said) == []
    assert found_in(texts_of(tmp_path / "out")) == []
    assert found_in(logs_of_ray(head)) == []
    key = [line for line in (tmp_path / "key.pem").read_text().splitlines() if not line.startswith("-")]
    everything = said + texts_of(tmp_path / "out") + logs_of_ray(head)
    assert [line for line in [*key, f"{tmp_path}/key.pem"] if line in everything] == []
    # And all of it was used: without its secret no request would have been answered, and no clip signed.
    for path in (tmp_path / "out/data/part-00000").glob("*.mp4"):
        with c2pa.Reader(str(path)) as reader:
            assert reader.get_validation_state() == "Valid"
    clips = pq.read_table(tmp_path / "out/data/part-00000/metadata.parquet")["image_uri"].to_pylist()
    assert sorted(clips) == [f"{web.url}/{name}" for name in ("a%2Fb.png", "b.png?w=3", "c+d.png", "d.png")]
    failures = pq.read_table(tmp_path / "out/failures/part-00000.parquet").to_pylist()
    failed = {
        (row["image_uri"].rpartition("/")[2].partition("?")[0], row["stage"], row["error_type"]) for row in failures
    }
    assert failed == {
        ("none.png", "load", "StorageError"),
        ("damaged.png", "load", "ImageError"),
        ("x.png", "load", "StorageError"),
        ("x.png", "manifest", "ManifestError"),
    }
    assert all(headers.get("X-Api-Key") == plant("header") for headers in web.headers)
    saved = yaml.safe_load(next((tmp_path / "out/_runs").glob("*/config.yaml")).read_text())
    assert saved["storage"]["options"]["http"] == {
        "headers": {"X-Api-Key": "***"},
        "client_kwargs": {"cookies": {"session": "***"}},
    }


def test_a_signature_makes_no_other_clip(tmp_path: Path) -> None:
    def planned(signature: str) -> dict[str, str]:
        query = f"Expires={len(signature)}&Signature={signature}"
        urls = [f"https://h/{name}?{query}" for name in ("a.png", "b.png")] + [f"https://u:{signature}@h/c.png"]
        urls += [f"http://localhost/d.png?{query}", "https://h/e.png?size=3"]  # one that may not be fetched
        (tmp_path / "list.txt").write_text("\n".join(urls))
        job = write_null_config(
            tmp_path / "job.yaml", tmp_path / "list.txt", tmp_path / "none", storage={"schemes": ["http", "https"]}
        )
        config = load_config([str(job)], [])
        (clips, _), *_ = wanted_clips(open_manifest(config, Storage()), config, Identity(config, "", ""))
        return dict(zip(clips["image_uri"].to_pylist(), clips["clip_id"].to_pylist(), strict=True))

    one = planned("one")
    assert one == planned("another")
    assert len(set(one.values())) == 5
    assert list(one) == [
        *(f"https://h/{name}.png" for name in "abc"),
        "http://localhost/d.png",
        "https://h/e.png?size=3",
    ]


def test_what_workers_raise_holds_no_secrets(
    tmp_path: Path, web: Web, head: Head, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STILLREEL_TEST_ONE", plant("environment"))
    config = load_config([str(write_job(tmp_path, web))], [f"ray.address={head.address}"])
    cause = plant("worker_cause")
    said, known = f"http://me:{plant('worker')}@host/?sig={plant('worker')}", plant("header")

    class Faulty(Stage[Planned, Loaded]):
        name = "load"
        columns = Load.columns

        def __call__(self, item: Planned) -> Loaded:
            try:
                self.fail()
            except KeyError as error:
                raise ValueError(f"{said} with {known}") from error

        def fail(self) -> NoReturn:
            raise KeyError(f"https://host/?X-Goog-Signature={cause}")

    printed = io.StringIO()
    summary = runs.run(config, Console(file=printed, width=200), None, stand_ins={"load": Faulty})
    assert summary.failed == 8
    everything = printed.getvalue() + summary.to_json() + repr(summary) + texts_of(tmp_path / "out")
    assert "ValueError: http://***@host/?sig=*** with ***" in everything  # warnings.log has the traceback
    assert found_in(everything) == []
    assert found_in(logs_of_ray(head)) == []


@pytest.mark.parametrize(
    "overrides",
    [
        ["storage.optoins.s3.secret={}"],
        ["storage.options.s3={}"],
        ["storage.options={}"],
        ["storage.options.s4.secret={}"],
        ["storage.options.file.secret={}"],
        ["storage.options.s3.secret", "{}"],
        ["video.c2pa={}"],
        ["video.c2pa.key={}"],
        ["video.c2pa={{certificate: conf/null.yaml, key: {}}}"],
        ["{}"],
        ["--", "-{}"],
        ["storge={{s3: {{secret: {}}}}}"],
        ["storage.tries={}"],
        ["storage.schemes=[{}]"],
        ["storage.prefixes=[{}]"],
        ["image.fit={}"],
        ["image.width={}"],
        ["video.preset={}"],
        ["video.pixel_format={}"],
        ["video.fps={}"],
        ["generator={}"],
        ["variants=[{{seed: {}}}]"],
        ["variants={}"],
        ["columns.types={{a: {}}}"],
        ["ray.address=[{}]"],
        ["ray.address=http://me:{}@127.0.0.1:1"],
        ["run.run_id={}"],
        ["storage.options.s3.secret=[{}"],
        ["storage.options.s3.secret=*{}"],
        ["storage.options.s3.secret=!{}"],
        ["storage.options.s3.secret='${{{}'"],
        ["storage.options.s3.secret=${{{}}}"],
        ["storage.options.s3.secret=${{{}:x}}"],
        ["storage.options.s3.secret=${{oc.decode:'{}:{{'}}"],
        ["s3://KEY:{}@bucket/list.csv"],
        ["https://host/list.csv?X-Amz-Signature={}"],
        ["manifest=https://me:{}@127.0.0.1:1/list.csv", "storage.tries=1"],
        ["manifest=https://127.0.0.1:1/list.csv?sig={}", "storage.tries=1"],
        ["manifest=https://me:pa/{}@127.0.0.1:1/list.csv", "storage.tries=1"],
        ["output=s3://KEY:{}@bucket/out", "storage.tries=1", "storage.options.s3.anon=true"],
        ["output=ftp://me:{}@127.0.0.1:1/out", "storage.tries=1"],
        ["columns.base=https://me:{}@127.0.0.1:1/", "columns.uri_column=nothing"],
        ["interpolation.weights=http://127.0.0.1:1/rife.pkl?sig={}", "interpolation.factor=2", "storage.tries=1"],
        ["generator=svd", "model.source=http://me:{}@127.0.0.1:1/svd", "storage.tries=1"],
    ],
)
def test_mistakes_show_no_value(overrides: list[str], tmp_path: Path) -> None:
    write_pictures(tmp_path, 1)
    job = write_null_config(tmp_path / "job.yaml", tmp_path / "picture-000.png", tmp_path / "out")
    ended = in_process("run", "--config", job, *(one.format(plant("mistake")) for one in overrides))
    assert ended.returncode in (1, 2), ended.stdout + ended.stderr
    assert ended.stderr != ""
    assert found_in(ended.stdout + ended.stderr) == []


@pytest.mark.parametrize(
    "lines",
    [
        "storage: {{options: {{s3: {{secret: [{}}}}}}}",
        "storage:\n  options:\n    s3:\n      secret: *{}\n",
        "storage:\n  options:\n    s3:\n      secret: !{} x\n",
        "storage:\n  options:\n    s3:\n      secret: '{}\n",
        'storage:\n  options:\n    s3:\n      secret: "{}\\q"\n',
        "storage:\n  options:\n    s3:\n      secret: a: {}\n",
        "storage:\n  options:\n    s3:\n      secret: {0}\n      secret: {0}\n",
        "storage:\n  options:\n    s3: {}\n",
        "storge:\n  secret: {}\n",
        "{}\n",
        "- {}\n",
        "secret: {}\n\t- x",
        "@{}: x",
    ],
)
def test_mistakes_in_a_file_show_no_line(lines: str, tmp_path: Path) -> None:
    (tmp_path / "job.yaml").write_text(lines.format(plant("mistake")))
    ended = in_process("plan", "--config", tmp_path / "job.yaml", "manifest=a.csv", "output=out", "generator=null")
    assert ended.returncode == 2, ended.stdout + ended.stderr
    assert found_in(ended.stdout + ended.stderr) == []


def test_what_is_printed_of_settings_holds_no_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STILLREEL_TEST_ONE", plant("environment"))
    overrides = ["manifest=https://me:{0}@h/l.csv?sig={0}", "output=s3://K:{0}@b/o", "ray.address=ray://u:{0}@h:1"]
    overrides += ["storage.options={{s3: {{secret: {0}, client_kwargs: {{endpoint_url: 'http://u:{0}@h'}}}}}}"]
    filled = [one.format(plant("mistake")) for one in overrides]
    config = load_config(
        [], [*filled, "generator=null", "storage.options.https.headers.X=${oc.env:STILLREEL_TEST_ONE}"]
    )
    storage = Storage(config.storage.options)
    for printed in (
        repr(config),
        str(config),
        f"{config.storage}",
        repr(storage),
        repr([config.storage, {"s": storage}]),
    ):
        assert found_in(printed) == []
    assert NullGenerator.name in repr(config)
