"""What a folder or a glob holds beside the manifest: counted by reason, and said in notes."""

from collections import Counter
from dataclasses import dataclass, field

from actors.printable import printable
from actors.uris import file_name
from pipelines.manifest.files import PACKED

OTHER_KINDS = "of other kinds"
HIDDEN = "hidden or a writer's own"
BESIDE = "of text or JSON beside others"
OTHER_FORMATS = "of other formats than columns.format"
SHARD_LISTS = "listing what is in the shards beside them"
STATISTICS = "describing what is beside them"
NOT_OF_DATASET = "not named by the saved dataset beside them"

NO_EXTENSION = "no extension"

# Kinds that a note names, and that are counted at all.
_SHOWN_KINDS = 6
_KINDS = 1000
# Of an ending that tells a kind. `photo.2024-11-05 at 10.31` has none.
_ENDING_CHARACTERS = 12


@dataclass(slots=True)
class PassedOver:
    """What was left out of one source of the manifest."""

    counts: dict[str, Counter[str]] = field(default_factory=dict)
    examples: dict[str, str] = field(default_factory=dict)
    datasets: list[str] = field(default_factory=list)

    def add(self, uri: str, reason: str) -> None:
        """Count a file."""
        kinds = self.counts.setdefault(reason, Counter())
        kind = ending_of(uri)
        kinds[kind if kind in kinds or len(kinds) < _KINDS else "others"] += 1
        self.examples.setdefault(reason, uri)

    def add_dataset(self, root: str) -> None:
        """Note that there is a dataset of ours."""
        if root not in self.datasets:
            self.datasets.append(root)

    def notes(self, given: str) -> list[str]:
        """A sentence for each reason."""
        return [f"{given}: {said}" for said in self.reasons()]

    def reasons(self) -> list[str]:
        """The same as clauses."""
        said = [f"the dataset of clips at {printable(root)} was left out" for root in self.datasets]
        for reason, kinds in self.counts.items():
            count = kinds.total()
            shown = [f"{kind} {number:,}" for kind, number in kinds.most_common(_SHOWN_KINDS)]
            more = [f"{len(kinds) - len(shown)} more kinds"] if len(kinds) > len(shown) else []
            files = f"{count:,} file{'s' * (count > 1)} {reason} {'were' if count > 1 else 'was'} left out"
            said.append(f"{files} ({', '.join(shown + more)}), e.g. {printable(self.examples[reason])}")
        return said


def ending_of(uri: str) -> str:
    """What a file's name ends in, as far as it tells a kind: `.dng`, `.tar.gz`, or "no extension"."""
    name = file_name(uri).lower()
    stem, dot, ending = name.rpartition(".")
    if not stem or not dot or len(ending) > _ENDING_CHARACTERS or not ending.isalnum() or ending.isdigit():
        return NO_EXTENSION
    packed = "." + ending in PACKED
    inner = stem.rpartition(".") if packed else ("", "", "")
    return f".{inner[2]}.{ending}" if inner[0] and inner[2].isalnum() else f".{ending}"
