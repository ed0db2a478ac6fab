"""What an interrupted run left behind: clips that were stored and whose rows were not committed yet.

A run keeps its work files until each of their rows has ended, so those that lie about are of a run that did not come to
its end. A clip of theirs whose file is there is finished: the file carries the record, and nothing is made again.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import yaml
from pydantic import ValidationError

from actors import video
from actors.contracts import Made, Row
from actors.counting import counted
from actors.errors import ConfigError, RunError
from actors.generators import DEFAULT_GENERATOR, GENERATORS
from actors.generators.base import Generator
from actors.records import clip_schema
from actors.storage import NotFound, Storage
from pipelines.dataset.carried import record_in_bytes
from pipelines.dataset.commit import Committer
from pipelines.dataset.layout import Layout, RunFolder
from pipelines.dataset.records import drop_records, read_records
from pipelines.dataset.shard import WHOLE, Shard
from pipelines.dataset.work import WorkFile, extras_of_work, left_work, read_work

# Requests and downloads under way at once: listing a store is latency, and a clip is a few megabytes.
_READERS = 16


def recover(layout: Layout, storage: Storage, check_lease: Callable[[], None], shard: Shard = WHOLE) -> int:
    """Commit the finished clips of interrupted runs and remove their work files; the number of clips.

    Only the holder of the lease may call it: the work files of a run that is alive look the same. Who has the whole
    dataset takes in all of them, a shard its own. Those of the other shards of its division are theirs.

    Raises:
        RunError: there are some of another division, whose clips this shard would make again.
    """
    left = list(left_work(layout, storage))
    if not shard.is_whole:
        _check_division(left, shard, layout)
    recovered = 0
    for uri, run in left:
        if shard.is_whole or run.shard == shard:
            recovered += recover_file(layout, uri, run, storage, check_lease)
            storage.remove(uri)
    return recovered


def _check_division(left: Sequence[tuple[str, RunFolder]], shard: Shard, layout: Layout) -> None:
    others = {run.shard: run for _, run in left if shard.excludes(run.shard)}
    for other, run in others.items():
        once_more = "without run.shard" if other.is_whole else f"with run.shard={other}, or without it"
        more = f" (and {counted(len(others) - 1, 'more shard')} of other divisions did)" if len(others) > 1 else ""
        raise RunError(
            f"{run.uri}, a run of {other.name}, did not come to its end{more}, and run.shard={shard} cannot continue "
            f"it: run the same command {once_more}, or `python -m pipelines verify {layout.root} --repair`, and then "
            "this one"
        )


def recover_file(layout: Layout, uri: str, run: RunFolder, storage: Storage, check_lease: Callable[[], None]) -> int:
    """Commit the finished clips of one work file, which stays; the number of clips.

    Raises:
        ConfigError: it is of another version of stillreel.
        StorageError: it is damaged, or the store fails.
    """
    rows = read_work(uri, ["clip_id", "part", "image_uri", "attempts"], storage)
    with ThreadPoolExecutor(_READERS) as readers:
        stored = _stored_without_row(layout, rows, run.shard, storage, check_lease, readers)
        if not stored:
            return 0
        generator, model = _generator_and_model(run, list(stored.values()), storage)
        schema = clip_schema(generator)
        endings = readers.map(
            lambda row: _made(row, stored[row["clip_id"]], schema, model, storage),
            (row for row in rows.to_pylist() if row["clip_id"] in stored),
        )
        committer = Committer(layout, storage, schema, extras_of_work(uri, generator, storage), {}, check_lease)
        committer.begin([WorkFile(uri, rows.num_rows)])
        recovered = [made for made in endings if made is not None]
        for made in recovered:
            committer.add(made)
        committer.flush()
    return len(recovered)


def _stored_without_row(
    layout: Layout,
    rows: pa.Table,
    shard: Shard,
    storage: Storage,
    check_lease: Callable[[], None],
    readers: ThreadPoolExecutor,
) -> dict[str, str]:
    """clip_id -> URI of the files of `rows` that no metadata lists.

    Those that were the shard's because its part had a row of them, and whose row somebody has removed since, are left
    out: another shard has them by their hash, and may have made them by now.
    """
    parts: list[int] = pc.unique(rows["part"]).to_pylist()
    stored: dict[str, str] = {}
    known = set[str]()
    for found, listed in readers.map(lambda part: _look_through(layout, part, storage, check_lease), parts):
        stored |= found
        known |= listed
    wanted = set(rows["clip_id"].to_pylist())
    return {
        clip_id: uri
        for clip_id, uri in stored.items()
        if clip_id in wanted and (clip_id in known or shard.takes_clip(clip_id))
    }


def _look_through(
    layout: Layout, part: int, storage: Storage, check_lease: Callable[[], None]
) -> tuple[dict[str, str], set[str]]:
    """clip_id -> URI of the files of a part that its metadata does not list; and the clips of which it has a row.

    What was cut short there is tidied up.
    """
    table = read_records(layout.metadata(part), storage)
    clips = (
        {} if table is None else dict(zip(*(table[name].to_pylist() for name in ("clip_id", "file_name")), strict=True))
    )
    # With their sizes: a clip that was lost and made again may still be listed as it was.
    sizes = {} if table is None else dict(zip(table["file_name"].to_pylist(), _sizes(table), strict=True))
    there, stored = set(), {}
    for found in storage.list_sized(layout.part(part)):
        name = found.uri.rpartition("/")[2]
        if Storage.is_temporary(found.uri):  # half a local upload of a worker that was killed
            storage.remove(found.uri)
        elif sizes.get(name, -1) in (None, found.size):
            there.add(name)
        elif name.endswith(video.EXTENSIONS):
            stored[name.partition(".")[0]] = found.uri
    failed = read_records(layout.failures_of(part), storage)
    # Clips that a commit was moving from one file to the other.
    of_failed = set[str]() if failed is None else set(failed["clip_id"].to_pylist())
    both = clips.keys() & of_failed
    if made := [clip_id for clip_id in both if clips[clip_id] in there]:
        drop_records(layout.failures_of(part), made, storage, check_lease)
    if lost := [clip_id for clip_id in both if clips[clip_id] not in there]:
        drop_records(layout.metadata(part), lost, storage, check_lease)
    return stored, clips.keys() | of_failed


def _sizes(table: pa.Table) -> Sequence[int | None]:
    return table["bytes"].to_pylist() if "bytes" in table.column_names else [None] * table.num_rows


def _made(work: Mapping[str, Any], uri: str, schema: pa.Schema, model: str | None, storage: Storage) -> Made | None:
    """The ending that the interrupted run did not get to commit; None for a file that does not say so itself."""
    data = storage.read_bytes(uri)
    record = record_in_bytes(data, uri)
    if record.get("clip_id") != work["clip_id"]:
        return None
    columns = {name: record.get(name) for name in schema.names if name != "clip_id"}
    columns |= {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest(), "model": model}
    return Made(Row(work["clip_id"], work["part"], work["attempts"], work["image_uri"], {}, columns))


def _generator_and_model(
    run: RunFolder, videos: Sequence[str], storage: Storage
) -> tuple[type[Generator[Any, Any]], str | None]:
    """What made a run's clips, and its `model` column, from the configuration saved beside its work files.

    Where somebody has removed or spoilt that, the first of its `videos` that says so tells the generator, and the
    column, which no video carries, stays empty: the clips are worth more.

    Raises:
        ConfigError: this version does not know it.
    """
    try:
        config = yaml.safe_load(storage.read_bytes(run.config))
    except (NotFound, yaml.YAMLError):
        config = None
    if not isinstance(config, dict):
        said = (record_in_bytes(storage.read_bytes(uri), uri).get("generator") for uri in videos)
        return GENERATORS[next((name for name in said if name in GENERATORS), DEFAULT_GENERATOR)], None
    name = config.get("generator", DEFAULT_GENERATOR)
    try:
        generator = GENERATORS[name]
        return generator, str(generator.Model.model_validate(config["model"]).described()["model"])
    except (KeyError, ValidationError) as error:
        raise ConfigError(
            f"{run.config} is of an interrupted run of another version (generator {name}): have that version finish "
            "it, or remove the run's folder, and its clips are made again"
        ) from error
