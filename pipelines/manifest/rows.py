"""The columns of a manifest as the job needs them: URIs resolved, numbers in their types and ranges, faults marked.

Pure functions on Arrow arrays. A value that cannot be used becomes null and its row gets a problem; no row is dropped.
"""

import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import ValidationError

from actors.generators.parameters import Bounds, Parameters
from actors.printable import printable
from actors.secrets import MAY_CHANGE, hidden, public_uri
from pipelines.manifest.image_uris import MAX_CHARACTERS, AllowedImages
from pipelines.manifest.parquet_images import Embedded
from pipelines.manifest.spellings import NOT_HERE, as_paths, resolved

# Rows of each kind of problem that are kept as examples.
EXAMPLES = 3
# Types whose values are read from text, too.
_PARSED = (pa.types.is_string, pa.types.is_boolean, pa.types.is_integer, pa.types.is_floating)


@dataclass(slots=True)
class RowProblems:
    """The rows that cannot be used: all counted by reason, the first few of each kept.

    Attributes:
        within: of all files, where these are those of one; what is added here is added there.
    """

    counts: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[str]] = field(default_factory=dict)
    within: "RowProblems | None" = field(default=None, compare=False, repr=False)

    def add(self, reason: str, text: str) -> None:
        """Count one; `text` is the reason with its place and value."""
        self.add_many(reason, 1, [text])

    def add_many(self, reason: str, count: int, texts: Sequence[str]) -> None:
        """Count several of one reason; `texts` are of the first few."""
        self.counts[reason] += count
        examples = self.examples.setdefault(reason, [])
        examples.extend(texts[: EXAMPLES - len(examples)])
        if self.within is not None:
            self.within.add_many(reason, count, texts)


class Marks:
    """What is wrong with the rows of one batch: a text for each, or None."""

    def __init__(self, uri: str, rows: pa.Array, problems: RowProblems) -> None:
        self._uri, self._rows, self._problems = public_uri(uri), rows, problems
        self.texts: list[str | None] = [None] * len(rows)

    def mark(self, bad: pa.Array, reason: str, values: pa.Array | None = None) -> None:
        """The rows where `bad` is true have a problem; `values` are what stands there."""
        for index in np.flatnonzero(bad.to_numpy(zero_copy_only=False)).tolist():
            said = printable(reason if values is None else f"{reason}, not {_said(values[index].as_py()):.60}")
            where = f"{printable(self._uri)}, row {self._rows[index]}"
            self._problems.add(reason, f"{where}: {said}")
            before = self.texts[index]
            self.texts[index] = f"{before}; {said}" if before else f"{where}: {said}"

    def names(self) -> pa.Array:
        """A name for each row's image that is the same whenever the manifest is read."""
        return pc.binary_join_element_wise(f"{self._uri}#row=", pc.cast(self._rows, pa.string()), "")


def image_columns(uris: pa.Array, base: str, empty: str, allowed: AllowedImages, marks: Marks) -> dict[str, pa.Array]:
    """`image_uri`, of rows whose images are files of their own; where it lost a secret, the whole is `image_fallback`.

    Args:
        uris: the URI column, text.
        base: folder that relative URIs start from.
        empty: what to call the column in the problem of a row that has none.
        allowed: which URIs may be fetched; the others are a problem.
    """
    name = _text_or_null(uris)
    marks.mark(pc.is_null(name), f"no image: {empty} is empty")
    name, elsewhere = as_paths(name)
    marks.mark(elsewhere, NOT_HERE, name)
    _mark_refused(pc.if_else(elsewhere, pa.scalar(None, pa.string()), name), base, allowed, marks)
    return _shown_and_whole(_named(resolved(name, base), marks))


def embedded_columns(
    uris: pa.Array | None, images: Embedded, file: str, base: str, allowed: AllowedImages, marks: Marks
) -> dict[str, pa.Array]:
    """`image_uri`, and where the image lies: `image_file`, `image_column`, `image_group` and `image_row`.

    Where there is no image, `image_fallback` is the URI that is fetched, or null.

    The URI column only names the image: it is left as it stands. Without one, its file and row name it: what the file
    itself calls its images need not tell them apart.
    """
    size = len(marks.texts)
    name = pa.nulls(size, pa.string()) if uris is None else _text_or_null(uris)
    elsewhere, is_not_here = as_paths(pc.coalesce(name, _text_or_null(images.path)))
    is_refused = [uri is not None and allowed.why_not(uri, base) is not None for uri in elsewhere.to_pylist()]
    return {
        "image_uri": _shown_and_whole(_named(pc.coalesce(name, images.name), marks))["image_uri"],
        "image_file": pa.repeat(pa.scalar(file), size),
        "image_column": images.column,
        "image_group": images.group,
        "image_row": images.row,
        "image_fallback": pc.if_else(
            pc.or_(pa.array(is_refused, pa.bool_()), is_not_here),
            pa.scalar(None, pa.string()),
            resolved(elsewhere, base),
        ),
    }


def _shown_and_whole(uris: pa.Array) -> dict[str, pa.Array]:
    """URIs without logins and signatures, as `image_uri`; and those that had one, as `image_fallback`."""
    may_change = pc.fill_null(pc.match_substring_regex(uris, MAY_CHANGE), False)
    if not pc.any(may_change).as_py():
        return {"image_uri": uris, "image_fallback": pa.nulls(len(uris), pa.string())}
    changed = pa.array(map(public_uri, uris.filter(may_change).to_pylist()), pa.string())
    names = pc.replace_with_mask(uris, may_change, changed)
    nothing = pa.scalar(None, pa.string())
    return {"image_uri": names, "image_fallback": pc.if_else(pc.equal(names, uris), nothing, uris)}


def without_secrets(uris: pa.Array) -> pa.Array:
    """A column of URIs without logins and signatures, in its own type."""
    return pc.cast(_shown_and_whole(pc.cast(uris, pa.string()))["image_uri"], uris.type)


def _said(value: Any) -> str:
    """A value as a problem names it, before it is cut: half a signature is none that can be known as such."""
    return repr(hidden(public_uri(value))) if isinstance(value, str) else repr(value)


def _named(names: pa.Array, marks: Marks) -> pa.Array:
    """The names, and the rows' own where there is none, or one of megabytes: it would stand in every table."""
    names = pc.if_else(pc.greater(pc.utf8_length(names), MAX_CHARACTERS), pa.scalar(None, pa.string()), names)
    return pc.coalesce(names, marks.names()) if names.null_count else names


def _mark_refused(uris: pa.Array, base: str, allowed: AllowedImages, marks: Marks) -> None:
    reasons = [None if uri is None else allowed.why_not(uri, base) for uri in uris.to_pylist()]
    for reason in dict.fromkeys(filter(None, reasons)):
        marks.mark(pa.array([other == reason for other in reasons]), reason, uris)


def _text_or_null(texts: pa.Array) -> pa.Array:
    try:
        texts = pc.cast(texts, pa.string())
    except pa.ArrowInvalid:  # bytes, some of which are no text
        texts = pa.array(
            [value and value.decode("utf-8", "backslashreplace") for value in texts.to_pylist()], pa.string()
        )
    return pc.if_else(pc.equal(pc.utf8_trim_whitespace(texts), ""), pa.scalar(None, pa.string()), texts)


def override(name: str, values: pa.Array, parameters: type[Parameters], marks: Marks) -> pa.Array:
    """A parameter's column as its own type; null where it is not given, or is wrong and marked so."""
    bounds = parameters.bounds(name)
    if bounds is None:
        return _words(name, values, parameters, marks)
    return _numbers(name, values, parameters.arrow_type(name), bounds, marks)


def _numbers(name: str, values: pa.Array, kind: pa.DataType, bounds: Bounds, marks: Marks) -> pa.Array:
    low, high = bounds
    whole = pa.types.is_integer(kind)
    values = values if whole else _as_written(values)
    numbers, bad = _converted(values, kind)
    least = -sys.float_info.max if low is None else low
    most = sys.float_info.max if high is None else high
    inside = pc.and_(pc.greater_equal(numbers, least), pc.less_equal(numbers, most))  # false for NaN, too
    bad = pc.or_(bad, pc.fill_null(pc.invert(inside), False))
    upto = f"from {low} to {high}" if high is not None else f"of at least {low}"
    marks.mark(bad, f"{name} must be a {'whole ' if whole else ''}number {upto}", values)
    # Of the two zeros one, because a clip's id is made of the number as text.
    numbers = pc.if_else(pc.equal(numbers, 0), pa.scalar(0, numbers.type), numbers)
    return pc.if_else(bad, pa.scalar(None, numbers.type), numbers)


def _as_written(values: pa.Array) -> pa.Array:
    """Short floats and decimals as the float64 that has their digits: 0.02 of float32 is 0.02, not 0.0199999995..."""
    kind = values.type
    if pa.types.is_float16(kind):
        values = values.to_numpy(zero_copy_only=False)
        return pa.array([None if np.isnan(value) else float(str(value)) for value in values], pa.float64())
    if pa.types.is_float32(kind) or pa.types.is_decimal(kind):
        return pc.cast(pc.cast(values, pa.string()), pa.float64())
    return values


def _words(name: str, values: pa.Array, parameters: type[Parameters], marks: Marks) -> pa.Array:
    """Of a parameter that is no number: text as it stands, or one of several words, or true and false."""
    kind = parameters.arrow_type(name)
    converted, bad = _converted(values, kind)
    if pa.types.is_string(kind):  # an empty cell of a CSV file is no value
        is_empty = pc.equal(pc.utf8_trim_whitespace(converted), "")
        converted = pc.if_else(is_empty, pa.scalar(None, kind), converted)
    faults = {value: _fault(name, value, parameters) for value in set(converted.to_pylist()) - {None}}
    for fault in dict.fromkeys(filter(None, faults.values())):
        marks.mark(pa.array([faults.get(value) == fault for value in converted.to_pylist()]), fault, values)
    marks.mark(bad, f"{name} must be {kind}", values)
    return pa.array([None if faults.get(value) else value for value in converted.to_pylist()], kind)


def _fault(name: str, value: Any, parameters: type[Parameters]) -> str | None:
    try:
        parameters.checked(name, value)
    except ValidationError as error:
        message = error.errors()[0]["msg"]
        return f"{name}: {message[:1].lower()}{message[1:]}"
    return None


def extra(name: str, values: pa.Array, kind: pa.DataType, marks: Marks) -> pa.Array:
    """A pass-through column: untouched, or as the type that `columns.types` gives it."""
    if values.type == kind:
        return values
    converted, bad = _converted(values, kind)
    marks.mark(bad, f"{name} must be {kind}", _within_python(values))
    return converted


def _converted(values: pa.Array, kind: pa.DataType) -> tuple[pa.Array, pa.Array]:
    """`values` as `kind`, null where that cannot be; and the mask of these. Empty text and NaN are no value at all."""
    if pa.types.is_floating(values.type):
        values = pc.if_else(pc.is_nan(values), pa.scalar(None, values.type), values)
    try:
        return pc.cast(values, kind), pa.array(np.zeros(len(values), bool))
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):  # at least one value: look at each
        if not any(is_kind(kind) for is_kind in _PARSED):
            return _one_by_one(values, kind)
        given = [
            None if isinstance(value, str) and not value.strip() else value
            for value in _within_python(values).to_pylist()
        ]
        parsed = [None if value is None else _parsed(value, kind) for value in given]
        bad = [value is not None and result is None for value, result in zip(given, parsed, strict=True)]
        return pa.array(parsed, kind), pa.array(bad, pa.bool_())


def _one_by_one(values: pa.Array, kind: pa.DataType) -> tuple[pa.Array, pa.Array]:
    """As `_converted`, by Arrow alone: types that Python holds in part."""
    converted, bad = [], []
    for row in range(len(values)):
        try:
            converted.append(pc.cast(values.slice(row, 1), kind))
            bad.append(False)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            converted.append(pa.nulls(1, kind))
            bad.append(True)
    return pa.concat_arrays(converted), pa.array(bad, pa.bool_())


def _within_python(values: pa.Array) -> pa.Array:
    """Dates and times as text, because Arrow's reach farther than Python's; all others as they are."""
    return pc.cast(values, pa.string()) if pa.types.is_temporal(values.type) else values


def _parsed(value: Any, kind: pa.DataType) -> Any:
    """One value as `kind`, or None."""
    if kind == pa.string():
        return str(value)
    text = str(value).strip().lower()
    if kind == pa.bool_():
        return {"true": True, "1": True, "false": False, "0": False}.get(text)
    try:
        number = Decimal(text)
    except InvalidOperation:
        return None
    if pa.types.is_floating(kind):
        return float(number)
    if number.is_nan():
        return None
    # The size comes first: the int of 1e999999999 would take minutes.
    return int(number) if -(2**63) <= number < 2**63 and number == int(number) else None


def is_convertible(kind: pa.DataType, wanted: pa.DataType) -> bool:
    """Whether a column of this type may hold a parameter of the type `wanted`."""
    types = pa.types
    if types.is_boolean(kind):
        return bool(types.is_boolean(wanted))
    return any(
        is_kind(kind)
        for is_kind in (
            types.is_integer,
            types.is_floating,
            types.is_decimal,
            types.is_string,
            types.is_null,
        )
    )
