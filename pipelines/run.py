"""One run, from top to bottom: lease -> recover -> plan -> stream -> commit."""

from collections.abc import Mapping
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING

from rich.console import Console

from actors.counting import counted
from actors.errors import RunError
from actors.records import STAGES
from actors.runner.actor import MakeStage
from actors.runner.contract import check_chain
from pipelines.config import Config, to_yaml
from pipelines.config.sections import RunSettings
from pipelines.dataset import card
from pipelines.dataset.commit import Committer
from pipelines.dataset.lease import Lease
from pipelines.dataset.recover import recover
from pipelines.dataset.work import remove_work
from pipelines.driver import scouts
from pipelines.driver.cluster import Cluster, check_machine, connected
from pipelines.driver.growth import Growth
from pipelines.driver.heartbeat import Heartbeat
from pipelines.driver.interruption import Interruption
from pipelines.driver.nodes import NodeWatch
from pipelines.driver.progress import Progress
from pipelines.driver.report import Status, Summary, print_plan
from pipelines.driver.worker_log import WorkerLog
from pipelines.job import Job
from pipelines.money.cost import GpuClock
from pipelines.money.history import settings_of
from pipelines.monitoring.publishing import Metrics
from pipelines.placement.placing import place
from pipelines.placement.showing import print_line
from pipelines.planning.planner import Plan, Retry

if TYPE_CHECKING:
    from pipelines.graph import Graph

StandIns = Mapping[str, MakeStage]


def plan_only(config: Config, retry: Retry | None) -> Plan:
    """What `run` would do, without starting Ray or a model and without writing anything."""
    return Job.of(config).plan(retry, with_work=False)


def run(
    config: Config,
    console: Console,
    retry: Retry | None,
    *,
    break_lease: bool = False,
    stand_ins: StandIns | None = None,
) -> Summary:
    """Make every clip that the dataset lacks, or those that failed before and that `retry` takes.

    `stand_ins` make other stages in the place of those of their names (benchmarks of the pipeline alone).

    Raises:
        StillreelError: something that the run needs cannot be used, or another run is writing.
        KeyboardInterrupt: by a second signal, or before the first clip was begun; what had arrived was committed.
    """
    check_chain(STAGES)
    check_machine(config)
    started = datetime.now(UTC)
    job = Job.to_run(config)
    tell = partial(console.print, markup=False, highlight=False)
    with job.lease(tell, break_lease=break_lease) as lease, Heartbeat(job, started) as heartbeat:
        summary = _planned(job, lease, retry, console)
        if not summary.plan.to_do:
            heartbeat.stop()
            job.forget()  # a schedule would fill the dataset with runs that made nothing
            return summary
        heartbeat.follow(summary)
        try:
            _make(job, lease, summary, console, stand_ins or {})
        except KeyboardInterrupt:  # while Ray starts or ends, or a second one
            summary.status = "interrupted"
            raise
        finally:
            summary.stop_clock(started)
            job.storage.put_bytes(job.folder.summary, summary.to_json().encode())
    return summary


def _planned(job: Job, lease: Lease, retry: Retry | None, console: Console) -> Summary:
    """Take in what an interrupted run has left, and plan; with the work files in the run's folder."""
    if recovered := recover(job.layout, job.storage, lease.check, job.shard):
        console.print(f"Recovered {counted(recovered, 'finished clip')} of an interrupted run", highlight=False)
    job.storage.put_bytes(job.folder.config, to_yaml(job.config).encode())
    plan = job.plan(retry, with_work=True)
    if plan.to_do or recovered:
        job.extend_older(plan, lease)
    print_plan(plan, console)
    status: Status = "broke off" if plan.to_do else "done"
    summary = Summary(job.run_id, job.layout, plan, status, is_retry=retry is not None, recovered=recovered)
    summary.max_failed_share = job.config.run.max_failed_share
    summary.gpus, summary.pace.settings = GpuClock(job.config.cost), settings_of(job.config, job.revisions)
    return summary


def _make(job: Job, lease: Lease, summary: Summary, console: Console, stand_ins: StandIns) -> None:
    """Start Ray, make the clips, and where all rows have ended, remove the work files."""
    card.write(job.layout, job.storage, job.licences(summary.plan))
    with job.log("ray.log") as ray_log, connected(job.config, console, ray_log) as cluster:
        _stream(job, lease, summary, cluster, console, stand_ins)
    if summary.ended == summary.plan.to_do:
        summary.status = "done"
        remove_work(job.folder, summary.plan.work, job.storage)


def _stream(job: Job, lease: Lease, summary: Summary, cluster: Cluster, console: Console, stand_ins: StandIns) -> None:
    """Draw from the stages until all rows have ended, or the run is to stop."""
    # Ray Data takes seconds to import: a run that has nothing to do, and `plan`, go without.
    from pipelines.graph import Graph

    config, plan = job.config, summary.plan
    placement = place(config, cluster.nodes)
    print_line(placement, console)
    pools = placement.pools
    summary.hold(config, placement, console)
    with (
        job.log("warnings.log") as warnings,
        Progress(plan.to_do, console, config.run.log_interval_s) as progress,
        Graph(job, pools, stand_ins) as graph,
        summary.gpus.following(graph.ledger.take_spent),
        Metrics(summary, config, lease, pools, graph.ledger.counts) as metrics,
        WorkerLog(job.run_id, graph.ledger.take_reports, warnings, summary.degradations, console),
        Interruption(graph.ledger, config.run.grace_s, console) as interruption,
        NodeWatch(
            graph.ledger, summary.gpus, lambda: interruption.ask("interrupted"), console, placement.generate.may_take
        ),
        Growth(config, console),
        cluster.watched(lambda: interruption.end_now("broke off")),
        scouts.sent_out(config, pools, interruption),
    ):
        try:
            _draw(graph, interruption, job.committer(plan, lease), summary, progress, metrics, config.run)
        finally:
            if interruption.reason is not None:
                summary.status = interruption.reason


def _draw(
    graph: "Graph",
    interruption: Interruption,
    committer: Committer,
    summary: Summary,
    progress: Progress,
    metrics: Metrics,
    settings: RunSettings,
) -> None:
    """Each row's ending is committed and counted as it comes."""
    work = summary.plan.work
    committer.begin(work)
    try:
        for ending in interruption.drawn(metrics.seen(graph.endings(work))):
            committer.add(ending)
            summary.add(ending)
            progress.advance(summary.made, summary.failed)
            committer.flush_if_older(settings.flush_s)
            if summary.fails_too_often(graph.ledger.num_begun):
                interruption.ask("stopped")
    except KeyboardInterrupt:
        if not interruption.is_over:
            raise
    except RunError:
        # Who ends all processes of a run at once (`systemctl stop`, a container's end) ends Ray with it.
        if interruption.reason != "interrupted":
            raise
    finally:
        committer.flush()
