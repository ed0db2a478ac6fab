"""Decoding and fitting images. Axes in names: H height, W width, C channels (RGB)."""

import hashlib
import io
import struct
import warnings
import zlib
from typing import Any, Literal

import numpy as np
import pytest
from numpy.typing import ArrayLike, NDArray
from PIL import Image, ImageCms

from actors import images
from actors.contracts import Pixels
from actors.errors import ImageError
from actors.settings import ImageSettings

Order = Literal["<", ">"]  # of bytes: little end or big end first
Mode = Literal["crop", "pad", "stretch"]

LIMIT = 100.0


def encoded(image: Image.Image, image_format: str, **options: object) -> bytes:
    """The bytes of a file."""
    buffer = io.BytesIO()
    image.save(buffer, image_format, **options)
    return buffer.getvalue()


def decoded(image: Image.Image, image_format: str, **options: object) -> Pixels:
    return images.decode(encoded(image, image_format, **options), max_megapixels=LIMIT).pixels_HWC


def gradient(width: int = 64, height: int = 48) -> Image.Image:
    """A smooth RGB picture, so that lossy formats stay close to it."""
    y, x = np.mgrid[0:height, 0:width]
    channels = [x * 255 / (width - 1), y * 255 / (height - 1), (x + y) * 255 / (width + height - 2)]
    return Image.fromarray(np.stack(channels, -1).round().astype(np.uint8))


def max_difference(a: Pixels, b: ArrayLike | Image.Image) -> int:
    return int(np.abs(a.astype(int) - np.asarray(b).astype(int)).max())


FORMATS: list[tuple[str, dict[str, object], int]] = [
    ("PNG", {}, 0),
    ("BMP", {}, 0),
    ("TIFF", {}, 0),
    ("TIFF", {"compression": "tiff_lzw"}, 0),
    ("TIFF", {"compression": "tiff_adobe_deflate"}, 0),
    ("WEBP", {"lossless": True}, 0),
    ("WEBP", {"quality": 95}, 12),
    ("JPEG", {"quality": 95, "subsampling": 0}, 8),
    ("JPEG", {"quality": 95, "subsampling": 0, "progressive": True}, 8),
    ("GIF", {}, 40),
]


@pytest.mark.parametrize(("image_format", "options", "tolerance"), FORMATS)
def test_each_format_gives_the_pixels_that_were_saved(
    image_format: str, options: dict[str, object], tolerance: int
) -> None:
    data = encoded(gradient(), image_format, **options)
    image = images.decode(data, max_megapixels=LIMIT)
    assert image.pixels_HWC.dtype == np.uint8
    assert image.pixels_HWC.shape == (48, 64, 3)
    assert (image.width, image.height) == (64, 48)
    assert image.sha256 == hashlib.sha256(data).hexdigest()
    assert image.pixels_HWC.flags.writeable
    assert max_difference(image.pixels_HWC, gradient()) <= tolerance


def test_a_camera_file_of_several_pictures_gives_the_first() -> None:
    data = encoded(gradient(), "MPO", save_all=True, append_images=[Image.new("RGB", (64, 48))], quality=95)
    assert max_difference(images.decode(data, max_megapixels=LIMIT).pixels_HWC, gradient()) < 30


def test_an_animated_gif_gives_the_first_frame() -> None:
    red, blue = Image.new("RGB", (9, 8), (255, 0, 0)), Image.new("RGB", (9, 8), (0, 0, 255))
    pixels_HWC = decoded(red, "GIF", save_all=True, append_images=[blue])
    assert (pixels_HWC == (255, 0, 0)).all()


@pytest.mark.parametrize("image_format", ["PNG", "TIFF"])
def test_16_bit_grey_is_scaled_and_not_clipped(image_format: str) -> None:
    samples_HW = np.linspace(0, 65535, 64 * 64).reshape(64, 64).astype(np.uint16)
    pixels_HWC = decoded(Image.fromarray(samples_HW), image_format)
    expected_HW = np.rint(samples_HW / 257)
    assert max_difference(pixels_HWC, np.stack([expected_HW] * 3, -1)) == 0


def tiff(samples: NDArray[Any], bits: int, samples_per_pixel: int, photometric: int, order: Order = "<") -> bytes:
    """An uncompressed TIFF of one strip, written by hand for what Pillow cannot write."""
    height, width = samples.shape[:2]
    pixels = samples.astype(samples.dtype.newbyteorder(order)).tobytes()
    tags: list[tuple[int, int, int | None]] = [
        (256, 3, width),
        (257, 3, height),
        (258, 3, bits),
        (259, 3, 1),
        (262, 3, photometric),
    ]
    tags += [(273, 4, 8), (277, 3, samples_per_pixel), (278, 3, height), (279, 4, len(pixels))]
    if samples_per_pixel > 1:  # several bit depths do not fit into the tag and follow the pixels
        tags[2] = (258, 3, None)
    body = struct.pack(order + "H", len(tags))
    for tag, kind, value in tags:
        if value is None:
            ifd_bytes = 2 + 12 * len(tags) + 4
            body += struct.pack(order + "HHII", tag, kind, samples_per_pixel, 8 + len(pixels) + ifd_bytes)
        elif kind == 3:
            body += struct.pack(order + "HHIHH", tag, kind, 1, value, 0)
        else:
            body += struct.pack(order + "HHII", tag, kind, 1, value)
    magic = b"II*\0" if order == "<" else b"MM\0*"
    extra = struct.pack(order + "H", bits) * samples_per_pixel
    return magic + struct.pack(order + "I", 8 + len(pixels)) + pixels + body + struct.pack(order + "I", 0) + extra


@pytest.mark.parametrize("order", ["<", ">"])
def test_16_bit_rgb_tiff_is_scaled(order: Order) -> None:
    samples_HWC = np.array([[[0, 32768, 65535], [257, 514, 25700]]], np.uint16)
    pixels_HWC = images.decode(tiff(samples_HWC, 16, 3, 2, order), max_megapixels=LIMIT).pixels_HWC
    assert pixels_HWC.tolist() == [[[0, 128, 255], [1, 2, 100]]]


@pytest.mark.parametrize("order", ["<", ">"])
def test_16_bit_grey_tiff_of_either_byte_order_and_polarity(order: Order) -> None:
    samples_HW = np.array([[0, 257 * 60, 65535]], np.uint16)
    pixels_HWC = images.decode(tiff(samples_HW, 16, 1, 1, order), max_megapixels=LIMIT).pixels_HWC
    assert pixels_HWC[0, :, 0].tolist() == [0, 60, 255]


def test_white_is_zero_16_bit_tiff_is_not_a_negative() -> None:
    samples_HW = np.array([[0, 257 * 60, 65535]], np.uint16)
    pixels_HWC = images.decode(tiff(samples_HW, 16, 1, 0), max_megapixels=LIMIT).pixels_HWC
    assert pixels_HWC[0, :, 0].tolist() == [255, 195, 0]


def test_12_bit_tiff_reaches_white() -> None:
    packed = np.array([[0x00, 0x0F, 0xFF]], np.uint8)  # two samples in three bytes: 0x000, 0xFFF
    data = bytearray(tiff(packed, 12, 1, 1))
    width_at = data.index(struct.pack("<HHIH", 256, 3, 1, 3)) + 8
    data[width_at : width_at + 2] = struct.pack("<H", 2)
    assert images.decode(bytes(data), max_megapixels=LIMIT).pixels_HWC.tolist() == [[[0, 0, 0], [255, 255, 255]]]


def test_16_bit_rgb_png_is_scaled() -> None:
    rows = b"\0" + struct.pack(">6H", 0, 32768, 65535, 257, 514, 25700)
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", 2, 1, 16, 2, 0, 0, 0)), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    data = b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body)) for name, body in chunks
    )
    pixels_HWC = images.decode(data, max_megapixels=LIMIT).pixels_HWC
    assert pixels_HWC.tolist() == [[[0, 128, 255], [1, 2, 100]]]


def test_float_tiff_in_0_to_1_is_scaled() -> None:
    samples_HW = np.array([[0, 0.5, 1]], np.float32)
    assert decoded(Image.fromarray(samples_HW), "TIFF")[0, :, 0].tolist() == [0, 128, 255]


@pytest.mark.parametrize("sample", [1.5, -0.1, np.nan, np.inf])
def test_float_tiff_with_other_samples_is_refused(sample: float) -> None:
    with pytest.raises(ImageError, match=r"outside of 0\.\.1"):
        decoded(Image.fromarray(np.array([[0, sample]], np.float32)), "TIFF")


@pytest.mark.parametrize(("mode", "words"), [("I", "32-bit integer"), ("LAB", "CIELAB")])
def test_sample_types_without_a_known_white_are_refused(mode: str, words: str) -> None:
    with pytest.raises(ImageError, match=words):
        decoded(Image.new(mode, (8, 8)), "TIFF")


@pytest.mark.parametrize("image_format", ["PNG", "TIFF", "BMP"])
def test_black_and_white(image_format: str) -> None:
    pixels_HWC = decoded(Image.fromarray(np.eye(9, dtype=bool)), image_format)
    assert max_difference(pixels_HWC, np.stack([np.eye(9) * 255] * 3, -1)) == 0


def test_palette_and_palette_with_transparency() -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.putdata([0, 1])
    assert decoded(image, "PNG").tolist() == [[[10, 20, 30], [200, 100, 50]]]
    assert decoded(image, "PNG", transparency=0).tolist() == [[[255, 255, 255], [200, 100, 50]]]
    assert decoded(image, "GIF", transparency=1).tolist() == [[[10, 20, 30], [255, 255, 255]]]


def test_transparency_is_laid_on_white() -> None:
    rgba = Image.new("RGBA", (8, 8), (0, 0, 0, 0))
    assert (decoded(rgba, "PNG") == 255).all()
    assert max_difference(decoded(Image.new("RGBA", (8, 8), (200, 100, 0, 128)), "PNG"), [227, 177, 127]) <= 1
    assert max_difference(decoded(Image.new("RGBA", (8, 8), (200, 100, 0, 128)), "TIFF"), [227, 177, 127]) <= 1
    assert max_difference(decoded(Image.new("LA", (8, 8), (100, 128)), "PNG"), [177] * 3) <= 1
    assert (decoded(Image.new("RGB", (8, 8), (1, 2, 3)), "PNG", transparency=(1, 2, 3)) == 255).all()


@pytest.mark.parametrize("image_format", ["JPEG", "TIFF"])
def test_cmyk(image_format: str) -> None:
    # Pillow writes CMYK JPEGs inverted and with Adobe's marker, as Photoshop does.
    assert max_difference(decoded(Image.new("CMYK", (16, 16), (0, 255, 255, 0)), image_format), [255, 0, 0]) <= 2
    assert max_difference(decoded(Image.new("CMYK", (16, 16), (0, 0, 0, 255)), image_format), [0, 0, 0]) <= 2


def test_cmyk_jpeg_really_was_the_inverted_kind() -> None:
    data = encoded(Image.new("CMYK", (16, 16), (0, 255, 255, 0)), "JPEG")
    assert b"Adobe" in data[:64]


def swapped_profile() -> bytes:
    """An RGB profile whose red and blue primaries are exchanged: what it does to a picture is plain to see."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    count = struct.unpack(">I", profile[128:132])[0]
    entries = {bytes(profile[132 + 12 * i : 136 + 12 * i]): 132 + 12 * i for i in range(count)}
    red, blue = entries[b"rXYZ"], entries[b"bXYZ"]
    profile[red : red + 4], profile[blue : blue + 4] = b"bXYZ", b"rXYZ"
    return bytes(profile)


def test_an_embedded_profile_is_converted_to_srgb() -> None:
    image = Image.new("RGB", (8, 8), (250, 20, 20))
    assert max_difference(decoded(image, "PNG", icc_profile=swapped_profile()), [20, 20, 250]) <= 3
    rgba = Image.new("RGBA", (8, 8), (250, 20, 20, 255))
    assert max_difference(decoded(rgba, "PNG", icc_profile=swapped_profile()), [20, 20, 250]) <= 3


def test_an_srgb_profile_changes_next_to_nothing() -> None:
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    assert max_difference(decoded(gradient(), "PNG", icc_profile=srgb), gradient()) <= 1


@pytest.mark.parametrize("profile", [b"rubbish", b"\0" * 200, swapped_profile()[:300]])
def test_a_broken_profile_is_ignored(profile: bytes) -> None:
    assert max_difference(decoded(gradient(), "PNG", icc_profile=profile), gradient()) == 0


def test_a_profile_of_another_colour_space_is_ignored() -> None:
    grey = Image.new("L", (8, 8), 99)
    assert (decoded(grey, "PNG", icc_profile=swapped_profile()) == 99).all()


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "TIFF", "WEBP"])
def test_every_exif_orientation_comes_out_upright(image_format: str, orientation: int) -> None:
    upright_HWC = np.kron(np.array([[255, 0, 0], [0, 255, 255]], np.uint8), np.ones((16, 16), np.uint8))
    upright_HWC = np.stack([upright_HWC] * 3, -1)
    # How a camera stores the picture that the orientation then turns back (EXIF 2.32, tag 0x0112).
    stored_HWC = {
        1: upright_HWC,
        2: upright_HWC[:, ::-1],
        3: upright_HWC[::-1, ::-1],
        4: upright_HWC[::-1],
        5: upright_HWC.swapaxes(0, 1),
        6: np.rot90(upright_HWC, 1),
        7: upright_HWC[::-1, ::-1].swapaxes(0, 1),
        8: np.rot90(upright_HWC, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(Image.fromarray(np.ascontiguousarray(stored_HWC)), image_format, exif=exif)
    image = images.decode(data, max_megapixels=LIMIT)
    assert (image.width, image.height) == (48, 32)
    assert max_difference(image.pixels_HWC, upright_HWC) <= 6


def test_broken_exif_counts_as_upright() -> None:
    data = encoded(gradient(), "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff rubbish")
    assert images.decode(data, max_megapixels=LIMIT).pixels_HWC.shape == (48, 64, 3)


def test_tiny_and_many_banded_pictures() -> None:
    assert decoded(gradient(8, 8), "PNG").shape == (8, 8, 3)
    tall = gradient(2500, 2000)  # 5 megapixels: more than one band
    assert max_difference(decoded(tall, "PNG", compress_level=1), tall) == 0


def test_the_size_is_checked_before_the_pixels_are_read() -> None:
    data = encoded(Image.new("L", (5000, 4000)), "PNG")
    with pytest.raises(ImageError, match=r"5000x4000 pixels: 20\.0 megapixels exceed image\.max_megapixels \(19\.9\)"):
        images.decode(data[:200], max_megapixels=19.9)
    assert images.decode(data, max_megapixels=20).width == 5000


def test_a_file_that_is_too_large_is_refused_before_it_is_decoded() -> None:
    data = encoded(gradient(), "PNG") + b"\0" * 2_000_000
    with pytest.raises(ImageError, match=r"has 2\.\d megabytes: more than image\.max_megabytes \(1\.5\)"):
        images.decode(data, max_megapixels=LIMIT, max_bytes=ImageSettings(max_megabytes=1.5).max_bytes)
    assert images.decode(data, max_megapixels=LIMIT, max_bytes=len(data)).width == 64


def test_a_decompression_bomb_is_refused_by_its_header() -> None:
    header = struct.pack(">IIBBBBB", 2**31 - 1, 2**31 - 1, 8, 2, 0, 0, 0)
    chunk = (
        b"\0\0\0\x0dIHDR" + header + struct.pack(">I", zlib.crc32(b"IHDR" + header)) + b"\0\0\0\0IDAT\x35\xaf\x06\x1e"
    )
    with pytest.raises(ImageError, match=r"exceed image\.max_megapixels"):
        images.decode(b"\x89PNG\r\n\x1a\n" + chunk, max_megapixels=LIMIT)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", r"empty \(0 bytes\)"),
        (b"<!DOCTYPE html><html>404</html>", "an HTML page"),
        (b"\n\n <HTML><body>", "an HTML page"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "an SVG drawing"),
        (b"\xef\xbb\xbf<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>", "an XML"),
        (b'{"error": "not found"}', "JSON text"),
        (b"%PDF-1.7 ...", "a PDF document"),
        (b"\x00\x00\x00\x18ftypheic....", "HEIC image"),
        (b"\x00\x00\x00\x20ftypisom....", "a video"),
        (b"\xff\x0a....", "JPEG XL image"),
        (b"\x00" * 1000, "no image"),
        (b"\xff\xd8\xff", "header is damaged"),
    ],
)
def test_what_is_no_image_says_so(data: bytes, words: str) -> None:
    with pytest.raises(ImageError, match=words):
        images.decode(data, max_megapixels=LIMIT)


def test_an_unsupported_image_format_is_named() -> None:
    with pytest.raises(ImageError, match=r"an icon \(ICO\)"):
        decoded(gradient(), "ICO")


DAMAGED = [
    *FORMATS,
    ("PNG16", {}, 0),
    ("P-GIF", {"interlace": 1}, 0),
    ("TIFF", {"compression": "jpeg"}, 0),
    ("TIFF", {"compression": "packbits"}, 0),
    ("MPO", {}, 0),
]


def whole_file(image_format: str, options: dict[str, object]) -> bytes:
    """A file with noise in it, so that cutting it anywhere takes pixels away."""
    rng = np.random.default_rng(7)
    noise = Image.fromarray(rng.integers(0, 256, (40, 56, 3), dtype=np.uint8))
    if image_format == "PNG16":
        return encoded(Image.fromarray(rng.integers(0, 65536, (40, 56), dtype=np.uint16)), "PNG")
    exif = Image.Exif()
    exif[0x0112] = 6
    extra: dict[str, object] = {"exif": exif} if image_format in ("JPEG", "PNG", "WEBP", "TIFF") else {}
    return encoded(noise, image_format.removeprefix("P-"), **options, **extra)


def pixels_or_message(data: bytes) -> Pixels | str:
    """What a damaged file came to; any other exception, or a warning, fails the test."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            return images.decode(data, max_megapixels=1).pixels_HWC
        except ImageError as error:
            return str(error)


@pytest.mark.parametrize(("image_format", "options", "_tolerance"), DAMAGED)
def test_a_cut_off_file_is_refused_or_lost_nothing_but_its_trailer(
    image_format: str, options: dict[str, object], _tolerance: int
) -> None:
    data = whole_file(image_format, options)
    whole_HWC = images.decode(data, max_megapixels=LIMIT).pixels_HWC
    lengths = [*range(0, 64, 3), *np.linspace(64, len(data) - 21, 60).astype(int), *range(len(data) - 20, len(data))]
    results = [pixels_or_message(data[:length]) for length in lengths]
    messages = [result for result in results if isinstance(result, str)]
    assert len(messages) > 70
    assert all(message and "\n" not in message for message in messages)
    assert all(np.array_equal(result, whole_HWC) for result in results if not isinstance(result, str))


@pytest.mark.parametrize(("image_format", "options", "_tolerance"), DAMAGED)
def test_flipped_bits_give_a_picture_or_an_image_error(
    image_format: str, options: dict[str, object], _tolerance: int
) -> None:
    whole = whole_file(image_format, options)
    rng = np.random.default_rng(11)
    results = []
    for trial in range(150):
        data = bytearray(whole)
        # Two trials of three damage the beginning or the end, where headers and directories are.
        low, high = [(0, len(data)), (0, min(len(data), 300)), (max(0, len(data) - 300), len(data))][trial % 3]
        for position in rng.integers(low, high, rng.integers(1, 12)):
            data[position] ^= 1 << rng.integers(0, 8)
        results.append(pixels_or_message(bytes(data)))
    pictures = [result for result in results if not isinstance(result, str)]
    assert all(picture.dtype == np.uint8 and picture.ndim == 3 for picture in pictures)
    assert len(pictures) < 150


def test_what_pillow_warns_about_stays_inside() -> None:
    # The tag for rows per strip becomes one (305, software) whose text lies behind the end of the file.
    data = bytearray(tiff(np.array([[0, 60, 255]], np.uint8), 8, 1, 1))
    entry = data.index(struct.pack("<HHIH", 278, 3, 1, 1))
    data[entry : entry + 12] = struct.pack("<HHII", 305, 2, 99, 5000)
    with pytest.warns(UserWarning, match="EXIF|Truncated"):
        Image.open(io.BytesIO(bytes(data))).load()
    pixels_HWC = pixels_or_message(bytes(data))
    assert not isinstance(pixels_HWC, str), pixels_HWC
    assert pixels_HWC[0, :, 0].tolist() == [0, 60, 255]


def test_the_clip_turns_with_the_image_or_as_told() -> None:
    auto = ImageSettings(width=1024, height=576)
    assert images.clip_size(4000, 3000, auto) == (1024, 576)
    assert images.clip_size(3000, 4000, auto) == (576, 1024)
    assert images.clip_size(500, 500, auto) == (1024, 576)
    portrait = ImageSettings(width=1024, height=576, orientation="portrait")
    assert images.clip_size(4000, 3000, portrait) == (576, 1024)
    landscape = ImageSettings(width=1024, height=576, orientation="landscape")
    assert images.clip_size(3000, 4000, landscape) == (1024, 576)


def fitted(
    pixels_HWC: Pixels, mode: Mode, width: int = 64, height: int = 32, pad_color: tuple[int, int, int] = (9, 8, 7)
) -> Pixels:
    return images.fit(pixels_HWC, width=width, height=height, mode=mode, pad_color=pad_color)


def test_a_picture_of_the_right_size_passes_untouched() -> None:
    pixels_HWC = np.asarray(gradient(64, 32))
    for mode in ("crop", "pad", "stretch"):
        assert fitted(pixels_HWC, mode) is pixels_HWC


def test_crop_takes_the_middle_and_does_not_resample_what_needs_none() -> None:
    pixels_HWC = np.asarray(gradient(64, 48))
    assert np.array_equal(fitted(pixels_HWC, "crop"), pixels_HWC[8:40])


def test_crop_keeps_the_shape_of_things() -> None:
    # Red, a centred green square of the picture's height, blue: the crop to a square is all green.
    pixels_HWC = np.zeros((100, 300, 3), np.uint8)
    pixels_HWC[:, :100, 0] = pixels_HWC[:, 100:200, 1] = pixels_HWC[:, 200:, 2] = 255
    green_HWC = fitted(pixels_HWC, "crop", 32, 32)
    assert max_difference(green_HWC[:, 1:-1], [0, 255, 0]) <= 2


def test_pad_shows_all_of_it_between_equal_bars() -> None:
    pixels_HWC = np.full((50, 50, 3), 200, np.uint8)
    padded_HWC = fitted(pixels_HWC, "pad")
    assert (padded_HWC[:, 16:48] == 200).all()
    assert (padded_HWC[:, :16] == (9, 8, 7)).all()
    assert (padded_HWC[:, 48:] == (9, 8, 7)).all()


def test_stretch_fills_the_clip_with_all_of_it() -> None:
    stretched_HWC = fitted(np.asarray(gradient(100, 100)), "stretch")
    # Red runs from left to right and green from top to bottom, as before; half a target pixel is missing at each end.
    assert max_difference(stretched_HWC[0, :, 0], np.linspace(2, 253, 64)) <= 2
    assert max_difference(stretched_HWC[:, 0, 1], np.linspace(4, 251, 32)) <= 2


def test_shrinking_is_antialiased() -> None:
    checkers_HWC = np.stack([np.indices((512, 1024)).sum(0) % 2 * 255] * 3, -1).astype(np.uint8)
    assert max_difference(fitted(checkers_HWC, "crop"), [127] * 3) <= 3


@pytest.mark.parametrize("mode", ["crop", "pad", "stretch"])
@pytest.mark.parametrize("shape", [(1, 5000), (5000, 1), (1, 1), (8, 8), (333, 7), (577, 1023)])
def test_any_shape_fits(mode: Mode, shape: tuple[int, int]) -> None:
    pixels_HWC = np.full((*shape, 3), 77, np.uint8)
    for width, height in ((1024, 576), (576, 1024), (64, 64)):
        result_HWC = fitted(pixels_HWC, mode, width, height)
        assert result_HWC.shape == (height, width, 3)
        assert result_HWC.dtype == np.uint8
        assert result_HWC.flags.writeable
        assert (result_HWC == 77).all(-1).any()
