"""The rows of a part, mended: those that are wrong are corrected, or leave."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from pipelines.upkeep.looking import clip_of, column, is_clip_id, names_of


@dataclass(slots=True)
class Wrong:
    """What is wrong with rows of one part.

    Attributes:
        gone: clips whose videos are not there.
        elsewhere: clips that another part lists.
        has_others: whether there are rows without a clip_id, with a wrong name, or that come twice.
    """

    gone: set[str] = field(default_factory=set)
    elsewhere: set[str] = field(default_factory=set)
    has_others: bool = False


@dataclass(slots=True)
class Mended:
    """The rows that stay, `changed` of them corrected; those that leave; files that first get another name."""

    kept: pa.Table
    dropped: pa.Table
    renamed: dict[str, str] = field(default_factory=dict)
    changed: int = 0


def mended(table: pa.Table, wrong: Wrong, sizes: Mapping[str, int]) -> Mended:
    """Correct the rows of a part, in whose folder lie files of these sizes, by name."""
    given, names, recorded = (column(table, name) for name in ("clip_id", "file_name", "bytes"))
    ids = [one if is_clip_id(one) else clip_of(name) for one, name in zip(given, names, strict=True)]
    right: list[str | None] = []
    renamed: dict[str, str] = {}
    for clip_id, name, size in zip(ids, names, recorded, strict=True):
        if clip_id is None or clip_id in wrong.elsewhere:
            right.append(None)
            continue
        found = [one for one in (name, *names_of(clip_id)) if one in sizes and size in (None, sizes[one])]
        own = [one for one in found if one in names_of(clip_id)]
        if own:
            right.append(own[0])
        elif found:  # somebody has renamed both, the file and its row
            right.append(_renamed(clip_id, name))
            renamed[name] = str(right[-1])
        else:
            right.append(None if clip_id in wrong.gone or name not in names_of(clip_id) else name)
    kept = _one_of_each(ids, names, right)
    corrected = table.set_column(table.column_names.index("file_name"), "file_name", pa.array(right, pa.string()))
    place = table.column_names.index("clip_id")
    corrected = corrected.set_column(place, "clip_id", pa.array(ids, pa.string()))
    before, after = zip(given, names, strict=True), zip(ids, right, strict=True)
    changed = sum(old != new for old, new, stays in zip(before, after, kept, strict=True) if stays)
    mask = pa.array(kept, pa.bool_())
    return Mended(
        corrected.filter(mask), table.filter(pa.array([not one for one in kept], pa.bool_())), renamed, changed
    )


def _renamed(clip_id: str, name: str) -> str:
    ending = name[name.rfind(".") :].lower() if "." in name else ""
    return next((own for own in names_of(clip_id) if own.endswith(ending)), names_of(clip_id)[0])


def _one_of_each(ids: Sequence[str | None], names: Sequence[Any], right: list[str | None]) -> list[bool]:
    """Which rows stay: of each clip one, that with the right name where there are several."""
    best: dict[str, int] = {}
    for row, (clip_id, name, own) in enumerate(zip(ids, names, right, strict=True)):
        if (
            clip_id is not None
            and own is not None
            and (clip_id not in best or (name == own and names[best[clip_id]] != own))
        ):
            best[clip_id] = row
    stay = set(best.values())
    return [row in stay for row in range(len(ids))]
