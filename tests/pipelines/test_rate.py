"""The rate at which rows end, and what is left: for clips of seconds and of an hour."""

from types import SimpleNamespace
from typing import cast

import pytest

from pipelines.dataset.layout import Layout
from pipelines.driver.rate import Rate
from pipelines.driver.report import Summary
from pipelines.planning.planner import Plan
from tests.clock import Pass

MINUTE = 60.0


@pytest.fixture
def summary() -> Summary:
    return Summary("r-1", Layout("/out"), cast("Plan", SimpleNamespace(to_do=100)))


def made(summary: Summary, clips: int, clip_s: float) -> None:
    summary.made += clips
    summary.stage_s["generate_s"] += clips * clip_s


def looked(rate: Rate, after: Pass, seconds: float) -> tuple[float, int]:
    """After so long, with a look every ten seconds."""
    found = (0.0, 0)
    for _ in range(int(seconds / 10)):
        after(10)
        found = rate.look()
    return found


def test_clips_that_take_longer_than_the_span_have_a_rate(summary: Summary, after: Pass) -> None:
    rate = Rate(summary)
    looked(rate, after, 20 * MINUTE)  # nodes come, models are loaded
    assert rate.left_s() is None
    for _ in range(6):
        looked(rate, after, 40 * MINUTE - 10)
        made(summary, 1, 40 * MINUTE)
        looked(rate, after, 10)
        assert rate.left_s() == pytest.approx((100 - summary.made) * 40 * MINUTE, rel=0.02)
    looked(rate, after, 39 * MINUTE)  # of the next one
    assert rate.left_s() == pytest.approx(94 * 40 * MINUTE, rel=0.5)


def test_eight_that_end_together_are_no_burst(summary: Summary, after: Pass) -> None:
    rate = Rate(summary)
    looked(rate, after, 50 * MINUTE)
    for _ in range(3):
        made(summary, 8, 40 * MINUTE)
        looked(rate, after, 10)
        assert rate.left_s() == pytest.approx((100 - summary.made) * 40 * MINUTE / 8, rel=0.05)
        looked(rate, after, 40 * MINUTE - 10)


def test_a_run_that_hangs_has_no_rate_after_the_span(summary: Summary, after: Pass) -> None:
    rate = Rate(summary)
    for _ in range(20):
        made(summary, 1, 10)
        seconds, ended = looked(rate, after, 10)
    assert ended / seconds == pytest.approx(0.1, rel=0.1)
    assert looked(rate, after, 6 * MINUTE) == (300, 0)
    assert rate.left_s() is None


def test_what_failed_while_models_were_loaded_does_not_count(summary: Summary, after: Pass) -> None:
    rate = Rate(summary)
    looked(rate, after, MINUTE)
    summary.failed = 40
    assert looked(rate, after, 2 * MINUTE)[1] == 40  # nothing better is known
    made(summary, 2, 30)
    assert looked(rate, after, 10) == (30, 2)
    summary.failed += 1
    assert looked(rate, after, 10) == (40, 3)


def test_clips_of_less_than_a_look_are_no_burst(summary: Summary, after: Pass) -> None:
    rate = Rate(summary)
    looked(rate, after, MINUTE)
    made(summary, 50, 0.1)
    assert looked(rate, after, 10) == (10, 50)
