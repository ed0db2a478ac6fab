"""Small web servers on a loopback port, for tests that say themselves how requests are answered."""

import http.server
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager


@contextmanager
def serving(handler: type[http.server.BaseHTTPRequestHandler]) -> Iterator[str]:
    """Its address, while each request goes to a `handler` in a thread of its own, which prints none of them."""
    quiet = type("Quiet", (handler,), {"log_message": lambda *_: None})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), quiet) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def send(
    request: http.server.BaseHTTPRequestHandler,
    status: int,
    body: bytes = b"",
    headers: Mapping[str, str] = {},
    *,
    promised: int | None = None,
) -> None:
    """Answer a request; `promised`: another length than the body has."""
    request.send_response(status)
    length = len(body) if promised is None else promised
    for name, value in ({"Content-Length": str(length)} | dict(headers)).items():
        request.send_header(name, value)
    request.end_headers()
    if request.command != "HEAD":
        request.wfile.write(body)
