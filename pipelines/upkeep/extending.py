"""Files of records of an older version get the columns that they lack, before rows with all columns stand beside them.

Readers take the columns from whichever file they open first.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa

from actors.counting import counted
from actors.errors import RunError
from actors.records import FAILURE_SCHEMA
from pipelines.dataset.layout import metadata_in
from pipelines.upkeep.moving import Mover
from pipelines.upkeep.places import READERS
from pipelines.upkeep.schemas import Columns, conform


def extend(uris: Sequence[str], columns: Columns, mover: Mover) -> int:
    """Rewrite these parts (URIs of their folders, or of files of failures), several at once; how many were rewritten.

    What does not fit these columns, or has more, is left as it is.
    """

    def one(uri: str) -> bool:
        is_failures = uri.startswith(f"{mover.layout.failures}/")
        full = columns.failed if is_failures else columns.made
        own = FAILURE_SCHEMA.names if is_failures else columns.own
        try:
            mover.rewrite(uri if is_failures else metadata_in(uri), lambda table: conform(table, full), own)
        except (ValueError, pa.ArrowException):
            return False
        return True

    with ThreadPoolExecutor(READERS) as writers:
        return sum(writers.map(one, uris))


def extend_before_run(parts: Sequence[int], columns: Columns, mover: Mover, *, is_shard: bool) -> int:
    """Extend the records of these parts, before a run adds rows to any; how many were.

    Raises:
        RunError: the run may write only some of them, or one cannot be extended.
    """
    if not parts:
        return 0
    first = mover.layout.part(min(parts))
    if is_shard:
        raise RunError(
            f"{counted(len(parts), 'part')} of {mover.layout.root}, such as {first}, of an older version, lack "
            f"columns, and a shard may not write all of them: first `stillreel verify {mover.layout.root} --repair`"
        )
    uris = [mover.layout.part(part) for part in parts]
    uris += [uri for uri in map(mover.layout.failures_of, parts) if mover.storage.exists(uri)]
    extended = extend(uris, columns, mover)
    if extended < len(uris):
        raise RunError(
            f"the columns of {len(uris) - extended:,} of {counted(len(uris), 'file')} of an older version, such as of "
            f"{first}, do not fit this version: `stillreel verify {mover.layout.root}` says which"
        )
    return len(parts)
