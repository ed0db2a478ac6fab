"""All that this job uses of Ray beside its public interface, each with what it is for and what happens without it.

Ray may change any of it in any release. Where something is not there, the run goes on without that comfort and says so
in one line. `tests/pipelines/test_ray_private.py` names what a new release of Ray has changed.
"""

import functools
import logging
import os
import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa

from actors.secrets import MASK, hidden
from pipelines.placement.nodes import TYPE_LABEL

logger = logging.getLogger("stillreel.driver")

# Settings of Ray's C++ side (src/ray/common/ray_config_def.h) and of Ray Data's logging, as environment variables, for
# a Ray that the run starts itself; on a cluster, whoever starts it decides. One that Ray does not know has no effect.
FLAGS = {
    # Ray's head keeps kilobytes for each of the last 100,000 tasks, for a dashboard that is not started here. This ends
    # that. Without it: some hundred MB more in the head.
    "RAY_task_events_report_interval_ms": "0",
    # `ray.init` waits for workers that are started ahead, and where one of them dies it waits for ever, so that not
    # even Ctrl-C is heard (Ray 2.60). Without it: that may happen, and the first tasks start half a second sooner.
    "RAY_prestart_worker_first_driver": "0",
    # Of Ray Data's workers: DEBUG is a line a row. Without it: larger logs in Ray's session folder.
    "RAY_DATA_LOG_LEVEL": "INFO",
}
# The same, of Ray Data in the driver, read when that is imported; on any cluster. Ray Data holds a stage back by what
# waits for the next one (`set_data_context`) only where so much of the object store is in use. Without it: work rows
# are read long before they are loaded, which takes memory.
DATA_FLAGS = {"RAY_DATA_DOWNSTREAM_CAPACITY_OBJECT_STORE_BUDGET_UTIL_THRESHOLD": "0"}
# What waits for a stage, as a multiple of what is under way in it, in bytes. Meant for work rows, which would all be
# read at once; what waits for the other stages is less, for want of memory.
_WAITING_PER_LOADING = 100.0
# Processes of a Ray on this machine without which nothing goes on. Some time after their end (15 s, for the raylet) Ray
# ends the driver wherever that is, without a word; until then there is time to commit.
VITAL_PROCESSES = ("raylet", "gcs_server")
_DATA_LOGGER = "ray.data"
# A head that does not answer in that time is asked again.
_STATUS_TIMEOUT_S = 5
# How the names of Ray Data's own threads begin. Without it: `ending.wait_for_threads` does not wait for them.
EXECUTION_THREAD = "StreamingExecutor-"
_OPTIONS = re.compile(r"(storage\.options[\w.]*=)(\{.*\}|\S+)")


def set_flags() -> None:
    """Set `FLAGS`, unless the environment does; before Ray starts."""
    for name, value in FLAGS.items():
        os.environ.setdefault(name, value)


def set_data_flags() -> None:
    """The same for the driver's part of Ray Data; before that is imported."""
    for name, value in DATA_FLAGS.items():
        os.environ.setdefault(name, value)


class _Fixed(list[str]):
    """A list that others cannot add to."""

    def extend(self, values: Iterable[str]) -> None:
        """Leave it as it is."""


def job_config(search_path: str) -> Any:
    """What `ray.init` is given so that workers search the folder `search_path` first, and not the driver's folders.

    `ray.init` adds the driver's current folder, and the folder of its script, to where workers look for modules before
    anywhere else: a user's own package `actors`, or a `numpy.py`, would be imported there. Without it: that happens.
    """
    from ray.job_config import JobConfig

    config = JobConfig()
    if isinstance(getattr(config, "_py_driver_sys_path", None), list):
        config._py_driver_sys_path = _Fixed([search_path])
    else:
        _note("JobConfig._py_driver_sys_path", "modules in the current folder may stand in for those of the workers")
    return config


@contextmanager
def reports_into(log: Path) -> Iterator[None]:
    """Send what Ray's processes report (the end of a node's log, where one has died) into a file.

    Ray's driver prints it, whatever it is told about logs. Without this: dozens of lines on standard error.
    """
    from ray._private import worker

    def append(report: dict[str, Any], *_: Any, **__: Any) -> None:
        with log.open("a") as file:
            file.writelines(f"{line}\n" for line in report.get("lines", ()))

    printing = getattr(worker, "print_to_stdstream", None)
    if printing is None:
        _note("print_to_stdstream", "reports of Ray's processes appear on standard error")
        yield
        return
    worker.print_to_stdstream = append
    try:
        yield
    finally:
        worker.print_to_stdstream = printing


@contextmanager
def command_line_hidden() -> Iterator[None]:
    """Have Ray list this job by a command line without secrets. Without this: as it was called, in its dashboard."""
    from ray._private import utils

    told = getattr(utils, "get_entrypoint_name", None)
    if told is None:
        _note("get_entrypoint_name", "its list of jobs shows the command line as it was called")
        yield
        return
    utils.get_entrypoint_name = lambda: hidden_arguments(told())
    try:
        yield
    finally:
        utils.get_entrypoint_name = told


def hidden_arguments(command: str) -> str:
    """A command line without secrets; of the options of stores only the names are left."""
    return _OPTIONS.sub(rf"\1{MASK}", hidden(command))


@contextmanager
def data_logs_into(log: Path) -> Iterator[None]:
    """Send Ray Data's log into a file; it prints the whole traceback of a worker that cannot start.

    The logger's name is all that is private here. Without it: tracebacks on standard error.
    """
    own = logging.getLogger(_DATA_LOGGER)
    before = own.level, own.handlers, own.propagate
    file = logging.FileHandler(log)
    own.setLevel(logging.INFO)
    own.handlers, own.propagate = [file], False
    try:
        yield
    finally:
        level, own.handlers, own.propagate = before
        own.setLevel(level)
        file.close()


def own_processes() -> list[Any]:
    """The `subprocess.Popen`s of those `VITAL_PROCESSES` that `ray.init` has started here.

    Without them: a local Ray that has ended ends the driver, too; what was not committed is recovered by the next run.
    """
    import ray

    try:
        started = ray._private.worker._global_node.all_processes
        return [info.process for name in VITAL_PROCESSES for info in started.get(name, [])]
    except AttributeError:
        _note("_global_node.all_processes", "the end of Ray's node on this machine is not noticed in time")
        return []


def session_logs() -> str:
    """The folder of Ray's logs on this machine, of the Ray that this process is connected to.

    Without it (""): who looks for them is told the usual place.
    """
    import ray

    try:
        return f"{ray._private.worker._global_node.get_session_dir_path()}/logs"
    except AttributeError:
        _note("_global_node.get_session_dir_path", "a message that tells where Ray's logs are names the usual place")
        return ""


def nodes_going_away() -> dict[str, float]:
    """The nodes that are about to go away, by id, and when they do: seconds as `time.time` has them, inf: not said.

    Without it: a notice is not heard; a clip may begin on a node that goes away before it is made, and be made again.
    """
    return {node: at_ms / 1000 if at_ms else float("inf") for node, at_ms in _draining_nodes()().items()}


@functools.cache
def _draining_nodes() -> Callable[[], dict[str, int]]:
    import ray._private.state

    found: Callable[[], dict[str, int]] | None = getattr(ray._private.state.state, "get_draining_nodes", None)
    if found is None:
        _note("state.get_draining_nodes", "nobody hears that a node is about to go away")
        return dict
    return found


def gpus_not_to_be_had() -> list[tuple[str, ...]]:
    """The types of each GPU that somebody waits for and the cluster's autoscaler has no node for, sorted; (): of any.

    Of Ray's second autoscaler, that of KubeRay, where none of its groups has such a GPU, or all are at their most.
    Without it: such a run waits without a word.
    """
    try:
        import ray._private.worker
        from ray.core.generated import autoscaler_pb2, common_pb2

        reply = ray._private.worker.global_worker.gcs_client.get_cluster_status(timeout_s=_STATUS_TIMEOUT_S)
        state = autoscaler_pb2.GetClusterStatusReply.FromString(reply).autoscaling_state
        # Of placement groups, too (`pipelines.driver.bundles`).
        groups = state.infeasible_gang_resource_requests
        asked = [*state.infeasible_resource_requests, *(one for group in groups for one in _requests_of(group))]
        is_one_of = common_pb2.LABEL_OPERATOR_IN
        found = {
            tuple(
                sorted(
                    value
                    for selector in request.label_selectors[:1]
                    for rule in selector.label_constraints
                    if rule.label_key == TYPE_LABEL and rule.operator == is_one_of
                    for value in rule.label_values
                )
            )
            for request in asked
            if request.resources_bundle.get("GPU")
        }
    except (ImportError, AttributeError):
        _note_once("get_cluster_status", "nobody hears that a cluster cannot grow by what a run waits for")
        return []
    return sorted(found)


def _requests_of(group: Any) -> list[Any]:
    """What each bundle of a placement group asks for."""
    return list(group.bundle_selectors[0].resource_requests if group.bundle_selectors else group.requests)


def give_notice(node: str, goes_at: float) -> str | None:
    """Tell the cluster that a node goes away at that time, so that nothing begins there; "", or why it does not listen.

    What `ray drain-node` does, a hidden command whose interface may change. None: this Ray cannot be told.
    """
    try:
        import ray._private.worker
        from ray.core.generated import autoscaler_pb2

        drain_node = ray._private.worker.global_worker.gcs_client.drain_node
        reason = autoscaler_pb2.DRAIN_NODE_REASON_PREEMPTION
    except (ImportError, AttributeError):
        return None
    listens, why = drain_node(node, reason, "stillreel drain", int(goes_at * 1000))
    return "" if listens else str(why)


# Of `ray.nodes()`, whose fields are not documented: why a node is gone (NodeDeathInfo.Reason in Ray's common.proto). It
# was idle, and the autoscaler gave it back; or there was a notice, after which Ray ends an idle node at once, and
# another when the time is up. Without it: a node that was given back, or ended between two looks, is said to be lost.
WAS_IDLE, WAS_ANNOUNCED = 4, 3


def accelerator_type(device: str) -> str | None:
    """What a node of Ray's calls its GPUs (H100), by the driver's name of one (NVIDIA H100 80GB HBM3).

    None: this Ray does not tell. Without it: `plan --cluster` knows no type of this machine's own GPUs; `run` does.
    """
    try:
        from ray._private.accelerators import nvidia_gpu

        named: str | None = nvidia_gpu.NvidiaGPUAcceleratorManager._gpu_name_to_accelerator_type(device)
    except (ImportError, AttributeError):
        _note("_gpu_name_to_accelerator_type", "the type of this machine's GPUs is not known before Ray runs")
        return None
    return named


def blocks_of(dataset: Any) -> Iterator[pa.Table]:
    """What a Ray Data pipeline gives out, block by block, as it comes.

    Without the internal iterator: `iter_batches`, which costs the driver, the one process that cannot be multiplied, a
    quarter more a row.
    """
    import ray

    bundles: Callable[[], Iterator[Any]] | None = getattr(dataset, "iter_internal_ref_bundles", None)
    if bundles is None:
        _note("Dataset.iter_internal_ref_bundles", "the driver has a quarter more to do for each row")
        yield from dataset.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0)
        return
    for bundle in bundles():
        yield from ray.get(list(bundle.block_refs))


def count(counter: Any, more: float, labels: dict[str, str]) -> None:
    """Add to a `ray.util.metrics.Counter`, also zero: then Prometheus sees its series before anything is counted.

    Without it: what counts nothing is not there, and the first of a kind is no increase to Prometheus.
    """
    if more > 0:
        counter.inc(more, labels)
    elif hasattr(counter, "_record"):
        counter._record(0.0, labels)
    else:
        _note("Metric._record", "metrics that count nothing yet are not there")


class Callback:
    """For `DataContext.custom_execution_callback_classes`; the methods are those that Ray Data calls."""

    def before_execution_starts(self, executor: Any) -> None:
        """All is set up, and nothing has begun."""

    def on_execution_step(self, executor: Any) -> None:
        """The loop has come round."""

    def after_execution_succeeds(self, executor: Any) -> None:
        """The last row is out."""

    def after_execution_fails(self, executor: Any, error: Exception) -> None:
        """Nothing comes any more."""


class KeepNoStatistics(Callback):
    """Ray Data's statistics of an execution, which would fill the driver's memory over a long one.

    `StreamingExecutor._topology` and `MapOperator._output_blocks_stats`: 1 kB for each block that a stage gives out,
    which is 3 kB a row, kept until the execution ends for a summary that is not shown here. Without this: the driver
    grows by 3 GB in a million rows.
    """

    def before_execution_starts(self, executor: Any) -> None:
        """Have the operators put their statistics where nothing stays."""
        kept = [one for one in getattr(executor, "_topology", None) or () if hasattr(one, "_output_blocks_stats")]
        if not kept:
            _note("_topology of operators with _output_blocks_stats", "the driver grows by 3 kB a row")
        for operator in kept:
            if isinstance(operator._output_blocks_stats, list):
                operator._output_blocks_stats = deque(maxlen=0)


class SpareBudgets(Callback):
    """Ray Data's budgets of the stages, computed anew only when a stage may have come to the end of its own.

    `ResourceManager.update_usages` runs twice each time that Ray Data's loop comes round, which stays, and once more
    after each task that it starts: two for a row, and a third of the loop's work. A task of an actor takes nothing of a
    budget but room for its output. So with room for a hundred, the hundred are started by one look at the budgets.
    After a task that takes a CPU, and where an output's size is not known yet, each time as ever. Without this: the
    driver, the one process that cannot be multiplied, has a third more to do for each row.
    """

    _ASKED_ANYWAY = 2

    def before_execution_starts(self, executor: Any) -> None:
        """Stand between the loop and what computes the budgets."""
        self._asked, self._room = 0, 0.0
        try:
            self._manager, self._operators = executor._resource_manager, list(executor._topology)
            self._update = self._manager.update_usages
            self._on_cpus = [one for one in self._operators if not one.incremental_resource_usage().is_zero()]
            self._look()
        except AttributeError as error:
            _note(f"ResourceManager as it was ({error.name})", "the driver has a third more to do for each row")
        else:
            self._manager.update_usages = self._update_where_needed

    def on_execution_step(self, executor: Any) -> None:  # noqa: ARG002 - as Ray Data calls it
        """The next two are asked for anyway."""
        self._asked = 0

    def _update_where_needed(self) -> None:
        self._asked += 1
        self._room -= 1
        if self._asked <= self._ASKED_ANYWAY or self._room < 0 or self._begun_on_cpus() > self._begun:
            self._update()
            self._look()

    def _look(self) -> None:
        """Note for how many tasks of actors there is room, whatever stages they are of."""
        self._begun = self._begun_on_cpus()
        budgets = [(self._manager.get_budget(one), one.metrics) for one in self._operators]
        limited = [
            (budget.object_store_memory, metrics.obj_store_mem_max_pending_output_per_task)
            for budget, metrics in budgets
            if budget is not None
        ]
        is_known = limited and all(size is not None for _, size in limited)
        # One less: a stage stops while there is room for one.
        self._room = min(left for left, _ in limited) / max(1, *(size for _, size in limited)) - 1 if is_known else 0

    def _begun_on_cpus(self) -> int:
        return sum(one.metrics.num_tasks_submitted for one in self._on_cpus)


def set_data_context() -> None:
    """How Ray Data runs: no progress bars (progress is ours to print), rows in any order, each a block of its own.

    The private ones are in `_CONTEXT`, and `custom_execution_callback_classes` (for `_CALLBACKS`).
    """
    from ray.data import DataContext

    context = DataContext.get_current()
    context.enable_progress_bars = False
    context.execution_options.preserve_order = False
    context.target_max_block_size = 1  # byte: each row is given out when it is made
    for name, (value, effect) in _CONTEXT.items():
        if hasattr(context, name):
            setattr(context, name, value)
        else:
            _note(f"DataContext.{name}", effect)
    callbacks = getattr(context, "custom_execution_callback_classes", None)
    if callbacks is None:
        effect = "the driver grows by 3 kB a row, and has a third more to do for each"
        _note("DataContext.custom_execution_callback_classes", effect)
    else:
        callbacks.extend(one for one in _CALLBACKS if one not in callbacks)


_CALLBACKS = (KeepNoStatistics, SpareBudgets)
# Settings of `DataContext` that are not documented: value, and what happens without it.
_CONTEXT: dict[str, tuple[float | None, str]] = {
    # Else a thread is started and ended for each row and stage.
    "memory_usage_poll_interval_s": (None, "each row costs a little more"),
    "downstream_capacity_backpressure_ratio": (_WAITING_PER_LOADING, "work rows are read long before they are loaded"),
}


@functools.cache
def _note_once(what: str, effect: str) -> None:
    _note(what, effect)


def _note(what: str, effect: str) -> None:
    logger.warning("this Ray has no %s: %s", what, effect)
