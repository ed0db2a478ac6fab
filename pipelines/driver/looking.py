"""A thread that looks at something every few seconds while a run goes on."""

import threading
from collections.abc import Callable

# What is looked at may never answer, as a ledger whose node is lost: it is not worth waiting for at the end of a run.
LAST_LOOK_S = 5.0


class Looking:
    """Calls `look` every `interval_s` seconds from `start` to `stop`; what `look` raises ends the thread."""

    def __init__(
        self, name: str, look: Callable[[], None], interval_s: float, *, at_once: bool = False, once_more: bool = True
    ) -> None:
        """`name` of the thread. `at_once`: for the first time when it starts; `once_more`: when it is to stop, too."""
        self._look, self._interval_s, self._at_once, self._once_more = look, interval_s, at_once, once_more
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._keep_looking, name=name, daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> bool:
        """Look no more but for the last time; whether that has come to its end within `LAST_LOOK_S`."""
        self._is_over.set()
        self._thread.join(LAST_LOOK_S)
        return not self._thread.is_alive()

    def _keep_looking(self) -> None:
        if self._at_once and not self._is_over.is_set():
            self._look()
        while not self._is_over.wait(self._interval_s):
            self._look()
        if self._once_more:
            self._look()
