"""A run on machines that come and go, as on spot: one joins late, one goes away with notice, one without."""

import json
import re
import time
from pathlib import Path

import pytest

from actors.storage import Storage
from benchmarks.faults import jobs
from benchmarks.faults.dataset import audit
from benchmarks.faults.nodes import busy_node, running, set_pace, started_cluster, write_config

CLIPS = 30
HELD_S, QUICK_S = 10_000.0, 0.1
WAIT_S = 400

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]


def test_machines_come_and_go_and_no_clip_pays_for_it(tmp_path: Path) -> None:
    jobs.write_pictures(tmp_path / "images", CLIPS)
    marks, output, log = tmp_path / "marks", str(tmp_path / "out"), tmp_path / "log.txt"

    def comes(line: str) -> str:
        deadline = time.monotonic() + WAIT_S
        while not (found := re.search(line, log.read_text())):
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)
        return found.group()

    set_pace(marks, HELD_S)
    with started_cluster() as cluster:
        first = cluster.add()
        config = write_config(tmp_path / "job.yaml", tmp_path / "images", output, cluster.address)
        with running(config, marks, log) as run:
            assert busy_node(run, output, marks, 0, [first])
            second = cluster.add()
            comes(rf"A node has joined: [\d.]+ \({second[:8]}: 2 CPU\)")
            assert busy_node(run, output, marks, 0, [second])

            notice = cluster.give_notice(first, WAIT_S)
            comes(rf"Node [\d.]+ \({first[:8]}: 2 CPU\) goes away in \d+ s: clips under way there end before that, or")
            again = cluster.give_notice(first, WAIT_S)
            assert again.stdout is not None
            assert again.stdout.readline() == f"Node {first[:8]} goes away already: somebody has said so before\n"
            set_pace(marks, 1.0)  # what it has under way, and the call that waits behind it, it ends
            idle_since = time.monotonic()
            while time.monotonic() < idle_since + 2:
                if (marks / first).exists():
                    idle_since = time.monotonic()
                time.sleep(0.02)
            set_pace(marks, HELD_S)
            said, said_again = (one.communicate(timeout=WAIT_S)[0] for one in (notice, again))
            assert (notice.returncode, again.returncode) == (0, 0)
            what = rf"Node {first[:8]} goes away in \d+ s; .+ under way there\n.+\n"
            assert re.fullmatch(what, said), said
            assert re.fullmatch(what, said_again), said_again  # of which the first line was read
            cluster.lose(first)

            assert busy_node(run, output, marks, 0, [second])
            cluster.lose(second)
            cluster.add()
            set_pace(marks, QUICK_S)
            assert run.wait(WAIT_S) == 0, log.read_text()
    assert f"({second[:8]}: 2 CPU) was lost without notice: what it had is made again elsewhere" in log.read_text()
    found = audit(output, Storage())
    assert (len(found.clips), found.failures, found.duplicated, found.mismatched) == (CLIPS, {}, 0, 0)
    (summary,) = Path(output).rglob("summary.json")
    assert json.loads(summary.read_text())["degradations"].keys() == {"node lost"}  # no death, where one is allowed
    (warnings,) = Path(output).rglob("warnings.log")
    assert "was lost without notice" in warnings.read_text()
