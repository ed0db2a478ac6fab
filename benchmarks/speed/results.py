"""Rows, written when they are known, and the table at the end."""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

Value = float | str | bool | Sequence[float] | Mapping[str, float | None] | None


@dataclass(frozen=True, slots=True)
class Aim:
    """What a figure should be."""

    text: str
    reached: bool
    of_speed: bool = True  # means something for full-size clips on a GPU alone


def at_most(value: float, limit: float, unit: str = "") -> Aim:
    """An aim from above."""
    return Aim(f"<= {limit:g}{unit}", value <= limit)


def at_least(value: float, limit: float, unit: str = "", *, of_speed: bool = True) -> Aim:
    """An aim from below."""
    return Aim(f">= {limit:g}{unit}", value >= limit, of_speed)


@dataclass(slots=True)
class Results:
    """Rows of the table."""

    console: Console
    out: Path | None = None  # JSON lines are added to it
    judges_speed: bool = True
    rows: list[tuple[str, str, str]] = field(default_factory=list)
    missed: bool = False
    begun: float = field(default_factory=time.perf_counter)

    def add(self, name: str, value: Value, unit: str = "", aim: Aim | None = None, **details: Value) -> None:
        """Keep a row, print it, write it."""
        is_judged = aim is not None and (self.judges_speed or not aim.of_speed)
        reached = aim.reached if aim is not None and is_judged else None
        self.missed |= reached is False
        figure = f"{shown(value)}{unit if unit == 'x' or not unit else f' {unit}'}"
        verdict = {None: "  (not judged)" if aim else "", True: "", False: "  MISSED"}[reached]
        self.rows.append((name, figure, (aim.text if aim else "") + verdict))
        more = ", ".join(f"{key} {shown(detail)}" for key, detail in details.items())
        seconds = time.perf_counter() - self.begun
        self.console.print(f"[{seconds:6.1f}] {name}: {figure}{f'  ({more})' if more else ''}", markup=False)
        if self.out is not None:
            line = {"t": round(seconds, 1), "name": name, "value": value, "unit": unit}
            line |= {"aim": aim.text, "reached": reached} if aim else {}
            with self.out.open("a") as file:
                file.write(json.dumps(line | details) + "\n")

    def fail(self, name: str, why: str) -> None:
        """Keep a row of something that was not measured."""
        self.add(name, why, aim=Aim("to be measured", reached=False, of_speed=False))

    def print(self) -> None:
        """All rows as a table."""
        table = Table("what", "figure", "aim")
        for row in self.rows:
            table.add_row(*map(escape, row))
        self.console.print(table)


def shown(value: Value) -> str:
    """A figure for people: four digits of each number."""
    if value is None:
        return "-"
    if isinstance(value, str | bool):
        return str(value)
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {shown(number)}" for key, number in value.items())
    if isinstance(value, Sequence):
        return ", ".join(map(shown, value))
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.4g}"
