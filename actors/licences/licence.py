"""A licence as it is told: in a column, in the plan, in the dataset's card."""

from dataclasses import dataclass

from actors.printable import printable
from actors.secrets import hidden, public_uri

# What the column says where nobody tells.
UNKNOWN = "unknown"
# Of a name, or of an address. Longer ones are whole texts, which have no place in each row.
MAX_CHARACTERS = 200


@dataclass(frozen=True, slots=True)
class Licence:
    """What is known of a model's licence.

    Attributes:
        name: as the Hugging Face Hub labels it, where it has a label; one line of at most MAX_CHARACTERS.
        known_from: where that is known from, as a clause.
        outputs: what its text says of clips, as a clause; "" where that is not known.
        read_at: where it can be read: an address, or the name of a file; "" where that is not known.
    """

    name: str
    known_from: str
    outputs: str = ""
    read_at: str = ""

    @property
    def note(self) -> str:
        """What the plan says."""
        outputs = f"; {self.outputs}" if self.outputs else ""
        place = f" ({self.read_at})" if self.read_at else ""
        if self.name == UNKNOWN:
            what = "find it, read it before you publish the clips or train on them, and set model.license"
        else:
            what = f"read it{place} before you publish the clips or train on them"
        return f"licence of the model: {self.name} ({self.known_from}){outputs}; {what}"


def one_line(text: str) -> str:
    """A licence's name or address as it may stand in a table: on one line, without secrets, and cut; "" of a blank."""
    # White space comes in runs, and a text of megabytes is not looked through.
    bare = " ".join(text[: 10 * MAX_CHARACTERS].split())
    # Cut before its secrets are masked, it could end in half of one, which nothing tells.
    said = printable(hidden(public_uri(bare)))
    return said if len(said) <= MAX_CHARACTERS else f"{said[: MAX_CHARACTERS - 3]}..."
