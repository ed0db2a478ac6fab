"""What `verify` and `compact` print."""

import json
from collections import Counter
from typing import Any

from rich.console import Console

from actors.counting import counted, file_size
from actors.printable import printable
from pipelines.dataset.layout import Layout
from pipelines.upkeep.compacting import Merges
from pipelines.upkeep.findings import Problem
from pipelines.upkeep.kinds import Kind
from pipelines.upkeep.whole import Whole

EXIT_CLEAN, EXIT_FOUND = 0, 1


def print_whole(whole: Whole, layout: Layout, done: Counter[str] | None, console: Console, *, deep: bool) -> None:
    """What is in a dataset, what was mended, and what is wrong; `deep`: whether the videos were read."""
    for key, value in _facts(whole, layout).items():
        console.print(f"{key:<22}{value}", highlight=False, markup=False)
    for what, count in sorted((done or Counter()).items()):
        if count:
            console.print(f"mended ({count:,}): {what}", highlight=False, markup=False)
    for kind in whole.findings.kinds:
        _print_kind(kind, whole, console)
    for kind in whole.findings.notes:
        said = f"note: {kind.said} ({whole.findings.counts[kind]:,})" + (f": {kind.how}" if kind.how else "")
        console.print(said, highlight=False, markup=False)
    for line in _about_runs(whole):
        console.print(f"note: {line}", highlight=False, markup=False)
    console.print(verdict(whole, is_repaired=done is not None, deep=deep), highlight=False, markup=False)


def verdict(whole: Whole, *, is_repaired: bool, deep: bool) -> str:
    """The last line."""
    return _found(whole, is_repaired=is_repaired) + ("" if deep else "; what is in the videos was not read (--deep)")


def _found(whole: Whole, *, is_repaired: bool) -> str:
    found = whole.findings
    if found.is_clean:
        return "clean"
    findings = counted(sum(found.counts[kind] for kind in found.kinds), "finding")
    if not found.mendable:
        return f"{findings}, for you to see to"
    if is_repaired:
        return f"left: {findings}"
    mended = sum(found.counts[kind] for kind in found.mendable)
    options = max((kind.options for kind in found.mendable), key=len)
    return f"{findings}, of which {options} mends {mended:,}"


def as_json(whole: Whole, layout: Layout, done: Counter[str] | None, *, deep: bool) -> str:
    """All counts and examples, for programs."""
    found = whole.findings
    tree: dict[str, Any] = {
        "dataset": layout.root,
        "clean": found.is_clean,
        "deep": deep,
        "parts": len(whole.sizes),
        "clips": whole.num_rows,
        "failed": whole.failed.total(),
        "bytes": whole.num_bytes,
        "findings": {kind.name: _tree(kind, whole) for kind in found.kinds},
        "notes": {kind.name: _tree(kind, whole) for kind in found.notes},
        "writing": whole.writers.runs,
        "of_runs": whole.of_runs,
    }
    if done is not None:
        tree["mended"] = {what: count for what, count in sorted(done.items()) if count}
    return json.dumps(tree, indent=2)


def print_merges(merges: Merges, layout: Layout, console: Console, *, dry_run: bool) -> None:
    """What `compact` did, or would do."""
    verb = "would become" if dry_run else "became"
    moved = "would move" if dry_run else "moved"
    parts, rows = counted(merges.parts, "part"), counted(merges.rows, "row")
    lines = [f"{layout.root}: {parts} {verb} {merges.parts_after:,}; {rows} {moved}"]
    if merges.parts == merges.parts_after:
        lines = [f"{layout.root}: {parts}, of which none can become one with another"]
    if merges.empty:
        lines.append(f"parts without rows {'would go' if dry_run else 'went'}: {len(merges.empty):,}")
    if merges.links:
        lines.append(f"parts that are links stay as they are: {merges.links:,}")
    for line in lines:
        console.print(line, highlight=False, markup=False)


def _facts(whole: Whole, layout: Layout) -> dict[str, str]:
    clips = f"{whole.num_rows:,} in {counted(len(whole.sizes), 'part')}, {file_size(whole.num_bytes)} of videos"
    return {"dataset": printable(layout.root), "clips": clips, "failed": f"{whole.failed.total():,}"}


def _print_kind(kind: Kind, whole: Whole, console: Console) -> None:
    count = whole.findings.counts[kind]
    mends = f"{kind.options} {kind.how}".lstrip()
    console.print(f"{kind.said} ({count:,}): {mends}", highlight=False, markup=False)
    for problem in (examples := whole.findings.examples(kind)):
        console.print(f"    {_example(problem)}", highlight=False, markup=False)
    if count > len(examples):
        console.print(f"    and {count - len(examples):,} more", highlight=False, markup=False)


def _example(problem: Problem) -> str:
    more = [part for part in (problem.clip_id if problem.clip_id not in problem.uri else "", problem.said) if part]
    return problem.uri + (f" ({'; '.join(more)})" if more else "")


def _tree(kind: Kind, whole: Whole) -> dict[str, Any]:
    examples = [
        {"uri": one.uri, "clip_id": one.clip_id or None, "said": one.said or None}
        for one in whole.findings.examples(kind)
    ]
    return {
        "count": whole.findings.counts[kind],
        "said": kind.said,
        "mended_by": kind.by,
        "options": kind.options or None,
        "how": kind.how,
        "examples": examples,
    }


def _about_runs(whole: Whole) -> list[str]:
    lines = [f"{holder.run_id} of {holder.name} is writing" for holder in whole.writers.alive]
    if lines and whole.of_runs:
        lines[-1] += f": files and rows that it is about to list are its own ({whole.of_runs:,})"
    return lines
