"""Peaks of the widest and of the tightest way, with diffusers' model out of the way."""

from functools import partial

from actors.svd.model import bring_in, set_feed_forward_pieces
from benchmarks.speed.bench import Bench
from benchmarks.speed.clips import by_own, own_model
from benchmarks.speed.clock import peak_gb, seconds_of
from benchmarks.speed.results import at_most

# After the first one everything has been there at once.
_STEPS = 2
_PIECES = 8


def measure(bench: Bench) -> None:
    """In two steps; both models are back in their places when it is over."""
    bench.exact_cost  # noqa: B018 - compiling takes memory of its own
    own = bench.own
    bench.stock.to("cpu")
    try:
        peak, held = peak_gb(lambda: bench.own_clip(steps=_STEPS))
        bench.results.add("peak, resident", peak, "GB", at_most(peak, 24, " GB"), held_gb=round(held, 2))
        bring_in(own)
        _tightest(bench)
    finally:
        bring_in(own, own.image_encoder, own.vae_encoder, own.unet, own.vae_decoder)
        bench.stock.to(bench.device)


def _tightest(bench: Bench) -> None:
    """Weights come layer by layer, and everything is made in pieces."""
    streamed = own_model(bench.stock, bench.case, bench.device, streamed=True)
    set_feed_forward_pieces(streamed, _PIECES)
    seconds: list[float] = []

    def clip() -> None:
        seconds.append(seconds_of(partial(by_own, streamed, bench.image, bench.case, steps=_STEPS, chunk=1)))

    peak, held = peak_gb(clip)
    name = f"peak, sequential, {_PIECES} pieces, a frame at a time"
    bench.results.add(name, peak, "GB", at_most(peak, 8, " GB"), held_gb=round(held, 2))
    bench.results.add(f"the same, {_STEPS} steps", seconds[0], "s")
