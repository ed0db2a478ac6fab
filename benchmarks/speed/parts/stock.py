"""diffusers' model, uncompiled."""

from benchmarks.speed.bench import Bench


def measure(bench: Bench) -> None:
    """One evaluation and one decode, and a clip's seconds from them."""
    bench.stock_cost  # noqa: B018 - adds its rows
