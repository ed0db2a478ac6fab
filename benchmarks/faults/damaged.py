"""A run over damaged images among good ones."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from actors.storage import Storage
from benchmarks import damaged_images
from benchmarks.faults import jobs
from benchmarks.faults.dataset import Audit, audit


@dataclass(slots=True)
class DamagedResult:
    """What became of the good and of the damaged ones."""

    dataset: Audit
    good: int
    damaged: int
    exit_code: int

    @property
    def reasons(self) -> Counter[str]:
        """Kinds of failures: error types by count."""
        return Counter(row["error_type"] for row in self.dataset.failures.values())

    @property
    def crashes(self) -> int:
        """Failures because a worker died."""
        return self.reasons["WorkerDiedError"]

    @property
    def faults(self) -> int:
        """What has to be none."""
        found = self.dataset
        silent = sum(not row["error"] for row in found.failures.values())
        wrong = abs(len(found.clips) - self.good) + abs(len(found.failures) - self.damaged)
        return wrong + silent + self.crashes + found.duplicated + found.mismatched + self.exit_code


def trial(
    folder: Path, models: jobs.Models | jobs.NoModels, good: int, damaged: int, seed: int, *arguments: str
) -> DamagedResult:
    """Run over `good` whole and `damaged` damaged files, with these `arguments`."""
    folder.mkdir()
    damaged_images.make(folder / "images", good=good, damaged=damaged, seed=seed)
    names = sorted(path.name for path in (folder / "images").iterdir())
    (folder / "list.txt").write_text("".join(f"images/{name}\n" for name in names))
    config = jobs.write_config(folder / "job.yaml", models, str(folder / "list.txt"), str(folder / "out"))
    code = jobs.finish(config, *arguments, log=folder / "log.txt")
    return DamagedResult(audit(str(folder / "out"), Storage()), good, damaged, code)
