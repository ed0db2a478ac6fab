"""What the ledger knows of workers' seconds that no finished clip tells of."""

import time

from actors.contracts import Failed, Row
from actors.errors import ImageError
from actors.tries.guard import Guard
from actors.tries.ledger import LocalLedger
from actors.tries.spent import START_OF, Spent
from tests.clock import Pass

CLIP, OTHER = "ab" * 32, "cd" * 32


def told(spent: Spent) -> Spent:
    """Without what is nothing, and without the ledger's age."""
    return {name: value for name, value in spent.items() if value and name != "age_s"}


def test_first_starts_tell_how_long_they_waited_since_the_ledgers_begin(after: Pass) -> None:
    ledger = LocalLedger(max_deaths=3)
    after(5)
    ledger.begin("worker", START_OF + "generate")
    after(20)
    ledger.begin("worker", START_OF + "generate")  # the first process died at it
    after(35)
    ledger.come_out("worker")
    spent = ledger.take_spent()
    assert spent["age_s"] == 60
    assert told(spent) == {
        "ready": {"generate": 1}, "first_start_s": {"generate": 55}, "first_wait_s": {"generate": 5},
    }  # fmt: skip
    ledger.begin("worker", START_OF + "generate")
    after(7)
    ledger.come_out("worker")
    assert told(ledger.take_spent()) == {"restart_s": {"generate": 7}}
    assert told(ledger.take_spent()) == {}


def test_a_clip_is_under_way_until_it_leaves(after: Pass) -> None:
    ledger = LocalLedger(max_deaths=3)
    ledger.begin(CLIP, "load")  # on no GPU
    after(1)
    ledger.end(CLIP, "load", 1)
    ledger.begin(CLIP, "generate")
    after(9)
    assert told(ledger.take_spent()) == {"under_way_s": {"generate": 9}}
    ledger.end(CLIP, "generate", 8.5)
    ledger.begin(CLIP, "finish")
    after(2)
    assert told(ledger.take_spent()) == {"under_way_s": {"generate": 8.5, "finish": 2}}
    ledger.end(CLIP, "finish", 2)
    ledger.come_out(CLIP)
    assert told(ledger.take_spent()) == {}


def test_the_try_of_a_worker_that_died_is_lost_until_another_one_was_started(after: Pass) -> None:
    ledger = LocalLedger(max_deaths=3)
    ledger.begin("worker", START_OF + "generate")
    ledger.come_out("worker")
    ledger.begin(CLIP, "generate")
    after(4)
    ledger.begin("worker", START_OF + "generate")
    after(60)
    ledger.come_out("worker")
    ledger.take_spent()
    ledger.begin(CLIP, "generate")
    assert told(ledger.take_spent()) == {"lost_s": {"generate": 4}, "under_way_s": {"generate": 0}}
    after(3)
    ledger.explain(CLIP, "generate", "it took longer than run.clip_timeout_s")
    after(60)
    assert told(ledger.take_spent()) == {"lost_s": {"generate": 3}}
    ledger.begin(CLIP, "generate")
    after(2)
    assert ledger.begin(CLIP, "generate").verdict == "give up"  # the third death
    assert told(ledger.take_spent()) == {"lost_s": {"generate": 2}}


def test_frames_that_were_lost_with_their_node_and_a_clip_that_was_made_for_nobody_are_lost(after: Pass) -> None:
    ledger = LocalLedger(max_deaths=3)
    ledger.begin(CLIP, "generate")
    after(9)
    ledger.end(CLIP, "generate", 8.5)
    ledger.begin(CLIP, "generate")
    assert told(ledger.take_spent()) == {"lost_s": {"generate": 8.5}, "under_way_s": {"generate": 0}}
    ledger.come_out(CLIP)
    ledger.begin(CLIP, "finish")
    after(1)
    ledger.end(CLIP, "finish", 1)
    assert told(ledger.take_spent()) == {"lost_s": {"finish": 1}}


def test_a_failure_tells_how_long_its_stage_took() -> None:
    def fail() -> None:
        time.sleep(0.02)
        raise ImageError("zero bytes")

    failed = Guard(LocalLedger(max_deaths=3)).call(Row(CLIP, 0, 0, "a.png", {}), "generate", fail)
    assert isinstance(failed, Failed)
    assert 0.02 <= failed.seconds < 2
