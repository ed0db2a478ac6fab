"""What a clip's file says of itself to others, read back by their own programs."""

import json
import shutil
import subprocess
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from uuid import UUID
from xml.etree import ElementTree as ET

import av
import imageio_ffmpeg
import numpy as np
import pytest

from actors import __version__, video
from actors.generators.null import NullGenerator
from actors.generators.svd.generator import SvdGenerator
from actors.marks import xmp
from actors.marks.source_types import ALTERED, MADE_BY_AI
from actors.settings import VideoSettings

EXIFTOOL = shutil.which("exiftool")
IN_MP4 = ["h264", "h265", "av1", "vp9"]
CREATOR = f"stillreel {__version__}"
IPTC = "{http://iptc.org/std/Iptc4xmpExt/2008-02-29/}"
XMP = "{http://ns.adobe.com/xap/1.0/}"
RDF = "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}"


def encode(path: Path, codec: str, source_type: str | None = MADE_BY_AI) -> Path:
    frames_FHWC = (np.mgrid[0:5, 0:64, 0:64].sum(0)[..., None] * np.array([1, 2, 3]) % 256).astype(np.uint8)
    settings = VideoSettings(codec=codec)
    rate = Fraction(7)
    video.encode(
        frames_FHWC, path, width=64, height=64, frame_rate=rate, settings=settings, tag="{}", source_type=source_type
    )
    return path


def boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Type and content of the boxes of an MP4 file on its outermost level; each byte is in one of them."""
    at = 0
    while at < len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        assert 8 <= size <= len(data) - at
        yield data[at + 4 : at + 8], data[at + 8 : at + size]
        at += size


def properties(packet: bytes) -> dict[str, str]:
    described = ET.fromstring(packet).find(f"{RDF}RDF/{RDF}Description")  # noqa: S314 - our own
    assert described is not None
    return dict(described.attrib)


@pytest.mark.parametrize("codec", IN_MP4)
def test_the_last_box_of_an_mp4_is_its_xmp_and_nothing_else_is_moved(tmp_path: Path, codec: str) -> None:
    marked = encode(tmp_path / "marked.mp4", codec).read_bytes()
    plain = encode(tmp_path / "plain.mp4", codec, None).read_bytes()
    assert marked.startswith(plain)
    assert b"adobe:ns:meta" not in plain
    *others, (kind, content) = boxes(marked)
    assert [name for name, _ in others] == [b"ftyp", b"moov", b"free", b"mdat"]
    assert (kind, UUID(bytes=content[:16])) == (b"uuid", UUID("BE7ACFCB-97A9-42E8-9C71-999491E3AFAC"))
    assert properties(content[16:]) == {
        f"{RDF}about": "",
        f"{IPTC}DigitalSourceType": "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia",
        f"{XMP}CreatorTool": CREATOR,
    }


@pytest.mark.parametrize("codec", [*IN_MP4, "ffv1"])
def test_marked_files_have_the_pictures_and_the_record_of_unmarked_ones(tmp_path: Path, codec: str) -> None:
    decoded = []
    for name, source_type in (("marked", MADE_BY_AI), ("plain", None)):
        path = encode(tmp_path / f"{name}{video.extension(codec)}", codec, source_type)
        assert video.read_tag(path) == "{}"
        with av.open(str(path)) as container:
            assert len(container.streams) == 1
            decoded.append(np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]))
        assert imageio_ffmpeg.count_frames_and_secs(str(path)) == (5, pytest.approx(5 / 7, abs=0.01))
    np.testing.assert_array_equal(decoded[0], decoded[1])


def test_matroska_says_it_in_tags(tmp_path: Path) -> None:
    with av.open(str(encode(tmp_path / "clip.mkv", "ffv1"))) as container:
        assert container.metadata["DIGITAL_SOURCE_TYPE"] == MADE_BY_AI
        assert container.metadata["ENCODED_BY"] == CREATOR


def test_what_is_said_is_escaped() -> None:
    hostile = """<a b="c">&'"""
    said = properties(xmp.packet(hostile))
    assert said[f"{IPTC}DigitalSourceType"] == hostile


def test_a_generator_without_a_model_is_no_ai() -> None:
    assert SvdGenerator.source_type == MADE_BY_AI
    assert NullGenerator.source_type == ALTERED


@pytest.mark.skipif(EXIFTOOL is None, reason="exiftool is not installed")
@pytest.mark.parametrize("codec", [*IN_MP4, "ffv1"])
def test_exiftool_reads_it(tmp_path: Path, codec: str) -> None:
    path = encode(tmp_path / f"clip{video.extension(codec)}", codec)
    command = [str(EXIFTOOL), "-json", "-G", "-warning", "-all", str(path)]
    (said,) = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    if codec == "ffv1":
        assert said["Matroska:DigitalSourceType"] == MADE_BY_AI
        assert said["Matroska:EncodedBy"] == CREATOR
    else:
        assert said["XMP:DigitalSourceType"] == MADE_BY_AI
        assert said["XMP:CreatorTool"] == CREATOR
    assert not [name for name in said if "Warning" in name or "Error" in name]
