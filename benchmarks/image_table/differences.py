"""How far a decoded file is from what it must be."""

import subprocess
from dataclasses import dataclass

import imageio_ffmpeg
import numpy as np
import numpy.typing as npt
import pyvips

from actors.errors import ImageError
from actors.images import decode
from benchmarks.image_table.pictures import Row

LARGEST = 2.0


@dataclass(frozen=True, slots=True, eq=False)
class Outcome:
    """What a file came to.

    Attributes:
        of_formula: the largest difference from the formulas, of 255.
        of_other: from libvips, or of JPEG 2000, which its package lacks, from ffmpeg.
        refusal: the message of a file that is refused.
    """

    row: Row
    of_formula: float | None = None
    of_other: float | None = None
    refusal: str | None = None

    @property
    def difference(self) -> float | None:
        """That which counts."""
        return self.of_other if self.of_formula is None else self.of_formula

    @property
    def is_wrong(self) -> bool:
        """Whether the pixels are others, or nobody said what they must be, or a file is refused that should be read."""
        if self.refusal is not None:
            return self.row.wanted is not None
        return self.difference is None or self.difference > LARGEST


def outcome(row: Row) -> Outcome:
    """Decode it and compare."""
    try:
        pixels_HWC = decode(row.data, max_megapixels=1).pixels_HWC.astype(float)
    except ImageError as error:
        return Outcome(row, refusal=str(error))
    of_formula = None if row.wanted is None else float(abs(pixels_HWC - row.wanted).max())
    seen_HWC = _by_ffmpeg(row.data, pixels_HWC.shape) if row.format == "JPEG2000" else _by_vips(row.data)
    same = seen_HWC is not None and seen_HWC.shape == pixels_HWC.shape
    of_other = float(abs(pixels_HWC - seen_HWC).max()) if seen_HWC is not None and same else None
    return Outcome(row, of_formula, of_other)


def _by_vips(data: bytes) -> npt.NDArray[np.float64] | None:
    """libvips' picture on white, in sRGB; it knows no gAMA, cHRM, cICP and nclx."""
    try:
        image = pyvips.Image.new_from_buffer(data, "")
        if image.get_typeof("icc-profile-data"):
            image = image.icc_transform("srgb", embedded=True, intent="perceptual")
        image = image.colourspace("srgb")
        if image.hasalpha():
            image = image.flatten(background=255)
        samples = np.asarray(image.cast("uchar").numpy(), float)
    except pyvips.Error:
        return None
    samples_HWC = samples[:, :, None] if samples.ndim == 2 else samples
    return np.broadcast_to(samples_HWC[:, :, :3], (*samples_HWC.shape[:2], 3))


def _by_ffmpeg(data: bytes, shape: tuple[int, ...]) -> npt.NDArray[np.float64] | None:
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-i", "-", "-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
    raw = subprocess.run(command, input=data, capture_output=True, check=False).stdout
    return np.frombuffer(raw, np.uint8).reshape(shape).astype(float) if len(raw) == np.prod(shape) else None
