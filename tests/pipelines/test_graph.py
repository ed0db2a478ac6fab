"""Pool sizes: what `actors: auto` becomes on clusters of different sizes; how a graph ends."""

import pytest
from ray.exceptions import RayError

from actors.errors import CheckpointError, ConfigError, RunError
from pipelines.config import Config, load_config
from pipelines.graph import Graph
from pipelines.placement.nodes import Node
from pipelines.placement.placing import place

RIFE = ("interpolation.weights=w.pkl", "interpolation.factor=2")


def config(*overrides: str) -> Config:
    return load_config([], ["manifest=m.csv", "output=out", "model.source=none", *overrides])


def sizes(config: Config, gpus: int, cpus: float, nodes: int = 1) -> tuple[int, float, int, float]:
    """Actors and their GPUs, of both stages, on so many equal nodes with so much together."""
    pools = place(config, [Node(cpus / nodes, gpus // nodes, "H100")] * nodes).pools
    return pools.generate_actors, pools.generate_gpus, pools.finish_actors, pools.finish_gpus


@pytest.mark.parametrize(
    ("gpus", "nodes", "expected"),
    [
        (1, 1, (1, 0.5, 1, 0.5)),  # one GPU is shared
        (2, 1, (1, 1, 4, 0.25)),
        (2, 2, (1, 1, 4, 0.25)),
        (8, 1, (7, 1, 4, 0.25)),
        (9, 9, (8, 1, 4, 0.25)),
        (10, 5, (8, 1, 8, 0.25)),
        (500, 125, (444, 1, 224, 0.25)),
    ],
)
def test_auto_divides_the_gpus(gpus: int, nodes: int, expected: tuple[int, float, int, float]) -> None:
    assert sizes(config(*RIFE), gpus, 10_000, nodes) == expected


def test_without_rife_the_last_stage_only_encodes_and_takes_no_gpu() -> None:
    assert sizes(config(), 8, 100) == (8, 1, 2, 0)
    assert sizes(config(), 1, 100) == (1, 1, 1, 0)


def test_a_stage_on_the_cpu_leaves_all_gpus_to_the_other() -> None:
    assert sizes(config(*RIFE, "workers.finish.num_gpus=0"), 4, 100) == (4, 1, 1, 0)


def test_numbers_are_taken_as_they_are() -> None:
    fixed = ["workers.generate.actors=2", "workers.finish.actors=3"]
    assert sizes(config(*RIFE, *fixed), 4, 100) == (2, 1, 3, 0.25)


def test_pools_that_cannot_fit_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"need 8.25 GPUs \(8 x 1 for workers.generate.*the cluster has 4"):
        sizes(config(*RIFE, "workers.generate.actors=8", "workers.finish.actors=1"), 4, 100)
    with pytest.raises(ConfigError, match=r"reserve 12 CPUs .*loading needs 1 more, and the cluster has 12"):
        sizes(config(*RIFE, "workers.generate.num_cpus=1", "workers.finish.num_cpus=1.25"), 8, 12)


def test_an_autoscaling_cluster_may_grow() -> None:
    grown = config(*RIFE, "workers.generate.actors=8", "workers.finish.actors=4", "ray.autoscaling=true")
    assert sizes(grown, 0, 0) == (8, 1, 4, 0.25)
    assert sizes(grown, 1, 1) == (8, 1, 4, 0.25)


class Refused:
    """A ledger in which a worker may have written why it cannot start."""

    def __init__(self, refusal: tuple[str, str] | None) -> None:
        self._refusal = refusal

    def refusal(self) -> tuple[str, str] | None:
        if self._refusal == ("", ""):
            raise RayError("the ledger is gone")
        return self._refusal


@pytest.mark.parametrize(
    ("refusal", "kind", "message"),
    [
        (("CheckpointError", "unet is cut off: fetch it again"), CheckpointError, "unet is cut off: fetch it again"),
        (None, RunError, "the run broke off: ValueError: a bug of ours; the same command continues it"),
        (("", ""), RunError, "the run broke off: ValueError: a bug of ours; the same command continues it"),
    ],
)
def test_what_ends_the_graph_is_one_sentence(
    refusal: tuple[str, str] | None, kind: type[Exception], message: str
) -> None:
    graph = object.__new__(Graph)
    graph.ledger = Refused(refusal)  # type: ignore[assignment]
    error = graph._explained(RayError("Traceback\nValueError: a bug of ours\n"))
    assert type(error) is kind
    assert str(error).startswith(message)
    assert "\n" not in str(error)
