"""What a cluster has: its nodes, as far as placing goes."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from actors import accelerators

# The label that Ray gives a node by itself where it finds a GPU, and the resource that says the same.
TYPE_LABEL = "ray.io/accelerator-type"
_TYPE_RESOURCE = "accelerator_type:"
# The name of GPUs that Ray does not know.
# Of a node's memory Ray takes 30 % for its store; a bit less where something else has used some meanwhile.
_STORE_SHARE = 0.27
UNKNOWN_TYPE = "GPU of an unknown type"


@dataclass(frozen=True, slots=True)
class Node:
    """One node; of a kind are those that are equal.

    Attributes:
        accelerator: type of its GPUs, as Ray calls it; None: not known.
        gpu_bytes: memory of each of its GPUs; None: not known.
        is_labelled: whether Ray can be told to go to, or to keep off, GPUs of its type.
        memory_bytes: of the machine, as Ray found it when the node started; None: not known. It differs from machine to
            machine of a kind.
    """

    cpus: float
    gpus: int = 0
    accelerator: str | None = None
    gpu_bytes: int | None = None
    is_labelled: bool = True
    memory_bytes: int | None = field(default=None, compare=False)

    @property
    def name(self) -> str:
        """Of its kind."""
        if not self.gpus:
            return "no GPU"
        return self.accelerator or UNKNOWN_TYPE


def nodes_of(found: Iterable[Mapping[str, Any]]) -> list[Node]:
    """From what `ray.nodes()` says, those that are alive."""
    return [_node(one["Resources"], one.get("Labels") or {}) for one in found if one["Alive"]]


def _node(resources: Mapping[str, float], labels: Mapping[str, str]) -> Node:
    gpus = int(resources.get("GPU", 0))
    ram = _memory_bytes(resources.get("memory", 0.0), resources.get("object_store_memory", 0.0)) or None
    if not gpus:
        return Node(resources.get("CPU", 0.0), memory_bytes=ram)
    named = [name.removeprefix(_TYPE_RESOURCE) for name in resources if name.startswith(_TYPE_RESOURCE)]
    label = labels.get(TYPE_LABEL)
    # Somebody may have added A100-80G to Ray's own A100.
    accelerator = max(named, key=len, default=label)
    memory = accelerators.memory_bytes(accelerator) if accelerator else None
    cpus, is_labelled = resources.get("CPU", 0.0), label is not None
    return Node(cpus, gpus, label or accelerator, memory, is_labelled=is_labelled, memory_bytes=ram)


def _memory_bytes(memory: float, store: float) -> int:
    """Of a node. Of what Ray counts itself it takes the store off; of what it is told (KubeRay does so) it does not."""
    is_counted = store > _STORE_SHARE * (memory + store)
    return int(memory + store if is_counted else memory)


def gpus_of(nodes: Iterable[Node]) -> dict[str, int]:
    """How many GPUs there are of each type."""
    counts: dict[str, int] = {}
    for node in nodes:
        if node.gpus:
            counts[node.name] = counts.get(node.name, 0) + node.gpus
    return counts


def listed(nodes: Iterable[Node]) -> str:
    """GPUs in words: `8 x H100, 2 x T4`, or `no GPU`."""
    most_first = sorted(gpus_of(nodes).items(), key=lambda one: (-one[1], one[0]))
    return ", ".join(f"{count:,} x {name}" for name, count in most_first) or "no GPU"
