"""A cluster of unlike nodes on this machine, whose GPUs Ray takes our word for."""

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Protocol

import psutil
import ray

from tests import clusters
from tests.clusters import Head

_START_TIMEOUT_S = 240


class StartNode(Protocol):
    """Starts a node, and waits until the cluster has it; of a driver that is connected."""

    def __call__(self, *, cpus: int, gpus: int = 0, accelerator: str = "") -> psutil.Process:
        """The process that all of the node's are below."""


@contextmanager
def pretended_cluster() -> Iterator[tuple[Head, StartNode]]:
    """A head without CPUs, and what starts its nodes."""
    with ExitStack() as stack:
        head = stack.enter_context(clusters.head_alone())

        # One after the other: nodes that start at the same time take each other's ports.
        def start(*, cpus: int, gpus: int = 0, accelerator: str = "") -> psutil.Process:
            labels = [f"--labels=ray.io/accelerator-type={accelerator}"] if accelerator else []
            arguments = [f"--address={head.address}", f"--num-cpus={cpus}", f"--num-gpus={gpus}", *labels]
            before, deadline = len(ray.nodes()), time.monotonic() + _START_TIMEOUT_S
            node = stack.enter_context(clusters._node(*arguments))
            while len(ray.nodes()) == before:
                assert time.monotonic() < deadline, f"the node {arguments} does not come"
                if node.poll() is not None:  # on a busy machine Ray gives up a node that is slow to start
                    node = stack.enter_context(clusters._node(*arguments))
                time.sleep(0.2)
            return psutil.Process(node.pid)

        yield head, start
