"""Pictures among the values of a table, known by their first bytes; and the types that can hold some."""

import re
from typing import Any

import pyarrow as pa

# The first bytes of pictures, also of kinds that are not decoded: those are no metadata either.
_PICTURE = re.compile(
    rb"\xff\xd8\xff"  # JPEG
    rb"|\x89PNG\r\n\x1a\n|\x8aMNG\r\n"
    rb"|GIF8[79]a"
    rb"|RIFF.{4}WEBP"
    rb"|II(\*|\+|R|U)\0|MM\0(\*|\+)"  # TIFF, BigTIFF, and cameras' own
    rb"|BM.{4}\0{4}.{4}[\x0c-\x7c]\0\0\0"  # BMP, whose second header has 12 to 124 bytes
    rb"|.{4}ftyp(avi[fs]|hei[cmsx]|hev[cmsx]|mif[12]|msf1|miaf|crx )"  # AVIF, HEIF, Canon's raw files
    rb"|\0\0\0\x0c(jP  |JXL )\r\n\x87\n|\xff\x4f\xff\x51|\xff\x0a"  # JPEG 2000, JPEG XL
    rb"|\0\0[\1\2]\0[\1-\x40]\0"  # ICO, CUR
    rb"|P[1-7][ \t\r\n#]|P[Ff]\r?\n|8BPS\0[\1\2]|qoif|DDS |\x76\x2f\x31\x01|#\?RADIANCE|FUJIFILMCCD-RAW",
    re.DOTALL,
)
# What a struct calls the picture's name, beside its bytes.
_PATHS = ("path", "uri", "url", "file_name", "filename")


def is_picture(data: bytes) -> bool:
    """Whether a file that begins so is a picture."""
    return _PICTURE.match(data) is not None


def hold_pictures(value: Any) -> bool:
    """Whether a value has a picture in it, however deep."""
    if isinstance(value, bytes):
        return is_picture(value)
    if isinstance(value, dict):
        return any(map(hold_pictures, value.values()))
    return isinstance(value, list | tuple) and any(map(hold_pictures, value))


def has_bytes(value: Any) -> bool:
    """Whether a value has any bytes in it, however deep."""
    if isinstance(value, dict):
        return any(map(has_bytes, value.values()))
    return bool(value) and (
        isinstance(value, bytes) or (isinstance(value, list | tuple) and any(map(has_bytes, value)))
    )


def is_binary(kind: pa.DataType) -> bool:
    """Whether values of this type are bytes."""
    types = pa.types
    kinds = (types.is_binary, types.is_large_binary, types.is_binary_view, types.is_fixed_size_binary)
    plain = kind.value_type if types.is_dictionary(kind) else kind
    return any(is_kind(plain) for is_kind in kinds)


def may_hold_bytes(kind: pa.DataType) -> bool:
    """Whether a type has bytes in it, however deep."""
    if isinstance(kind, pa.ExtensionType):
        return False  # UUIDs and the like: its name says what it is
    if pa.types.is_nested(kind) and not pa.types.is_union(kind):
        return any(may_hold_bytes(kind.field(index).type) for index in range(kind.num_fields))
    return is_binary(kind)


def is_list(kind: pa.DataType) -> bool:
    """Whether a value is several."""
    types = pa.types
    kinds = (types.is_list, types.is_large_list, types.is_fixed_size_list, types.is_list_view, types.is_large_list_view)
    return any(is_kind(kind) for is_kind in kinds)


def leaf_of(kind: pa.DataType) -> str | None:
    """Where within a value of this type the image is: "" for bytes, the name of a struct's field; None for nowhere.

    Hugging Face's structs have `bytes` and `path`, in either order; others have more, or other names.
    """
    if is_binary(kind):
        return ""
    if not pa.types.is_struct(kind):
        return None
    binaries = [field.name for field in kind if is_binary(field.type)]
    named = [field.name for field in kind if field.name.casefold() == "bytes"]
    if named and named[0] in binaries:
        return str(named[0])
    if named and pa.types.is_null(kind.field(named[0]).type) and path_of(kind) is not None:
        return str(named[0])
    return binaries[0] if len(binaries) == 1 else None


def path_of(kind: pa.DataType) -> str | None:
    """The field of a struct that says what the image is called, or where it is."""
    types = pa.types
    kinds = (types.is_string, types.is_large_string, types.is_string_view, types.is_null)
    plain = {field.name: field.type.value_type if types.is_dictionary(field.type) else field.type for field in kind}
    texts = {name.casefold(): name for name, one in plain.items() if any(is_kind(one) for is_kind in kinds)}
    return next((texts[name] for name in _PATHS if name in texts), None)
