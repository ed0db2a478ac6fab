"""What the dataset tells of how long clips of the same settings took: its own rows, and what its runs say.

It costs a listing of `data/` and one of `_runs/`, and at most `_PARTS` + `_RUNS` files, read beside each other.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import chain
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.compute as pc

from actors.errors import StorageError
from actors.storage import Storage
from pipelines.config import Config
from pipelines.dataset.layout import Layout, RunFolder, metadata_in, part_of
from pipelines.dataset.records import read_records
from pipelines.dataset.speeds import History, PastRun, Seconds
from pipelines.planning.identity import Identity

# The last parts and runs alone: machines and versions change. 8 parts are 4,096 clips.
_PARTS = 8
_RUNS = 8
# Settings of the model that change no clip, nor how fast it is made.
_NOT_SPEED = {"source", "revision", "cache_dir"}

T = TypeVar("T")
_TIMES = pa.schema({"device": pa.string(), "generate_s": pa.float64(), "finish_s": pa.float64()})


def settings_of(config: Config, revisions: tuple[str, str]) -> str:
    """What runs have in common whose clips take as long on the same machines."""
    shares = [config.workers.generate.num_gpus, config.workers.finish.num_gpus]
    held = config.model.model_dump(mode="json", exclude=_NOT_SPEED)
    text = json.dumps([Identity(config, *revisions).settings, held, shares], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def read_history(
    config: Config,
    layout: Layout,
    storage: Storage,
    revisions: tuple[str, str],
    parts: Sequence[str] | None = None,
) -> History:
    """Look at the last parts and runs; what cannot be read is passed over, because nothing depends on it.

    `parts`: the folders of the dataset's parts, where a listing has told them already.
    """
    settings = settings_of(config, revisions)
    with ThreadPoolExecutor(_PARTS + _RUNS) as readers:
        if parts is None:
            found = _quietly(lambda: storage.list_folders(layout.data)) or []
            parts = [uri for uri in found if part_of(uri) is not None]
        runs = readers.submit(_last, layout.runs, storage, _RUNS)
        last = sorted(parts, reverse=True)[:_PARTS]
        tables = readers.map(lambda uri: _quietly(lambda: _clips(uri, config, storage, revisions[0])), last)
        pasts = readers.map(lambda uri: _quietly(lambda: _past(RunFolder(uri), storage)), runs.result())
        clips = [table for table in tables if table is not None]
        return History(_means(clips), [past for past in pasts if past is not None and past.settings == settings])


def _last(folder: str, storage: Storage, count: int) -> list[str]:
    """The last folders of a folder, by name, the last first."""
    return sorted(_quietly(lambda: storage.list_folders(folder)) or [], reverse=True)[:count]


def _quietly(read: Callable[[], T]) -> T | None:
    # Files of other versions, or of other hands: columns of other types and numbers that do not fit raise any of these.
    with suppress(StorageError, pa.ArrowException, TypeError, ValueError, LookupError, ArithmeticError):
        return read()
    return None


def _past(run: RunFolder, storage: Storage) -> PastRun:
    return PastRun.model_validate_json(storage.read_bytes(run.summary))


def _clips(part: str, config: Config, storage: Storage, revision: str) -> pa.Table | None:
    """Of a part, as `_TIMES`; None where it has no records."""
    records = read_records(metadata_in(part), storage)
    return None if records is None else _alike(records, config, revision)


def _alike(table: pa.Table, config: Config, revision: str) -> pa.Table:
    """Device and seconds of those clips that were made as this configuration would make them."""
    for name, value in _expected(config, revision).items():
        if name in table.column_names and table.num_rows:
            table = table.filter(pc.equal(table[name], pa.scalar(value, table.schema.field(name).type)))
    sizes = config.image.sizes
    if {"width", "height"} <= {*table.column_names}:
        sized = zip(table["width"].to_pylist(), table["height"].to_pylist(), strict=True)
        table = table.filter(pa.array([size in sizes for size in sized], pa.bool_()))
    return table.select(_TIMES.names).cast(_TIMES) if {*_TIMES.names} <= {*table.column_names} else _TIMES.empty_table()


def _expected(config: Config, revision: str) -> dict[str, Any]:
    """What the records of such clips say."""
    parameters = config.parameters_of_all()
    frames = parameters.pop("num_frames")
    model: Mapping[str, Any] = {name: value for name, value in config.model.described().items() if name != "model"}
    fixed = {"generator": config.generator, "model_revision": revision, "generated_frames": frames}
    fixed["codec"] = config.video.codec
    if (factor := config.interpolation.factor) is not None:  # else each clip's own
        fixed["interpolation_factor"] = float(factor)
    return {**parameters, **model, **fixed}


def _means(tables: Sequence[pa.Table]) -> list[Seconds]:
    columns = (table.to_pydict() for table in tables)
    rows = chain.from_iterable(zip(one["device"], one["generate_s"], one["finish_s"], strict=True) for one in columns)
    counts: Counter[str] = Counter()
    generate: Counter[str] = Counter()
    finish: Counter[str] = Counter()
    for device, generate_s, finish_s in rows:
        if None not in (device, generate_s, finish_s):  # of a row that was recovered, the file knows no times
            counts[device] += 1
            generate[device] += generate_s
            finish[device] += finish_s
    return [Seconds(generate[name] / count, finish[name] / count, count, name) for name, count in counts.most_common()]
