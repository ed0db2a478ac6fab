"""A placement for people: a table of the kinds of nodes for `plan --cluster`, and a line for `run`."""

from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from actors.counting import counted
from actors.printable import printable
from pipelines.placement.nodes import Node
from pipelines.placement.placing import Placement
from pipelines.placement.shares import Share

_GB = 10**9


def print_placement(placement: Placement, console: Console) -> None:
    """One row for each kind of node that could get something, and the notes."""
    columns = ["nodes", "each with", "generate", "finish", "loading tasks", "memory_mode"]
    table = Table(*columns, title="who goes where", title_justify="left", box=None)
    for node, shares in _kinds(placement.shares).items():
        cells = [
            f"{len(shares):,}",
            _described(node),
            _count(share.generate for share in shares),
            _count(share.finish for share in shares),
            _count(share.loads for share in shares),
            ", ".join(dict.fromkeys(share.way for share in shares if share.way)) or "-",
        ]
        table.add_row(*(Text(printable(cell)) for cell in cells))
    console.print(table)
    print_notes(placement, console)


def print_line(placement: Placement, console: Console) -> None:
    """The numbers alone, and the notes."""
    pools = placement.pools
    parts = [f"{pools.generate_actors:,} generate{_on(placement.shares, 'generate')}"]
    parts.append(f"{pools.finish_actors:,} finish{_on(placement.shares, 'finish')}")
    if pools.load_tasks is not None:
        parts.append(f"{pools.load_tasks:,} loading tasks{_on(placement.shares, 'loads')}")
    console.print(f"Who goes where: {'; '.join(parts)}", markup=False, highlight=False)
    print_notes(placement, console)


def print_notes(placement: Placement, console: Console) -> None:
    """What is to be said of it."""
    for note in placement.notes:
        console.print(f"note: {note}", markup=False, highlight=False)


def _described(node: Node) -> str:
    """`8 x H100 of 80 GB, 96 CPUs`."""
    memory = f" of {node.gpu_bytes / _GB:.0f} GB" if node.gpu_bytes else ""
    cpus = counted(node.cpus, "CPU")
    return f"{node.gpus} x {node.name}{memory}, {cpus}" if node.gpus else cpus


def _kinds(shares: Sequence[Share]) -> dict[Node, list[Share]]:
    kinds: dict[Node, list[Share]] = {}
    useful = [share for share in shares if share.node.cpus or share.node.gpus]
    for share in sorted(useful, key=lambda share: (-share.node.gpus, share.node.name, -share.node.cpus)):
        kinds.setdefault(share.node, []).append(share)
    return kinds


def _count(numbers: Iterable[int]) -> str:
    total = sum(numbers)
    return f"{total:,}" if total else "-"


def _on(shares: Sequence[Share], what: str) -> str:
    """On which kinds of nodes, where there are several."""
    if len({share.node.name for share in shares if share.node.cpus or share.node.gpus}) == 1:
        return ""
    names = sorted({share.node.name for share in shares if getattr(share, what)})
    named = " and ".join("nodes without a GPU" if name == "no GPU" else name for name in names)
    return f" (on {named})" if named else ""
