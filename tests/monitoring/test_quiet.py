"""How long no row may end in a run that is well."""

import pytest

from actors.contracts import Failed, Made, Row
from pipelines.monitoring.quiet import Quiet
from tests.clock import Pass

MINUTE = 60.0


def row(**columns: float) -> Row:
    return Row("clip", 0, 0, "a.png", {}, columns)


def a_clip(seconds: float) -> Made:
    return Made(row(load_s=0.5, generate_s=seconds - 1, finish_s=0.5, encode_s=0.25))


def test_it_counts_from_the_last_row_that_ended(after: Pass) -> None:
    quiet = Quiet(3600)
    after(50 * MINUTE)
    assert quiet.seconds == 50 * MINUTE
    quiet.note(Failed(row(), "load", "NotFound", "none"))
    after(MINUTE)
    assert quiet.seconds == MINUTE


@pytest.mark.parametrize(("clip_s", "minutes"), [(10, 30 + 1 / 3), (40 * MINUTE, 110)])
def test_the_limit_goes_by_what_clips_take(clip_s: float, minutes: float) -> None:
    quiet = Quiet(3600)
    quiet.note(a_clip(clip_s))
    assert quiet.limit_s(is_generating=True) == quiet.limit_s(is_generating=False) == minutes * MINUTE


def test_before_the_first_clip_the_limit_is_that_of_a_call() -> None:
    assert Quiet(3600).limit_s(is_generating=True) == 90 * MINUTE
    assert Quiet(None).limit_s(is_generating=True) == 150 * MINUTE
    assert Quiet(3600).limit_s(is_generating=False) == 30 * MINUTE


def test_what_fails_at_once_does_not_make_clips_look_fast() -> None:
    quiet = Quiet(3600)
    quiet.note(a_clip(40 * MINUTE))
    for _ in range(1000):
        quiet.note(Failed(row(load_s=0.01), "load", "NotFound", "none"))
    assert quiet.limit_s(is_generating=True) == 110 * MINUTE


def test_a_slow_clip_of_long_ago_is_forgotten() -> None:
    quiet = Quiet(3600)
    for seconds in (40 * MINUTE, *[15.0] * 100):
        quiet.note(a_clip(seconds))
    assert quiet.limit_s(is_generating=True) == 30 * MINUTE + 30
