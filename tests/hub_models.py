"""A Hugging Face Hub on a loopback port: what its client asks of it for one model, with the faults of a real one."""

import hashlib
import http.server
import json
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from huggingface_hub import constants, file_download

from actors import retries
from tests.web import send, serving

MODEL = "someone/svd"
COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub:
    """Serves the files of a folder as `MODEL` at `COMMIT`.

    Attributes:
        answers: what the next requests get instead: a status, or 0 for a connection that is closed.
        refusal: a status and the Hub's own error code that each request for the model gets; None: none.
        asked: the paths of all requests so far.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.answers: deque[int] = deque()
        self.refusal: tuple[int, str] | None = None
        self.asked: list[str] = []
        self.endpoint = ""

    @contextmanager
    def serving(self) -> Iterator["Hub"]:
        hub = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_HEAD(self) -> None:
                hub._answer(self)

            def do_GET(self) -> None:
                hub._answer(self)

        with serving(Handler) as self.endpoint:
            yield self

    def stand_in(self, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """For the Hub itself, with an empty local cache, and waits that take no time."""
        template = self.endpoint + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "ENDPOINT", self.endpoint)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(file_download, "HUGGINGFACE_CO_URL_TEMPLATE", template, raising=False)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
        monkeypatch.setattr(retries, "FIRST_WAIT_S", 0.001)

    def _answer(self, request: http.server.BaseHTTPRequestHandler) -> None:
        path = unquote(urlsplit(request.path).path)
        self.asked.append(path)
        if self.answers:
            status = self.answers.popleft()
            if status:
                send(request, status, b"{}", {})
            else:
                request.close_connection = True
            return
        if self.refusal is not None:
            status, code = self.refusal
            send(request, status, b'{"error": "no"}', {"X-Error-Code": code, "X-Error-Message": "no"})
            return
        names = sorted(file.relative_to(self.folder).as_posix() for file in self.folder.rglob("*") if file.is_file())
        if path.startswith(f"/api/models/{MODEL}/tree/"):
            entries = [{"type": "file", "path": name, **self._entry(name)} for name in names]
            send(request, 200, json.dumps(entries).encode(), {})
        elif path in (f"/api/models/{MODEL}", *(f"/api/models/{MODEL}/revision/{name}" for name in ("main", COMMIT))):
            model = {"id": MODEL, "sha": COMMIT, "siblings": [{"rfilename": name} for name in names]}
            send(request, 200, json.dumps(model).encode(), {})
        elif path.startswith(f"/{MODEL}/resolve/{COMMIT}/"):
            file = self.folder / path.partition(f"{COMMIT}/")[2]
            if not file.is_file():
                send(request, 404, b"{}", {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": COMMIT})
                return
            content = file.read_bytes()
            headers = {"X-Repo-Commit": COMMIT, "ETag": f'"{hashlib.sha256(content).hexdigest()}"'}
            send(request, 200, content, headers)
        else:
            send(request, 404, b"{}", {"X-Error-Code": "RepoNotFound"})

    def _entry(self, name: str) -> dict[str, object]:
        content = (self.folder / name).read_bytes()
        return {"size": len(content), "oid": hashlib.sha256(content).hexdigest()}
