"""The Ray cluster of a run: the job's own, one that the configuration names, or a local one."""

import logging
import signal
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from rich.console import Console

from actors import scratch
from actors.errors import ConfigError, RunError, StillreelError
from actors.repeating import Repeating
from actors.secrets import hidden
from pipelines.config import Config
from pipelines.driver import ray_private
from pipelines.driver.address import Address, address_of
from pipelines.driver.ending import wait_for_threads
from pipelines.driver.refusals import check_temporary_folder, not_connected, not_started
from pipelines.driver.screen import standard_error_into
from pipelines.driver.tokens import set_own_token
from pipelines.own_code import search_path
from pipelines.placement.nodes import Node, nodes_of


def check_machine(config: Config) -> None:
    """Before anything else is done: raise ConfigError for what can be no address of a cluster, and for lack of GPUs.

    Of the latter where a Ray on this machine would lack those that are asked for.
    """
    address = address_of(config)
    if address is not None:
        address.endpoint()
        return
    on_cuda = [
        f"{name}.device=cuda"
        for name, is_on_cuda in (
            ("model", config.model.wants_cuda),
            ("interpolation", config.interpolation.weights is not None and config.interpolation.device == "cuda"),
        )
        if is_on_cuda
    ]
    if config.needs_gpu or on_cuda:
        from actors.device import cuda_problem

        if problem := cuda_problem():
            lack = f"this machine has none that PyTorch can use ({problem})"
            if on_cuda:
                raise ConfigError(f"{' and '.join(on_cuda)} asks for a GPU, and {lack}: set it to auto or cpu")
            raise _no_gpu(lack, config)


_LOOK_INTERVAL_S = 0.5
NODE_LOST = "Ray's node on this machine has ended: a process of it was killed, or the machine ran out of memory"
_SUDDEN_END = "the run was ended from outside (it was killed, or Ray ended it, whose logs are in "
_ITS_LOGS = "/tmp/ray/session_latest/logs unless configured otherwise"  # noqa: S108 - Ray's own default
_GOES_ON = "); what is finished is kept, the same command continues"


class Cluster:
    """What a run is connected to."""

    def __init__(self, nodes: list[Node], own_processes: list[Any]) -> None:
        self.nodes = nodes
        self._own_processes = own_processes  # `subprocess.Popen`s, of a local Ray only

    @contextmanager
    def watched(self, on_lost: Callable[[], None]) -> Iterator[None]:
        """Within the block, say on standard error when a local Ray has ended, and call `on_lost` from a thread.

        Raises:
            RunError: it has ended, and Ray's own error of that came first.
        """

        def look() -> None:
            if self._has_ended():
                print(f"stillreel: {NODE_LOST}", file=sys.stderr)  # noqa: T201 - from a thread, past the console
                watching.end()
                on_lost()

        with Repeating("ray-node", look, _LOOK_INTERVAL_S) as watching:
            try:
                yield
            except StillreelError as error:
                if self._has_ended():
                    raise RunError(f"{NODE_LOST}; what is finished is kept, the same command continues") from error
                raise

    def _has_ended(self) -> bool:
        return any(process.poll() is not None for process in self._own_processes)


@contextmanager
def connected(config: Config, console: Console, log: Path) -> Iterator[Cluster]:
    """Connect to the cluster, or start one, for the length of the block.

    What Ray itself has to say on standard error (its C++ side reports each restart of a worker over many lines) goes
    into the file `log`.

    Raises:
        ConfigError: Ray cannot be started, or there is no such cluster; or the configuration reserves GPUs and there is
            none.
    """
    address = address_of(config)
    place = hidden(address.text) if address else "on this machine"
    console.print(f"{'Connecting to' if address else 'Starting'} Ray ({place}) ...", highlight=False, markup=False)
    with (
        scratch.folder() as links,
        _last_words() as logs_are_in,
        standard_error_into(log),
        ray_private.reports_into(log),
        ray_private.command_line_hidden(),
    ):
        import ray

        on_sigterm = signal.getsignal(signal.SIGTERM)
        try:
            _init(config, address, search_path(links))
            signal.signal(signal.SIGTERM, on_sigterm)  # Ray's own, set by init, would end us without a commit
            logs_are_in(ray_private.session_logs())
            nodes = nodes_of(ray.nodes())
            if config.needs_gpu and not config.ray.autoscaling and not any(node.gpus for node in nodes):
                raise _no_gpu(f"the cluster ({place}) has none", config)
            with ray_private.data_logs_into(log):
                yield Cluster(nodes, ray_private.own_processes() if address is None else [])
        finally:
            try:
                wait_for_threads()
            finally:
                ray.shutdown()


def _init(config: Config, address: Address | None, code: str) -> None:
    """Connect, or start; the workers search the folder `code` for modules before all others. Raises ConfigError."""
    ray_private.set_data_flags()
    import ray
    import ray.data  # sets up its logging when it is imported, so that has to come before ours

    arguments: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}  # logs stay in Ray's folder
    arguments["job_config"] = ray_private.job_config(code)
    warnings.filterwarnings("ignore", category=FutureWarning, module="ray")
    if address is not None:
        address.check_reachable()
        with _explained(lambda error: not_connected(error, address)):
            ray.init(address=address.text, **arguments)
        return
    check_temporary_folder()
    ray_private.set_flags()
    set_own_token()
    store = config.ray.object_store_mb
    with _explained(not_started):
        ray.init(
            # Neither joins a Ray that happens to run on this machine, nor trips over it, as other addresses do.
            address="local",
            num_cpus=config.ray.num_cpus,
            object_store_memory=store * 1024**2 if store else None,
            include_dashboard=False,
            **arguments,
        )


@contextmanager
def _explained(explain: Callable[[Exception], ConfigError]) -> Iterator[None]:
    """Whatever `ray.init` raises, as a sentence; it turns SIGTERM into SystemExit."""
    try:
        yield
    except Exception as error:
        raise explain(error) from error
    except SystemExit:
        raise KeyboardInterrupt from None


@contextmanager
def _last_words() -> Iterator[Callable[[str], None]]:
    """Have another process say it where this one ends within the block and cannot: by SIGKILL, or by Ray's C++ side.

    What is yielded tells it where Ray's logs are.
    """
    # What ends this process in good order (Ctrl-C, `ray job stop`, which asks all processes of a job) it leaves alone.
    script = """
        trap "" HUP INT TERM
        logs=$2
        while read -r line; do
            case $line in farewell) exit;; *) logs=$line;; esac
        done
        echo "stillreel: $1$logs$3" >&2
    """
    command = ["sh", "-c", script, "sh", _SUDDEN_END, _ITS_LOGS, _GOES_ON]
    with subprocess.Popen(command, stdin=subprocess.PIPE, text=True) as speaker:
        lines = speaker.stdin
        assert lines is not None

        def logs_are_in(folder: str) -> None:
            with suppress(OSError):  # where somebody has ended that process, there are no last words
                if folder:
                    print(folder, file=lines, flush=True)

        try:
            yield logs_are_in
        finally:
            speaker.communicate("farewell\n")


def _no_gpu(lack: str, config: Config) -> ConfigError:
    workers = config.workers
    return ConfigError(
        f"the configuration reserves GPUs (workers.generate.num_gpus={workers.generate.num_gpus:g}, "
        f"workers.finish.num_gpus={workers.finish.num_gpus:g}) and {lack}: run it on a GPU machine or "
        "cluster, or see it work on the CPU with --config conf/demo.yaml"
    )
