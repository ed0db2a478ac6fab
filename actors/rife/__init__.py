"""RIFE: frames between frames."""

from actors.rife.interpolate import Interpolator, output_times
from actors.rife.weights import fetch

__all__ = ["Interpolator", "fetch", "output_times"]
