"""Which frame is made out of which two, and in what order.

A place is a position on a clip's time axis, counted in source frames: whole ones are these frames themselves. A network
that takes any time makes each frame from its two neighbours at once. One that knows the middle alone halves: 1/4 lies
between 0 and 1/2, and what was made on the way serves all the times of its pair.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from fractions import Fraction
from itertools import accumulate, groupby
from math import floor
from typing import NamedTuple

# Of the way between two frames, in which halving reaches: five levels deep. Deeper is no better, because errors add up.
STEPS = 32
_MIDDLE = Fraction(1, 2)


class Call(NamedTuple):
    """One sample of a network call: the frame at `t` (0..1) from `left` to `right`, which lies at `place`."""

    left: Fraction
    right: Fraction
    t: Fraction
    place: Fraction


def is_exact(factor: Fraction) -> bool:
    """Whether halving reaches all the times of a clip that is made faster by `factor`."""
    return STEPS % factor.numerator == 0


def reachable(place: Fraction, *, takes_any_time: bool) -> Fraction:
    """The place itself, or the nearest that halving reaches: at most 1/64 of the way between two frames off."""
    return place if takes_any_time else Fraction(round(place * STEPS), STEPS)


def calls(places: Sequence[Fraction], num_frames: int, *, takes_any_time: bool, together: int) -> list[Call]:
    """What makes the frames at `places` (ascending, none of them whole), in an order in which each has what it needs.

    Beyond the last frame the first comes again. `together`: how many samples a network call takes; so many pairs are
    halved at once that the level with most frames fills one.
    """
    if takes_any_time:
        return [
            Call(Fraction(left := floor(place)), Fraction((left + 1) % num_frames), place - left, place)
            for place in places
        ]
    pairs = [(left, _levels(list(own))) for left, own in groupby(places, floor)]
    widest = max((max(Counter(t.denominator for t in times).values()) for _, times in pairs), default=1)
    at_once = max(1, together // widest)
    made = []
    for start in range(0, len(pairs), at_once):
        group = [(t, left) for left, times in pairs[start : start + at_once] for t in times]
        made += [
            Call(_inside(left, t - half, num_frames), _inside(left, t + half, num_frames), _MIDDLE, left + t)
            for t, left in sorted(group, key=lambda one: (one[0].denominator, one[1], one[0]))
            for half in [Fraction(1, t.denominator)]
        ]
    return made


def batch_from(all_calls: Sequence[Call], start: int, limit: int) -> list[Call]:
    """The next calls that can be one: at most `limit`, and none that needs what another of them makes."""
    batch: list[Call] = []
    made: set[Fraction] = set()
    for call in all_calls[start : start + limit]:
        if call.left in made or call.right in made:
            break
        batch.append(call)
        made.add(call.place)
    return batch


def oldest_needed(all_calls: Sequence[Call]) -> list[int]:
    """For each call the first source frame, or pair, that it or a later one still needs."""
    return list(accumulate((floor(call.left) for call in reversed(all_calls)), min))[::-1]


def _levels(places: Sequence[Fraction]) -> set[Fraction]:
    """The times (0..1) of one pair's places, and those by which they are reached."""
    needed: set[Fraction] = set()
    for place in places:
        needed |= set(_halvings(place - floor(place)))
    return needed


def _halvings(t: Fraction) -> Iterator[Fraction]:
    """`t`, and all the middles that it is made of."""
    if t.denominator > 1:
        yield t
        half = Fraction(1, t.denominator)
        yield from _halvings(t - half)
        yield from _halvings(t + half)


def _inside(left: int, t: Fraction, num_frames: int) -> Fraction:
    return Fraction((left + 1) % num_frames) if t == 1 else left + t
