"""Seconds and memory of a clip against stock diffusers, side by side in one process.

    python -m benchmarks.speed [--out FILE] [--budget-s N] [--parts facts stock ...] [--tiny]

On a GPU of 80 GB: full-size SVD-XT (25 frames, 576x1024, 25 steps) with random weights in fp16. A clip costs one
encoding, 25 steps and one decoding, each timed by itself; two whole clips are the check. A machine that is at hand for
a quarter of an hour answers everything but the last part in two commands, the second of which finds what the first
has compiled:

    export TORCHINDUCTOR_CACHE_DIR=/tmp/inductor
    python -m benchmarks.speed --out first.jsonl --budget-s 400 --parts facts stock uncompiled compiled profile clips
    python -m benchmarks.speed --out second.jsonl --budget-s 310 --parts attention compiled rife memory fast guide

Parts come in the order of their worth. One that fails is a row and keeps no other from running; one for which the
budget is too short is a row and is not begun. The rows of FILE come when they are known, after those that it has; the
names and times of all kernels lie beside it. The table at the end repeats the rows with the aims, and the command ends
non-zero where one was missed or not measured.

Without a GPU: the demo's checkpoint at the demo's size, in fp32 on one thread, as Ray's workers have it. With --tiny,
GPU or not: a rehearsal of the parts on the CPU, of a model and a clip so small that no figure means anything; parity
alone is judged. None of it needs Ray, a video encoder or omegaconf.

With --generator diffusers: a pipeline of diffusers as its guide has it against the same one held by `actors.hosting`,
in each way that `--ways` names. Random weights of the published sizes are made on the GPU in seconds, 13 GB of Wan 2.2
TI2V-5B's and 5 of LTX-Video's; the text encoder, 9 to 11 GB, has one layer unless --text-encoder is full: a prompt is
encoded once whatever number of clips it has. Features that steps share are shared by how like the steps are, which
random weights do not say: see a short step and a long one, not their mean. A GPU of 80 GB; two commands:

    python -m benchmarks.speed --generator diffusers --model ltx --out ltx.jsonl --budget-s 170
    python -m benchmarks.speed --generator diffusers --model wan22_ti2v_5b --out wan.jsonl --budget-s 400

"Stock" is the script of diffusers' guide: `StableVideoDiffusionPipeline`, PIL frames out; "guide's compile" is the same
with its recipe for `torch.compile`. "Exact" is `actors.svd`. All get the same picture and the same noise.
"""

import argparse
import math
import platform
import sys
from pathlib import Path

import diffusers
import torch
from rich.console import Console

from benchmarks.speed import BEGUN, cpu
from benchmarks.speed.bench import Bench
from benchmarks.speed.cases import FULL, TINY
from benchmarks.speed.clock import Budget
from benchmarks.speed.hosted import measure as hosted
from benchmarks.speed.hosted.models import MODELS
from benchmarks.speed.hosted.ways import WAYS
from benchmarks.speed.parts import PARTS, run_parts
from benchmarks.speed.results import Results

_INTERRUPTED = 130
_LOG_COLUMNS = 150  # a file has no edge to wrap at, where rich takes 80


def main() -> int:
    """Measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="a file that JSON lines are added to, one for each row")
    parser.add_argument("--budget-s", type=float, default=math.inf, help="begin no part that may take longer, seconds")
    parser.add_argument("--parts", nargs="+", default=list(PARTS), choices=PARTS, help="of what is measured on a GPU")
    parser.add_argument("--tiny", action="store_true", help="rehearse those parts on the CPU")
    parser.add_argument(
        "--repeats", type=int, default=1, help="without a GPU: after one to warm up; the fastest counts"
    )
    parser.add_argument("--generator", choices=["svd", "diffusers"], default="svd", help="what makes the clips")
    group = parser.add_argument_group("with --generator diffusers")
    group.add_argument("--model", choices=MODELS, default="ltx", help="whose sizes the random weights have")
    group.add_argument("--ways", nargs="+", default=list(WAYS), choices=WAYS, help="in which it is held")
    group.add_argument("--steps", type=int, help="that are made; a clip's seconds follow from them")
    group.add_argument("--size", type=_size, metavar="WxHxF", help="width, height and frames; default: the model's own")
    group.add_argument("--text-encoder", choices=["small", "full"], default="small", help="a layer of it, or all")
    arguments = parser.parse_args()
    if arguments.generator == "diffusers" and not (arguments.tiny or torch.cuda.is_available()):
        parser.error("--generator diffusers needs a GPU, or --tiny for a rehearsal on the CPU")
    budget = Budget(arguments.budget_s, BEGUN)
    console = Console(soft_wrap=True, highlight=False, width=None if sys.stdout.isatty() else _LOG_COLUMNS)
    results = Results(console, arguments.out, judges_speed=not arguments.tiny, begun=BEGUN)
    try:
        _measure(results, budget, arguments)
    except KeyboardInterrupt:
        results.fail("the command", "interrupted")
        return _INTERRUPTED
    finally:
        results.print()
    return int(results.missed)


def _size(text: str) -> tuple[int, int, int]:
    """`1280x704x121`."""
    width, height, frames = map(int, text.split("x"))
    return width, height, frames


def _measure(results: Results, budget: Budget, arguments: argparse.Namespace) -> None:
    versions = f"torch {torch.__version__}, diffusers {diffusers.__version__}"
    if arguments.generator == "diffusers":
        card = f"{platform.machine()}, a rehearsal" if arguments.tiny else torch.cuda.get_device_name()
        results.add("machine", f"{card}, {versions}")
        hosted.measure(
            results,
            budget,
            arguments.model,
            is_tiny=arguments.tiny,
            ways=[name for name in WAYS if name in arguments.ways],
            text_encoder=arguments.text_encoder,
            size=arguments.size,
            steps=arguments.steps,
        )
    elif arguments.tiny:
        torch.set_num_threads(1)  # a second one only waits for the first
        results.add("machine", f"{platform.machine()}, a rehearsal, {versions}")
        run_parts(arguments.parts, Bench(results, TINY, torch.device("cpu"), budget))
    elif torch.cuda.is_available():
        results.add("machine", f"{torch.cuda.get_device_name()}, {versions}")
        run_parts(arguments.parts, Bench(results, FULL, torch.device("cuda"), budget))
    else:
        results.add("machine", f"{platform.machine()}, 1 thread, {versions}")
        cpu.measure(results, arguments.repeats)


if __name__ == "__main__":
    sys.exit(main())
