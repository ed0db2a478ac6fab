"""What one node of a cluster gets."""

from dataclasses import dataclass

from pipelines.placement.nodes import Node


@dataclass(frozen=True, slots=True)
class Share:
    """What one node gets.

    Attributes:
        generate, finish: actors.
        loads: tasks at a time.
        idle_gpus: that nobody has a share of.
        way: in which clips are expected to be made on its GPUs; "" where memory does not matter, or none are.
    """

    node: Node
    generate: int
    finish: int
    loads: int
    idle_gpus: int
    way: str = ""
