"""Time and memory of the demo job, first and second run: `python -m benchmarks.demo`; ends non-zero over a limit.

Memory is the sum over all processes of the job, Ray's included, of what each holds for itself plus its share of what it
holds with others (PSS), sampled twice a second.
"""

import subprocess
import sys
import tempfile
import time
from contextlib import suppress

import psutil
from rich.console import Console
from rich.table import Table

_LIMITS_S = (180, 15)
_LIMIT_GB = 6.0


def main() -> int:
    """Run the demo twice into the same folder and print the table."""
    table = Table("run", "seconds", "limit", "peak GB", "limit")
    missed = False
    with tempfile.TemporaryDirectory() as folder:
        for name, limit_s in zip(("first", "second: nothing to do"), _LIMITS_S, strict=True):
            seconds, peak_gb = _measure(
                [sys.executable, "-m", "pipelines", "run", "-c", "conf/demo.yaml", f"output={folder}"]
            )
            table.add_row(name, f"{seconds:.0f}", f"{limit_s}", f"{peak_gb:.1f}", f"{_LIMIT_GB:g}")
            missed |= seconds > limit_s or peak_gb > _LIMIT_GB
    Console().print(table)
    return int(missed)


def _measure(command: list[str]) -> tuple[float, float]:
    started = time.monotonic()
    job = psutil.Popen(command, stdout=subprocess.DEVNULL)
    peak = 0
    while job.poll() is None:
        peak = max(peak, sum(_pss(process) for process in [job, *job.children(recursive=True)]))
        time.sleep(0.5)
    assert job.returncode == 0, job.returncode
    return time.monotonic() - started, peak / 1e9


def _pss(process: psutil.Process) -> int:
    with suppress(psutil.Error):
        return int(process.memory_full_info().pss)
    return 0


if __name__ == "__main__":
    sys.exit(main())
