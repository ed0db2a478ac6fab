"""What an interrupted run left behind: clips that were stored and whose rows were not committed yet.

A run keeps its work files until each of their rows has ended, so those that lie about are of a run that did not come to
its end. A clip of theirs whose file is there is finished: the file carries the record, and nothing is made again.
"""

import hashlib
import json
import tempfile
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import yaml

from actors import video
from actors.contracts import Made, Row
from actors.errors import VideoError
from actors.records import CLIP_SCHEMA, WORK_SCHEMA, part_name
from actors.storage import Storage
from pipelines.commit import Committer
from pipelines.plan import WorkFile, read_records

# Requests and downloads under way at once: listing a store is latency, and a clip is a few megabytes.
_READERS = 16


def recover(output: str, storage: Storage, check_lease: Callable[[], None]) -> int:
    """Commit the finished clips of interrupted runs and remove their work files; the number of clips.

    Only the holder of the lease may call it: the work files of a run that is alive look the same.
    """
    recovered = 0
    for uri in filter(_is_work_file, storage.list_files(storage.join(output, "_runs"), suffix=".parquet")):
        recovered += _recover_file(output, uri, storage, check_lease)
        storage.remove(uri)
    return recovered


def _is_work_file(uri: str) -> bool:
    folder, _, name = uri.rpartition("/")
    return folder.endswith("/work") and name.startswith("work-")


def _recover_file(output: str, uri: str, storage: Storage, check_lease: Callable[[], None]) -> int:
    with storage.open(uri) as file:
        work = pq.ParquetFile(file)
        extras = pa.schema([field for field in work.schema_arrow if field.name not in WORK_SCHEMA.names])
        rows = work.read(["clip_id", "part", "image_uri", "attempts"])
    with ThreadPoolExecutor(_READERS) as readers:
        stored = _stored_without_row(output, rows, storage, readers)
        if not stored:
            return 0
        model = _model_of_run(uri, storage)
        endings = readers.map(
            lambda row: _made(row, stored[row["clip_id"]], model, storage),
            (row for row in rows.to_pylist() if row["clip_id"] in stored),
        )
        committer = Committer(output, storage, extras, {}, check_lease)
        committer.begin([WorkFile(uri, rows.num_rows)])
        recovered = [made for made in endings if made is not None]
        for made in recovered:
            committer.add(made)
        committer.flush()
    return len(recovered)


def _stored_without_row(output: str, rows: pa.Table, storage: Storage, readers: ThreadPoolExecutor) -> dict[str, str]:
    """clip_id -> URI of the files of `rows` that no metadata lists."""
    folders = [storage.join(output, "data", part_name(part)) for part in pc.unique(rows["part"]).to_pylist()]
    stored: dict[str, str] = {}
    for found in readers.map(lambda folder: dict(_files_without_row(folder, storage)), folders):
        stored |= found
    wanted = set(rows["clip_id"].to_pylist())
    return {clip_id: uri for clip_id, uri in stored.items() if clip_id in wanted}


def _files_without_row(folder: str, storage: Storage) -> Iterator[tuple[str, str]]:
    table = read_records(storage.join(folder, "metadata.parquet"), storage)
    listed = set() if table is None else set(table["file_name"].to_pylist())
    for uri in storage.walk(folder):
        name = uri.rpartition("/")[2]
        if name.startswith("."):  # half a local upload of a worker that was killed
            storage.remove(uri)
        elif name.endswith(video.EXTENSIONS) and name not in listed:
            yield name.partition(".")[0], uri


def _made(work: Mapping[str, Any], uri: str, model: str, storage: Storage) -> Made | None:
    """The ending that the interrupted run did not get to commit; None for a file that does not say so itself."""
    data = storage.read_bytes(uri)
    with tempfile.NamedTemporaryFile(prefix="stillreel-", suffix=Path(uri).suffix) as copy:
        Path(copy.name).write_bytes(data)
        try:
            tag = video.read_tag(Path(copy.name))
        except VideoError:
            return None
    record = _record(tag)
    if record.get("clip_id") != work["clip_id"]:
        return None
    columns = {name: record.get(name) for name in CLIP_SCHEMA.names if name != "clip_id"}
    columns |= {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest(), "model": model}
    return Made(Row(work["clip_id"], work["part"], work["attempts"], work["image_uri"], {}, columns))


def _record(tag: str | None) -> dict[str, Any]:
    try:
        record = json.loads(tag or "{}")
    except json.JSONDecodeError:
        return {}
    return record if isinstance(record, dict) else {}


def _model_of_run(work_uri: str, storage: Storage) -> str:
    """`model.source` of the run that wrote a work file, from the configuration saved beside it."""
    config = storage.join(storage.parent(storage.parent(work_uri)), "config.yaml")
    return str(yaml.safe_load(storage.read_bytes(config))["model"]["source"])
