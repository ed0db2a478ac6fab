"""One part looked at: its records beside the files that lie in its folder."""

import hashlib
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from actors import video
from actors.errors import StorageError
from actors.storage import NotFound, Storage
from pipelines.dataset.layout import is_metadata, is_nearly_metadata, metadata_in
from pipelines.dataset.records import parsed
from pipelines.planning.hashes import Hashes, hashes_of
from pipelines.upkeep import kinds
from pipelines.upkeep.findings import Problem
from pipelines.upkeep.kinds import Kind
from pipelines.upkeep.places import Entry, Folder, steps_of

_CLIP_ID = re.compile(r"[0-9a-f]{64}")
_BLOCK = 2**20


@dataclass(slots=True)
class Look:
    """What was found in a folder of records: a part, a folder that looks like one, or a file of failures.

    Attributes:
        uri: of the folder, or of the file.
        number: of the part; None of a folder whose name is no part's.
        schema: of the records; None where there are none that can be read.
        num_rows: of them; `hashes` are of those with a clip_id.
        is_good: of each hash, whether the clip's video is there, as recorded.
        is_link: of each hash, whether that video is a link to a file.
        loose: URIs of videos that no row lists.
        generators: rows by the generator that they name.
        models: of each `model_revision` a `model`.
        num_bytes: of the videos that are listed and there.
        leads_to: paths of what listed links lead to, step by step; only the last part of one may be a link.
    """

    uri: str
    number: int | None
    problems: list[Problem] = field(default_factory=list)
    schema: pa.Schema | None = None
    num_rows: int = 0
    hashes: Hashes = field(default_factory=lambda: np.empty(0, np.uint64))
    is_good: npt.NDArray[np.bool_] = field(default_factory=lambda: np.empty(0, bool))
    is_link: npt.NDArray[np.bool_] = field(default_factory=lambda: np.empty(0, bool))
    loose: list[str] = field(default_factory=list)
    generators: Counter[str] = field(default_factory=Counter)
    models: dict[str, str] = field(default_factory=dict)
    num_bytes: int = 0
    leads_to: set[str] = field(default_factory=set)


def is_clip_id(value: object) -> bool:
    """Whether it is one: 64 hexadecimal digits."""
    return isinstance(value, str) and _CLIP_ID.fullmatch(value) is not None


def is_video(name: str) -> bool:
    """Whether a file's name is that of a video, in capitals or not."""
    return name.lower().endswith(video.EXTENSIONS)


def names_of(clip_id: str) -> tuple[str, ...]:
    """What the file of a clip may be called."""
    return tuple(clip_id + extension for extension in video.EXTENSIONS)


def clip_of(name: object) -> str | None:
    """The clip of a file of that name, where it is a clip's."""
    clip_id = name.partition(".")[0] if isinstance(name, str) else ""
    return clip_id if is_clip_id(clip_id) and name in names_of(clip_id) else None


def look_at_part(folder: Folder, storage: Storage, *, deep: bool) -> Look:
    """Compare a folder's records with its files; `deep` reads each video.

    Raises:
        StorageError: the store does not list it.
    """
    entries = folder.entries()
    look = Look(folder.uri, folder.number)
    files = {entry.name: entry for entry in entries if not is_metadata(entry.name)}
    has_metadata = len(files) < len(entries)
    table = _read(metadata_in(folder.uri), look, kinds.DAMAGED_METADATA, storage) if entries else None
    if table is not None and not {"clip_id", "file_name"} <= set(table.column_names):
        _note(look, kinds.DAMAGED_METADATA, metadata_in(folder.uri), said="it has no clip_id or no file_name")
        table = None
    listed = _look_at_rows(look, table, files, storage, deep=deep) if table is not None else set()
    _look_at_files(look, [entry for name, entry in files.items() if name not in listed])
    if look.loose and not has_metadata and look.number is not None:
        _note(look, kinds.NO_METADATA, metadata_in(folder.uri))
    return look


def look_at_failures(uri: str, number: int, storage: Storage) -> Look:
    """Read a file of failures."""
    look = Look(uri, number)
    table = _read(uri, look, kinds.DAMAGED_FAILURES, storage)
    if table is None:
        return look
    if "clip_id" not in table.column_names:
        _note(look, kinds.DAMAGED_FAILURES, uri, said="it has no clip_id")
        return look
    look.schema, look.num_rows = table.schema, table.num_rows
    ids = table["clip_id"].to_pylist()
    known = [clip_id for clip_id in ids if is_clip_id(clip_id)]
    for _ in range(len(ids) - len(known)):
        _note(look, kinds.NO_CLIP_ID, uri)
    look.hashes = hashes_of(known)
    look.is_link = np.zeros(len(known), bool)
    return look


def column(table: pa.Table, name: str) -> Sequence[Any]:
    """The values of a column, None of one that is not there."""
    return table[name].to_pylist() if name in table.column_names else [None] * table.num_rows


def sha256_of(uri: str, storage: Storage) -> str:
    """Of a file, read in blocks."""
    digest = hashlib.sha256()
    with storage.open(uri) as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def _read(uri: str, look: Look, damaged: Kind, storage: Storage) -> pa.Table | None:
    try:
        return parsed(storage.read_bytes(uri))
    except NotFound:
        if storage.leads_nowhere(uri):
            _note(look, kinds.NOWHERE, uri)
    except ValueError as error:
        _note(look, damaged, uri, said=str(error))
    except StorageError as error:
        is_folder = storage.is_folder(uri)  # whose files are told one by one
        _note(look, kinds.FOREIGN if is_folder else kinds.UNREADABLE, uri, said=str(error))
    return None


def _look_at_rows(look: Look, table: pa.Table, files: dict[str, Entry], storage: Storage, *, deep: bool) -> set[str]:
    """Compare rows with files; the names of the files that are listed, or that a listed clip has."""
    look.schema, look.num_rows = table.schema, table.num_rows
    look.generators.update(value for value in column(table, "generator") if value)
    look.models = dict(zip(column(table, "model_revision"), column(table, "model"), strict=True))
    columns = (column(table, name) for name in ("clip_id", "file_name", "bytes", "sha256"))
    known, good, links, listed = list[str](), list[bool](), list[bool](), set[str]()
    for given, name, size, sha256 in zip(*columns, strict=True):
        clip_id = given if is_clip_id(given) else clip_of(name)
        if clip_id != given:
            _note(look, kinds.NO_CLIP_ID, metadata_in(look.uri), said=f"clip_id is {given!r}")
        if clip_id is None:
            continue
        wanted = name if name in names_of(clip_id) else None
        if wanted is None:
            wanted = next((own for own in names_of(clip_id) if own in files), None)
            _note(look, kinds.WRONG_NAME, metadata_in(look.uri), clip_id, f"file_name is {name!r}")
        fault = _fault(look.uri, files.get(wanted or ""), size, sha256, storage, deep=deep)
        if name == wanted and fault is not None:
            _note(look, fault, f"{look.uri}/{name}", clip_id)
        if fault is None and wanted is not None and wanted not in listed:
            look.num_bytes += files[wanted].size
            if files[wanted].is_link:
                look.leads_to.update(steps_of(storage.native_path(f"{look.uri}/{wanted}")))
        known.append(clip_id)
        good.append(fault is None)
        links.append(wanted in files and files[wanted].is_link)
        if wanted is not None and (name == wanted or fault is None):
            listed.add(wanted)
    look.hashes, look.is_good, look.is_link = hashes_of(known), np.array(good, bool), np.array(links, bool)
    return listed


def _fault(
    folder: str, entry: Entry | None, size: int | None, sha256: str | None, storage: Storage, *, deep: bool
) -> Kind | None:
    """What is wrong with a clip's file."""
    if entry is None or entry.kind in ("empty folder", "other"):
        return kinds.VIDEO_GONE
    if entry.kind == "broken link":
        return kinds.NOWHERE
    if size is not None and entry.size != size:
        return kinds.OTHER_SIZE
    return _fault_within(f"{folder}/{entry.name}", sha256, storage) if deep and sha256 is not None else None


def _fault_within(uri: str, sha256: str, storage: Storage) -> Kind | None:
    try:
        return kinds.OTHER_CONTENT if sha256_of(uri, storage) != sha256 else None
    except NotFound:
        return kinds.VIDEO_GONE
    except StorageError:
        return kinds.UNREADABLE


def _look_at_files(look: Look, entries: Sequence[Entry]) -> None:
    """What lies in the folder and is not listed."""
    for entry in entries:
        uri = f"{look.uri}/{entry.name}"
        kind = kind_of(entry, uri)
        if kind is None:
            look.loose.append(uri)
        elif kind is kinds.FOREIGN and is_nearly_metadata(entry.name):
            _note(look, kinds.MISNAMED_METADATA, uri)
        else:
            _note(look, kind, uri)


def kind_of(entry: Entry, uri: str) -> Kind | None:
    """What a file is that nothing lists; None of a video."""
    if Storage.is_temporary(uri):
        return kinds.UPLOADS
    if entry.is_hidden:
        return kinds.HIDDEN
    if entry.kind == "broken link":
        return kinds.NOWHERE
    return None if entry.kind == "file" and is_video(entry.name) else kinds.FOREIGN


def _note(look: Look, kind: Kind, uri: str, clip_id: str = "", said: str = "") -> None:
    group = look.uri.rpartition("/")[2]
    look.problems.append(Problem(kind, uri, clip_id, said, group))
