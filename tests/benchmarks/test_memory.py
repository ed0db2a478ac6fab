"""The counting of live tensors."""

import torch

from benchmarks.memory import Peak


def test_the_peak_counts_what_lives_at_once_and_views_not_at_all() -> None:
    given = torch.zeros(1000, dtype=torch.uint8)
    with Peak() as memory:
        first = given + 1
        second = first.view(10, 100)[0] + 1  # 100 bytes
        first += 1
        assert memory.live == 1100
        del first, second
        assert memory.live == 0
        torch.zeros(500, dtype=torch.uint8)
    assert memory.peak == 1100
