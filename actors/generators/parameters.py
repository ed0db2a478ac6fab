"""The parameters of a generator's clips: one class gives all that the job needs to know of them.

A field of the class is a setting of the section `generation`. Unless it is marked `SAME_FOR_ALL`, a column of the
manifest or a variant of its name overrides it, in the field's own range. All fields are columns of the clip's record
and part of its id.
"""

from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, cast, get_args, get_origin

import pyarrow as pa
from annotated_types import Ge, Gt, Le, Lt
from pydantic import Field, TypeAdapter

from actors.settings import Section

# The mark (`json_schema_extra`) of a parameter with one value in a run: what is compiled or sized by it is made once.
SAME_FOR_ALL: dict[str, Any] = {"same_for_all": True}

# The mark of a text in which {name} stands for what a row of the manifest has in its column of that name.
TEMPLATE: dict[str, Any] = {"template": True}

_MAX_INT = 2**63 - 1

Bounds = tuple[int | float | None, int | float | None]


class Parameters(Section):
    """What every generator has: clips have a length, a frame rate and, where it draws noise, a seed."""

    num_frames: int = Field(25, ge=2, description="frames that are generated", json_schema_extra=SAME_FOR_ALL)
    seed: int | None = Field(None, ge=0, lt=2**63, description="null derives one from each clip_id")
    fps: int = Field(7, ge=1, le=1000, description="frame rate of the generated frames")

    @classmethod
    def varying(cls) -> list[str]:
        """The names of those that rows and variants may override."""
        return [name for name, field in cls.model_fields.items() if field.json_schema_extra != SAME_FOR_ALL]

    @classmethod
    def templates(cls) -> list[str]:
        """The names of those in which {name} stands for a column of the manifest."""
        return [name for name, field in cls.model_fields.items() if field.json_schema_extra == TEMPLATE]

    @classmethod
    def columns(cls) -> list[pa.Field]:
        """A field of Arrow for each."""
        return [pa.field(name, cls.arrow_type(name)) for name in cls.model_fields]

    @classmethod
    def arrow_type(cls, name: str) -> pa.DataType:
        """The type of a parameter's column.

        Raises:
            TypeError: it is none that a column and a clip_id can hold; a bug in the class.
        """
        kind = _without_none(cls.model_fields[name].annotation)
        found = {bool: pa.bool_(), int: pa.int64(), float: pa.float64(), str: pa.string()}.get(kind)
        if found is None:
            raise TypeError(f"{cls.__name__}.{name} must be a bool, int, float, str or a Literal of strings")
        return found

    @classmethod
    def bounds(cls, name: str) -> Bounds | None:
        """The least and the greatest number allowed, None where there is no such limit; None for what is no number."""
        kind = cls.arrow_type(name)
        if not (pa.types.is_integer(kind) or pa.types.is_floating(kind)):
            return None
        low: Any = -_MAX_INT - 1 if pa.types.is_integer(kind) else None
        high: Any = _MAX_INT if pa.types.is_integer(kind) else None
        for bound in cls.model_fields[name].metadata:
            low = bound.ge if isinstance(bound, Ge) else low
            high = bound.le if isinstance(bound, Le) else high
            if isinstance(bound, Gt | Lt):
                if not pa.types.is_integer(kind):
                    raise TypeError(f"{cls.__name__}.{name}: give the range of a float with ge and le")
                low, high = (
                    (cast("int", bound.gt) + 1, high) if isinstance(bound, Gt) else (low, cast("int", bound.lt) - 1)
                )
        return low, high

    @classmethod
    def checked(cls, name: str, value: object) -> Any:
        """One value, as the field takes it.

        Raises:
            pydantic.ValidationError: it does not.
        """
        field = cls.model_fields[name]
        annotation: Any = Annotated[(field.annotation, *field.metadata)] if field.metadata else field.annotation
        return TypeAdapter(annotation).validate_python(value)


def _without_none(annotation: Any) -> Any:
    """`int` of `int | None`, `str` of a Literal of strings."""
    kinds = [kind for kind in get_args(annotation) if kind is not NoneType]
    origin = get_origin(annotation)
    if origin is Literal:
        return str if all(isinstance(kind, str) for kind in kinds) else None
    if origin in (Union, UnionType):
        return _without_none(kinds[0]) if len(kinds) == 1 else None
    return annotation if origin is None else None
