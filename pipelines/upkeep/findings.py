"""What is wrong with a dataset: counted by kind, with examples; for a repair all of it."""

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

from pipelines.upkeep.kinds import KINDS, Kind

# Of each kind.
_EXAMPLES = 5


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong.

    Attributes:
        uri: of the file or folder.
        clip_id: of the clip, where it is about one.
        said: more, for people.
        group: name of the folder in `data/` that it was found in.
    """

    kind: Kind
    uri: str
    clip_id: str = ""
    said: str = ""
    group: str = ""


@dataclass(slots=True)
class Findings:
    """Problems by kind.

    Attributes:
        keeps_all: whether each is kept, or a few examples of each kind.
    """

    keeps_all: bool = False
    counts: Counter[Kind] = field(default_factory=Counter)
    kept: defaultdict[Kind, list[Problem]] = field(default_factory=lambda: defaultdict(list))

    def add(self, problem: Problem) -> None:
        """Count it."""
        self.counts[problem.kind] += 1
        kept = self.kept[problem.kind]
        if self.keeps_all or len(kept) < _EXAMPLES:
            kept.append(problem)

    def add_all(self, problems: Iterable[Problem]) -> None:
        """Count them."""
        for problem in problems:
            self.add(problem)

    def of(self, kind: Kind) -> list[Problem]:
        """Those of a kind that were kept."""
        return self.kept.get(kind, [])

    def examples(self, kind: Kind) -> list[Problem]:
        """The first few."""
        return self.of(kind)[:_EXAMPLES]

    @property
    def kinds(self) -> list[Kind]:
        """Those that are wrong, in their fixed order."""
        return [kind for kind in KINDS if self.counts[kind] and kind.by != "nothing"]

    @property
    def notes(self) -> list[Kind]:
        """Those that are only worth telling."""
        return [kind for kind in KINDS if self.counts[kind] and kind.by == "nothing"]

    @property
    def is_clean(self) -> bool:
        """Whether nothing is wrong."""
        return not self.kinds

    @property
    def mendable(self) -> list[Kind]:
        """Those that a repair mends."""
        return [kind for kind in self.kinds if kind.by == "repair"]
