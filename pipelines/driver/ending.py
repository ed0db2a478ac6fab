"""What must have come to its end before this process leaves a cluster.

Who calls Ray after `ray.shutdown` ends the process at once, with code 1 and without a word (Ray 2.60: `QuickExit` in
`CoreWorkerProcess::GetCoreWorker`). A run that is stopped early on a busy machine has ended so, after it had written
all that it writes, and before it could say how it went.
"""

import threading
import time

from pipelines.driver import ray_private

# Ray Data waits two seconds for its own. Of the others their makers wait for ten seconds and no longer, because a
# ledger that starts again does not answer meanwhile; that of an interruption nobody waits for.
_CALL_RAY = (ray_private.EXECUTION_THREAD, "interruption", "worker-log", "metrics", "gpu-time", "nodes", "growth")
_ENDS_WITHIN_S = 15.0


def wait_for_threads() -> None:
    """Until no thread is left that may call Ray; no longer than a quarter of a minute: one may never come back."""
    ends_at = time.monotonic() + _ENDS_WITHIN_S
    for thread in threading.enumerate():
        if thread.name.startswith(_CALL_RAY) and thread is not threading.current_thread():
            thread.join(max(0.0, ends_at - time.monotonic()))
