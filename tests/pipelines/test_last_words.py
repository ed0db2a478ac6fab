"""What is said by another process where a run is killed."""

import subprocess
import sys

import pytest

DYING = """
import os, signal
from pipelines.driver.cluster import _last_words

with _last_words() as logs_are_in:
    logs_are_in({folder!r})
    if {is_killed}:
        os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize(
    ("folder", "is_killed", "said"),
    [
        ("", True, "whose logs are in /tmp/ray/session_latest/logs unless configured otherwise); what is finished"),
        ("/scratch/my ray/logs", True, "or Ray ended it, whose logs are in /scratch/my ray/logs); what is finished"),
        ("/scratch/my ray/logs", False, None),
    ],
)
def test_a_run_that_is_killed_is_told_with_the_place_of_its_logs(
    folder: str, is_killed: bool, said: str | None
) -> None:
    command = [sys.executable, "-c", DYING.format(folder=folder, is_killed=is_killed)]
    # Its end of the pipe is held by the process that speaks, too: so all that this says is waited for.
    told = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False).stderr
    assert (said is None and not told) or (said is not None and said in told and len(told.splitlines()) == 1), told
