"""Scouts: tasks that have a cluster that grows bring nodes without a GPU."""

import io
import signal
import time
from collections.abc import Iterator
from typing import Any

import pytest
import ray
from ray.exceptions import RayError
from rich.console import Console

from actors.errors import RunError
from pipelines.config import Config, load_config
from pipelines.driver import interruption as interruption_module
from pipelines.driver import scouts
from pipelines.driver.interruption import Interruption
from pipelines.pools import Pools

SELECTOR = {"ray.io/accelerator-type": "!in(H100)"}
GPUS = {"ray.io/accelerator-type": "in(H100)"}
WHERE = {"load": {"label_selector": SELECTOR}, "generate": {"label_selector": GPUS}}
POOLS = Pools(2, 1.0, 1, 0.25, where=WHERE, load_tasks=3)


class Cluster:
    """What Ray is asked."""

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []
        self.cancelled: list[object] = []
        self.looks = 0
        self.comes_at: float = float("inf")  # with which look the first scout has room
        self.nodes: list[dict[str, Any]] = []
        self.now = 0.0

    def remote(self, _function: object) -> "Cluster":
        return self

    def options(self, **options: Any) -> Any:
        cluster = self

        class Asked:
            def remote(self) -> object:
                cluster.asked.append(options)
                return object()

        return Asked()

    def wait(self, tasks: list[object], timeout: float) -> tuple[list[object], list[object]]:
        self.looks += 1
        self.now += timeout
        return (tasks[:1], tasks[1:]) if self.looks >= self.comes_at else ([], tasks)

    def cancel(self, task: object) -> None:
        self.cancelled.append(task)
        raise RayError


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Cluster:
    made = Cluster()
    for name in ("remote", "wait", "cancel"):
        monkeypatch.setattr(ray, name, getattr(made, name))
    monkeypatch.setattr(ray, "nodes", lambda: made.nodes)
    monkeypatch.setattr(time, "monotonic", lambda: made.now)
    return made


class Idle:
    """Stages with nothing under way."""

    def wind_down(self) -> None:
        pass

    def in_flight(self) -> list[str]:
        return []


@pytest.fixture
def end(monkeypatch: pytest.MonkeyPatch) -> Iterator[Interruption]:
    monkeypatch.setattr(interruption_module, "_LOOK_INTERVAL_S", 0.01)
    with Interruption(Idle(), 60.0, Console(file=io.StringIO())) as made:
        yield made


def config(*overrides: str) -> Config:
    return load_config([], ["generator=null", "manifest=m.csv", "output=out", *overrides])


def test_a_run_waits_for_the_first_node_that_loads(cluster: Cluster, end: Interruption) -> None:
    cluster.comes_at = 5
    settings = ("ray.autoscaling=true", "workers.load.num_cpus=0.5", "workers.generate.num_cpus=2")
    with scouts.sent_out(config(*settings), POOLS, end):
        assert cluster.looks == 5
        assert len(cluster.cancelled) == 2  # generators ask for GPUs now
    for_gpus = {"num_cpus": 2.0, "num_gpus": 1.0, "label_selector": GPUS}
    assert cluster.asked == [{"num_cpus": 0.5, "label_selector": SELECTOR}] * 3 + [for_gpus] * 2
    assert len(cluster.cancelled) == 5  # whatever Ray says of it


def test_it_does_not_wait_for_long_where_a_gpu_is_there_alone(cluster: Cluster, end: Interruption) -> None:
    cluster.nodes = [{"Alive": True, "Resources": {"CPU": 8.0, "GPU": 1.0}}]
    with scouts.sent_out(config("ray.autoscaling=true"), POOLS, end):
        assert 30 <= cluster.looks <= 33


def test_a_run_that_is_asked_to_end_waits_no_more(cluster: Cluster, end: Interruption) -> None:
    wait = cluster.wait

    def asked_meanwhile(tasks: list[object], timeout: float) -> tuple[list[object], list[object]]:
        if cluster.looks == 2:
            signal.raise_signal(signal.SIGTERM)
        return wait(tasks, timeout)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ray, "wait", asked_meanwhile)
        with scouts.sent_out(config("ray.autoscaling=true"), POOLS, end):
            assert end.is_over
    assert end.reason == "interrupted"
    assert len(cluster.cancelled) == 5


def test_a_cluster_that_is_lost_meanwhile_is_one_sentence(cluster: Cluster, end: Interruption) -> None:
    def lost(_tasks: list[object], timeout: float) -> None:
        raise RayError("the head does not answer")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ray, "wait", lost)
        expected = "the run broke off: the head does not answer; the same command continues it"
        with pytest.raises(RunError, match=expected), scouts.sent_out(config("ray.autoscaling=true"), POOLS, end):
            pass


@pytest.mark.parametrize(
    ("overrides", "pools"),
    [((), POOLS), (("ray.autoscaling=true",), Pools(2, 0.0, 1, 0.0))],
    ids=["a cluster that does not grow", "loading that nothing limits"],
)
def test_nothing_is_asked_for_elsewhere(
    cluster: Cluster, end: Interruption, overrides: tuple[str, ...], pools: Pools
) -> None:
    with scouts.sent_out(config(*overrides), pools, end):
        assert not cluster.asked
    assert not cluster.looks
