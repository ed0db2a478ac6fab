"""Where the frames of a faster clip lie between those that there are."""

import math
from fractions import Fraction

from actors.errors import GenerationError


def output_times(num_frames: int, factor: Fraction, *, loop: bool = False) -> list[Fraction]:
    """Where each output frame lies, counted in source frames: frame j at j / factor, so the frame rate is exact.

    Without `loop` they reach from the first source frame to the last one: floor((N-1) * factor) + 1 frames, which is
    (N-1)*k + 1 for a whole factor k. With `loop` they also fill the way from the last frame back to the first, and stop
    before it comes again: ceil(N * factor), which is N*k. Raises GenerationError for a factor below 1.
    """
    if factor < 1:
        raise GenerationError(f"interpolation factor {factor} is below 1: frames can be added, not taken away")
    count = math.ceil(num_frames * factor) if loop else math.floor((num_frames - 1) * factor) + 1
    return [j / factor for j in range(count)]
