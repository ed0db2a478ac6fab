"""What people and disks do to a dataset: each damage with what `verify` is to call it."""

import json
import os
import random
import shutil
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.damages.dataset import clip_id, new_row, store_video, write_work
from pipelines.dataset.layout import Layout

Damage = Callable[[Path, random.Random], object]


@dataclass(frozen=True, slots=True)
class Case:
    """A damage.

    Attributes:
        names: kinds of findings (`pipelines.upkeep.kinds`) that are to be among those that `verify` names.
        by_hand: whether a repair may not mend it.
        deep: whether only --deep finds it.
        local: whether object stores know no such thing.
    """

    damage: Damage
    names: tuple[str, ...] = ()
    by_hand: bool = False
    deep: bool = False
    local: bool = False


def _part(root: Path, rng: random.Random) -> Path:
    return Path(Layout(str(root)).part(rng.randrange(4)))


def _videos(part: Path) -> list[Path]:
    return sorted(part.glob("*.mp4"))


def _video(root: Path, rng: random.Random) -> Path:
    return rng.choice(_videos(_part(root, rng)))


def _two(root: Path, rng: random.Random) -> tuple[Path, Path]:
    """Two different parts."""
    first, second = rng.sample(range(4), 2)
    layout = Layout(str(root))
    return Path(layout.part(first)), Path(layout.part(second))


def _metadata(root: Path, rng: random.Random) -> Path:
    return _part(root, rng) / "metadata.parquet"


def _failures(root: Path, rng: random.Random) -> Path:
    return Path(Layout(str(root)).failures_of(rng.randrange(4)))


def _cut(path: Path, share: float) -> None:
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])


def _flip(path: Path, rng: random.Random, start: float = 0.0) -> None:
    data = bytearray(path.read_bytes())
    data[rng.randrange(int(len(data) * start), len(data))] ^= 1 << rng.randrange(8)
    path.write_bytes(bytes(data))


def _change(path: Path, change: Callable[[pa.Table], pa.Table]) -> None:
    pq.write_table(change(pq.read_table(path)), path)


def _set(path: Path, column: str, values: Callable[[list[Any]], Sequence[Any]]) -> None:
    def change(table: pa.Table) -> pa.Table:
        place = table.column_names.index(column)
        field = table.schema.field(column)
        return table.set_column(place, field, pa.array(values(table[column].to_pylist()), field.type))

    _change(path, change)


def _first(value: Any) -> Callable[[list[Any]], list[Any]]:
    return lambda values: [value, *values[1:]]


# --- Videos -----------------------------------------------------------------------------------------------------------


def _remove_some(root: Path, rng: random.Random) -> None:
    for path in rng.sample(_videos(_part(root, rng)), rng.randint(1, 3)):
        path.unlink()


def _remove_all(root: Path, rng: random.Random) -> None:
    for path in root.rglob("*.mp4"):
        path.unlink()


def _append(root: Path, rng: random.Random) -> None:
    path = _video(root, rng)
    path.write_bytes(path.read_bytes() + rng.randbytes(100))


def _replace_by_other(root: Path, rng: random.Random) -> None:
    first, second = rng.sample(_videos(_part(root, rng)), 2)
    while first.stat().st_size == second.stat().st_size:
        second.write_bytes(second.read_bytes() + b"\0")
    shutil.copy(first, second)


def _rename(name: Callable[[Path], str]) -> Damage:
    def damage(root: Path, rng: random.Random) -> None:
        path = _video(root, rng)
        target = path.parent / name(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        path.rename(target)

    return damage


def _copy(place: Callable[[Path, Path], Path]) -> Damage:
    """`place` gives the target, from a video and another part."""

    def damage(root: Path, rng: random.Random) -> None:
        first, second = _two(root, rng)
        path = rng.choice(_videos(first))
        target = place(path, second)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)

    return damage


def _move_to_part(root: Path, rng: random.Random) -> None:
    first, second = _two(root, rng)
    path = rng.choice(_videos(first))
    path.rename(second / path.name)


def _link_to_nothing(root: Path, rng: random.Random) -> None:
    path = _video(root, rng)
    path.unlink()
    path.symlink_to(root.parent / "unmounted" / path.name)


def _link_to_disk(root: Path, rng: random.Random) -> None:
    path, disk = _video(root, rng), root.parent / "disk"
    disk.mkdir(exist_ok=True)
    shutil.move(path, disk / path.name)
    path.symlink_to(disk / path.name)


def _link_to_other(root: Path, rng: random.Random) -> None:
    first, second = rng.sample(_videos(_part(root, rng)), 2)
    first.write_bytes(first.read_bytes() + b"\0")
    size = first.stat().st_size
    _set(first.parent / "metadata.parquet", "bytes", lambda values: values)
    second.unlink()
    second.symlink_to(first.name)
    assert size


def _folder_in_place(root: Path, rng: random.Random) -> None:
    path = _video(root, rng)
    path.unlink()
    path.mkdir()
    (path / "notes.txt").write_text("x")


def _unlisted(root: Path, rng: random.Random) -> None:
    path = _metadata(root, rng)
    _change(path, lambda table: table.slice(rng.randint(1, 3)))


def _new_video(root: Path, rng: random.Random) -> None:
    store_video(root, 900 + rng.randrange(3), rng.randrange(4))


def _new_and_cut(root: Path, rng: random.Random) -> None:
    _cut(store_video(root, 900 + rng.randrange(3), rng.randrange(4)), rng.choice([0.5, 0.9]))


def _made_again_elsewhere(root: Path, rng: random.Random) -> None:
    """Listed without a video; the video, made again on another machine, lies in another part."""
    _move_to_part(root, rng)
    _set(_metadata(root, rng), "caption", lambda values: values)


# --- Records ----------------------------------------------------------------------------------------------------------


def _double_rows(root: Path, rng: random.Random) -> None:
    _change(_metadata(root, rng), lambda table: pa.concat_tables([table, table.slice(0, rng.randint(1, 3))]))


def _row_elsewhere(root: Path, rng: random.Random) -> None:
    first, second = _two(root, rng)
    rows = pq.read_table(first / "metadata.parquet").slice(0, rng.randint(1, 2))
    _change(second / "metadata.parquet", lambda table: pa.concat_tables([table, rows]))


def _row_and_video_elsewhere(root: Path, rng: random.Random) -> None:
    first, second = _two(root, rng)
    rows = pq.read_table(first / "metadata.parquet").slice(0, rng.randint(1, 2))
    _change(second / "metadata.parquet", lambda table: pa.concat_tables([table, rows]))
    for name in rows["file_name"].to_pylist():
        shutil.copy(first / name, second / name)


def _copy_part(name: str) -> Damage:
    return lambda root, rng: shutil.copytree(part := _part(root, rng), part.with_name(name.replace("*", part.name)))


def _rename_part(name: str) -> Damage:
    def damage(root: Path, rng: random.Random) -> None:
        part = _part(root, rng)
        part.rename(part.with_name(name.replace("*", part.name).replace("#", str(int(part.name[5:])))))

    return damage


def _copy_of_part_with_less(root: Path, rng: random.Random) -> None:
    """A copy under a name of somebody's; then videos went from the original."""
    part = _part(root, rng)
    shutil.copytree(part, part.with_name(f"{part.name}_old"))
    for path in rng.sample(_videos(part), 2):
        path.unlink()


def _older(root: Path, rng: random.Random) -> None:
    columns = rng.sample(["fit", "upload_s", "stillreel_version", "duration_s"], 2)
    _change(_metadata(root, rng), lambda table: table.drop_columns(columns))


def _types(root: Path, rng: random.Random) -> None:
    def change(table: pa.Table) -> pa.Table:
        wanted = {"bytes": pa.int32(), "clip_id": pa.large_string(), "device": pa.dictionary(pa.int32(), pa.string())}
        for name in rng.sample(sorted(wanted), 2):
            table = table.set_column(table.column_names.index(name), name, table[name].cast(wanted[name]))
        return table

    _change(_metadata(root, rng), change)


def _order(root: Path, rng: random.Random) -> None:
    _change(_metadata(root, rng), lambda table: table.select(rng.sample(table.column_names, table.num_columns)))


def _index(root: Path, rng: random.Random) -> None:
    _change(
        _metadata(root, rng), lambda table: table.append_column("__index_level_0__", pa.array(range(table.num_rows)))
    )


def _column_of_a_curator(root: Path, rng: random.Random) -> None:
    _change(_metadata(root, rng), lambda table: table.append_column("score", pa.array([rng.random()] * table.num_rows)))


def _foreign_type(root: Path, rng: random.Random) -> None:
    def change(table: pa.Table) -> pa.Table:
        place = table.column_names.index("seed")
        return table.set_column(place, "seed", pa.array([f"no {row}" for row in range(table.num_rows)]))

    _change(_metadata(root, rng), change)


def _newer(root: Path, rng: random.Random) -> None:
    path = _metadata(root, rng)
    table = pq.read_table(path)
    table = table.append_column("c2pa", pa.array(["x"] * table.num_rows))
    names = json.loads(table.schema.metadata[b"stillreel.columns"])
    marked = {**table.schema.metadata, b"stillreel.columns": json.dumps([*names, "c2pa"]).encode()}
    pq.write_table(table.replace_schema_metadata(marked), path)


def _file_and_row_renamed(root: Path, rng: random.Random) -> None:
    path = _video(root, rng)
    path.rename(path.with_name("cat.mp4"))
    names = {path.name: "cat.mp4"}
    _set(path.parent / "metadata.parquet", "file_name", lambda values: [names.get(name, name) for name in values])


def _metadata_folder(root: Path, rng: random.Random) -> None:
    path = _metadata(root, rng)
    path.unlink()
    path.mkdir()
    (path / "part.0.parquet").write_bytes(b"x")


def _foreign_table(root: Path, rng: random.Random) -> None:
    pq.write_table(pa.table({"x": [1, 2]}), _metadata(root, rng))


def _made_and_failed(root: Path, rng: random.Random) -> None:
    clip = pq.read_table(_metadata(root, rng))["clip_id"][0]
    _change(
        _failures(root, rng),
        lambda table: pa.concat_tables([table, _with_clip(table.slice(0, 1), str(clip))]),
    )


def _with_clip(row: pa.Table, clip: str) -> pa.Table:
    return row.set_column(row.column_names.index("clip_id"), "clip_id", pa.array([clip]))


def _failed_twice(root: Path, rng: random.Random) -> None:
    first, second = rng.sample(range(4), 2)
    layout = Layout(str(root))
    rows = pq.read_table(layout.failures_of(first)).slice(0, 1)
    _change(Path(layout.failures_of(second)), lambda table: pa.concat_tables([table, rows]))


# --- Files and folders ------------------------------------------------------------------------------------------------


def _write(place: str, data: bytes = b"x") -> Damage:
    """`*` stands for a part."""

    def damage(root: Path, rng: random.Random) -> None:
        path = root / place.replace("*", _part(root, rng).name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)

    return damage


def _empty_folder(root: Path, rng: random.Random) -> None:
    (_part(root, rng) / "new").mkdir()


def _upload(root: Path, rng: random.Random) -> None:
    path = _video(root, rng)
    path.with_name(f".{path.name}.{uuid.UUID(int=rng.getrandbits(128)).hex}.tmp").write_bytes(path.read_bytes()[:100])


def _link_folder(target: Callable[[Path], Path], name: str) -> Damage:
    def damage(root: Path, rng: random.Random) -> None:
        place = root / name
        to = target(_part(root, rng))
        to.mkdir(exist_ok=True)
        place.symlink_to(to)

    return damage


def _part_on_disk(root: Path, rng: random.Random) -> None:
    part = _part(root, rng)
    shutil.move(part, root.parent / "disk-of-part")
    part.symlink_to(root.parent / "disk-of-part")


def _data_on_disk(root: Path, rng: random.Random) -> None:
    shutil.move(root / "data", root.parent / "disk-of-data")
    (root / "data").symlink_to(root.parent / "disk-of-data")


def _part_not_mounted(root: Path, rng: random.Random) -> None:
    part = _part(root, rng)
    shutil.move(part, root.parent / "away")
    part.symlink_to(root.parent / "not-mounted")


def _pipe(root: Path, rng: random.Random) -> None:
    os.mkfifo(_part(root, rng) / "pipe")


# --- Around them ------------------------------------------------------------------------------------------------------


def _lease(**changes: Any) -> Damage:
    def damage(root: Path, rng: random.Random) -> None:
        (path,) = sorted((root / "_lease").glob("*.json"))[-1:]
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    return damage


def _old_leases(root: Path, rng: random.Random) -> None:
    path = root / "_lease/00000001.json"
    for number in range(2, 4):
        shutil.copy(path, path.with_name(f"{number:08d}.json"))


def _left_work(root: Path, rng: random.Random) -> None:
    part = rng.randrange(4)
    store_video(root, 901, part)
    rows = [new_row(901, part), new_row(902, part)]
    write_work(root / "_runs/20260102T000000Z-bbbbbb/rows/work-00000.parquet", rows)
    config = root / "_runs/20260102T000000Z-bbbbbb/config.yaml"
    config.write_text("generator: 'null'\nmodel: {}\n")


def _leases_removed(root: Path, rng: random.Random) -> None:
    for name in ("_lease", "_runs"):
        shutil.rmtree(root / name)


def _damaged_work(root: Path, rng: random.Random) -> None:
    _write("_runs/20260102T000000Z-bbbbbb/rows/work-00000.parquet", b"PAR1 no")(root, rng)


def _remove(name: str) -> Damage:
    def damage(root: Path, rng: random.Random) -> None:
        path = root / name.replace("*", _part(root, rng).name)
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()

    return damage


_LONG_AGO = (datetime.now(UTC) - timedelta(days=1)).isoformat()
_UNLISTED_NAMES = ("no_metadata", "unlisted")

CASES: dict[str, Case] = {
    "videos removed": Case(_remove_some, ("video_gone",)),
    "all videos removed": Case(_remove_all, ("half_a_copy",), by_hand=True),
    "video cut": Case(lambda root, rng: _cut(_video(root, rng), 0.5), ("other_size",)),
    "video emptied": Case(lambda root, rng: _cut(_video(root, rng), 0), ("other_size",)),
    "video appended to": Case(_append, ("other_size",)),
    "bit of a video flipped": Case(lambda root, rng: _flip(_video(root, rng), rng), ("other_content",), deep=True),
    "video replaced by another": Case(_replace_by_other, ("other_size",)),
    "video replaced by text": Case(lambda root, rng: _video(root, rng).write_text("x"), ("other_size",)),
    "video renamed": Case(_rename(lambda path: "cat.mp4"), ("misplaced", "video_gone")),
    "video in capitals": Case(_rename(lambda path: path.name.upper()), ("misplaced", "video_gone")),
    "ending in capitals": Case(_rename(lambda path: f"{path.stem}.MP4"), ("misplaced", "video_gone")),
    "video moved into a folder": Case(_rename(lambda path: f"best/{path.name}"), ("misplaced", "video_gone")),
    "video moved to another part": Case(_move_to_part, ("unlisted", "video_gone")),
    "video moved out of its part": Case(_rename(lambda path: f"../{path.name}"), ("misplaced", "video_gone")),
    "video moved to a new folder": Case(_rename(lambda path: f"../best/{path.name}"), ("misplaced", "video_gone")),
    "video copied to another part": Case(_copy(lambda path, part: part / path.name), ("copies",)),
    "video copied beside itself": Case(_copy(lambda path, part: path.with_name("copy.mp4")), ("copies",)),
    "video copied out of its part": Case(_copy(lambda path, part: part.parent / path.name), ("copies",)),
    "video copied to a new folder": Case(_copy(lambda path, part: part.parent / "new" / path.name), ("copies",)),
    "video a link to nothing": Case(_link_to_nothing, ("link_to_nothing",), by_hand=True, local=True),
    "video a link to a disk": Case(_link_to_disk, local=True),
    "video a link to another": Case(_link_to_other, ("other_size",), local=True),
    "folder in a video's place": Case(_folder_in_place, ("video_gone", "foreign")),
    "rows removed": Case(_unlisted, ("unlisted",)),
    "new video, not listed": Case(_new_video, ("unlisted",)),
    "new video, cut": Case(_new_and_cut, ("spoilt",)),
    "text under a clip's name": Case(_write(f"data/*/{clip_id(77)}.mp4"), ("spoilt",)),
    "metadata removed": Case(_remove("data/*/metadata.parquet"), _UNLISTED_NAMES),
    "metadata cut": Case(lambda root, rng: _cut(_metadata(root, rng), 0.6), ("damaged_metadata",)),
    "metadata emptied": Case(lambda root, rng: _cut(_metadata(root, rng), 0), ("damaged_metadata",)),
    "metadata of text": Case(_write("data/*/metadata.parquet", b"clip_id,file_name\n"), ("damaged_metadata",)),
    "metadata of a foreign table": Case(_foreign_table, ("damaged_metadata",)),
    "metadata a folder": Case(_metadata_folder, ("foreign",)),
    "metadata in capitals": Case(
        lambda root, rng: (path := _metadata(root, rng)).rename(path.with_name("METADATA.parquet")),
        ("misnamed_metadata",),
    ),
    "bits of metadata flipped": Case(lambda root, rng: _flip_page(_metadata(root, rng), rng), ("damaged_metadata",)),
    "rows doubled": Case(_double_rows, ("listed_twice",)),
    "rows copied to another part": Case(_row_elsewhere, ("listed_twice",)),
    "clips copied to another part": Case(_row_and_video_elsewhere, ("listed_twice",)),
    "part copied as a part": Case(_copy_part("part-00042"), ("listed_twice",)),
    "part copied": Case(_copy_part("* (copy)"), ("stray_part",)),
    "part copied, then videos removed": Case(_copy_of_part_with_less, ("stray_part", "video_gone")),
    "part renamed to a part": Case(_rename_part("part-00077")),
    "part renamed": Case(_rename_part("part-#"), ("stray_part",)),
    "part in capitals": Case(_rename_part("PART-0000#"), ("stray_part",)),
    "part in wide digits": Case(_rename_part("part-\uff10\uff10\uff10\uff10#"), ("stray_part",)),
    "part named backup": Case(_rename_part("backup"), ("stray_part",)),
    "part removed": Case(_remove("data/*")),
    "columns missing": Case(_older, ("older_schema",)),
    "columns of other types": Case(_types, ("other_types",)),
    "columns in another order": Case(_order, ("other_types",)),
    "index of pandas": Case(_index, ("other_types",)),
    "column of a curator in one part": Case(_column_of_a_curator, ("older_schema",)),
    "column of a foreign type": Case(_foreign_type, ("foreign_schema",), by_hand=True),
    "rows of another generator": Case(
        lambda root, rng: _set(_metadata(root, rng), "generator", lambda values: ["svd"] * len(values)),
        ("other_generator",),
        by_hand=True,
    ),
    "rows of a newer version": Case(_newer, ("newer_version",), by_hand=True),
    "clip_id null": Case(lambda root, rng: _set(_metadata(root, rng), "clip_id", _first(None)), ("no_clip_id",)),
    "clip_id malformed": Case(lambda root, rng: _set(_metadata(root, rng), "clip_id", _first("cat")), ("no_clip_id",)),
    "file_name climbs": Case(
        lambda root, rng: _set(_metadata(root, rng), "file_name", _first("../../../etc/passwd")), ("wrong_file_name",)
    ),
    "file_name absolute": Case(
        lambda root, rng: _set(_metadata(root, rng), "file_name", _first("/etc/passwd")), ("wrong_file_name",)
    ),
    "file_name null": Case(
        lambda root, rng: _set(_metadata(root, rng), "file_name", _first(None)), ("wrong_file_name",)
    ),
    "file_name of another clip": Case(
        lambda root, rng: _set(_metadata(root, rng), "file_name", lambda values: [values[1], *values[1:]]),
        ("wrong_file_name",),
    ),
    "video and row renamed": Case(_file_and_row_renamed, ("wrong_file_name",)),
    "failures cut": Case(lambda root, rng: _cut(_failures(root, rng), 0.5), ("damaged_failures",)),
    "failures of text": Case(_write("failures/*.parquet"), ("damaged_failures",)),
    "failures removed": Case(_remove("failures/*.parquet")),
    "failures without a clip_id": Case(
        lambda root, rng: _set(_failures(root, rng), "clip_id", _first(None)), ("no_clip_id",)
    ),
    "made and failed": Case(_made_and_failed, ("made_and_failed",)),
    "failed twice": Case(_failed_twice, ("failed_twice",)),
    "notes among the failures": Case(_write("failures/notes.txt"), ("foreign",)),
    "copy of failures": Case(_write("failures/old/part-00000.parquet"), ("foreign",)),
    "notes among the parts": Case(_write("data/notes.txt"), ("foreign",)),
    "notes in a part": Case(_write("data/*/notes.txt"), ("foreign",)),
    "folder of pictures": Case(_write("data/pictures/cat.png"), ("foreign",)),
    "folder in a part": Case(_write("data/*/thumbs/cat.png"), ("foreign",)),
    "empty folder in a part": Case(_empty_folder, ("foreign",), local=True),
    "hidden files": Case(_write("data/*/.DS_Store")),
    "half an upload": Case(_upload, ("left_uploads",), local=True),
    "link to another part": Case(_link_folder(lambda part: part, "data/part-00055"), ("part_twice",), local=True),
    "link to the dataset": Case(
        _link_folder(lambda part: part.parents[1], "data/part-00056"), ("part_twice",), local=True
    ),
    "link to a foreign folder": Case(_link_folder(lambda part: part.parents[2] / "else", "data/more"), local=True),
    "part on another disk": Case(_part_on_disk, local=True),
    "data on another disk": Case(_data_on_disk, local=True),
    "part not mounted": Case(_part_not_mounted, ("link_to_nothing",), by_hand=True, local=True),
    "pipe in a part": Case(_pipe, ("foreign",), local=True),
    "card removed": Case(_remove("README.md"), ("no_card",)),
    "lease not returned": Case(
        _lease(released=False, renewed_at=_LONG_AGO, holder="x@y", process=None), ("stale_lease",)
    ),
    "lease damaged": Case(_write("_lease/00000001.json"), ("damaged_lease",), by_hand=True),
    "former leases": Case(_old_leases, ("old_leases",)),
    "notes among the leases": Case(_write("_lease/notes.txt"), ("foreign",)),
    "work of a killed run": Case(_left_work, ("left_work", "unlisted")),
    "work file damaged": Case(_damaged_work, ("left_work",)),
    "leases and runs removed": Case(_leases_removed),
}


def _flip_page(path: Path, rng: random.Random) -> None:
    """A bit within the data of a column, which no footer tells of."""
    file = pq.ParquetFile(path)
    column = file.metadata.row_group(0).column(rng.randrange(file.metadata.num_columns))
    end = column.data_page_offset + column.total_compressed_size
    data = bytearray(path.read_bytes())
    # The last bytes of the chunk are of its last page's content, whose sum is written down.
    data[min(end, (column.dictionary_page_offset or column.data_page_offset) + column.total_compressed_size) - 1] ^= 1
    path.write_bytes(bytes(data))
