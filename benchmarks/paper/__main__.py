"""What a network would do on an H100 and an H200, counted and predicted without either.

    python -m benchmarks.paper clip|unet|decoder|rife [--size full|tiny] [--plain]

The network is compiled for a pretended H100 by Inductor, Triton and ptxas, as the product compiles it; an H200 is the
same processor with faster memory, so that one compilation serves both. The table has, by class of kernel, their number,
floating-point operations, the bytes that they need, the bytes of the 32-byte sectors that they touch, and predicted
milliseconds; `clip` adds the seconds of a clip. unet is one guided evaluation, decoder one clip, rife one call of 8.

For developers: it wants a CUDA build of torch (2.11 or 2.13, with Triton), no GPU, 5 GB of memory and some minutes.
Everything in milliseconds and seconds is a prediction; `rates.py` says what of it rests on a measurement.
"""

import argparse
import sys
from typing import cast

from rich.console import Console

from benchmarks.paper import pretended
from benchmarks.paper.compiled import compile_network
from benchmarks.paper.networks import CLIPS, NETWORKS, Name, Size
from benchmarks.paper.table import clip_seconds, table
from benchmarks.paper.work import Counted, count

_CLIP = "clip"
_OF_A_CLIP: tuple[Name, ...] = ("unet", "decoder")


def main() -> int:
    """Compile, count, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("network", choices=[_CLIP, *NETWORKS])
    parser.add_argument("--size", choices=list(CLIPS), default="full")
    parser.add_argument("--plain", action="store_true", help="without the kernels of actors.svd.fused")
    arguments = parser.parse_args()
    if reason := pretended.missing():
        print(reason, file=sys.stderr)
        return 2
    clip = CLIPS[cast("Size", arguments.size)]
    names = _OF_A_CLIP if arguments.network == _CLIP else (cast("Name", arguments.network),)
    networks = {name: NETWORKS[name](clip, is_plain=arguments.plain) for name in names}
    pretended.install()
    counted: dict[str, Counted] = {}
    for name, network in networks.items():
        compiled = compile_network(network)
        counted[name] = count(compiled)
        print(f"{name}: compiled in {compiled.seconds:.0f} s", file=sys.stderr)
    console = Console()
    console.print(table(counted))
    for of_network in counted.values():
        for kernel, error in of_network.unknown.items():
            console.print(f"not counted: {kernel}: {error}", markup=False)
    if arguments.network == _CLIP:
        seconds = clip_seconds(counted, clip)
        predicted = ", ".join(f"{taken:.1f} on an {gpu}" for gpu, taken in seconds.items())
        console.print(f"predicted seconds of a clip of {clip.steps} steps: {predicted}")
    return int(any(of_network.unknown for of_network in counted.values()))


if __name__ == "__main__":
    sys.exit(main())
