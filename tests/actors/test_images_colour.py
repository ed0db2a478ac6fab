"""Colours: profiles that do not fit, codes, alpha that nobody filled in."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageCms

from benchmarks.image_table import colours
from benchmarks.image_table.pictures import GREY, MUTED, whole
from benchmarks.image_table.writers import bmp, chunk, png
from tests.actors.pictures import PICTURE, PIXELS, decode, off, refusal, saved


def iccp(profile: bytes) -> bytes:
    return chunk(b"iCCP", b"p\0\0" + zlib.compress(profile))


def cmyk_profile() -> bytes:
    """The header of one is enough: it is not used."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    profile[16:20] = b"CMYK"
    return bytes(profile)


@pytest.mark.parametrize(
    ("kind", "profile", "words"),
    [
        (2, colours.GREY_LINEAR.profile(), "is for GRAY and its pixels are RGB"),
        (2, cmyk_profile(), "is for CMYK and its pixels are RGB"),
        (0, cmyk_profile(), "is for CMYK and its pixels are grey"),
        (0, b"rubbish", "is broken"),
        (2, colours.P3.profile()[:300], "is broken"),
    ],
)
def test_a_profile_that_cannot_be_used_is_left_out_and_said(kind: int, profile: bytes, words: str) -> None:
    samples = whole(GREY, 8) if kind == 0 else PIXELS
    image = decode(png(samples, 8, kind, iccp(profile)))
    assert words in str(image.note)
    assert (image.pixels_HWC == samples).all()


def test_a_profile_that_cannot_be_unpacked_is_said() -> None:
    assert "is broken" in str(decode(png(PIXELS, 8, 2, chunk(b"iCCP", b"p\0\0rubbish"))).note)


def test_a_profile_that_is_used_leaves_no_note() -> None:
    assert decode(png(PIXELS, 8, 2, iccp(colours.P3.profile()))).note is None


def test_an_rgb_profile_of_a_cmyk_picture_is_left_out() -> None:
    inks = np.full((4, 4, 4), 90, np.uint8)
    image = decode(saved(Image.fromarray(inks, "CMYK"), "TIFF", icc_profile=colours.P3.profile()))
    assert "its pixels are CMYK" in str(image.note)


def test_hdr_that_a_profile_names_is_refused() -> None:
    profile = colours.BT2020.profile()
    tag = b"cicp\0\0\0\0" + bytes([9, 16, 0, 1])
    (count,) = struct.unpack(">I", profile[128:132])
    end = 132 + 12 * count
    entries = b"".join(
        struct.pack(">4sII", name, start + 12, size)
        for name, start, size in struct.iter_unpack(">4sII", profile[132:end])
    )
    entries += struct.pack(">4sII", b"cicp", len(profile) + 12, len(tag))
    changed = struct.pack(">I", len(profile) + 12 + len(tag)) + profile[4:128] + struct.pack(">I", count + 1)
    changed += entries + profile[end:] + tag
    assert "HDR (PQ)" in refusal(saved(PICTURE, "JPEG", icc_profile=changed))
    assert "HDR (PQ)" in refusal(png(PIXELS, 8, 2, iccp(changed)))


def with_codes(primaries: int, transfer: int) -> bytes:
    """An AVIF whose nclx box says so."""
    data = bytearray(saved(Image.fromarray(whole(MUTED, 8)), "AVIF", quality=98, subsampling="4:4:4"))
    struct.pack_into(">HH", data, data.index(b"nclx") + 4, primaries, transfer)
    return bytes(data)


def test_codes_of_avif_are_converted() -> None:
    as_srgb = decode(with_codes(1, 13)).pixels_HWC
    assert off(with_codes(1, 13), whole(MUTED, 8)) <= 4  # what the encoder loses
    assert off(with_codes(12, 13), colours.P3.to_srgb(as_srgb / 255) * 255) <= 1
    assert off(with_codes(1, 8), colours.LINEAR.to_srgb(as_srgb / 255) * 255) <= 1
    assert off(with_codes(2, 2), as_srgb) == 0
    assert off(with_codes(1, 1), as_srgb) == 0


@pytest.mark.parametrize(("transfer", "name"), [(16, "PQ"), (18, "HLG")])
def test_hdr_codes_of_avif_and_heic_are_refused(transfer: int, name: str) -> None:
    assert f"AVIF image is HDR ({name})" in refusal(with_codes(9, transfer))
    pillow_heif = pytest.importorskip("pillow_heif")
    buffer = io.BytesIO()
    codes = {"color_primaries": 9, "transfer_characteristics": transfer, "matrix_coefficients": 9, "full_range_flag": 1}
    pillow_heif.from_pillow(PICTURE).save(buffer, quality=90, save_nclx_profile=True, **codes)
    assert f"HEIC image is HDR ({name})" in refusal(buffer.getvalue())


def test_an_icc_profile_in_jpeg_2000_is_used() -> None:
    data = saved(PICTURE, "JPEG2000")
    profile = colours.P3.profile()
    box = struct.pack(">I4sBBB", 11 + len(profile), b"colr", 2, 0, 0) + profile
    header, old = data.index(b"jp2h") - 4, data.index(b"colr") - 4
    (header_size,), (old_size,) = struct.unpack_from(">I", data, header), struct.unpack_from(">I", data, old)
    head = data[:header] + struct.pack(">I", header_size - old_size + len(box)) + data[header + 4 : old]
    assert off(head + box + data[old + old_size :], colours.P3.to_srgb(PIXELS / 255) * 255) <= 1
    lab = bytearray(data)
    struct.pack_into(">I", lab, old + 11, 14)
    assert "unsupported colour space (number 14)" in refusal(bytes(lab))


def test_a_bmp_whose_alpha_is_zero_everywhere_is_opaque() -> None:
    pixels = bytes([10, 20, 200, 0] * 4)
    masks = (0xFF0000, 0xFF00, 0xFF, 0xFF000000)
    assert decode(bmp(pixels, (2, 2), 32, masks=masks)).pixels_HWC.tolist() == [[[200, 20, 10]] * 2] * 2
    half = bytes([10, 20, 200, 255] * 2 + [10, 20, 200, 0] * 2)
    assert decode(bmp(half, (2, 2), 32, masks=masks)).pixels_HWC.tolist() == [[[255] * 3] * 2, [[200, 20, 10]] * 2]


def test_what_the_first_frame_of_a_gif_leaves_uncovered_is_transparent() -> None:
    blue = Image.new("P", (20, 20), 1)
    blue.putpalette([255, 0, 0, 0, 0, 255])
    data = bytearray(saved(blue, "GIF"))
    struct.pack_into("<HH", data, 6, 40, 30)
    pixels_HWC = decode(bytes(data)).pixels_HWC
    assert pixels_HWC.shape == (30, 40, 3)
    assert (pixels_HWC[:20, :20] == (0, 0, 255)).all()
    assert (pixels_HWC[20:] == 255).all()
    assert (pixels_HWC[:, 20:] == 255).all()
