"""What marks cost a clip: milliseconds of CPU time for the XMP and for a signature (C2PA), of files of 1 and 20 MB.

CPU time, so that others may work meanwhile; of the library's own threads, too.

python -m benchmarks.marks
"""

import statistics
import tempfile
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
from cryptography.hazmat.primitives.asymmetric import ec

from actors import video
from actors.marks import xmp
from actors.marks.credentials import Credentials
from actors.marks.signing import Signer
from actors.marks.source_types import MADE_BY_AI
from actors.settings import VideoSettings
from tests.certificates import Authority, pem_of

_REPEATS = 20
_SIDE = 256  # pixels; noise of so many takes 48 kB a frame
_FRAMES = {"1 MB": 21, "20 MB": 420}


def _noise(path: Path, num_frames: int) -> bytes:
    rng = np.random.default_rng(0)
    frames = (rng.integers(0, 256, (_SIDE, _SIDE, 3), np.uint8) for _ in range(num_frames))
    settings = VideoSettings(preset="ultrafast")
    video.encode(frames, path, width=_SIDE, height=_SIDE, frame_rate=Fraction(24), settings=settings, tag="{}")
    return path.read_bytes()


def _median_ms(path: Path, data: bytes, mark: Callable[[], None]) -> float:
    """Of marking a fresh copy of the file."""
    seconds = []
    for _ in range(_REPEATS):
        path.write_bytes(data)
        started = time.process_time()
        mark()
        seconds.append(time.process_time() - started)
    return statistics.median(seconds) * 1000


def main() -> None:
    """Print a line for each size."""
    key = ec.generate_private_key(ec.SECP256R1())
    signer = Signer(Credentials(Authority().vouch(key), pem_of(key)))
    print(f"ms of CPU time a clip, median of {_REPEATS}, es256, one process")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "clip.mp4"
        for num_frames in _FRAMES.values():
            data = _noise(path, num_frames)
            xmp_ms = _median_ms(path, data, lambda: xmp.append_to_mp4(path, MADE_BY_AI))
            marked = path.stat().st_size - len(data)
            signing_ms = _median_ms(path, data, lambda: signer.sign(path, MADE_BY_AI))
            signed = path.stat().st_size - len(data)
            print(
                f"{len(data) / 1e6:6.1f} MB: XMP {xmp_ms:.2f} ms and {marked} bytes, C2PA {signing_ms:.1f} ms and "
                f"{signed} bytes"
            )


if __name__ == "__main__":
    main()
