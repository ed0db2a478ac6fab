"""What the benchmark of busy GPUs makes of begins and ends."""

import numpy as np
import pytest

from benchmarks.gpu_busy import busy_share


def test_the_share_is_of_the_time_in_which_all_gpus_have_work() -> None:
    slept = [np.array([[0.0, 4], [5, 9], [9, 20]]), np.array([[1.0, 5], [7, 11]])]
    share, window_s, gaps_s = busy_share(slept)
    assert window_s == 10  # from 1, when the second has begun, to 11, when it has ended
    assert share == pytest.approx((9 + 8) / 20)
    assert sorted(gaps_s) == [0, 1, 2]


def test_gpus_that_never_worked_together_give_no_share() -> None:
    with pytest.raises(AssertionError, match="use more clips"):
        busy_share([np.array([[0.0, 1]]), np.array([[2.0, 3]])])
