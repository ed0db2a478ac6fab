"""A run on machines that come and go, as on spot: one joins late, one goes away with notice, one without."""

import json
import re
from pathlib import Path

import pytest

from actors.storage import Storage
from benchmarks.faults import jobs
from benchmarks.faults.dataset import audit
from benchmarks.faults.nodes import busy_node, running, set_pace, started_cluster, write_config

CLIPS = 40

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def test_machines_come_and_go_and_no_clip_pays_for_it(tmp_path: Path) -> None:
    jobs.write_pictures(tmp_path / "images", CLIPS)
    marks, output, log = tmp_path / "marks", str(tmp_path / "out"), tmp_path / "log.txt"
    set_pace(marks, 3.0)
    with started_cluster() as cluster:
        first = cluster.add()
        config = write_config(tmp_path / "job.yaml", tmp_path / "images", output, cluster.address)
        with running(config, marks, log) as run:
            assert busy_node(run, output, marks, 1, [first])
            second = cluster.add()
            assert busy_node(run, output, marks, 1, [second])
            notice = cluster.give_notice(first, 60.0)  # it returns as soon as nothing is under way
            assert notice.returncode == 0, notice.stderr
            assert f"Node {first[:8]} goes away in 60 s; " in notice.stdout
            assert notice.stdout.endswith("\nNothing is under way there any more\n")
            again = cluster.give_notice(first, 60.0)
            cluster.lose(first)
            assert again.returncode == 1
            assert again.stderr.startswith(f"stillreel: node {first[:8]} goes away already, in ")
            assert busy_node(run, output, marks, 1, [second])
            cluster.lose(second)
            cluster.add()
            set_pace(marks, 0.1)
            assert run.wait(300) == 0, log.read_text()
    said = log.read_text()
    assert re.search(rf"A node has joined: [\d.]+ \({second[:8]}: 2 CPU\)", said)
    assert f"({first[:8]}: 2 CPU) goes away in " in said
    assert f"({second[:8]}: 2 CPU) was lost without notice: what it had is made again elsewhere" in said
    found = audit(output, Storage())
    assert (len(found.clips), found.failures, found.duplicated, found.mismatched) == (CLIPS, {}, 0, 0)
    (summary,) = Path(output).rglob("summary.json")
    degradations = json.loads(summary.read_text())["degradations"]
    assert degradations.keys() == {"node lost"}  # no death, with one allowed
    (warnings,) = Path(output).rglob("warnings.log")
    assert "was lost without notice" in warnings.read_text()
