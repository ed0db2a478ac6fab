"""The Ray cluster of a run: the job's own, one that the configuration names, or a local one."""

import logging
import os
import signal
import socket
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console

from actors.errors import ConfigError
from pipelines.config import Config


def address_of(config: Config) -> str | None:
    """The cluster to connect to; None starts a local one. `ray job submit` sets RAY_ADDRESS for its job."""
    return config.ray.address or os.environ.get("RAY_ADDRESS")


def check_machine(config: Config) -> None:
    """Before anything else is done: raise ConfigError where a local Ray would lack the GPUs that are reserved."""
    if config.needs_gpu and address_of(config) is None:
        import torch

        _require_gpu(torch.cuda.device_count(), "this machine has none", config)


# A head in another data centre answers within a second.
_CONNECT_TIMEOUT_S = 10.0


@contextmanager
def connected(config: Config, console: Console, log: Path) -> Iterator[tuple[float, float]]:
    """Connect to the cluster, or start one, for the length of the block; gives the numbers of its GPUs and CPUs.

    What Ray itself has to say on standard error (its C++ side reports each restart of a worker over many lines) goes
    into the file `log`.

    Raises:
        ConfigError: the configuration reserves GPUs and there is none.
    """
    address = address_of(config)
    console.print(f"Starting Ray ({address or 'on this machine'}) ...", highlight=False)
    with _standard_error_into(log):
        import ray

        on_sigterm = signal.getsignal(signal.SIGTERM)
        try:
            _init(config, address, log)
            signal.signal(signal.SIGTERM, on_sigterm)  # Ray's own, set by init, would end us without a commit
            resources = ray.cluster_resources()
            gpus, cpus = float(resources.get("GPU", 0)), float(resources.get("CPU", 0))
            if config.needs_gpu and not config.ray.autoscaling:
                _require_gpu(gpus, f"the cluster at {address} has none", config)
            yield gpus, cpus
        finally:
            ray.shutdown()


def _init(config: Config, address: str | None, log: Path) -> None:
    import ray
    import ray.data  # sets up its logging when it is imported, so that has to come before ours

    quiet = {"log_to_driver": False, "logging_level": logging.ERROR}  # workers' logs stay in Ray's session folder
    warnings.filterwarnings("ignore", category=FutureWarning, module="ray")
    if address is not None:
        _check_reachable(address)
        try:
            ray.init(address=address, **quiet)
        except (ConnectionError, RuntimeError) as error:
            raise ConfigError(f"no Ray cluster at {address}: {str(error).splitlines()[0]}") from error
    else:
        # Ray's head keeps kilobytes for each of the last 100,000 tasks, for a dashboard that is not started here. The
        # setting (src/ray/common/ray_config_def.h) ends that. On a cluster, whoever starts it decides.
        os.environ.setdefault("RAY_task_events_report_interval_ms", "0")
        store = config.ray.object_store_mb
        ray.init(
            # Neither joins a Ray that happens to run on this machine, nor trips over it, as other addresses do.
            address="local",
            num_cpus=config.ray.num_cpus,
            object_store_memory=store * 1024**2 if store else None,
            include_dashboard=False,
            **quiet,
        )
    own = logging.getLogger("ray.data")  # prints the whole traceback of a worker that cannot start
    own.handlers = [logging.FileHandler(log)]
    own.propagate = False


def _check_reachable(address: str) -> None:
    """Raise ConfigError where nothing listens: Ray itself tries for more than a minute, in silence."""
    host, _, port = address.partition("://")[2 if "://" in address else 0].rpartition(":")
    if not host or not port.isdigit():
        return  # "auto": Ray knows where to look
    try:
        socket.create_connection((host, int(port)), timeout=_CONNECT_TIMEOUT_S).close()
    except OSError as error:
        raise ConfigError(f"no Ray cluster at {address} (ray.address): {error.strerror or error}") from error


def _require_gpu(gpus: float, lack: str, config: Config) -> None:
    if gpus == 0:
        workers = config.workers
        raise ConfigError(
            f"the configuration reserves GPUs (workers.generate.num_gpus={workers.generate.num_gpus:g}, "
            f"workers.interpolate.num_gpus={workers.interpolate.num_gpus:g}) and {lack}: run it on a GPU machine or "
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
