"""The moving picture of the README, from the clips that `make demo` made.

    python -m benchmarks.demo_picture [--demo out/demo] [--picture docs/images/demo.webp]

The clips play side by side, four in a row, at their own rate, again and again.
"""

import argparse
import subprocess
import sys
from pathlib import Path

import imageio_ffmpeg

_COLUMNS = 4
_MAX_BYTES = 1_000_000  # what a reader of the README should wait for
_QUALITY = "75"  # 0..100


def main() -> int:
    """Write the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--demo", type=Path, default=Path("out/demo"), help="the demo's dataset")
    parser.add_argument("--picture", type=Path, default=Path("docs/images/demo.webp"))
    arguments = parser.parse_args()
    clips = sorted(arguments.demo.glob("data/*/*.mp4"))
    rows = len(clips) // _COLUMNS
    if not rows:
        print(f"{arguments.demo} has {len(clips)} clips, fewer than {_COLUMNS}: run `make demo` first", file=sys.stderr)
        return 2
    clips = clips[: rows * _COLUMNS]
    inputs = [argument for clip in clips for argument in ("-i", str(clip))]
    grid = f"xstack=inputs={len(clips)}:grid={_COLUMNS}x{rows}"
    written = ["-c:v", "libwebp_anim", "-quality", _QUALITY, "-compression_level", "6", "-loop", "0"]
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-y", *inputs, "-filter_complex", grid, *written]
    subprocess.run([*command, str(arguments.picture)], check=True)
    size = arguments.picture.stat().st_size
    print(f"{arguments.picture}: {len(clips)} clips, {size} bytes")
    return int(size > _MAX_BYTES)


if __name__ == "__main__":
    sys.exit(main())
