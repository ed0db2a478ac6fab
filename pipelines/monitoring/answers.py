"""Which queries a Prometheus answers, as a table."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table
from rich.text import Text

from actors.printable import printable
from pipelines.monitoring.asking import Prometheus, QueryError
from pipelines.monitoring.board import Query


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of one query."""

    query: Query
    is_answered: bool
    said: str


def ask_all(queries: Sequence[Query], prometheus: Prometheus) -> list[Answer]:
    """Ask every query. An alert that is quiet gives nothing: it is answered where all that it asks for is there.

    Raises:
        RunError: as `Prometheus.ask` does.
    """
    there: dict[str, bool] = {}

    def missing(query: Query) -> list[str]:
        for name in query.names - there.keys():
            there[name] = bool(prometheus.ask(f"count({name})"))
        return sorted(name for name in query.names if not there[name])

    return [_asked(query, prometheus, missing) for query in queries]


def _asked(query: Query, prometheus: Prometheus, missing: Callable[[Query], list[str]]) -> Answer:
    try:
        values = prometheus.ask(query.expression)
    except QueryError as error:
        return Answer(query, is_answered=False, said=f"error: {error}")
    if lacking := missing(query):
        return Answer(query, is_answered=False, said=f"no series of {', '.join(lacking)}")
    if query.kind == "alert":
        return Answer(query, is_answered=True, said=_of_alert(query) if values else "quiet")
    if not values:
        return Answer(query, is_answered=False, said="nothing, although its series are there")
    return Answer(query, is_answered=True, said=f"{values[0]:g}" if len(values) == 1 else f"{len(values)} series")


def _of_alert(query: Query) -> str:
    """What is said of one whose condition holds."""
    return f"its condition holds now; it fires after {query.lasts} of that" if query.lasts else "fires"


def print_answers(answers: Sequence[Answer], prometheus: Prometheus, console: Console) -> None:
    """As a table, and what to do where something is not answered."""
    table = Table("", "query", "answer")
    for answer in answers:
        mark = "yes" if answer.is_answered else "NO"
        table.add_row(mark, Text(f"{answer.query.kind}: {printable(answer.query.title)}"), Text(printable(answer.said)))
    console.print(table)
    answered = sum(answer.is_answered for answer in answers)
    line = f"{answered} of {len(answers)} queries are answered by {prometheus.shown}"
    if answered < len(answers):
        line += "; it knows a run from its first minute on, where it scrapes the head of the run's Ray cluster"
    console.print(line, markup=False, highlight=False)
