"""A folder of whole photographs and of damaged files: `python -m benchmarks.damaged_images FOLDER [--damaged 1000]`.

Every way of damage meets every kind of file, in turn, with the same bytes for the same seed. A damaged file is one that
`actors.images.decode` refuses: where the decoder can still read it, it is damaged more.
"""

import argparse
import io
import random
import struct
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from rich.console import Console
from rich.table import Table
from skimage import data as photographs

from actors.errors import ImageError
from actors.images import decode
from actors.settings import ImageSettings

_SIZE = (128, 96)  # small, because what is tried is the handling of files
_LIMITS = ImageSettings(width=128, height=96)
# After so many steps of more and more damage, nothing of a file is left.
_STEPS = 64

# How odd a file's name may be; those with a line end do not fit into a list of lines.
_NAMES = (
    "{}",
    "{} with blanks",
    "{} Grüße 世界 😀",
    "{}%2e%2e%2f%00",
    "{};$(reboot) 'quoted' \"twice\" #1?x=y&z",
    "{} re\u0301sume\u0301 \u202egnp",
    "{}" + "x" * 200,
)


@dataclass(frozen=True, slots=True)
class ImageFile:
    """One file that was written.

    Attributes:
        kind: the encoding and the damage.
        why: what the decoder says about it; None where it is whole.
    """

    path: Path
    kind: str
    why: str | None


@dataclass(frozen=True, slots=True)
class _Encoding:
    """A way to save a photograph; the first picture is what counts where there are several."""

    extension: str
    pillow_format: str
    options: Mapping[str, Any]
    mode: str = "RGB"
    pictures: int = 1


_ENCODINGS = {
    "JPEG": _Encoding("jpg", "JPEG", {"quality": 90}),
    "progressive JPEG": _Encoding("jpeg", "JPEG", {"progressive": True}),
    "grey JPEG": _Encoding("jpg", "JPEG", {}, mode="L"),
    "CMYK JPEG": _Encoding("jpg", "JPEG", {}, mode="CMYK"),
    "JPEG of several pictures": _Encoding("jpg", "MPO", {"save_all": True}, pictures=3),
    "PNG": _Encoding("png", "PNG", {}),
    "transparent PNG": _Encoding("png", "PNG", {}, mode="RGBA"),
    "palette PNG": _Encoding("png", "PNG", {}, mode="P"),
    "16-bit PNG": _Encoding("png", "PNG", {}, mode="I;16"),
    "animated PNG": _Encoding("png", "PNG", {"save_all": True}, pictures=3),
    "GIF": _Encoding("gif", "GIF", {}, mode="P"),
    "animated GIF": _Encoding("gif", "GIF", {"save_all": True}, mode="P", pictures=3),
    "WebP": _Encoding("webp", "WEBP", {"quality": 80}),
    "lossless WebP": _Encoding("webp", "WEBP", {"lossless": True}),
    "animated WebP": _Encoding("webp", "WEBP", {"save_all": True}, pictures=3),
    "TIFF": _Encoding("tif", "TIFF", {}),
    "LZW TIFF": _Encoding("tiff", "TIFF", {"compression": "tiff_lzw"}),
    "deflate TIFF": _Encoding("tiff", "TIFF", {"compression": "tiff_adobe_deflate"}),
    "JPEG TIFF": _Encoding("tiff", "TIFF", {"compression": "jpeg"}),
    "TIFF of several pages": _Encoding("tif", "TIFF", {"save_all": True}, pictures=3),
    "BMP": _Encoding("bmp", "BMP", {}),
}


def make(folder: Path, good: int, damaged: int, seed: int) -> list[ImageFile]:
    """Write `good` whole photographs and `damaged` files that cannot be used into a new `folder`."""
    folder.mkdir(parents=True)
    rng = random.Random(seed)  # noqa: S311 - the same files again
    files = []
    contents = [_whole(number) for number in range(good)]
    contents += [_damaged(number, rng) for number in range(damaged)]
    for number, (kind, data, extension) in enumerate(contents):
        name = _NAMES[number % len(_NAMES)].format(f"{number:05d}")
        path = folder / f"{name}.{extension}"
        path.write_bytes(data)
        files.append(ImageFile(path, kind, _complaint(data)))
    assert all((file.why is None) == (number < good) for number, file in enumerate(files))
    return files


def main() -> None:
    """Write a folder and print how many files there are of each kind."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--good", type=int, default=200)
    parser.add_argument("--damaged", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    files = make(arguments.folder, arguments.good, arguments.damaged, arguments.seed)
    kinds = Counter(file.kind for file in files)
    examples = {file.kind: file.why or "" for file in files}
    table = Table("kind", "files", "why one cannot be used")
    for kind, number in sorted(kinds.items()):
        table.add_row(kind, str(number), examples[kind])
    Console().print(table)


def _whole(number: int) -> tuple[str, bytes, str]:
    """The kind, the bytes and the extension of a whole photograph; every fifth extension is another format's."""
    kind = list(_ENCODINGS)[number % len(_ENCODINGS)]
    extension = "jpg" if number % 5 == 4 else _ENCODINGS[kind].extension
    return f"whole {kind}", _encoded(kind, number // len(_ENCODINGS) % len(_photographs())), extension


def _damaged(number: int, rng: random.Random) -> tuple[str, bytes, str]:
    """The same of a damaged file: in turn each damage to one encoding, then to the next, and what is no photograph."""
    kinds = [*_DAMAGES, *_STRANGERS]
    turn, place = divmod(number, len(kinds))
    if kinds[place] in _STRANGERS:
        return kinds[place], _STRANGERS[kinds[place]](rng), rng.choice(["jpg", "png", "webp", "tif", "gif", "bmp"])
    encoding = list(_ENCODINGS)[(turn + place) % len(_ENCODINGS)]
    whole = _encoded(encoding, rng.randrange(len(_photographs())))
    extension = "jpg" if number % 5 == 4 else _ENCODINGS[encoding].extension
    for step in range(1, _STEPS + 1):
        data = _DAMAGES[kinds[place]](whole, step, rng)
        if _complaint(data) is not None:
            return f"{encoding}: {kinds[place]}", data, extension
    raise AssertionError(f"{encoding}: {kinds[place]} still gives a picture")


def _complaint(data: bytes) -> str | None:
    try:
        decode(data, max_megapixels=_LIMITS.max_megapixels, max_bytes=_LIMITS.max_bytes)
    except ImageError as error:
        return str(error)
    return None


@cache
def _photographs() -> list[Image.Image]:
    names = ("astronaut", "chelsea", "coffee", "rocket", "camera", "moon")
    return [Image.fromarray(getattr(photographs, name)()).convert("RGB").resize(_SIZE) for name in names]


@cache
def _encoded(kind: str, photograph: int) -> bytes:
    encoding, buffer = _ENCODINGS[kind], io.BytesIO()
    pictures = [_photographs()[(photograph + number) % len(_photographs())] for number in range(encoding.pictures)]
    first, *others = [_in_mode(picture, encoding.mode) for picture in pictures]
    more = {"append_images": others} if others else {}
    first.save(buffer, encoding.pillow_format, **encoding.options, **more)
    return buffer.getvalue()


def _in_mode(picture: Image.Image, mode: str) -> Image.Image:
    if mode == "I;16":
        return Image.fromarray(np.asarray(picture.convert("L"), np.uint16) * 257)
    return picture.convert(mode)


# --- Damage: (whole file, step from 1 to _STEPS, rng) -> damaged file; each step takes more than the one before -------

Damage = Callable[[bytes, int, random.Random], bytes]


def _cut_off(whole: bytes, step: int, rng: random.Random) -> bytes:
    return whole[: rng.randrange(1, max(2, len(whole) * (_STEPS - step) // _STEPS))]


def _beginning_lost(whole: bytes, _step: int, rng: random.Random) -> bytes:
    return whole[rng.randrange(1, len(whole) // 2) :]


def _flipped(whole: bytes, step: int, rng: random.Random) -> bytes:
    """Single bits; half of them near the beginning, where the headers are."""
    data = bytearray(whole)
    for _ in range(step * step):
        data[rng.randrange(len(data) if rng.random() < 0.5 else min(len(data), 200))] ^= 1 << rng.randrange(8)
    return bytes(data)


def _zeroed(whole: bytes, step: int, rng: random.Random) -> bytes:
    """A lost sector."""
    length = len(whole) * step // _STEPS
    start = rng.randrange(len(whole) - length + 1)
    return whole[:start] + bytes(length) + whole[start + length :]


def _overwritten(whole: bytes, step: int, rng: random.Random) -> bytes:
    length = len(whole) * step // _STEPS
    start = rng.randrange(len(whole) - length + 1)
    return whole[:start] + rng.randbytes(length) + whole[start + length :]


def _bytes_lost(whole: bytes, step: int, rng: random.Random) -> bytes:
    """A gap in the middle: all that follows is in the wrong place."""
    start = rng.randrange(1, len(whole) // 2)
    return whole[:start] + whole[start + 1 + (len(whole) - start) * step // _STEPS :]


def _mixed(whole: bytes, step: int, rng: random.Random) -> bytes:
    """The beginning of one file and the end of another, as after two writers at once."""
    other = _encoded(rng.choice(list(_ENCODINGS)), rng.randrange(len(_photographs())))
    share = 1 - step / _STEPS
    return whole[: max(4, int(len(whole) * share))] + other[int(len(other) * share) :]


def _as_text(whole: bytes, _step: int, _rng: random.Random) -> bytes:
    """Read as text and written as UTF-8."""
    return whole.decode("latin-1").encode()


def _line_ends(whole: bytes, step: int, rng: random.Random) -> bytes:
    """Copied as a text file between systems, and broken off where that alone does no harm."""
    copied = whole.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
    return copied if step == 1 else _cut_off(copied, step, rng)


def _huge(whole: bytes, _step: int, _rng: random.Random) -> bytes:
    """A header that claims the largest picture that the format knows."""
    data = bytearray(whole)
    if whole.startswith(b"\x89PNG"):
        data[16:24] = struct.pack(">II", 2**31 - 1, 2**31 - 1)
        data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    elif whole.startswith(b"GIF"):
        data[6:10] = b"\xff" * 4
    elif whole.startswith(b"BM"):
        data[18:26] = struct.pack("<ii", 2**31 - 1, 2**31 - 1)
    elif whole.startswith(b"RIFF"):
        _claim_in_webp(data)
    elif whole.startswith(b"\xff\xd8"):
        frame = next(at for at in _jpeg_segments(whole) if whole[at + 1] in (0xC0, 0xC1, 0xC2))
        data[frame + 5 : frame + 9] = b"\xff" * 4
    else:
        _claim_in_tiff(data)
    return bytes(data)


def _jpeg_segments(data: bytes) -> Iterator[int]:
    """Where the markers before the pixels begin."""
    at = 2
    while data[at + 1] != 0xDA:
        yield at
        at += 2 + struct.unpack_from(">H", data, at + 2)[0]


def _claim_in_webp(data: bytearray) -> None:
    kind = bytes(data[12:16])
    if kind == b"VP8X":
        data[24:30] = b"\xff\x3f\0" * 2
    elif kind == b"VP8L":
        data[21:25] = struct.pack("<I", struct.unpack_from("<I", data, 21)[0] | 0x0FFFFFFF)
    else:
        data[26:30] = b"\xff\x3f" * 2


def _claim_in_tiff(data: bytearray) -> None:
    (directory,) = struct.unpack_from("<I", data, 4)
    (entries,) = struct.unpack_from("<H", data, directory)
    for entry in range(directory + 2, directory + 2 + 12 * entries, 12):
        if struct.unpack_from("<H", data, entry)[0] in (256, 257):  # width, height
            data[entry + 2 : entry + 12] = struct.pack("<HII", 4, 1, 2**31 - 1)


_DAMAGES: dict[str, Damage] = {
    "cut off": _cut_off,
    "beginning lost": _beginning_lost,
    "bits flipped": _flipped,
    "a block of zeros": _zeroed,
    "a block of other bytes": _overwritten,
    "bytes lost within": _bytes_lost,
    "mixed with another file": _mixed,
    "saved as UTF-8 text": _as_text,
    "line ends changed": _line_ends,
    "huge size claimed": _huge,
}


# --- What never was a photograph, or none that can be used ------------------------------------------------------------


def _page(rng: random.Random) -> bytes:
    start = rng.choice(["<!DOCTYPE html>\n", "<html>", "\n\n<HTML lang='en'>", "\ufeff<!doctype HTML>"])
    return f"{start}<head><title>404 Not Found</title></head><body>{rng.random()}</body></html>".encode()


def _drawing(rng: random.Random) -> bytes:
    start = rng.choice(["", "<?xml version='1.0' encoding='UTF-8'?>\n"])
    return f"{start}<svg xmlns='http://www.w3.org/2000/svg'><circle r='{rng.random()}'/></svg>".encode()


def _answer(rng: random.Random) -> bytes:
    """What a store or a service says instead."""
    return rng.choice(
        [
            b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>",
            b'{"error": "quota exceeded"}',
            b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n",
            b"data:image/png;base64,iVBORw0KGgo=",
        ]
    )


def _other_format(rng: random.Random) -> bytes:
    """Images that Pillow reads, and that are not offered to it."""
    buffer = io.BytesIO()
    photograph = rng.choice(_photographs())
    photograph.save(buffer, rng.choice(["ICO", "PPM", "TGA", "PCX", "ICNS", "PDF", "EPS", "SGI", "DDS"]))
    return buffer.getvalue()


def _container(rng: random.Random) -> bytes:
    """The beginnings of other files that turn up under an image's name."""
    starts = [b"\0\0\0\x18ftypheic", b"\0\0\0\x20ftypisom", b"PK\3\4", b"\x1f\x8b\x08", b"8BPS\0\1", b"\x7fELF"]
    return rng.choice(starts) + rng.randbytes(500)


def _samples(rng: random.Random) -> bytes:
    """Pictures in numbers of which nobody knows what is white."""
    values = np.random.default_rng(rng.randrange(2**32)).normal(0, 1000, (96, 128))
    values[0, 0] = rng.choice([np.nan, np.inf, 5.0])
    with np.errstate(invalid="ignore"):
        samples = values.astype(rng.choice([np.float32, np.int32]))
    buffer = io.BytesIO()
    Image.fromarray(samples).save(buffer, "TIFF")
    return buffer.getvalue()


@cache
def _bomb(kind: str) -> bytes:
    """A real decompression bomb: 400 megapixels in some kilobytes."""
    buffer = io.BytesIO()
    options = {"compression": "group4"} if kind == "TIFF" else {}
    Image.new("1", (20_000, 20_000)).save(buffer, kind, **options)
    return buffer.getvalue()


_STRANGERS: dict[str, Callable[[random.Random], bytes]] = {
    "an HTML page": _page,
    "an SVG drawing": _drawing,
    "a service's answer": _answer,
    "another image format": _other_format,
    "another kind of file": _container,
    "samples without a white": _samples,
    "a decompression bomb": lambda rng: _bomb(rng.choice(["PNG", "TIFF"])),
    "no bytes": lambda _rng: b"",
    "zeros": lambda rng: bytes(rng.randrange(1, 5000)),
    "random bytes": lambda rng: rng.randbytes(rng.randrange(1, 5000)),
    "a signature and no more": lambda rng: _encoded(rng.choice(list(_ENCODINGS)), 0)[: rng.randrange(2, 13)],
}


if __name__ == "__main__":
    main()
