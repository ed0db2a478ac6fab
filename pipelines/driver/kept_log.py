"""A log of a run: written on the driver's machine, and copied into the run's folder while the run works.

Whoever looks after a worker that died, or after a run that was killed, finds there what was written until then. A copy
replaces the one before it whole, in one request; so there are few: the first when there is something, the others a
minute apart where something was added, and more rarely for a large file.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from actors import scratch
from actors.errors import StorageError
from actors.logs import logger
from actors.repeating import Repeating
from actors.secrets import copy_hidden
from actors.storage import Storage

_LOOK_INTERVAL_S = 2.0
_COPY_INTERVAL_S = 60.0
# Larger files are copied more rarely, in proportion: a store does not get more than this in `_COPY_INTERVAL_S`.
_COPY_BYTES = 4_000_000


class KeptLog:
    """Copies a local file to `uri`, without secrets: others write there, as Ray does."""

    def __init__(self, path: Path, uri: str, storage: Storage) -> None:
        self._path, self._uri, self._storage = path, uri, storage
        self._copied_bytes = 0
        self._not_before = 0.0

    def look(self, now: float) -> None:
        """Copy what is there, where something was added and it is time; `now` in seconds, as `time.monotonic` has it.

        A store that does not answer is asked again after the same time.
        """
        size = self._path.stat().st_size
        if size == self._copied_bytes or now < self._not_before:
            return
        self._not_before = now + _COPY_INTERVAL_S * max(1.0, size / _COPY_BYTES)
        with suppress(StorageError):
            # A secret of which only half is written is not known as one: the last line waits for its end.
            self._copy(size, with_last_line=False)

    def finish(self) -> None:
        """Copy all that there is, a last line without an end, too. Raises StorageError."""
        self._copy(self._path.stat().st_size, with_last_line=True)

    def _copy(self, size: int, *, with_last_line: bool) -> None:
        masked = self._path.with_name(f"{self._path.name}.masked")
        if copy_hidden(self._path, masked, with_last_line=with_last_line):
            self._storage.put_file(self._uri, masked)
            self._copied_bytes = size


@contextmanager
def kept_log(name: str, uri: str, storage: Storage) -> Iterator[Path]:
    """A local file to write a log into, for the length of the block; `uri` gets it, where anything was written."""
    with scratch.folder() as temporary:
        path = temporary / name
        path.touch()
        kept = KeptLog(path, uri, storage)
        copying = Repeating(f"copy-{name}", lambda: kept.look(time.monotonic()), _LOOK_INTERVAL_S)
        copying.start()
        try:
            yield path
        finally:
            copying.stop(patiently=True)  # a copy that comes late would undo the last one
            try:
                kept.finish()
            except StorageError as error:  # the run has done what it was to do; most of the log is there
                logger.warning("the end of %s is not in the run's folder: %s", name, error)
