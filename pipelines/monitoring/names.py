"""Every metric of a run: its name, its labels, and what it says.

Ray puts `ray_` before each name, and Prometheus's own endings behind it: `rows` is `ray_stillreel_rows_total` there.
Ray adds labels of its own, too: `SessionName` of the cluster, `WorkerId` of the driver, `NodeAddress` of its node.
"""

from dataclasses import dataclass
from typing import Literal

# What Ray writes before a name, and what stands before each of ours.
RAYS_PREFIX = "ray_"
OUR_PREFIX = "stillreel_"

# On every metric, the same for a whole run: its id, as in `_runs/` of the dataset, and what makes its frames.
RUN_LABELS = ("run", "generator")

# Seconds. From loading a small image to a clip of a slow sampler on a small GPU; an SVD-XT clip takes 10 s on an H100.
STAGE_BUCKETS_S = (
    0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 7.5, 10.0, 15.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0,
)  # fmt: skip

_ENDINGS = {"counter": ("_total",), "gauge": ("",), "histogram": ("_bucket", "_count", "_sum")}


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric. Its name says its unit; `labels` are those beside `RUN_LABELS`."""

    kind: Literal["counter", "gauge", "histogram"]
    name: str
    description: str
    labels: tuple[str, ...] = ()

    @property
    def name_in_ray(self) -> str:
        """As Ray is told it."""
        return OUR_PREFIX + self.name

    @property
    def names_in_prometheus(self) -> tuple[str, ...]:
        """As queries name it."""
        return tuple(f"{RAYS_PREFIX}{self.name_in_ray}{ending}" for ending in _ENDINGS[self.kind])


ROWS = Metric(
    "counter",
    "rows",
    "rows that ended: made, or failed at a stage for a reason (error_type)",
    ("ended", "stage", "reason"),
)
ROWS_LEFT = Metric("gauge", "rows_left", "rows of the plan that have not ended yet")
TIME_LEFT = Metric(
    "gauge", "left_seconds", "until all rows have ended, at the rate of late; none before the first clip"
)
BACKLOG = Metric(
    "gauge",
    "backlog_rows",
    "rows that are in a stage (under way), or have come out of the one before it and not begun (waiting)",
    ("stage", "state"),
)
STAGE_SECONDS = Metric(
    "histogram",
    "stage_seconds",
    "seconds of a clip in a stage; interpolate, encode and upload are parts of finish",
    ("stage",),
)
UPLOADED_BYTES = Metric("counter", "uploaded_bytes", "bytes of the videos that were made")
GPUS = Metric("gauge", "gpus", "GPUs that the run holds now")
GPU_SECONDS = Metric(
    "counter",
    "gpu_seconds",
    "GPU-seconds of each stage's actors: held in all; work, with a clip under way, whatever becomes of it",
    ("state", "stage"),
)
GPU_TIME_SHARE = Metric(
    "gauge",
    "gpu_time_share",
    "share of the GPU-seconds held that went into making clips, starting, failing, retrying, idling: 0..1",
    ("into",),
)
COST = Metric("gauge", "cost", "what the GPUs came to so far; 0 where no price is set (cost.gpu_hour)", ("currency",))
DEGRADATIONS = Metric(
    "counter",
    "degradations",
    "what made the run slower or its clips slightly other: store asked again, tighter memory, worker died, ...",
    ("reason",),
)
QUIET = Metric("gauge", "quiet_seconds", "seconds since a row ended last, or since the run began to make clips")
QUIET_LIMIT = Metric(
    "gauge", "quiet_limit_seconds", "how long that may be in a run that is well, by what its clips have taken"
)
LEASE_AGE = Metric("gauge", "lease_age_seconds", "seconds since the lease on the dataset was renewed last")
LEASE_LIMIT = Metric(
    "gauge", "lease_limit_seconds", "age at which another run may take over, and this one writes no more (run.lease_s)"
)
RUNS = Metric(
    "counter",
    "runs",
    "runs that came to an end, by how: done, too many failed, interrupted, stopped, broke off",
    ("ended",),
)

METRICS = (
    ROWS,
    ROWS_LEFT,
    TIME_LEFT,
    BACKLOG,
    STAGE_SECONDS,
    UPLOADED_BYTES,
    GPUS,
    GPU_SECONDS,
    GPU_TIME_SHARE,
    COST,
    DEGRADATIONS,
    QUIET,
    QUIET_LIMIT,
    LEASE_AGE,
    LEASE_LIMIT,
    RUNS,
)


def names_in_prometheus() -> frozenset[str]:
    """All names under which Prometheus knows them."""
    return frozenset(name for metric in METRICS for name in metric.names_in_prometheus)
