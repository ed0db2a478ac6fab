"""Images with some of their bytes changed (benchmarks/mutated_images): a picture, or an error with a reason."""

import pytest

from benchmarks.mutated_images import End, ends


def otherwise(found: list[End]) -> list[End]:
    return [end for end in found if end.error or end.seconds > 10]


@pytest.mark.parametrize(("images", "seed"), [(500, 11), pytest.param(5000, 0, marks=pytest.mark.slow)])
def test_mutated_images_end_as_a_picture_or_with_a_reason(images: int, seed: int) -> None:
    found = list(ends(images, seed))
    assert not otherwise(found)
    assert len(found) == images
    pictures = sum(not end.reason for end in found)
    assert images * 0.1 < pictures < images * 0.6
