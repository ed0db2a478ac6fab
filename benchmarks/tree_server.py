"""A folder of this machine by as much of S3's protocol as plans use: lists, gives, takes and removes files.

It checks no signatures and keeps no versions: an ETag is made of a file's times and size. It exists because uploading a
million objects into a real store takes hours, and listing them is what is measured. `GET /<bucket>/requests` tells how
many requests came.
"""

import bisect
import multiprocessing
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

_PAGE = 1000
_END = "\U0010ffff"


@contextmanager
def serving_tree(root: Path) -> Iterator[str]:
    """The endpoint of a server in a process of its own; any bucket is `root`."""
    ours, theirs = multiprocessing.get_context("spawn").Pipe()
    process = multiprocessing.get_context("spawn").Process(target=_serve, args=(str(root), theirs), daemon=True)
    process.start()
    try:
        yield ours.recv()
    finally:
        process.terminate()
        process.join()


def _serve(root: str, pipe: "multiprocessing.connection.Connection") -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.tree = _Tree(root)  # type: ignore[attr-defined]
    pipe.send(f"http://127.0.0.1:{server.server_port}")
    server.serve_forever()


class _Tree:
    """The keys of all files below a folder, sorted; those that come and go are noted."""

    def __init__(self, root: str) -> None:
        self.root, self.lock, self.requests = root, threading.Lock(), 0
        self.keys = sorted(f"{folder}/{name}"[len(root) + 1 :] for folder, _, names in os.walk(root) for name in names)

    def page(self, prefix: str, after: str, delimiter: str) -> tuple[list[str], list[str], str | None]:
        """Keys, prefixes, and where to go on."""
        with self.lock:
            at = bisect.bisect_right(self.keys, after) if after > prefix else bisect.bisect_left(self.keys, prefix)
            keys: list[str] = []
            prefixes: list[str] = []
            while at < len(self.keys) and self.keys[at].startswith(prefix):
                key = self.keys[at]
                if len(keys) + len(prefixes) == _PAGE:
                    return keys, prefixes, (prefixes[-1] + _END if prefixes and not keys else keys[-1])
                cut = key.find(delimiter, len(prefix)) if delimiter else -1
                if cut < 0:
                    keys.append(key)
                    at += 1
                else:
                    prefixes.append(key[: cut + 1])
                    at = bisect.bisect_right(self.keys, key[: cut + 1] + _END)
            return keys, prefixes, None

    def note(self, key: str) -> None:
        """That there is, or is no longer, a file."""
        with self.lock:
            at = bisect.bisect_left(self.keys, key)
            is_known = at < len(self.keys) and self.keys[at] == key
            is_there = Path(self.root, key).exists()
            if is_there and not is_known:
                self.keys.insert(at, key)
            elif is_known and not is_there:
                del self.keys[at]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments: object) -> None:
        pass

    @property
    def tree(self) -> _Tree:
        tree: _Tree = self.server.tree  # type: ignore[attr-defined]
        return tree

    def _key(self) -> str:
        return unquote(urlsplit(self.path).path).lstrip("/").partition("/")[2]

    def do_GET(self) -> None:
        query = {name: values[0] for name, values in parse_qs(urlsplit(self.path).query).items()}
        key = self._key()
        if key == "requests":
            self._answer(200, str(self.tree.requests).encode())
            return
        with self.tree.lock:
            self.tree.requests += 1
        if "list-type" in query:
            self._list(query)
            return
        path = Path(self.tree.root, key)
        if not path.is_file():
            self._answer(404, b"<Error><Code>NoSuchKey</Code></Error>")
            return
        data, total, status = path.read_bytes(), path.stat().st_size, 200
        headers = {"ETag": _etag(path)}
        if (wanted := self.headers.get("Range")) is not None:
            first, _, last = wanted.removeprefix("bytes=").partition("-")
            start = int(first) if first else total - int(last)
            stop = min(int(last) + 1 if first and last else total, total)
            data, status = data[start:stop], 206
            headers["Content-Range"] = f"bytes {start}-{stop - 1}/{total}"
        self._answer(status, data, headers)

    def do_HEAD(self) -> None:
        with self.tree.lock:
            self.tree.requests += 1
        path = Path(self.tree.root, self._key())
        if path.is_file():
            self._answer(200, b"", {"ETag": _etag(path), "Content-Length": str(path.stat().st_size)})
        else:
            self._answer(404, b"")

    def do_DELETE(self) -> None:
        with self.tree.lock:
            self.tree.requests += 1
        Path(self.tree.root, self._key()).unlink(missing_ok=True)
        self.tree.note(self._key())
        self._answer(204, b"")

    def do_PUT(self) -> None:
        with self.tree.lock:
            self.tree.requests += 1
        data = self.rfile.read(int(self.headers["Content-Length"]))
        path = Path(self.tree.root, self._key())
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        self.tree.note(self._key())
        self._answer(200, b"", {"ETag": _etag(path)})

    def _list(self, query: dict[str, str]) -> None:
        prefix = query.get("prefix", "")
        after = query.get("continuation-token", query.get("start-after", ""))
        keys, prefixes, more = self.tree.page(prefix, after, query.get("delimiter", ""))
        parts = [f"<IsTruncated>{'true' if more else 'false'}</IsTruncated>"]
        if more:
            parts.append(f"<NextContinuationToken>{escape(more)}</NextContinuationToken>")
        for key in keys:
            path = Path(self.tree.root, key)
            size = path.stat().st_size if not key.endswith(".mp4") else 0
            etag = _etag(path) if not key.endswith(".mp4") else '"0"'
            parts.append(
                f"<Contents><Key>{escape(key)}</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified>"
                f"<ETag>{escape(etag)}</ETag><Size>{size}</Size></Contents>"
            )
        parts += [f"<CommonPrefixes><Prefix>{escape(one)}</Prefix></CommonPrefixes>" for one in prefixes]
        text = "".join(parts)
        self._answer(200, f'<?xml version="1.0"?><ListBucketResult>{text}</ListBucketResult>'.encode())

    def _answer(self, status: int, data: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(data))} | (headers or {})).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)


def _etag(path: Path) -> str:
    found = path.stat()
    return f'"{found.st_mtime_ns:x}{found.st_size:x}"'


if __name__ == "__main__":
    sys.exit("it is started by benchmarks.next_day")
