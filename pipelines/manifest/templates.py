"""Texts that are made of a row's own columns: `prompt: "{caption}, the camera moves slowly"`.

A template is a parameter's value in which {name} stands for a column of the manifest, and {{ and }} for braces. A row
takes it where it has no value of its own; or always, where the template names that very column ("{prompt}, at night").
A chunk has a column for each template, under a name that no manifest has.
"""

import string
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from actors.errors import ConfigError, ManifestError
from actors.generators.parameters import Parameters
from pipelines.manifest.column_names import listed, nearest_names

_MARK = "\0"


@dataclass(frozen=True, slots=True)
class Template:
    """A parameter's value that is a template.

    Attributes:
        name: of the parameter.
        text: as it is written.
        pieces: texts, and the column that follows each; None after the last.
    """

    name: str
    text: str
    pieces: Sequence[tuple[str, str | None]] = field(compare=False, default=())

    @property
    def takes_own(self) -> bool:
        """Whether it is made of the column that would stand in its place."""
        return self.name in self.columns

    @property
    def columns(self) -> list[str]:
        """The columns that it names, once each."""
        return list(dict.fromkeys(column for _, column in self.pieces if column is not None))


def column_of(name: str, text: object) -> str:
    """What a chunk calls the column of a parameter's template."""
    return f"{name}{_MARK}{text}"


def is_template(text: object) -> bool:
    """Whether a parameter's value is one: it holds braces."""
    return isinstance(text, str) and bool({"{", "}"} & set(text))


def takes_own(name: str, text: object) -> bool:
    """Whether a parameter's value is made of the column of its own name."""
    return is_template(text) and Template(name, str(text), list(_pieces(str(text)))).takes_own


def problem_of(text: object) -> str | None:
    """What is wrong with a value as a template."""
    try:
        list(_pieces(str(text)))
    except ValueError as error:
        return str(error)
    return None


def find_templates(
    parameters: type[Parameters], values: Mapping[str, Any], variants: Sequence[Mapping[str, Sequence[Any]]]
) -> list[Template]:
    """Those among a configuration's values and variants.

    Raises:
        ConfigError: one cannot be read.
    """
    found: dict[str, Template] = {}
    for name in parameters.templates():
        given = [one for variant in variants for one in variant.get(name, ())]
        if not variants or not all(name in variant for variant in variants):
            given.append(values.get(name))
        for text in given:
            if not is_template(text):
                continue
            try:
                found[column_of(name, text)] = Template(name, str(text), list(_pieces(str(text))))
            except ValueError as error:
                raise ConfigError(f"generation.{name}: {error}") from error
    return list(found.values())


def check_columns(templates: Sequence[Template], there: Sequence[str], uri: str) -> None:
    """Raise ManifestError for a template that names a column which a manifest has not."""
    for template in templates:
        for column in template.columns:
            if column not in there:
                near = nearest_names(list(there), [column])
                hint = f"; did you mean {{{near[0]}}}?" if near else ""
                has = f"its columns are {listed(list(there))}" if there else "it has no columns"
                raise ManifestError(
                    f"generation.{template.name} names {{{column}}}, and {uri} has no such column{hint}: {has}"
                )


def filled(template: Template, given: Mapping[str, pa.Array], size: int) -> tuple[pa.Array, pa.Array]:
    """The texts of so many rows, and which of them lack a value, which is none of white space alone.

    Raises:
        ManifestError: a column holds no texts or numbers.
    """
    whole = pa.repeat(pa.scalar("", pa.string()), size)
    lacking = pa.repeat(pa.scalar(False), size)
    for text, column in template.pieces:
        parts = [whole, pa.repeat(pa.scalar(text), size)]
        if column is not None:
            words = _texts(given[column], column, template)
            is_empty = pc.equal(pc.utf8_trim_whitespace(words), "")
            lacking = pc.or_(lacking, pc.fill_null(is_empty, True))
            parts.append(pc.fill_null(words, ""))
        whole = pc.binary_join_element_wise(*parts, "")
    return whole, lacking


def _texts(values: pa.Array, column: str, template: Template) -> pa.Array:
    types, kind = pa.types, values.type
    if types.is_dictionary(kind):
        values, kind = values.dictionary_decode(), kind.value_type
    if types.is_null(kind):
        return pa.nulls(len(values), pa.string())
    if not (types.is_primitive(kind) or types.is_string(kind) or types.is_large_string(kind) or types.is_decimal(kind)):
        raise ManifestError(
            f"generation.{template.name} names {{{column}}}, which holds no texts or numbers: it is {kind!s:.100}"
        )
    return pc.cast(values, pa.string())


def _pieces(text: str) -> Iterator[tuple[str, str | None]]:
    """Raises ValueError, with a clause."""
    try:
        parsed = list(string.Formatter().parse(text))
    except ValueError as error:
        raise ValueError(f"is no template ({error}): a brace of its own is written twice, {{{{ or }}}}") from error
    for before, column, spec, conversion in parsed:
        if column is not None and (not column or spec or conversion):
            raise ValueError("braces hold the name of a column and nothing else, as in {caption}")
        yield before, column


def columns_of(templates: Collection[Template]) -> list[str]:
    """All columns that templates name."""
    return list(dict.fromkeys(column for template in templates for column in template.columns))
