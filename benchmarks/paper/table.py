"""The one table: kernels by class, and what they come to."""

from collections.abc import Mapping

from rich.table import Table

from benchmarks.paper import rates
from benchmarks.paper.networks import Clip
from benchmarks.paper.work import Counted, Work, together

_GIGA, _TERA = 1e9, 1e12


def table(counted: Mapping[str, Counted]) -> Table:
    """Classes of each network, the slowest first; then those without products; then all."""
    made = Table("class", "n", "TFLOP", "GB needed", "GB touched", *(f"{gpu} ms" for gpu in rates.GPUS))
    slowest = next(iter(rates.GPUS))
    for network, of_network in counted.items():
        for kind, work in sorted(of_network.classes.items(), key=lambda row: -row[1].seconds[slowest]):
            made.add_row(kind, *_cells(work))
        made.add_section()
        made.add_row(
            "norms, elementwise", *_cells(together(work for work in of_network.classes.values() if not work.flop))
        )
        made.add_row(network, *_cells(of_network.total), end_section=True)
    return made


def clip_seconds(counted: Mapping[str, Counted], clip: Clip) -> dict[str, float]:
    """Seconds of a clip on each GPU: encode, all steps, decode. Nothing between them is counted."""
    step, decode = counted["unet"].total, counted["decoder"].total
    return {gpu: rates.ENCODING_S + clip.steps * step.seconds[gpu] + decode.seconds[gpu] for gpu in rates.GPUS}


def _cells(work: Work) -> list[str]:
    flop = f"{work.flop / _TERA:.2f}" if work.flop else ""
    sizes = (f"{size / _GIGA:.1f}" for size in (work.needed, work.touched))
    return [str(work.number), flop, *sizes, *(f"{1000 * seconds:.1f}" for seconds in work.seconds.values())]
