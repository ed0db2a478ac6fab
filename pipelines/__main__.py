"""The command line: `python -m pipelines run|plan|status|verify|compact|board|drain`, installed as `stillreel`."""

import signal
import sys
import traceback
from typing import TYPE_CHECKING, Annotated

import typer

from actors.counting import counted
from actors.errors import BusyError, CheckpointError, ConfigError, ManifestError, StillreelError
from actors.printable import printable
from actors.secrets import hidden
from actors.stages import FAILING_STAGES
from pipelines.exits import exit_with

# Each command imports what it needs: some of it takes seconds, and `status` needs little.
if TYPE_CHECKING:
    from actors.storage import Storage
    from pipelines.dataset.layout import Layout
    from pipelines.planning.planner import Retry

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_BUSY = 75  # EX_TEMPFAIL of sysexits.h: it passes by itself
EXIT_INTERRUPTED = 130
# What the same command will meet again; anything else may pass.
_USAGE = (ConfigError, ManifestError, CheckpointError)

INTERRUPTED = "stillreel: interrupted; what is finished is kept, the same command continues."

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Turn an image dataset into a video dataset. Exit codes: 0 done; 1 more rows failed than "
    "run.max_failed_share, or the run broke off; 2 usage, configuration or manifest; 75 another run is writing to the "
    "output, so nothing was begun; 130 interrupted (the same command continues).",
)


def _known_stage(name: str | None) -> str | None:
    if name is not None and name not in FAILING_STAGES:
        raise typer.BadParameter(f"{name!r} is not one of {', '.join(FAILING_STAGES)}")
    return name


def _a_number(value: float) -> float:
    if value != value:  # noqa: PLR0124 - nan, which lies in every range
        raise typer.BadParameter("nan is no number of seconds")
    return value


ConfigFiles = Annotated[
    list[str], typer.Option("--config", "-c", metavar="FILE", help="YAML file; several are merged in order.")
]
Overrides = Annotated[
    list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Settings, e.g. output=DIR generation.seed=7")
]
RetryFailed = Annotated[bool, typer.Option("--retry-failed", help="Only the clips that failed before.")]
FailedStage = Annotated[
    str | None,
    typer.Option(
        "--stage",
        metavar=f"[{'|'.join(FAILING_STAGES)}]",
        callback=_known_stage,
        help="With --retry-failed: only those that failed at this stage.",
    ),
]
FailedType = Annotated[
    str | None, typer.Option("--error-type", help="With --retry-failed: only those with this error_type.")
]
BreakLease = Annotated[
    bool, typer.Option("--break-lease", help="Write although another run holds the output; only if that one is dead.")
]
Output = Annotated[str, typer.Argument(metavar="OUTPUT", help="The dataset: a folder or URI.")]
StoreConfig = Annotated[
    list[str] | None, typer.Option("--config", "-c", metavar="FILE", help="For storage.options of the store.")
]
AsJson = Annotated[bool, typer.Option("--json", help="As JSON, for programs.")]


@app.command()
def run(
    config: ConfigFiles,
    overrides: Overrides = None,
    retry_failed: RetryFailed = False,
    stage: FailedStage = None,
    error_type: FailedType = None,
    break_lease: BreakLease = False,
) -> None:
    """Make every clip that the dataset does not hold yet."""
    from pipelines import run as runs
    from pipelines.config import load_config
    from pipelines.driver.report import print_summary, stopped_early
    from pipelines.driver.screen import Screen

    settings = load_config(config, overrides or [])
    console = Screen()
    # `ray job stop` and Kubernetes send SIGTERM; it has to release the lease, as Ctrl-C does.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        summary = runs.run(settings, console, _retry(retry_failed, stage, error_type), break_lease=break_lease)
    except KeyboardInterrupt:
        print(INTERRUPTED, file=sys.stderr)
        raise typer.Exit(EXIT_INTERRUPTED) from None
    print_summary(summary, console)
    if summary.status == "interrupted":
        print(INTERRUPTED, file=sys.stderr)
        raise typer.Exit(EXIT_INTERRUPTED)
    if summary.status == "stopped":
        print(f"stillreel: {stopped_early(summary)}", file=sys.stderr)
        raise typer.Exit(EXIT_FAILED)
    if summary.status == "broke off":
        left = summary.plan.to_do - summary.ended
        print(
            f"stillreel: {counted(left, 'row')} came to no end; the same command continues with them", file=sys.stderr
        )
        raise typer.Exit(EXIT_FAILED)
    if summary.is_failed:
        is_manifests = {stage for stage, _ in summary.failures} == {"manifest"}
        print(
            f"stillreel: {summary.failed_share:.0%} of the rows failed, more than run.max_failed_share="
            f"{summary.max_failed_share:g}; see {summary.layout.failures}, then "
            + ("correct the manifest and run the same command" if is_manifests else "run --retry-failed"),
            file=sys.stderr,
        )
        raise typer.Exit(EXIT_FAILED)


@app.command()
def plan(
    config: ConfigFiles,
    overrides: Overrides = None,
    retry_failed: RetryFailed = False,
    stage: FailedStage = None,
    error_type: FailedType = None,
    cluster: Annotated[
        bool,
        typer.Option("--cluster", help="Also which nodes of the cluster get which actors, and how long it takes."),
    ] = False,
) -> None:
    """Say what a run would do, without starting a model."""
    from pipelines import run as runs
    from pipelines.config import load_config
    from pipelines.driver.cluster import check_machine
    from pipelines.driver.cluster_plan import show_cluster
    from pipelines.driver.report import print_estimate, print_plan
    from pipelines.driver.screen import Screen
    from pipelines.money.estimate import estimated

    settings, console = load_config(config, overrides or []), Screen()
    planned = runs.plan_only(settings, _retry(retry_failed, stage, error_type))
    print_plan(planned, console)
    if cluster:
        show_cluster(settings, planned, console)
        return
    print_estimate(estimated(planned, settings), console)
    try:
        check_machine(settings)
    except ConfigError as error:
        console.print(f"note: here, `run` would say: {error}", markup=False, highlight=False)


@app.command()
def status(
    output: Output,
    config: StoreConfig = None,
    watch: Annotated[
        bool, typer.Option("--watch", help="Ask again every ten seconds until the run has ended.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Say how the last run of a dataset is, from any machine. Exit codes: 0 done, 1 failed, 3 running, 4 stale.

    1 is also a run of whose rows more failed than run.max_failed_share. A run that found nothing to do is told beside
    the last one that had something.

    Of a dataset that shards make, all of its shards: 1 where one failed, else 4 where one is stale, else 3 where one
    runs, else 4 where some were never begun.
    """
    from pipelines.dataset.states import read_states
    from pipelines.driver.screen import Screen
    from pipelines.status import EXIT_CODES, next_states, print_status, to_json

    (layout, storage), console = _dataset(output, config), Screen()
    states = read_states(layout, storage)
    while True:
        if as_json:
            print(to_json(states, layout))
        else:
            print_status(states, layout, console)
        if not watch or not states.is_running:
            raise typer.Exit(EXIT_CODES[states.word])
        states = next_states(layout, storage)


@app.command()
def verify(
    output: Output,
    config: StoreConfig = None,
    deep: Annotated[bool, typer.Option("--deep", help="Also read each video and compare its sha256.")] = False,
    repair: Annotated[
        bool, typer.Option("--repair", help="Mend what can be mended; what belongs to nobody moves into _orphans/.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Say whether a dataset is whole: what it lists, what it holds, its columns.

    Exit codes: 0 clean, or mended; 1 findings, or the store failed; 2 no dataset; 75 a run writes what it is to repair.
    """
    from pipelines.driver.screen import Screen
    from pipelines.upkeep import repairing, showing
    from pipelines.upkeep.whole import look_at

    layout, storage = _dataset(output, config)
    whole, done = (
        repairing.repair(layout, storage, deep=deep) if repair else (look_at(layout, storage, deep=deep), None)
    )
    if as_json:
        print(showing.as_json(whole, layout, done, deep=deep))
    else:
        showing.print_whole(whole, layout, done, Screen(), deep=deep)
    raise typer.Exit(showing.EXIT_CLEAN if whole.findings.is_clean else showing.EXIT_FOUND)


@app.command()
def compact(
    output: Output,
    config: StoreConfig = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")] = False,
) -> None:
    """Merge small parts, which many small runs have left, into parts of up to 512 clips; no video changes.

    Exit codes: 0 done, or nothing to do; 1 it is not whole, or the store failed; 2 no dataset; 75 a run writes there.
    """
    from pipelines.driver.screen import Screen
    from pipelines.upkeep import compacting, showing

    layout, storage = _dataset(output, config)
    merges = compacting.compact(layout, storage, dry_run=dry_run)
    showing.print_merges(merges, layout, Screen(), dry_run=dry_run)


@app.command()
def board(
    prometheus: Annotated[
        str, typer.Option("--prometheus", metavar="URL", help="Its address; a token: PROMETHEUS_TOKEN.")
    ] = "http://localhost:9090",
    files: Annotated[
        str, typer.Option("--files", metavar="DIR", help="The folder with grafana.json and alerts.yaml.")
    ] = "conf/monitoring",
) -> None:
    """Ask a Prometheus every query of the board and of the alerts. Exit codes: 0 all are answered, 1 some are not."""
    from pipelines.driver.screen import Screen
    from pipelines.monitoring.answers import ask_all, print_answers
    from pipelines.monitoring.asking import Prometheus
    from pipelines.monitoring.board import read_queries

    queries, asked = read_queries(files), Prometheus(prometheus)
    answers = ask_all(queries, asked)
    print_answers(answers, asked, Screen())
    if not all(answer.is_answered for answer in answers):
        raise typer.Exit(EXIT_FAILED)


@app.command()
def drain(
    deadline_s: Annotated[
        float,
        typer.Option(
            "--deadline-s", min=1, max=86_400, callback=_a_number, help="Seconds until the machine goes away."
        ),
    ] = 120.0,
    node: Annotated[
        str | None, typer.Option("--node", metavar="ID", help="Another node than this machine's, by Ray's id of it.")
    ] = None,
    address: Annotated[
        str | None,
        typer.Option("--address", metavar="HOST:PORT", help="The cluster; else RAY_ADDRESS, or this machine's."),
    ] = None,
) -> None:
    """Before a machine is taken away: begin nothing there, and wait until no clip is under way, or the time is up."""
    from pipelines.driver.drain import drain as drain_node
    from pipelines.driver.screen import Screen

    drain_node(address, node, deadline_s, Screen())


def _dataset(output: str, config: list[str] | None) -> "tuple[Layout, Storage]":
    """The dataset at a place, and what reaches it."""
    from actors.settings import StorageSettings
    from actors.storage import Storage
    from pipelines.dataset.layout import Layout

    settings = StorageSettings()
    if config:
        from pipelines.config import load_storage

        settings = load_storage(config)
    return Layout(Storage.absolute(output).rstrip("/") or "/"), Storage(settings.options, tries=settings.tries)


def _retry(retry_failed: bool, stage: str | None, error_type: str | None) -> "Retry | None":
    from pipelines.planning.planner import Retry

    if retry_failed:
        return Retry(stage, error_type)
    if stage or error_type:
        raise ConfigError("--stage and --error-type choose among the clips that failed: add --retry-failed")
    return None


def _exit_code(error: StillreelError) -> int:
    if isinstance(error, _USAGE):
        return EXIT_USAGE
    return EXIT_BUSY if isinstance(error, BusyError) else EXIT_FAILED


def main() -> None:
    """Run the command line; what went wrong is one message on standard error."""
    try:
        app()
    except StillreelError as error:
        print(f"stillreel: {error}", file=sys.stderr)
        sys.exit(_exit_code(error))
    except Exception:  # noqa: BLE001 - a bug of ours, whose traceback may repeat what libraries say
        print(printable(hidden(traceback.format_exc()), keep="\n"), end="", file=sys.stderr)
        sys.exit(EXIT_FAILED)


def entry() -> None:
    """The same as a process of its own, which ends by it: what is installed as `stillreel`."""
    exit_with(main)


if __name__ == "__main__":
    entry()
