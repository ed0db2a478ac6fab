"""Temporary folders and running programs do not outlive their process."""

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

from actors import scratch

# A clip whose ffmpeg hangs, and with it the worker: stopped, it does not see that its input has ended.
_HANGING_WORKER = """
import threading, time
from fractions import Fraction
import numpy as np, psutil
from actors import scratch, video
from actors.contracts import Row
from actors.settings import VideoSettings
from actors.tries.guard import Guard
from actors.tries.ledger import LocalLedger

def frames():
    yield np.zeros((64, 64, 3), np.uint8)
    (ffmpeg,) = psutil.Process().children()
    ffmpeg.suspend()
    print(ffmpeg.pid, flush=True)
    threading.Thread(target=guard._end_process, args=("a", "finish", "it hung"), daemon=True).start()
    time.sleep(600)

def make():
    with scratch.folder() as folder:
        rate = Fraction(7)
        video.encode(frames(), folder / "a.mp4", width=64, height=64, frame_rate=rate, settings=VideoSettings(), tag="")

guard = Guard(LocalLedger(3))
guard.call(Row("a", 0, 0, "", {}), "finish", make)
"""


def test_a_folder_is_there_for_the_block() -> None:
    with scratch.folder() as folder:
        (folder / "a").touch()
    assert not folder.exists()


def test_a_worker_that_ends_itself_leaves_neither_ffmpeg_nor_files(tmp_path: Path) -> None:
    environment = os.environ | {"TMPDIR": str(tmp_path)}
    worker = [sys.executable, "-c", _HANGING_WORKER]
    done = subprocess.run(worker, env=environment, stdout=subprocess.PIPE, timeout=60, check=False)
    assert done.returncode == 1
    deadline = time.monotonic() + 10
    while not _has_ended(int(done.stdout)):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert list(tmp_path.iterdir()) == []


def _has_ended(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE  # whoever inherited it may never ask for its code
    except psutil.NoSuchProcess:
        return True


def test_a_disk_that_hangs_does_not_hold_up_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    hung = threading.Event()
    monkeypatch.setattr("actors.scratch.shutil.rmtree", lambda *_args, **_options: hung.wait(10))
    monkeypatch.setattr("actors.scratch._CLEAR_S", 0.05)
    monkeypatch.setattr("actors.scratch._folders", {"somewhere"})
    started = time.monotonic()
    scratch.clear()
    assert time.monotonic() - started < 5
    hung.set()
