"""New frames a second from RIFE 4.25, four times as many frames, and what each acceleration gives.

    python -m benchmarks.rife_speed [--device cuda] [--width 1024] [--height 576] [--frames 25] [--batches 8 16]

The network has its full widths and random weights, which take the same time as trained ones. Frames are counted from
bytes on the host to bytes on the host, as `actors.stages.finish` gets them, but not encoded. Each row runs a whole
clip, first to warm up (compiling included), then for the clock. On CUDA the command ends non-zero where a job's way,
half precision and channels last, misses 800 frames a second at 576x1024. On a CPU the clock counts processor seconds,
and only the ratios say something.
"""

import argparse
import sys
import time
from dataclasses import dataclass
from fractions import Fraction

import torch
from rich.console import Console
from rich.table import Table

from actors.contracts import Pixels
from actors.rife.ifnet import IFNet
from actors.rife.interpolate import Interpolator
from actors.rife.runner import Precision
from actors.rife.variants import DEFAULT_VARIANT
from benchmarks.pan import pan

_FACTOR = 4
BATCHES = (8, 16)  # pairs that a GPU gets together
MIN_FRAMES_PER_S = 800.0
_AIM_SIZE = (576, 1024)  # height, width that the aim is for
# The clock runs for at least so long, over whole clips: a single one is over in a tenth of a second on a large GPU.
_MIN_SECONDS = 3.0


@dataclass(frozen=True, slots=True)
class Way:
    """One way to run the network."""

    name: str
    precision: Precision = "fp32"
    channels_last: bool = False
    compile: bool = False


# Each adds one thing to the one before.
WAYS = (
    Way("eager, fp32"),
    Way("+ half precision", "fp16"),
    Way("+ channels last", "fp16", channels_last=True),
    Way("+ compiled", "fp16", channels_last=True, compile=True),
)
JOB = WAYS[2]
# Half precision is slower than full on a CPU, and there the job does neither.
CPU_WAYS = (Way("eager, fp32"), Way("+ channels last", channels_last=True), Way("+ compiled", compile=True))


def main() -> int:
    """Time each way, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--width", type=int, default=None, help="1024 on CUDA, 256 on a CPU")
    parser.add_argument("--height", type=int, default=None, help="576 on CUDA, 144 on a CPU")
    parser.add_argument("--frames", type=int, default=None, help="of the clip; 25 on CUDA, 3 on a CPU")
    parser.add_argument(
        "--batches", type=int, nargs="+", default=None, help="pairs_per_batch; 8 16 on CUDA, 3 on a CPU"
    )
    arguments = parser.parse_args()
    on_cuda = torch.device(arguments.device).type == "cuda"
    height, width = arguments.height or (576 if on_cuda else 144), arguments.width or (1024 if on_cuda else 256)
    frames_FHWC = pan(arguments.frames or (25 if on_cuda else 3), width=width, height=height)
    title = f"{torch.cuda.get_device_name(arguments.device) if on_cuda else 'CPU'}, {height}x{width}, {_FACTOR}x"
    table = Table("RIFE 4.25", "batch", "new frames/s", "ratio", "first clip, s", "limit", title=title)
    rates: dict[tuple[Way, int], float] = {}
    for batch in arguments.batches or (BATCHES if on_cuda else [3]):
        for way in WAYS if on_cuda else CPU_WAYS:
            rate, first_s = measure(way, frames_FHWC, arguments.device, batch)
            rates[way, batch] = rate
            ratio = rate / next(iter(rates.values()))
            is_job = way is JOB and (height, width) == _AIM_SIZE
            limit = f"at least {MIN_FRAMES_PER_S:g}" if is_job else ""
            table.add_row(way.name, str(batch), f"{rate:.2f}", f"{ratio:.2f}", f"{first_s:.1f}", limit)
    Console().print(table)
    is_judged = on_cuda and (height, width) == _AIM_SIZE
    return int(is_judged and max(rate for (way, _), rate in rates.items() if way is JOB) < MIN_FRAMES_PER_S)


def measure(way: Way, frames_FHWC: Pixels, device: str, batch: int) -> tuple[float, float]:
    """New frames a second, and the seconds of the first clip."""
    torch.manual_seed(0)
    net = IFNet(DEFAULT_VARIANT)
    interpolator = Interpolator(net, device=device, precision=way.precision, compile=way.compile)
    order = torch.channels_last if way.channels_last else torch.contiguous_format
    net.to(memory_format=order)  # type: ignore[call-overload]
    started = time.perf_counter()
    _seconds(interpolator, frames_FHWC, batch, device)
    first_s = time.perf_counter() - started
    clips, seconds = 0, 0.0
    while seconds < _MIN_SECONDS:
        clips += 1
        seconds += _seconds(interpolator, frames_FHWC, batch, device)
    new_frames = (len(frames_FHWC) - 1) * (_FACTOR - 1)
    return clips * new_frames / seconds, first_s


def _seconds(interpolator: Interpolator, frames_FHWC: Pixels, batch: int, device: str) -> float:
    clock = time.perf_counter if torch.device(device).type == "cuda" else time.process_time
    started = clock()
    made = interpolator.frames(frames_FHWC, factor=Fraction(_FACTOR), pairs_per_batch=batch)
    checksum = sum(int(frame_HWC[0, 0, 0]) for frame_HWC in made)  # each frame has arrived
    assert checksum >= 0
    return clock() - started


if __name__ == "__main__":
    sys.exit(main())
