"""What `interpolation.weights` may name: files, folders as other tools name them, and web addresses with a query."""

import http.server
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import fsspec
import pytest

from actors.checkpoints.sources import for_models
from actors.errors import CheckpointError
from actors.fingerprint import fingerprint
from actors.rife import weights
from actors.rife.place import weights_file
from actors.storage import Storage
from tests.jobs import in_process, write_null_config, write_pictures
from tests.web import serving


def touch(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")
    return folder


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["flownet.pkl"], "flownet.pkl"),
        (["flownet.pkl", "IFNet_HDv3.py", "RIFE_HDv3.py", "refine.py"], "flownet.pkl"),  # Practical-RIFE's train_log
        (["train_log/flownet.pkl", "train_log/IFNet_HDv3.py", "inference_video.py"], "train_log/flownet.pkl"),
        (["flownet.param", "flownet.bin"], "flownet.param"),  # rife-ncnn-vulkan's rife-v4.6
        (["rife_v4.25.safetensors", "README.md"], "rife_v4.25.safetensors"),
        (["flownet.pkl", "vgg.pth"], "flownet.pkl"),
        (["weights.pth"], "weights.pth"),
    ],
)
@pytest.mark.parametrize("kind", ["local", "slash", "file", "link", "memory"])
def test_of_a_folder_its_weights_are_taken(names: list[str], expected: str, kind: str, tmp_path: Path) -> None:
    folder = touch(tmp_path / "rife", *names)
    uri = {"local": str(folder), "slash": f"{folder}/", "file": f"file://{folder}"}.get(kind)
    if kind == "link":
        (tmp_path / "link").symlink_to(folder)
        uri = str(tmp_path / "link")
    if uri is None:
        uri = f"memory://{tmp_path.name}-{len(names)}-{expected.replace('/', '-')}/rife"
        fsspec.filesystem("memory").put(f"{folder}/", uri, recursive=True)
    assert weights_file(uri, Storage()) == f"{uri.rstrip('/').removeprefix('file://')}/{expected}"


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["README.md"], "is a folder with no file of RIFE weights: name the file itself"),
        (["flownet.param"], "is a folder with no file of RIFE weights"),
        (["rife47.pth", "rife49.pth"], "is a folder with several files of weights (rife47.pth, rife49.pth)"),  # ComfyUI
    ],
)
def test_a_folder_that_does_not_tell_is_refused(names: list[str], words: str, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError) as caught:
        weights_file(str(touch(tmp_path / "rife", *names)), Storage())
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("weights", "words"),
    [
        ("none.pkl", "none.pkl does not exist"),
        ("none/", "none/ does not exist"),
        ("none.txt", "none.txt does not exist"),
        ("README.md", "is no kind of RIFE weights: .pkl, .pth, .safetensors, or ncnn's .param and .bin"),
        ("https://example.com/flownet.onnx?download=true", "is no kind of RIFE weights"),
        ("tests/", "is a folder with no file of RIFE weights"),
    ],
)
def test_faulty_weights_end_plan_and_run_with_exit_code_2(weights: str, words: str, tmp_path: Path) -> None:
    write_pictures(tmp_path / "images", 1)
    config = write_null_config(tmp_path / "job.yaml", tmp_path / "images", tmp_path / "out")
    for command in ("plan", "run"):
        done = in_process(command, "--config", config, f"interpolation.weights={weights}", "interpolation.factor=2")
        assert done.returncode == 2, done.stdout + done.stderr
        assert words in done.stderr
        assert len(done.stderr.strip().splitlines()) == 1


@pytest.fixture
def site(rife_weights: Path, tmp_path: Path) -> Iterator[str]:
    """A web server that sends from `/resolve/...` on to `/cdn/...`, as sites do, and says no size for a HEAD."""
    folder = tmp_path / "site"
    folder.mkdir()
    shutil.copy(rife_weights, folder / rife_weights.name)

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.send_error(403)  # a signature is for GET alone

        def do_GET(self) -> None:
            url = urlsplit(self.path)
            name = Path(url.path).name
            if not url.query:
                self.send_error(403)
            elif url.path.startswith("/resolve/"):
                self.send_response(302)
                self.send_header("Location", f"/cdn/{name}?{url.query}&signature=1")
                self.end_headers()
            else:
                self.send_response(200)
                self.end_headers()
                self.wfile.write((folder / name).read_bytes())

    with serving(Handler) as address:
        yield address


def test_an_address_with_a_query_is_that_file(site: str, rife_weights: Path, tmp_path: Path) -> None:
    own = fingerprint(str(rife_weights))
    for place, query in (("resolve/v4.25", "download=true"), ("cdn", "X-Amz-Signature=a.b/c"), ("cdn", "sig=2")):
        uri = f"{site}/{place}/{rife_weights.name}?{query}"
        assert weights_file(uri, Storage()) == uri
        assert fingerprint(uri, for_models(Storage())) == own
        (tmp_path / query[:3]).mkdir()
        copy = weights.fetch(uri, Storage(), tmp_path / query[:3])
        assert copy.name == rife_weights.name
        assert copy.parent.name == Path(place).name
        weights.load(copy)


def test_paths_are_read_alike_by_plan_and_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path / "rife", "flownet.pkl")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    for given in ("~/rife", "~/rife/flownet.pkl", "rife", "./rife/", "rife/../rife/flownet.pkl"):
        assert weights_file(given, Storage()) == f"{tmp_path}/rife/flownet.pkl"


def test_redirects_are_followed_unless_the_user_says_otherwise() -> None:
    assert for_models(Storage()).options == {"https": {"allow_redirects": True}}
    strict = Storage({"http": {"allow_redirects": False, "headers": {}}}, tries=2)
    assert for_models(strict) == strict
    assert for_models(replace(strict, options={"s3": {"key": "x"}})).options["s3"] == {"key": "x"}
