"""What the rate of a clip's file comes to, from its own fps and the settings: planned and made alike."""

from fractions import Fraction

from actors import video
from actors.errors import VideoError
from actors.rates import SLOWEST, rate_text
from actors.settings import InterpolationSettings, VideoSettings


def clip_rates(fps: int, interpolation: InterpolationSettings, encoding: VideoSettings) -> tuple[Fraction, Fraction]:
    """The interpolation factor and the file's frame rate of a clip whose generated frames come `fps` a second.

    Raises VideoError where they do not fit together, or the file cannot have that rate.
    """
    target = interpolation.target_fps
    if target is not None:
        if target < fps:
            raise VideoError(f"fps {fps} is above interpolation.target_fps {rate_text(target)}")
        factor, rate, source = target / fps, target, "interpolation.target_fps"
    else:
        assert interpolation.factor is not None
        factor, own = interpolation.factor, encoding.fps
        rate = fps * factor if own is None else own
        source = f"fps {fps} times interpolation.factor {rate_text(factor)}" if own is None else "video.fps"
    limit = video.fastest(encoding.codec)
    if not SLOWEST <= rate <= limit:
        raise VideoError(
            f"{source} is {rate_text(rate)} frames a second, and {encoding.codec} takes {SLOWEST} to {limit}"
        )
    return factor, rate
