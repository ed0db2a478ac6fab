"""This machine as a node of a Ray that a run starts here; without starting one."""

import os

from pipelines.config import Config
from pipelines.driver import ray_private
from pipelines.placement.nodes import Node


def this_machine(config: Config) -> Node:
    """Its CPUs as the configuration gives them to Ray, and its GPUs as PyTorch finds them, where a stage wants one."""
    cpus = float(config.ray.num_cpus or _cores())
    if not config.needs_gpu:
        return Node(cpus)
    import torch  # takes seconds

    if not torch.cuda.is_available():
        return Node(cpus)
    first = torch.cuda.get_device_properties(0)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    name = ray_private.accelerator_type(first.name)
    return Node(cpus, torch.cuda.device_count(), name, first.total_memory, memory_bytes=memory)


def _cores() -> int:
    """That this process may use."""
    return len(os.sched_getaffinity(0))
