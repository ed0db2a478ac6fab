"""How long decoding takes, here and in another checkout: `python -m benchmarks.decoding --against FOLDER`.

JPEG files of 1 and 12 megapixels. The two take turns, each in a process of its own; the shortest CPU time of
each counts, so that others may work meanwhile.
A ratio of 1 and more says that this one is no slower.
"""

import argparse
import io
import os
import subprocess
import sys
import time
from pathlib import Path

from PIL import Image
from skimage import data as photographs

_SIZES = {"1 MP": (1155, 866), "12 MP": (4000, 3000)}
_TURNS = 6
_CALLS = {"1 MP": 30, "12 MP": 6}


def main() -> None:
    """Print milliseconds and the ratio; as a child (`--time`), the milliseconds of one checkout."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--against", type=Path, default=Path.cwd())
    parser.add_argument("--time", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.time:
        print(*(_milliseconds(name) for name in _SIZES))
        return
    here, there = Path.cwd(), arguments.against.resolve()
    best: dict[Path, list[float]] = {}
    for turn in range(_TURNS):
        for folder in (here, there) if turn % 2 else (there, here):
            best[folder] = [min(pair) for pair in zip(best.get(folder, [1e9] * 2), _timed(folder), strict=True)]
    for name, new, old in zip(_SIZES, best[here], best[there], strict=True):
        print(f"{name}: {new:.2f} ms here, {old:.2f} ms there, ratio {old / new:.3f}")


def _timed(folder: Path) -> list[float]:
    """In `folder`'s code, with this file."""
    environment = os.environ | {"PYTHONPATH": str(folder)}
    command = [sys.executable, str(Path(__file__).resolve()), "--time"]
    output = subprocess.run(command, env=environment, cwd=folder, check=True, capture_output=True, text=True).stdout
    return [float(number) for number in output.split()]


def _milliseconds(name: str) -> float:
    from actors.images import decode  # of the checkout that PYTHONPATH says

    buffer = io.BytesIO()
    picture = Image.fromarray(photographs.astronaut()).resize(_SIZES[name], Image.Resampling.LANCZOS)
    picture.save(buffer, "JPEG", quality=90)
    best = float("inf")
    for _ in range(_CALLS[name]):
        start = time.process_time()
        decode(buffer.getvalue(), max_megapixels=100)
        best = min(best, time.process_time() - start)
    return best * 1000


if __name__ == "__main__":
    main()
