"""What a run will take: seconds a clip, GPU-hours, money and time, and what that is known from.

    time = start + clips x seconds between two clips

Between two clips of the same settings it takes as long as in this dataset's earlier runs, on other numbers of actors in
proportion, as far as the actors were what these runs waited for. Without such a run it takes the slower stage's seconds
a clip, divided by its actors: then neither the start nor a shortage of anything else is known.
"""

import difflib
import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median_low

from actors.counting import counted
from pipelines.config import Config
from pipelines.config.sections import CostSettings
from pipelines.dataset.speeds import PastRun, Seconds
from pipelines.money import measured
from pipelines.money.bill import S_PER_HOUR, per_1000
from pipelines.money.cost import price_of
from pipelines.placement.nodes import UNKNOWN_TYPE
from pipelines.planning.planner import Plan
from pipelines.pools import Pools, pools_without_cluster

logger = logging.getLogger("stillreel.driver")

# Where clips came at no less than this share of the rate that the actors could give, the actors were the limit.
_ACTORS_WERE_THE_LIMIT = 0.7
_UNKNOWN = "unknown: no clip of these settings yet"


@dataclass(frozen=True, slots=True)
class Estimate:
    """What so many clips will take.

    Attributes:
        seconds: of a clip; None where nothing is known.
        source: what it is known from, as a clause.
        time_s: of the whole run, without what `lacks` names.
        gpus: that the run holds all the while.
        cost: in `currency`; None without a price.
        on: what the time is for, e.g. "16 GPUs".
        note: about prices that are missing.
    """

    clips: int
    source: str
    seconds: Seconds | None = None
    time_s: float | None = None
    lacks: str = ""
    gpus: float = 0.0
    cost: float | None = None
    currency: str = "USD"
    on: str = ""
    note: str = ""

    @property
    def gpu_hours(self) -> float | None:
        """None where nothing is known, or no GPU is held."""
        return None if self.time_s is None or not self.gpus else self.time_s * self.gpus / S_PER_HOUR

    def lines(self) -> dict[str, str]:
        """As lines of a table."""
        if self.seconds is None or self.time_s is None:
            return {"estimate": self.source}
        one = self.seconds
        lines = {
            "estimate": f"{self.source}: {one.generate_s:.2f} s a clip to generate, {one.finish_s:.2f} s to finish",
            "would take": f"{span(self.time_s)} on {self.on}{self.lacks}",
        }
        if self.gpu_hours is not None:
            lines["GPU-hours, estimated"] = f"{self.gpu_hours:,.2f}"
        if self.cost is not None and self.gpus:
            of_1000 = per_1000(self.cost, self.clips) or 0.0
            lines["cost, estimated"] = f"{self.cost:,.2f} {self.currency}, {of_1000:,.2f} per 1,000 clips"
        return lines


def estimated_or_unknown(
    plan: Plan, config: Config, pools: Pools, types: Mapping[str, float], generating_on: Mapping[str, float]
) -> Estimate:
    """As `estimated`, for a run, which no estimate may end: whatever that raises is a line of the log."""
    try:
        return estimated(plan, config, pools, types, generating_on)
    except Exception as error:  # noqa: BLE001 - it reads what earlier runs have left, and nothing depends on it
        logger.warning("what this run takes is not known: the estimate failed (%s)", type(error).__name__)
        note = _missing_price(config.cost, types) if pools.gpus else ""
        return Estimate(plan.to_do - plan.spoilt, "unknown: the estimate failed", note=note)


def estimated(
    plan: Plan,
    config: Config,
    pools: Pools | None = None,
    types: Mapping[str, float] | None = None,
    generating_on: Mapping[str, float] | None = None,
) -> Estimate:
    """Of the clips of a plan.

    Where the cluster is known: its `pools`, how many GPUs of each accelerator type they hold, and those of `generate`.
    """
    clips, history = plan.to_do - plan.spoilt, plan.history
    on = _named(pools, config)
    if pools is None:
        pools = pools_without_cluster(config)
    note = _missing_price(config.cost, types or {}) if pools.gpus else ""
    runs = [run for run in history.runs if types is None or {*run.gpu_types} == {*types}]
    at_work = types if generating_on is None else generating_on
    seconds, source, accelerator = _seconds(config, history.clips, pools, at_work)
    if seconds is None and runs:  # whose rows somebody has taken away
        seconds, source = runs[0].seconds, f"from {counted(sum(run.made for run in runs), 'clip')} of earlier runs"
    if seconds is None:
        return Estimate(clips, _UNKNOWN, note=note)
    start_s, interval_s = _pace(seconds, runs, pools)
    time_s = (start_s or 0.0) + clips * interval_s
    price = price_of(config.cost, types if types is not None else ({accelerator: 1.0} if accelerator else {}))
    cost = None if price is None else time_s * pools.gpus / S_PER_HOUR * price
    lacks = "" if start_s is not None else ", without the start: no run of these settings yet"
    return Estimate(clips, source, seconds, time_s, lacks, pools.gpus, cost, config.cost.currency, on, note)


def _seconds(
    config: Config, clips: Sequence[Seconds], pools: Pools, types: Mapping[str, float] | None
) -> tuple[Seconds | None, str, str | None]:
    """Of a clip; what that is known from; and the accelerator type, where one is."""
    known = [one for one in clips if not types or any(_is(name, one.device) for name in types)]
    if known:
        one = known[0]
        named = [name for name in {**config.cost.gpu_hours, **(types or {})} if _is(name, one.device)]
        return one, f"from {counted(one.clips, 'clip')} of this dataset ({one.device})", named[0] if named else None
    asked = {_reference(config.cost): 1.0} if types is None else types
    if not pools.generate_gpus or not asked or not measured.is_alike(config):
        return None, "", None
    each = {name: measured.seconds_on(name, config) for name in asked}
    if any(one is None for one in each.values()):
        return None, "", None
    share = pools.finish_gpus or 1.0
    found = [(one[0], one[1] / share, asked[name]) for name, one in each.items() if one is not None]
    # On GPUs of several types each makes as many clips as it can: rates are added, not seconds.
    gpus = sum(count for *_, count in found)
    generate_s = gpus / sum(count / seconds for seconds, _, count in found)
    finish_s = sum(seconds * count for _, seconds, count in found) / gpus
    name = ", ".join(asked)
    return Seconds(generate_s, finish_s, 0, name), f"from a measured table: {name}", next(iter(asked))


def _pace(seconds: Seconds, runs: Sequence[PastRun], pools: Pools) -> tuple[float | None, float]:
    """Seconds of a run beside making clips (None: not known), and between two clips."""
    actors = {"generate": pools.generate_actors, "finish": pools.finish_actors}
    could = _bottleneck(seconds, actors)
    if not runs:
        return None, could
    # Not the mean: one run that had to wait for its machines says nothing of the next.
    start_s = median_low([run.elapsed_s - run.making_s for run in runs])
    if same := [run for run in runs if run.actors == actors]:
        return start_s, sum(run.making_s for run in same) / sum(run.made - 1 for run in same)
    longest = max(runs, key=lambda run: run.made)
    could_then = _bottleneck(longest.seconds, longest.actors)
    if could_then >= _ACTORS_WERE_THE_LIMIT * longest.interval_s:
        return start_s, longest.interval_s * _bottleneck(longest.seconds, actors) / could_then
    return start_s, max(longest.interval_s, could)


def _bottleneck(seconds: Seconds, actors: Mapping[str, int]) -> float:
    """Seconds between two clips, at the slower stage."""
    return max(seconds.generate_s / actors.get("generate", 1), seconds.finish_s / actors.get("finish", 1))


def _is(accelerator: str, device: str) -> bool:
    """Whether a device, as PyTorch calls it (NVIDIA H100 80GB HBM3), may be of a type as Ray calls it (H100)."""
    if accelerator == UNKNOWN_TYPE:
        return True
    name = "[- ]".join(map(re.escape, accelerator.split("-")))
    return re.search(rf"(?<![A-Za-z0-9]){name}(?![A-Za-z0-9])", device) is not None


def _reference(cost: CostSettings) -> str:
    """The type to take where no cluster is known: the one that has a price, if it was measured."""
    priced = [name for name in cost.gpu_hours if name in measured.TYPES]
    return priced[0] if len(priced) == 1 else measured.TYPES[0]


def _missing_price(cost: CostSettings, types: Mapping[str, float]) -> str:
    """A sentence where prices by type leave out some of a cluster's GPUs, by oversight or by a slip of the pen."""
    missing = [name for name in types if name not in cost.gpu_hours]
    if not cost.gpu_hours or not missing:
        return ""
    unused = [name for name in cost.gpu_hours if name not in types]
    slips = [f"{near[0]} is meant by {name}" for name in unused if (near := _near(name, missing))]
    if cost.gpu_hour is not None and not slips:
        return ""
    without = f"cost.gpu_hours has no price for {', '.join(missing)}, which this cluster has"
    what = f": {'; '.join(slips)}?" if slips else "; add it there, or set cost.gpu_hour for all others"
    return f"{'no cost is told: ' if cost.gpu_hour is None else ''}{without}{what}"


def _near(name: str, names: Sequence[str]) -> list[str]:
    """The one of the names that is most like it, if one is."""
    lowered = {one.lower(): one for one in names}
    return [lowered[one] for one in difflib.get_close_matches(name.lower(), lowered, 1, 0.75)]


def _named(pools: Pools | None, config: Config) -> str:
    held = pools or pools_without_cluster(config)
    if held.gpus:
        return counted(held.gpus, "GPU")
    return f"{counted(held.generate_actors, 'actor')} to generate and {counted(held.finish_actors, 'actor')} to finish"


def span(seconds: float) -> str:
    """A length of time in its largest sensible unit."""
    for size, unit in ((86_400.0, "days"), (3600.0, "hours"), (60.0, "minutes")):
        if seconds >= 2 * size:
            return f"{seconds / size:,.1f} {unit}"
    return f"{seconds:.0f} s"
