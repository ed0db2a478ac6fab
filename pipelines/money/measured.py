"""Seconds that were measured, for an estimate where a dataset has no clips of these settings yet.

Full-size SVD-XT in half precision, 25 frames of 576x1024, 25 guided steps; RIFE 4.25, 8 pairs together
(`benchmarks/RESULTS.md`, "On a GPU"). Other settings are scaled:

    (steps x seconds of a step x (1, or 1/2 without guidance) + seconds of all else) x frames / 25 x pixels / 589,824

Nothing is known of a checkpoint of another size, such as the demo's. Attention grows faster than pixels do, and a small
clip fills a GPU less: far from the measured size it is a guess.
"""

from dataclasses import dataclass
from fractions import Fraction
from math import ceil, floor

from actors.generators.svd.settings import SvdModelSettings, SvdParameters
from actors.storage import Storage
from actors.svd.full_size import is_full_size
from pipelines.config import Config

_FRAMES = 25
_PIXELS = 576 * 1024


@dataclass(frozen=True, slots=True)
class _Card:
    """A whole GPU: of a clip, a guided step and all beside the steps; and RIFE's new frames a second."""

    step_s: float
    rest_s: float
    rife_frames_per_s: float


# By accelerator type, as Ray calls it. 25 steps and the rest are 9.50 and 9.03 s, of whole clips. RIFE was measured on
# the H100 alone, at 543 to 594 frames a second.
_CARDS = {"H100": _Card(0.354, 0.65, 543.0), "H200": _Card(0.338, 0.58, 543.0)}
TYPES = tuple(_CARDS)


def is_alike(config: Config) -> bool:
    """Whether something like it was measured; a small file of the checkpoint is read."""
    model, parameters = config.model, config.generation
    if not isinstance(model, SvdModelSettings) or not isinstance(parameters, SvdParameters):
        return False
    if model.tier == "fast" or model.precision == "fp32" or model.memory != "resident" or model.device == "cpu":
        return False
    storage = Storage(config.storage.options, tries=config.storage.tries)
    return is_full_size(model.source, revision=model.revision, cache_dir=model.cache_dir, storage=storage)


def seconds_on(accelerator: str, config: Config) -> tuple[float, float] | None:
    """Seconds of a clip in `generate`, and in RIFE on a whole GPU; None for a type that was not measured.

    Of clips that are alike.
    """
    card, parameters = _CARDS.get(accelerator), config.generation
    if card is None:
        return None
    assert isinstance(parameters, SvdParameters), "is_alike"
    size = parameters.num_frames / _FRAMES * _pixels(config) / _PIXELS
    step_s = card.step_s if parameters.is_guided else card.step_s / 2
    generate_s = (parameters.num_inference_steps * step_s + card.rest_s) * size
    return generate_s, _new_frames(config) / card.rife_frames_per_s * _pixels(config) / _PIXELS


def _pixels(config: Config) -> int:
    return config.image.width * config.image.height


def _new_frames(config: Config) -> int:
    interpolation, frames = config.interpolation, config.generation.num_frames
    if interpolation.weights is None:
        return 0
    if (factor := interpolation.factor) is None:
        assert interpolation.target_fps is not None
        factor = max(Fraction(1), interpolation.target_fps / config.generation.fps)
    together = ceil(frames * factor) if interpolation.loop else floor((frames - 1) * factor) + 1
    return together - frames
