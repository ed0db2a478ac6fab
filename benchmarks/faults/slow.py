"""`stillreel run` with a generator that takes its time, and no CPU; it says on which nodes of Ray it is at work.

    python -m benchmarks.faults.slow CONFIG MARKS [KEY=VALUE]...

In the folder MARKS lies a file for each node whose worker has a clip, named by the node's id. The file `seconds` there
says how long each clip takes, and may change, for those that are under way, too.
"""

import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

from actors.contracts import Generated, Loaded
from actors.generators.null import NullGenerator
from actors.stages.generate import Generate
from actors.storage import Storage
from pipelines import run as runs
from pipelines.config import load_config
from pipelines.driver.report import print_summary
from pipelines.driver.screen import Screen

PACE = "seconds"


class SlowGenerate(Generate):
    """Each clip takes so many seconds as the file says."""

    def __init__(self, marks: Path, *arguments: Any) -> None:
        import ray

        super().__init__(*arguments)
        self._mark, self._pace = marks / ray.get_runtime_context().get_node_id(), marks / PACE

    def __call__(self, image: Loaded) -> Generated:
        """As in `Generate`."""
        self._mark.touch()
        begun = time.monotonic()
        while time.monotonic() - begun < float(self._pace.read_text()):
            time.sleep(0.05)
        made = super().__call__(image)
        self._mark.unlink(missing_ok=True)
        return made


def main() -> int:
    """Run, and print what a run prints."""
    path, marks, *overrides = sys.argv[1:]
    config, screen = load_config([path], overrides), Screen()
    arguments = (NullGenerator, config.model, config.generation, "", config.image, Storage())
    generate = partial(SlowGenerate, Path(marks), *arguments)
    summary = runs.run(config, screen, None, stand_ins={"generate": generate})
    print_summary(summary, screen)
    return int(summary.status != "done" or summary.failed > 0)


if __name__ == "__main__":
    sys.exit(main())
