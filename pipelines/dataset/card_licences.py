"""The section of the dataset's card on licences: those of the models and images of all its runs.

A run adds what is new to it, and takes nothing away: clips of earlier runs are still there. It stands between two
marks, so that whatever else somebody has written into the card stays; without the marks, the card is left alone.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from actors.licences.licence import Licence, one_line

# Lines of each list; a manifest may have a licence for each image.
MOST = 20

_BEGIN = "<!-- licences: each run adds to this section what is new; without this line, none does -->"
_END = "<!-- end of licences -->"
_SECTION = re.compile(rf"^{re.escape(_BEGIN)}\n(.*?)^{re.escape(_END)}(?:\n|\Z)", re.DOTALL | re.MULTILINE)
_MODELS = "Of the models (column `model_license`):"
_IMAGES = "Of the images, as the manifests have them (column `image_license`):"
_AND_MORE = "- and others"
_ADVICE = (
    "This is what was found, and where. It is no legal advice, and licences change: read them before you publish the "
    "clips, or train on them. LoRAs and RIFE weights have licences of their own."
)
# What cards of earlier versions end in.
_WITHOUT_SECTION = "The clips inherit the licences of the images and of the checkpoints that made them.\n"


@dataclass(frozen=True, slots=True)
class Licences:
    """Those of one run: of its model, by that model's name (None: it has none), and of its images."""

    model: str = ""
    of_model: Licence | None = None
    of_images: Sequence[str | None] = ()

    @property
    def model_lines(self) -> list[str]:
        """A line of the list of models, if there is one."""
        found = self.of_model
        if found is None:
            return []
        outputs = f"; {found.outputs}" if found.outputs else ""
        place = f"; read it: {_code(found.read_at)}" if found.read_at else ""
        return [f"- {_code(found.name)}, of {_code(self.model)} ({found.known_from}){outputs}{place}"]

    @property
    def image_lines(self) -> list[str]:
        """A line for each licence of the images."""
        return [f"- {_code(name) if name else 'none is given'}" for name in self.of_images]


def section(licences: Licences, before: str = "") -> str:
    """The section, with what it held `before`."""
    lists = {_MODELS: licences.model_lines, _IMAGES: licences.image_lines}
    held = _bullets(before)
    text = [_BEGIN, "## Licences", ""]
    for heading, lines in lists.items():
        if found := _together([*held.get(heading, ()), *lines]):
            text += [heading, "", *found, ""]
    return "\n".join([*text, _ADVICE, _END, ""])


def with_section(card: str, licences: Licences) -> str:
    """The card with what is new in its section; as it is where it has none."""
    if found := _SECTION.search(card):
        return card[: found.start()] + section(licences, found[1]) + card[found.end() :]
    if card.endswith(_WITHOUT_SECTION):
        return card.removesuffix(_WITHOUT_SECTION) + section(licences)
    return card


def _bullets(text: str) -> dict[str, list[str]]:
    """Heading -> the lines of its list."""
    found: dict[str, list[str]] = {}
    heading = ""
    for line in text.split("\n"):
        if line in (_MODELS, _IMAGES):
            heading = line
        elif line.startswith("- "):
            found.setdefault(heading, []).append(line)
    return found


def _together(lines: Iterable[str]) -> list[str]:
    different = list(dict.fromkeys(lines))
    kept = [line for line in different if line != _AND_MORE]
    return [*kept[:MOST], *([_AND_MORE] if len(kept) > MOST or len(kept) < len(different) else [])]


def _code(text: str) -> str:
    """Somebody else's text in Markdown, where it can be no markup."""
    return "`" + one_line(text).replace("`", "'") + "`"
