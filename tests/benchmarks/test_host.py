"""What the benchmark of the host's work measures with."""

import numpy as np
import pytest

from benchmarks import host
from benchmarks.pan import pan


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # Ray Data's own, at its first use
def test_a_row_comes_through_the_store_as_it_was() -> None:
    frames_FHWC = pan(3, width=64, height=36)
    assert np.array_equal(host._through_store({"frames_FHWC": frames_FHWC})["frames_FHWC"], frames_FHWC)
