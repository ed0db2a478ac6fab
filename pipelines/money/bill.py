"""What GPUs came to, in words."""

from collections.abc import Mapping, Sequence

S_PER_HOUR = 3600.0


def bill_lines(
    gpu_s: float,
    cost: float | None,
    currency: str,
    clips: int,
    shares: Mapping[str, float],
    unpriced: Sequence[str] = (),
) -> dict[str, str]:
    """GPU-seconds, what they came to and what they went into, as lines of a table; `unpriced` types spoil the cost."""
    lines = {"GPU-hours": f"{gpu_s / S_PER_HOUR:.2f}"} if gpu_s else {}
    if gpu_s and cost is not None:
        of_1000 = per_1000(cost, clips)
        lines["cost"] = f"{cost:.2f} {currency}" + ("" if of_1000 is None else f", {of_1000:.2f} per 1,000 clips")
    elif gpu_s and unpriced:
        lines["cost"] = f"unknown: cost.gpu_hours has no price for {', '.join(unpriced)}"
    if told := [f"{name} {share:.0%}" for name, share in shares.items()]:
        lines["GPU time went into"] = ", ".join(told)
    return lines


def per_1000(cost: float | None, clips: int) -> float | None:
    """The cost of a thousand clips; None where there is no price, or no clip."""
    return None if cost is None or not clips else cost * 1000 / clips
