"""A clock that tests move."""

import time
from collections.abc import Callable

import pytest

Pass = Callable[[float], None]


@pytest.fixture
def after(monkeypatch: pytest.MonkeyPatch) -> Pass:
    """Let so many seconds pass on `time.monotonic`."""
    now = [100.0]

    def advance(seconds: float) -> None:
        now[0] += seconds

    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return advance
