"""A Hub of datasets on a loopback port, as far as `huggingface_hub`'s file system reads one: no writes, no sign-in."""

import http.server
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from tests.web import send, serving

_SHA = "0123456789abcdef0123456789abcdef01234567"


class Hub:
    """Serves a folder as one dataset.

    Attributes:
        endpoint: what `storage.options.hf` needs.
        asked: the requests so far.
    """

    def __init__(self, folder: Path, repo: str) -> None:
        self.folder, self.repo = folder, repo
        self.endpoint = ""
        self.asked: list[str] = []


class _Handler(http.server.BaseHTTPRequestHandler):
    hub: Hub

    def do_GET(self) -> None:
        path, repo = unquote(urlsplit(self.path).path), self.hub.repo
        self.hub.asked.append(f"{self.command} {path}")
        api, files = f"/api/datasets/{repo}/", f"/datasets/{repo}/resolve/"
        if f"{path}/" == api or path.startswith(api + "revision/"):
            self._answer_json({"id": repo, "sha": _SHA, "private": False, "siblings": [], "tags": []})
        elif path.startswith(api + "tree/"):
            self._tree(path.removeprefix(api + "tree/"), is_deep="recursive=true" in self.path.lower())
        elif path.startswith(files):
            self._file(self.hub.folder / _without_revision(path.removeprefix(files)))
        else:
            self._missing("RepoNotFound")

    do_HEAD = do_GET

    def do_POST(self) -> None:
        self.hub.asked.append(f"POST {self.path}")
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.send_error(403)

    def _tree(self, path: str, *, is_deep: bool) -> None:
        root = self.hub.folder / _without_revision(path)
        if not root.is_dir():
            self._missing("EntryNotFound")
            return
        found = sorted(root.rglob("*") if is_deep else root.iterdir())
        self._answer_json([_entry(path, self.hub.folder) for path in found])

    def _file(self, path: Path) -> None:
        if not path.is_file():
            self._missing("EntryNotFound")
            return
        data, status = path.read_bytes(), 200
        if asked_range := self.headers.get("Range"):
            first, _, last = asked_range.removeprefix("bytes=").partition("-")
            data, status = data[int(first) : int(last) + 1], 206
        send(self, status, data, {"X-Repo-Commit": _SHA, "ETag": '"x"'})

    def _answer_json(self, content: object) -> None:
        send(self, 200, json.dumps(content).encode(), {"Content-Type": "application/json"})

    def _missing(self, code: str) -> None:
        send(self, 404, b"{}", {"X-Error-Code": code})


@contextmanager
def hub(folder: Path, repo: str) -> Iterator[Hub]:
    """Serve `folder` as the dataset `repo` for the length of a block."""
    made = Hub(folder, repo)
    with serving(type("Handler", (_Handler,), {"hub": made})) as made.endpoint:
        yield made


def _entry(path: Path, folder: Path) -> dict[str, Any]:
    name = path.relative_to(folder).as_posix()
    if path.is_dir():
        return {"type": "directory", "path": name, "oid": _SHA, "size": 0}
    return {"type": "file", "path": name, "oid": _SHA, "size": path.stat().st_size}


def _without_revision(path: str) -> str:
    names = path.split("/")
    return "/".join(names[3 if names[0] == "refs" else 1 :])
