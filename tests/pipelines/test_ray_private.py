"""What is used of Ray beside its public interface is there, and a run does without where it is not.

A test that fails here after an update of Ray names what has changed.
"""

import logging
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest
import ray
from ray._private import state as state_module
from ray._private import worker
from ray._private.accelerators.nvidia_gpu import NvidiaGPUAcceleratorManager
from ray._private.node import Node
from ray._private.state import state
from ray.core.generated import autoscaler_pb2, common_pb2
from ray.data import DataContext, Dataset
from ray.data._internal.execution.execution_callback import ExecutionCallback
from ray.data._internal.execution.interfaces.execution_options import ExecutionResources
from ray.data._internal.execution.interfaces.op_runtime_metrics import OpRuntimeMetrics
from ray.data._internal.execution.resource_manager import ResourceManager
from ray.util.metrics import Counter

from pipelines.driver import ray_private


def test_reports_of_rays_processes_can_be_sent_into_a_file(tmp_path: Path) -> None:
    assert callable(worker.print_to_stdstream)
    with ray_private.reports_into(tmp_path / "ray.log"):
        worker.print_to_stdstream({"lines": ["raylet died"], "pid": "raylet"}, None)
    assert (tmp_path / "ray.log").read_text() == "raylet died\n"


def test_the_processes_of_a_local_ray_are_known() -> None:
    assert hasattr(worker, "_global_node")
    assert callable(Node.get_session_dir_path)
    assert "all_processes" in vars(Node) or "all_processes" in Node.__init__.__code__.co_names
    source = Path(Node.start_raylet.__code__.co_filename).read_text() + Path(worker.__file__).read_text()
    constants = Path(ray.__file__).with_name("_private") / "ray_constants.py"
    for name in ray_private.VITAL_PROCESSES:
        assert f'"{name}"' in source + constants.read_text(), name


@pytest.mark.parametrize("flag", [name for name in ray_private.FLAGS if name != "RAY_DATA_LOG_LEVEL"])
def test_rays_own_settings_are_still_called_so(flag: str) -> None:
    library = Path(ray.__file__).with_name("_raylet.so").read_bytes()
    assert flag.removeprefix("RAY_").encode() in library


def test_the_threads_of_ray_data_are_still_called_so() -> None:
    source = (Path(ray.__file__).parent / "data/_internal/execution/streaming_executor.py").read_text()
    assert f'thread_name = f"{ray_private.EXECUTION_THREAD}{{self._dataset_id}}"' in source


def test_ray_data_reads_its_log_level_and_logs_under_its_name() -> None:
    source = (Path(ray.__file__).parent / "data/_internal/logging.py").read_text()
    assert "RAY_DATA_LOG_LEVEL" in source
    assert logging.getLogger("ray.data").name == "ray.data"


def test_ray_tells_and_is_told_which_nodes_go_away() -> None:
    """A notice that is given and heard: `tests/pipelines/test_spot.py`."""
    assert callable(state.get_draining_nodes)
    assert callable(vars(ray._raylet)["InnerGcsClient"].drain_node)  # to which GcsClient hands on
    assert autoscaler_pb2.DRAIN_NODE_REASON_PREEMPTION
    assert common_pb2.NodeDeathInfo.AUTOSCALER_DRAIN_IDLE == ray_private.WAS_IDLE
    assert common_pb2.NodeDeathInfo.AUTOSCALER_DRAIN_PREEMPTED == ray_private.WAS_ANNOUNCED
    assert b"DeathReason" in Path(ray._raylet.__file__).read_bytes()


def test_the_autoscaler_tells_what_it_cannot_bring() -> None:
    """What is made of it: `tests/pipelines/test_growth.py`."""
    assert callable(vars(ray._raylet)["InnerGcsClient"].get_cluster_status)  # to which GcsClient hands on
    state = autoscaler_pb2.GetClusterStatusReply().autoscaling_state
    assert len(state.infeasible_resource_requests) == 0
    assert {"resources_bundle", "label_selectors"} <= set(autoscaler_pb2.ResourceRequest.DESCRIPTOR.fields_by_name)


def test_when_nodes_go_away_is_in_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_private, "_draining_nodes", lambda: lambda: {"a": 1_700_000_000_500, "b": 0})
    assert ray_private.nodes_going_away() == {"a": 1_700_000_000.5, "b": float("inf")}


@pytest.mark.parametrize(
    ("device", "named"),
    [
        ("NVIDIA H100 80GB HBM3", "H100"),
        ("NVIDIA A100-SXM4-80GB", "A100"),
        ("Tesla T4", "T4"),
        ("NVIDIA GeForce RTX 4090", "GeForce-RTX-4090"),
    ],
)
def test_gpus_have_rays_names(device: str, named: str) -> None:
    assert ray_private.accelerator_type(device) == named


def test_blocks_come_out_as_they_are() -> None:
    assert callable(Dataset.iter_internal_ref_bundles)
    assert "memory_usage_poll_interval_s" in DataContext.__dataclass_fields__


def test_statistics_of_blocks_can_be_thrown_away() -> None:
    """A run shows that nothing stays: `tests/pipelines/test_faults.py`."""
    assert "custom_execution_callback_classes" in DataContext.__dataclass_fields__
    internal = Path(ray.__file__).parent / "data/_internal/execution"
    assert "self._output_blocks_stats" in (internal / "operators/map_operator.py").read_text()
    assert "self._topology" in (internal / "streaming_executor.py").read_text()
    for method in vars(ExecutionCallback):
        if not method.startswith("_"):
            assert callable(getattr(ray_private.Callback, method, None)), method


def test_statistics_of_an_operator_go_nowhere(caplog: pytest.LogCaptureFixture) -> None:
    operator = SimpleNamespace(_output_blocks_stats=[1, 2])
    ray_private.KeepNoStatistics().before_execution_starts(SimpleNamespace(_topology=[operator]))
    assert not caplog.messages
    operator._output_blocks_stats.append("of a block")
    assert len(operator._output_blocks_stats) == 0
    ray_private.KeepNoStatistics().before_execution_starts(SimpleNamespace())
    assert "_output_blocks_stats" in caplog.text


class Budgeted:
    """An executor of Ray Data with two stages, as far as budgets go: the first takes CPUs, the second is of actors."""

    def __init__(self, room_bytes: int, output_bytes: int | None) -> None:
        self.updates = 0
        metrics = [SimpleNamespace(num_tasks_submitted=0, obj_store_mem_max_pending_output_per_task=1) for _ in "ab"]
        metrics[1].obj_store_mem_max_pending_output_per_task = output_bytes
        self.load, self.generate = metrics
        usages = [ExecutionResources(cpu=1), ExecutionResources()]
        self._topology = [
            SimpleNamespace(metrics=one, incremental_resource_usage=lambda usage=usage: usage)
            for one, usage in zip(metrics, usages, strict=True)
        ]
        self._resource_manager = SimpleNamespace(
            update_usages=self._update, get_budget=lambda _: SimpleNamespace(object_store_memory=room_bytes)
        )

    def _update(self) -> None:
        self.updates += 1

    def step(self, spare: ray_private.SpareBudgets, started: list[Any]) -> int:
        """One turn of the loop, in which so many tasks start; how often budgets were computed."""
        before = self.updates
        for metrics in [None, None, *started]:
            if metrics:
                metrics.num_tasks_submitted += 1
            self._resource_manager.update_usages()
        spare.on_execution_step(self)
        return self.updates - before


@pytest.mark.parametrize(
    ("room_bytes", "output_bytes", "updates"),
    [
        (1000, 10, 2),  # there is room for all forty
        (100, 10, 2 + 4),  # for ten: after nine each time that one more starts, it is looked again
        (10, 10, 2 + 40),  # for one: after each
        (0, 10, 2 + 40),
        (1000, None, 2 + 40),  # nothing is known yet
    ],
)
def test_budgets_are_computed_where_one_may_be_at_its_end(
    room_bytes: int, output_bytes: int | None, updates: int
) -> None:
    executor, spare = Budgeted(room_bytes, output_bytes), ray_private.SpareBudgets()
    spare.before_execution_starts(executor)
    assert executor.step(spare, [executor.generate] * 40) == updates
    assert executor.step(spare, []) == 2
    assert executor.step(spare, [executor.generate] * 40) == updates


def test_budgets_are_computed_after_each_task_that_takes_a_cpu() -> None:
    executor, spare = Budgeted(1000, 10), ray_private.SpareBudgets()
    spare.before_execution_starts(executor)
    assert executor.step(spare, [executor.generate, executor.load, executor.generate, executor.load]) == 2 + 2


def test_budgets_of_another_ray_are_left_alone(caplog: pytest.LogCaptureFixture) -> None:
    executor = SimpleNamespace(_topology={}, _resource_manager=SimpleNamespace(get_budget=None))
    ray_private.SpareBudgets().before_execution_starts(executor)
    assert "update_usages" in caplog.text
    assert "a third more" in caplog.text


def test_ray_data_computes_budgets_as_it_did() -> None:
    """The loop asks twice each time it comes round, and after each task that it starts."""
    internal = Path(ray.__file__).parent / "data/_internal/execution"
    loop = (internal / "streaming_executor.py").read_text()
    step = loop[loop.index("def _scheduling_loop_step") : loop.index("def _refresh_progress_manager")]
    assert step.count("self._resource_manager.update_usages()") == ray_private.SpareBudgets._ASKED_ANYWAY + 1
    assert step.count("dispatch_next_task()") == 1
    assert callable(ResourceManager.update_usages)
    assert callable(ResourceManager.get_budget)
    assert "obj_store_mem_max_pending_output_per_task" in vars(OpRuntimeMetrics)
    assert "num_tasks_submitted" in OpRuntimeMetrics.__dataclass_fields__


def test_work_rows_can_be_held_back() -> None:
    source = (Path(ray.__file__).parent / "data/context.py").read_text()
    assert "downstream_capacity_backpressure_ratio" in DataContext.__dataclass_fields__
    for flag in ray_private.DATA_FLAGS:
        found = source + "".join(
            path.read_text() for path in (Path(ray.__file__).parent / "data/_internal").rglob("*.py")
        )
        assert flag in found, flag


class OtherDataset:
    """One of a Ray that has no internal iterator."""

    def iter_batches(self, **options: Any) -> Iterator[pa.Table]:
        assert options == {"batch_size": None, "batch_format": "pyarrow", "prefetch_batches": 0}
        yield pa.table({"item": ["a", "b"]})


def test_a_run_does_without_what_another_ray_lacks(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delattr(worker, "print_to_stdstream")
    monkeypatch.setattr(worker, "_global_node", SimpleNamespace())
    monkeypatch.setattr("ray.job_config.JobConfig", SimpleNamespace)
    monkeypatch.setattr(state_module, "state", SimpleNamespace())
    ray_private._draining_nodes.cache_clear()
    for _ in range(2):  # which says it once
        assert ray_private.nodes_going_away() == {}
    ray_private._draining_nodes.cache_clear()
    assert ray_private.give_notice("a", 0.0) is None
    monkeypatch.delattr(NvidiaGPUAcceleratorManager, "_gpu_name_to_accelerator_type")
    assert ray_private.accelerator_type("Tesla T4") is None
    assert ray_private.job_config("/ours") == SimpleNamespace()
    monkeypatch.setattr(DataContext, "get_current", lambda: SimpleNamespace(execution_options=SimpleNamespace()))
    with ray_private.reports_into(tmp_path / "ray.log"):
        pass
    assert ray_private.own_processes() == []
    assert [block["item"].to_pylist() for block in ray_private.blocks_of(OtherDataset())] == [["a", "b"]]
    ray_private.set_data_context()
    lacks = ["print_to_stdstream", "_global_node.all_processes", "iter_internal_ref_bundles", "memory_usage_poll"]
    lacks += ("downstream_capacity_backpressure_ratio", "custom_execution_callback_classes", "_py_driver_sys_path")
    lacks += ("get_draining_nodes", "_gpu_name_to_accelerator_type")
    for what in lacks:
        assert any(what in message for message in caplog.messages), what


def test_a_counter_takes_zero_by_its_private_way_only(caplog: pytest.LogCaptureFixture) -> None:
    counter = Counter("stillreel_test_only", "of a test", ("stage",))
    with pytest.raises(ValueError, match="must be >0"):
        counter.inc(0, {"stage": "load"})
    ray_private.count(counter, 0, {"stage": "load"})
    ray_private.count(counter, 2, {"stage": "load"})
    assert not caplog.messages
    ray_private.count(SimpleNamespace(), 0, {})
    assert "Metric._record" in caplog.text


def test_workers_search_our_code_first_and_not_the_drivers_folders() -> None:
    """`ray.init` extends the list by the current folder; workers put each of it before all others."""
    config = ray_private.job_config("/ours")
    assert f"job_config.{'_py_driver_sys_path'}.extend" in Path(worker.__file__).read_text()
    config._py_driver_sys_path.extend(["/users"])
    assert list(config._get_proto_job_config().py_driver_sys_path) == ["/ours"]
