"""Files as people have them: thumbnails, camera raw, text of megabytes, a missing end, orientations, extras."""

import io
import struct
import sys
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import tifffile
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from actors.contracts import Pixels
from benchmarks.image_table import colours
from benchmarks.image_table.pictures import RGB, whole
from benchmarks.image_table.writers import chunk, png
from tests.actors.pictures import PICTURE, PIXELS, decode, off, refusal, saved

SMALL = np.asarray(PICTURE.resize((16, 12)))
XMP = b"""<x:xmpmeta xmlns:x='adobe:ns:meta/'><rdf:RDF xmlns:rdf='http://www.w3.org/1999/02/22-rdf-syntax-ns#'>
<rdf:Description xmlns:tiff='http://ns.adobe.com/tiff/1.0/' tiff:Orientation="6"/></rdf:RDF></x:xmpmeta>"""


def tiff(*pages: tuple[npt.NDArray[Any], dict[str, Any]]) -> bytes:
    buffer = io.BytesIO()
    with tifffile.TiffWriter(buffer) as writer:
        for picture, options in pages:
            writer.write(picture, **{"photometric": "rgb", "metadata": None, **options})
    return buffer.getvalue()


@pytest.mark.parametrize("picture", [PIXELS, whole(RGB, 16)], ids=["8-bit", "16-bit"])
def test_the_full_picture_counts_and_not_its_thumbnail(picture: Pixels) -> None:
    full, thumbnail = (picture, {"subfiletype": 0}), (SMALL, {"subfiletype": 1})
    assert off(tiff((SMALL, {"subfiletype": 1, "subifds": 1}), full)) <= 1
    assert off(tiff(thumbnail, full)) <= 1
    assert off(tiff(full, thumbnail)) <= 1
    assert off(tiff((picture, {"subifds": 1}), thumbnail)) <= 1
    mask = (np.ones((48, 64), bool), {"subfiletype": 4, "photometric": "mask"})
    assert off(tiff(mask, full)) <= 1
    assert off(tiff((picture, {"subfiletype": 2}), (SMALL, {"subfiletype": 2}))) <= 1


def test_a_thumbnail_without_its_picture_is_refused() -> None:
    assert "marked as reduced copies" in refusal(tiff((SMALL, {"subfiletype": 1})))


@pytest.mark.parametrize("orientation", [3, 6])
def test_a_picture_below_its_thumbnail_is_turned_as_the_thumbnail_says(orientation: int) -> None:
    stored = np.ascontiguousarray(PIXELS[::-1, ::-1] if orientation == 3 else np.rot90(PIXELS))
    tag: dict[str, Any] = {"extratags": [(274, 3, 1, orientation, True)]}
    assert off(tiff((SMALL, {"subfiletype": 1, "subifds": 1} | tag), (stored, {"subfiletype": 0}))) == 0
    assert off(tiff((stored, tag))) == 0
    assert off(tiff((stored.astype(np.uint16) * 257, tag))) == 0


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"II*\0\x10\0\0\0CR\x02\0" + bytes(100), "Canon CR2"),
        (b"FUJIFILMCCD-RAW 0201", "Fujifilm RAF"),
        (b"IIRO\x08\0\0\0" + bytes(50), "Olympus ORF"),
        (b"IIU\0\x18\0\0\0", "Panasonic RW2"),
        (b"\0\0\0\x18ftypcrx \0\0\0\1", "Canon CR3"),
        (tiff((PIXELS, {"extratags": [(50706, 1, 4, b"\1\4\0\0", True)]})), "DNG"),
        (
            tiff(
                (SMALL, {"subfiletype": 1, "subifds": 1}),
                (PIXELS[:, :, 0].copy(), {"photometric": "cfa", "extratags": [(33421, 3, 2, (2, 2), True)]}),
            ),
            "one colour per pixel",
        ),
    ],
)
def test_camera_raw_is_refused_by_name(data: bytes, kind: str) -> None:
    assert f"camera raw ({kind})" in refusal(data)


def test_directories_in_a_ring_end() -> None:
    data = bytearray(tiff((SMALL, {"subfiletype": 1})))
    (first,) = struct.unpack_from("<I", data, 4)
    (count,) = struct.unpack_from("<H", data, first)
    struct.pack_into("<I", data, first + 2 + 12 * count, first)
    assert "marked as reduced copies" in refusal(bytes(data))


def test_absurd_tiles_are_refused_before_they_are_read() -> None:
    data = bytearray(tiff((PIXELS, {"tile": (16, 16)})))
    at = next(at for at in range(8, len(data)) if data[at : at + 8] == struct.pack("<HHI", 322, data[at + 2], 1))
    struct.pack_into("<HII", data, at + 2, 4, 1, 2**30)
    assert "exceed image.max_megapixels" in refusal(bytes(data))


def test_text_of_megabytes_does_not_matter() -> None:
    text = chunk(b"iTXt", b"k\0\1\0\0\0" + zlib.compress(b"v" * 3_000_000))
    assert off(png(PIXELS, 8, 2, text)) == 0
    assert off(png(PIXELS, 8, 2, chunk(b"tEXt", b"k\0" + b"v" * 70_000_000))) == 0
    assert off(png(PIXELS, 8, 2, after=chunk(b"zTXt", b"k\0\0" + zlib.compress(b"v" * 3_000_000)))) == 0
    padded = colours.P3.profile() + bytes(1_100_000)
    profile = struct.pack(">I", len(padded)) + padded[4:]
    wanted = colours.P3.to_srgb(PIXELS / 255) * 255
    assert off(png(PIXELS, 8, 2, chunk(b"iCCP", b"p\0\0" + zlib.compress(profile))), wanted) <= 2


def test_a_png_says_what_is_wrong_with_it() -> None:
    data = bytearray(png(PIXELS, 8, 2))
    data[data.index(b"IDAT") + 20] ^= 1
    assert "the checksum of its IDAT is wrong" in refusal(bytes(data))


NOISE = Image.fromarray(np.random.default_rng(1).integers(0, 256, (48, 64, 3), dtype=np.uint8))


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("restart", [0, 4])
@pytest.mark.parametrize("picture", [NOISE, PICTURE, NOISE.convert("L")], ids=["noise", "smooth", "grey"])
def test_a_jpeg_that_lacks_only_its_end_marker_is_whole_and_any_other_cut_is_seen(
    picture: Image.Image, progressive: bool, restart: int
) -> None:
    data = saved(picture, "JPEG", quality=92, progressive=progressive, restart_marker_blocks=restart)
    whole_HWC = decode(data).pixels_HWC
    for ending in (b"", b"\xff", bytes(100), b"\xff" + bytes(50)):
        assert off(data[:-2] + ending, whole_HWC) == 0
    for cut in range(3, 80):
        assert "JPEG image is damaged or cut off" in refusal(data[:-cut])
    for cut in (20, 50, 200):
        assert "JPEG image is damaged or cut off" in refusal(data[:-cut] + bytes(500))
    scans = [at for at in range(len(data) - 1) if data[at : at + 2] == b"\xff\xda"]
    assert len(scans) == 1 or progressive
    for scan in scans[1:]:
        assert "damaged or cut off" in refusal(data[:scan])


def with_xmp(image_format: str, **options: object) -> bytes:
    if image_format == "PNG":
        text = PngInfo()
        text.add_itxt("XML:com.adobe.xmp", XMP.decode())
        return saved(PICTURE, "PNG", pnginfo=text)
    if image_format == "TIFF":
        return saved(PICTURE, "TIFF", tiffinfo={700: XMP}, **options)
    return saved(PICTURE, image_format, xmp=XMP, **options)


@pytest.mark.parametrize(
    ("image_format", "options"),
    [
        ("JPEG", {"quality": 95}),
        ("PNG", {}),
        ("WEBP", {"lossless": True}),
        ("AVIF", {"quality": 95}),
        ("TIFF", {}),
        ("TIFF", {"compression": "tiff_lzw"}),
    ],
)
def test_an_orientation_in_xmp_does_not_count(image_format: str, options: dict[str, object]) -> None:
    data = with_xmp(image_format, **options)
    assert b'tiff:Orientation="6"' in data
    assert off(data) < 12


STORED: dict[int, Callable[[Pixels], Pixels]] = {
    1: lambda pixels: pixels,
    2: lambda pixels: pixels[:, ::-1],
    3: lambda pixels: pixels[::-1, ::-1],
    4: lambda pixels: pixels[::-1],
    5: lambda pixels: pixels.swapaxes(0, 1),
    6: lambda pixels: np.rot90(pixels, 1),
    7: lambda pixels: pixels[::-1, ::-1].swapaxes(0, 1),
    8: lambda pixels: np.rot90(pixels, -1),
}


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("image_format", ["AVIF", "HEIF"])
def test_what_the_container_says_turns_once(image_format: str, orientation: int) -> None:
    if image_format == "HEIF":
        pytest.importorskip("pillow_heif").register_heif_opener()
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = Image.fromarray(np.ascontiguousarray(STORED[orientation](PIXELS)))
    extra = {"subsampling": "4:4:4"} if image_format == "AVIF" else {"chroma": 444}
    assert off(saved(stored, image_format, exif=exif.tobytes(), quality=97, **extra)) < 8


def test_heic_and_jpeg_xl_are_read_with_their_extras() -> None:
    pytest.importorskip("pillow_heif").register_heif_opener()
    pytest.importorskip("pillow_jxl")
    assert off(saved(PICTURE, "HEIF", quality=95, chroma=444)) <= 4
    assert off(saved(PICTURE, "JXL", lossless=True)) == 0
    grey = Image.fromarray(np.linspace(0, 65535, 64 * 48).reshape(48, 64).astype(np.uint16))
    # libjxl marks 16 bits as linear.
    assert (
        off(saved(grey, "JXL", lossless=True), colours.LINEAR.to_srgb(np.asarray(grey)[:, :, None] / 65535) * 255) <= 1
    )
    large = saved(Image.new("L", (2000, 1000)), "JXL", lossless=True)
    assert "2000x1000 pixels: 2.0 megapixels exceed" in refusal(large[:30])


@pytest.mark.parametrize(
    ("module", "data", "extra"),
    [
        ("pillow_heif", b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "heic"),
        ("pillow_jxl.JpegXLImagePlugin", b"\xff\x0a\xfa\x1f\x41", "jxl"),
    ],
)
def test_without_an_extra_its_name_is_said(
    monkeypatch: pytest.MonkeyPatch, module: str, data: bytes, extra: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    assert f"pip install 'stillreel[{extra}]'" in refusal(data)


def test_the_codestream_of_jpeg_2000_says_the_size() -> None:
    data = saved(PICTURE, "JPEG2000")
    large = saved(Image.new("RGB", (2000, 1000)), "JPEG2000")
    at, large_at = data.index(b"jp2c"), large.index(b"jp2c")
    assert "2000x1000 pixels" in refusal(data[:at] + large[large_at:])
    tiles = bytearray(data)
    struct.pack_into(">6I", tiles, data.index(b"\xff\x4f\xff\x51") + 8, 1000, 1000, 0, 0, 1, 1)
    assert "claims 1000000 tiles" in refusal(bytes(tiles))
