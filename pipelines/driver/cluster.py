"""The Ray cluster of a run: the job's own, one that the configuration names, or a local one."""

import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console

from actors.errors import ConfigError, RunError, StillreelError, first_line
from actors.secrets import hidden
from pipelines.config import Config
from pipelines.driver import ray_private


def address_of(config: Config) -> str | None:
    """The cluster to connect to; None starts a local one. `ray job submit` sets RAY_ADDRESS for its job."""
    return config.ray.address or os.environ.get("RAY_ADDRESS")


def check_machine(config: Config) -> None:
    """Before anything else is done: raise ConfigError where a local Ray would lack the GPUs that are asked for."""
    on_cuda = [
        f"{name}.device=cuda"
        for name, is_on_cuda in (
            ("model", config.model.wants_cuda),
            ("interpolation", config.interpolation.weights is not None and config.interpolation.device == "cuda"),
        )
        if is_on_cuda
    ]
    if address_of(config) is None and (config.needs_gpu or on_cuda):
        from actors.device import cuda_problem

        if problem := cuda_problem():
            lack = f"this machine has none that PyTorch can use ({problem})"
            if on_cuda:
                raise ConfigError(f"{' and '.join(on_cuda)} asks for a GPU, and {lack}: set it to auto or cpu")
            raise _no_gpu(lack, config)


# A head in another data centre answers within a second.
_CONNECT_TIMEOUT_S = 10.0


_LOOK_INTERVAL_S = 0.5
NODE_LOST = "Ray's node on this machine has ended: a process of it was killed, or the machine ran out of memory"
_SUDDEN_END = (
    "the run was ended from outside (it was killed, or Ray ended it, whose logs are in /tmp/ray/session_latest/logs "
    "unless configured otherwise); what is finished is kept, the same command continues"
)


class Cluster:
    """What a run is connected to."""

    def __init__(self, gpus: float, cpus: float, own_processes: list[Any]) -> None:
        self.gpus, self.cpus = gpus, cpus
        self._own_processes = own_processes  # `subprocess.Popen`s, of a local Ray only

    @contextmanager
    def watched(self, on_lost: Callable[[], None]) -> Iterator[None]:
        """Within the block, say on standard error when a local Ray has ended, and call `on_lost` from a thread.

        Raises:
            RunError: it has ended, and Ray's own error of that came first.
        """
        has_left = threading.Event()

        def watch() -> None:
            while not has_left.wait(_LOOK_INTERVAL_S):
                if self._has_ended():
                    print(f"stillreel: {NODE_LOST}", file=sys.stderr)  # noqa: T201 - from a thread, past the console
                    on_lost()
                    return

        thread = threading.Thread(target=watch, name="ray-node", daemon=True)
        thread.start()
        try:
            yield
        except StillreelError as error:
            if self._has_ended():
                raise RunError(f"{NODE_LOST}; what is finished is kept, the same command continues") from error
            raise
        finally:
            has_left.set()
            thread.join()

    def _has_ended(self) -> bool:
        return any(process.poll() is not None for process in self._own_processes)


@contextmanager
def connected(config: Config, console: Console, log: Path) -> Iterator[Cluster]:
    """Connect to the cluster, or start one, for the length of the block.

    What Ray itself has to say on standard error (its C++ side reports each restart of a worker over many lines) goes
    into the file `log`.

    Raises:
        ConfigError: the configuration reserves GPUs and there is none.
    """
    address = address_of(config)
    console.print(f"Starting Ray ({hidden(address) if address else 'on this machine'}) ...", highlight=False)
    with _last_words(), _standard_error_into(log), ray_private.reports_into(log), ray_private.command_line_hidden():
        import ray

        on_sigterm = signal.getsignal(signal.SIGTERM)
        try:
            _init(config, address)
            signal.signal(signal.SIGTERM, on_sigterm)  # Ray's own, set by init, would end us without a commit
            resources = ray.cluster_resources()
            gpus, cpus = float(resources.get("GPU", 0)), float(resources.get("CPU", 0))
            if config.needs_gpu and not config.ray.autoscaling and gpus == 0:
                raise _no_gpu(f"the cluster at {address} has none", config)
            with ray_private.data_logs_into(log):
                yield Cluster(gpus, cpus, ray_private.own_processes() if address is None else [])
        finally:
            ray.shutdown()


def _init(config: Config, address: str | None) -> None:
    ray_private.set_data_flags()
    import ray
    import ray.data  # sets up its logging when it is imported, so that has to come before ours

    quiet = {"log_to_driver": False, "logging_level": logging.ERROR}  # workers' logs stay in Ray's session folder
    warnings.filterwarnings("ignore", category=FutureWarning, module="ray")
    if address is not None:
        _check_reachable(address)
        try:
            ray.init(address=address, **quiet)
        except (ConnectionError, RuntimeError) as error:
            raise ConfigError(f"no Ray cluster at {address}: {first_line(error)}") from error
    else:
        ray_private.set_flags()
        store = config.ray.object_store_mb
        ray.init(
            # Neither joins a Ray that happens to run on this machine, nor trips over it, as other addresses do.
            address="local",
            num_cpus=config.ray.num_cpus,
            object_store_memory=store * 1024**2 if store else None,
            include_dashboard=False,
            **quiet,
        )


@contextmanager
def _last_words() -> Iterator[None]:
    """Have another process say it where this one ends within the block and cannot: by SIGKILL, or by Ray's C++ side."""
    # What ends this process in good order (Ctrl-C, `ray job stop`, which asks all processes of a job) it leaves alone.
    script = 'trap "" HUP INT TERM; read -r farewell || echo "stillreel: $1" >&2'
    command = ["sh", "-c", script, "sh", _SUDDEN_END]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as speaker:
        try:
            yield
        finally:
            speaker.communicate(b"farewell\n")


def _check_reachable(address: str) -> None:
    """Raise ConfigError where nothing listens: Ray itself tries for more than a minute, in silence."""
    host, _, port = address.partition("://")[2 if "://" in address else 0].rpartition(":")
    if not host or not port.isdigit():
        return  # "auto": Ray knows where to look
    try:
        socket.create_connection((host, int(port)), timeout=_CONNECT_TIMEOUT_S).close()
    except OSError as error:
        raise ConfigError(f"no Ray cluster at {address} (ray.address): {error.strerror or error}") from error


def _no_gpu(lack: str, config: Config) -> ConfigError:
    workers = config.workers
    return ConfigError(
        f"the configuration reserves GPUs (workers.generate.num_gpus={workers.generate.num_gpus:g}, "
        f"workers.finish.num_gpus={workers.finish.num_gpus:g}) and {lack}: run it on a GPU machine or "
        "cluster, or see it work on the CPU with --config conf/demo.yaml"
    )


@contextmanager
def _standard_error_into(log: Path) -> Iterator[None]:
    """Send file descriptor 2 into a file; Python's own `sys.stderr` keeps writing where it did."""
    sys.stderr.flush()
    terminal = os.dup(2)
    python_stderr = sys.stderr
    with log.open("ab") as file:
        os.dup2(file.fileno(), 2)
    sys.stderr = os.fdopen(terminal, "w", buffering=1, closefd=False)
    try:
        yield
    finally:
        os.dup2(terminal, 2)
        os.close(terminal)
        sys.stderr = python_stderr
