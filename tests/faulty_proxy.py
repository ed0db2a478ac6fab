"""A proxy before a real HTTP server that fails a share of the requests, with a seed.

    with faulty_proxy(server.endpoint, share_503=0.05, share_reset=0.05, share_stall=0.05, stall_s=2) as proxy:
        ...  # talk to proxy.endpoint
        print(proxy.counts)

Requests pass byte for byte, the Host header included, so signatures hold; only `Connection: close` is added, which
makes every request a connection of its own, and every connection one draw from the seeded generator. With several
clients at once the draws are the same, and their order among the clients is not.
"""

import asyncio
import random
import socket
import struct
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TypedDict, Unpack
from urllib.parse import urlsplit

# Larger than any request's head here, and than most answers of a small test.
_CHUNK_BYTES = 2**16
# A reset cuts an answer off somewhere in its first bytes: in the head, or early in the body.
_RESET_WITHIN_BYTES = 1000
# How long a client may go on sending a body that was refused by its head.
_LINGER_S = 5.0
_SLOW_DOWN = b"""\
<?xml version="1.0" encoding="UTF-8"?>
<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"""
_ANSWER_503 = (
    b"HTTP/1.1 503 Slow Down\r\nContent-Type: application/xml\r\nConnection: close\r\nContent-Length: %d\r\n\r\n"
    % len(_SLOW_DOWN)
)


class Faults(TypedDict, total=False):
    """What a FaultyProxy does on the way."""

    share_503: float
    share_reset: float
    share_stall: float
    share_truncate: float
    stall_s: float
    seed: int


class FaultyProxy:
    """Forwards to `target` and fails on the way.

    Shares are of requests, 0..1, and together at most 1:
        share_503: answered with S3's 503 SlowDown, without reaching the server.
        share_reset: the connection is reset, half of them before the server sees the request, half while its answer
            comes (so that what was asked for has happened, and the client cannot know).
        share_stall: forwarded after `stall_s`.
        share_truncate: the answer ends in the middle of its body, or of its head where it has no body.
    `counts` holds how many requests met each (`ok`, `503`, `reset`, `stall`, `truncate`), `bytes_answered` the length
    of the answers that passed whole, heads included.
    """

    def __init__(
        self,
        target: str,
        *,
        share_503: float = 0.0,
        share_reset: float = 0.0,
        share_stall: float = 0.0,
        share_truncate: float = 0.0,
        stall_s: float = 2.0,
        seed: int = 0,
    ) -> None:
        shares = {"503": share_503, "reset": share_reset, "stall": share_stall, "truncate": share_truncate}
        assert sum(shares.values()) <= 1, shares
        self.endpoint = ""
        self.counts: Counter[str] = Counter()
        self.bytes_answered = 0
        self._target = urlsplit(target)
        self._shares = shares
        self._stall_s = stall_s
        self._random = random.Random(seed)
        self._serving: set[asyncio.Task[None]] = set()  # asyncio itself keeps no task alive

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, one request."""
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            fault = self._draw()
            self.counts[fault] += 1
            if fault == "503":
                await _refuse(reader, writer)
            elif fault == "reset" and self._random.random() < 0.5:
                _reset(writer)
            else:
                if fault == "stall":
                    await asyncio.sleep(self._stall_s)
                await self._forward(head, reader, writer, fault)
        except (OSError, asyncio.IncompleteReadError):
            pass  # one side has gone: so does the other
        finally:
            writer.close()

    def _count(self, length: int) -> None:
        self.bytes_answered += length

    def _draw(self) -> str:
        drawn = self._random.random()
        for fault, share in self._shares.items():
            if drawn < share:
                return fault
            drawn -= share
        return "ok"

    async def _forward(
        self, head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, fault: str
    ) -> None:
        assert self._target.hostname is not None
        answers, requests = await asyncio.open_connection(self._target.hostname, self._target.port)
        request_line, _, headers = head.partition(b"\r\n")
        requests.write(request_line + b"\r\nConnection: close\r\n" + headers)
        body = asyncio.ensure_future(_pump(reader, requests))
        try:
            if fault not in ("reset", "truncate"):
                await _pump(answers, writer, self._count)
                return
            answer = await _final_head(answers, writer) + await answers.read(-1)
            if fault == "reset":
                writer.write(answer[: self._random.randrange(_RESET_WITHIN_BYTES)])
                await writer.drain()
                _reset(writer)
            else:
                start = answer.index(b"\r\n\r\n") + 4
                writer.write(answer[: (start + len(answer)) // 2 if len(answer) > start else start // 2])
                await writer.drain()
        finally:
            body.cancel()
            await asyncio.gather(body, return_exceptions=True)
            requests.close()


@contextmanager
def faulty_proxy(target: str, *, port: int = 0, **faults: Unpack[Faults]) -> Iterator[FaultyProxy]:
    """A running FaultyProxy before the server at the URL `target`, on a thread of its own; `port` 0 is any free one."""
    proxy = FaultyProxy(target, **faults)
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="faulty-proxy")
    thread.start()
    try:
        server = asyncio.run_coroutine_threadsafe(_start(proxy, port), loop).result()
        proxy.endpoint = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        try:
            yield proxy
        finally:
            asyncio.run_coroutine_threadsafe(_stop(server), loop).result()
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def _start(proxy: FaultyProxy, port: int) -> asyncio.Server:
    return await asyncio.start_server(proxy.serve, "127.0.0.1", port, limit=_CHUNK_BYTES, backlog=512)


async def _stop(server: asyncio.Server) -> None:
    server.close()
    while connections := asyncio.all_tasks() - {asyncio.current_task()}:  # some were just being accepted
        for connection in connections:
            connection.cancel()
        await asyncio.gather(*connections, return_exceptions=True)


async def _refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(_ANSWER_503 + _SLOW_DOWN)
    await writer.drain()
    writer.write_eof()
    # What the client still sends is taken in: closing over it would reset the connection, and with it the answer.
    with suppress(TimeoutError):
        async with asyncio.timeout(_LINGER_S):
            while await reader.read(_CHUNK_BYTES):
                pass


async def _final_head(answers: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
    """The answer's head, after those that only say `100 Continue`: a client that gets none never sends its body."""
    while (head := await answers.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 1"):
        writer.write(head)
        await writer.drain()
    return head


async def _pump(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, count: Callable[[int], None] = lambda _length: None
) -> None:
    while data := await reader.read(_CHUNK_BYTES):
        count(len(data))
        writer.write(data)
        await writer.drain()


def _reset(writer: asyncio.StreamWriter) -> None:
    """Close with an RST: the client sees ECONNRESET, not the end of an answer."""
    opened: socket.socket = writer.get_extra_info("socket")
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
