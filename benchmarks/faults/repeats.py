"""The same clips again, in other company: every way has to give the same bytes."""

import shutil
from dataclasses import dataclass
from pathlib import Path

from actors.storage import Storage
from benchmarks.faults import jobs
from benchmarks.faults.dataset import audit

CLIPS = 6


@dataclass(slots=True)
class RepeatsResult:
    """SHA-256 of each clip's file, by the way that it was made."""

    sha256: dict[str, dict[str, str]]

    @property
    def faults(self) -> int:
        """Ways that did not make all clips, or not the same files as the first way."""
        first, *others = self.sha256.values()
        return int(len(first) != CLIPS) + sum(other != first for other in others)


def trial(folder: Path, models: jobs.Models) -> RepeatsResult:
    """Make the clips in five ways."""
    folder.mkdir()
    images = folder / "images"
    jobs.write_pictures(images, CLIPS)
    ways = {
        "first run": (),
        "another run": (),
        "another batch size": ("workers.generate.batch_size=3",),
        "other workers": ("workers.generate.actors=2", "workers.finish.actors=2"),
    }
    made = {name: _make(folder, name, models, images, arguments) for name, arguments in ways.items()}
    made["after a failure"] = _make_after_failure(folder, models, images)
    return RepeatsResult(made)


def _make(folder: Path, name: str, models: jobs.Models, images: Path, arguments: tuple[str, ...]) -> dict[str, str]:
    output = str(folder / name)
    config = jobs.write_config(folder / "job.yaml", models, str(images), output)
    jobs.finish(config, *arguments, log=folder / "log.txt")
    return {clip: row["sha256"] for clip, row in audit(output, Storage()).clips.items()}


def _make_after_failure(folder: Path, models: jobs.Models, images: Path) -> dict[str, str]:
    """All images are missing at first, and are there when the failures are tried again."""
    names = sorted(images.iterdir())
    (folder / "list.txt").write_text("".join(f"{path}\n" for path in names))
    output = str(folder / "retried")
    config = jobs.write_config(folder / "job.yaml", models, str(folder / "list.txt"), output)
    hidden = images.with_name("hidden")
    images.rename(hidden)
    jobs.finish(config, log=folder / "log.txt")
    shutil.move(hidden, images)
    jobs.finish(config, "--retry-failed", log=folder / "log.txt")
    return {clip: row["sha256"] for clip, row in audit(output, Storage()).clips.items()}
