"""A note on frames between frames that are not quite where their times say."""

from collections.abc import Iterator
from fractions import Fraction

from actors.rates import rate_text
from actors.rife.peek import knows_the_middle_alone
from actors.rife.schedule import STEPS, is_exact
from actors.storage import Storage
from pipelines.config import Config


def notes_on_times(config: Config, storage: Storage) -> Iterator[str]:
    """One, where the weights know the middle of two frames alone and halving does not reach all the times."""
    factor, weights = _factor(config), config.interpolation.weights
    if weights is None or factor is None or is_exact(factor) or not knows_the_middle_alone(weights, storage):
        return
    yield (
        f"these RIFE weights (HDv3) make the middle of two frames alone: with a factor of {rate_text(factor)} frames "
        f"come from the nearest of {STEPS} times between two, so motion is up to 1/{2 * STEPS} of a step uneven; "
        "factors of 2, 4 and 8, and RIFE 4, are exact"
    )


def _factor(config: Config) -> Fraction | None:
    """Of most clips: rows of the manifest may have an `fps` of their own."""
    target, fps = config.interpolation.target_fps, getattr(config.generation, "fps", None)
    if target is None:
        return config.interpolation.factor
    return target / fps if isinstance(fps, int) else None
