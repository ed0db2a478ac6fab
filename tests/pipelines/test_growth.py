"""What is said of a cluster that cannot grow by what a run waits for; a real one: `tests/deploy/test_rayjob.py`."""

import io
from types import SimpleNamespace

import pytest
from ray._private import worker
from ray.core.generated import autoscaler_pb2, common_pb2
from rich.console import Console

from pipelines.config import load_config
from pipelines.driver import ray_private
from pipelines.driver.growth import Growth
from pipelines.placement.nodes import TYPE_LABEL
from tests.jobs import ROOT


def growth(*overrides: str, lacks: list[tuple[str, ...]]) -> tuple[Growth, io.StringIO]:
    needed = ["manifest=a.csv", "output=b", "ray.autoscaling=true", "workers.generate.num_gpus=1"]
    screen = io.StringIO()
    config = load_config([str(ROOT / "conf/null.yaml")], [*needed, *overrides])
    return Growth(config, Console(file=screen, width=500), lambda: lacks), screen


def test_a_type_that_no_node_can_bring_is_said_once() -> None:
    growing, screen = growth("workers.generate.accelerator_types=[H200,A100]", lacks=[("A100", "H200"), ("L4",)])
    growing.look()
    growing.look()
    assert screen.getvalue().startswith(
        "No node with a GPU of type A100 or H200 can come, for which workers.generate waits: no group of the cluster"
    )
    assert screen.getvalue().count("\n") == 1
    assert "name another in workers.generate.accelerator_types" in screen.getvalue()


def test_what_others_wait_for_is_not_said() -> None:
    growing, screen = growth(lacks=[("A100",)])
    growing.look()
    assert screen.getvalue() == ""
    growing, screen = growth(lacks=[()])
    growing.look()
    assert screen.getvalue().startswith("No node with a GPU can come, for which workers.generate waits")


def test_a_cluster_that_does_not_grow_is_not_asked() -> None:
    growing, _ = growth("ray.autoscaling=false", lacks=[])
    with growing:
        assert growing._thread is None


def request(resources: dict[str, float], operator: int, *types: str) -> autoscaler_pb2.ResourceRequest:
    rule = common_pb2.LabelSelectorConstraint(label_key=TYPE_LABEL, operator=operator, label_values=types)
    selectors = [common_pb2.LabelSelector(label_constraints=[rule])] if types else []
    return autoscaler_pb2.ResourceRequest(resources_bundle=resources, label_selectors=selectors)


def test_the_autoscaler_says_what_it_cannot_bring(monkeypatch: pytest.MonkeyPatch) -> None:
    one_of, none_of = common_pb2.LABEL_OPERATOR_IN, common_pb2.LABEL_OPERATOR_NOT_IN
    state = autoscaler_pb2.AutoscalingState(
        infeasible_resource_requests=[
            request({"GPU": 1, "CPU": 1}, one_of, "A100"),
            request({"GPU": 1, "CPU": 1}, one_of, "A100"),
            request({"GPU": 0.25}, none_of, "P4"),
            request({"CPU": 100}, one_of, "H100"),
        ],
        infeasible_gang_resource_requests=[
            autoscaler_pb2.GangResourceRequest(requests=[request({"GPU": 0.25, "CPU": 8}, one_of, "L4")] * 4)
        ],
    )
    reply = autoscaler_pb2.GetClusterStatusReply(autoscaling_state=state).SerializeToString()
    client = SimpleNamespace(get_cluster_status=lambda timeout_s: reply)
    monkeypatch.setattr(worker, "global_worker", SimpleNamespace(gcs_client=client))
    assert ray_private.gpus_not_to_be_had() == [(), ("A100",), ("L4",)]


def test_a_ray_that_does_not_tell_is_said_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    ray_private._note_once.cache_clear()
    monkeypatch.setattr(worker, "global_worker", SimpleNamespace(gcs_client=None))
    assert ray_private.gpus_not_to_be_had() == ray_private.gpus_not_to_be_had() == []
    assert len(caplog.messages) == 1
    assert "get_cluster_status" in caplog.text
