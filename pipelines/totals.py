"""What the runs of several shards say of themselves, together."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from pipelines.dataset.beats import Beat
from pipelines.dataset.states import State


@dataclass(frozen=True, slots=True)
class Totals:
    """Sums over runs.

    Attributes:
        clips_per_s: of those at work, as of late.
        left_s: until the last of those at work is done; None where one does not know its rate yet.
        failures: rows by stage and error_type.
        cost: None where a run knows no price, or another currency.
        unpriced: types of GPUs that have no price in one of them, where others have one.
        gpu_time: what the GPU-seconds went into, each 0..1.
    """

    made: int = 0
    failed: int = 0
    to_do: int = 0
    already_there: int = 0
    clips_per_s: float = 0.0
    left_s: float | None = None
    gpus: float = 0.0
    gpu_s: float = 0.0
    cost: float | None = None
    currency: str = "USD"
    unpriced: list[str] = field(default_factory=list)
    gpu_time: dict[str, float] = field(default_factory=dict)
    failures: Counter[tuple[str, str]] = field(default_factory=Counter)

    @classmethod
    def of(cls, states: Sequence[State]) -> "Totals":
        """Of these runs; one that has not told anything yet adds nothing."""
        beats = [state.beat for state in states if state.beat is not None]
        if not beats:
            return cls()
        at_work = [state.beat for state in states if state.beat is not None and state.word == "running"]
        lefts = [None if not beat.rate else (beat.to_do - beat.ended) / beat.rate for beat in at_work]
        gpu_s = sum(beat.gpu_s for beat in beats)
        costs = [beat.cost for beat in beats if beat.cost is not None]
        has_cost = len(costs) == len(beats) and len({beat.currency for beat in beats}) == 1
        return cls(
            made=sum(beat.made for beat in beats),
            failed=sum(beat.failed for beat in beats),
            to_do=sum(beat.to_do for beat in beats),
            already_there=sum(beat.already_there for beat in beats),
            clips_per_s=sum(beat.rate or 0.0 for beat in at_work),
            left_s=max((left for left in lefts if left is not None), default=None) if None not in lefts else None,
            gpus=sum(beat.gpus for beat in at_work),
            gpu_s=gpu_s,
            cost=sum(costs) if has_cost else None,
            currency=beats[0].currency,
            unpriced=sorted({name for beat in beats for name in beat.unpriced}),
            gpu_time=_gpu_time(beats, gpu_s),
            failures=_failures(beats),
        )

    def described(self) -> dict[str, Any]:
        """For programs."""
        kinds = [
            {"stage": stage, "error_type": kind, "count": count} for (stage, kind), count in self.failures.most_common()
        ]
        return asdict(self) | {"failures": kinds}


def _gpu_time(beats: Sequence[Beat], gpu_s: float) -> dict[str, float]:
    into: dict[str, float] = {}
    for beat in beats:
        for name, share in beat.gpu_time.items():
            into[name] = into.get(name, 0.0) + (share * beat.gpu_s / gpu_s if gpu_s else 0.0)
    return into


def _failures(beats: Sequence[Beat]) -> Counter[tuple[str, str]]:
    kinds: Counter[tuple[str, str]] = Counter()
    for beat in beats:
        for kind in beat.failures:
            kinds[kind.stage, kind.error_type] += kind.count
    return kinds
