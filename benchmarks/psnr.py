"""How near two pictures or clips are."""

import numpy as np
import numpy.typing as npt


def psnr(one: npt.ArrayLike, other: npt.ArrayLike) -> float:
    """dB between two arrays of 8-bit levels."""
    difference = np.asarray(one, dtype=np.float64) - np.asarray(other, dtype=np.float64)
    return float(10 * np.log10(255**2 / max(float(np.mean(difference**2)), 1e-9)))
