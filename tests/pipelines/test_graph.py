"""Pool sizes: what `actors: auto` becomes on clusters of different sizes."""

import pytest

from actors.errors import ConfigError
from pipelines.config import Config, load_config
from pipelines.graph import Pools, size_pools


def config(*overrides: str) -> Config:
    return load_config([], ["manifest=m.csv", "output=out", "model.source=none", *overrides])


@pytest.mark.parametrize(
    ("gpus", "expected"),
    [
        (1, Pools(1, 0.5, 1, 0.5)),  # one GPU is shared
        (2, Pools(1, 1, 4, 0.25)),
        (8, Pools(7, 1, 4, 0.25)),
        (9, Pools(8, 1, 4, 0.25)),
        (10, Pools(8, 1, 8, 0.25)),
        (500, Pools(444, 1, 224, 0.25)),
    ],
)
def test_auto_divides_the_gpus(gpus: int, expected: Pools) -> None:
    assert size_pools(config(), gpus) == expected


def test_a_stage_on_the_cpu_leaves_all_gpus_to_the_other() -> None:
    assert size_pools(config("workers.interpolate.num_gpus=0"), 4) == Pools(4, 1, 1, 0)


def test_numbers_are_taken_as_they_are() -> None:
    fixed = ["workers.generate.actors=2", "workers.interpolate.actors=3"]
    assert size_pools(config(*fixed), 4) == Pools(2, 1, 3, 0.25)


def test_pools_that_cannot_fit_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"need 8.25 GPUs \(8 x 1 for workers.generate.*the cluster has 4"):
        size_pools(config("workers.generate.actors=8", "workers.interpolate.actors=1"), 4)


def test_an_autoscaling_cluster_may_grow() -> None:
    grown = config("workers.generate.actors=8", "workers.interpolate.actors=4", "ray.autoscaling=true")
    assert size_pools(grown, 0) == Pools(8, 1, 4, 0.25)
