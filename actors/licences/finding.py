"""Where a model's licence is looked for: the settings, the table, the model's card."""

import re
from typing import Literal, NamedTuple

from actors.licences.cards import CARD, CardLicence, folder_card, hub_card, saved_from
from actors.licences.known import known_licence
from actors.licences.licence import UNKNOWN, Licence, one_line
from actors.storage import Storage

_HUB_ID = re.compile(r"\w[\w.-]*/\w[\w.-]*")


class ModelPlace(NamedTuple):
    """Where a model's weights come from.

    Attributes:
        source: an id of the Hugging Face Hub, or path or URI of a folder or of a single file.
        kind: which of these.
        revision: commit, branch or tag of an id.
        cache_dir: the Hub's local cache; None: its own.
    """

    source: str
    kind: Literal["hub", "folder", "file"]
    revision: str | None = None
    cache_dir: str | None = None


def find_licence(place: ModelPlace, storage: Storage) -> Licence:
    """What is known of the licence of a model's weights. Never fails: what cannot be asked is not known."""
    if place.kind == "hub":
        return _on_hub(place)
    if place.kind == "file":  # a README.md beside it may be about anything
        return _unknown("a single file does not tell")
    return _in_folder(place.source, storage)


def as_configured(name: str) -> Licence:
    """What `model.license` says."""
    return Licence(one_line(name), "as model.license says")


def _on_hub(place: ModelPlace) -> Licence:
    if (known := known_licence(place.source)) is not None:
        return known
    page = f"https://huggingface.co/{place.source}"
    card = hub_card(place.source, place.revision, place.cache_dir)
    if card is None:
        return _unknown("neither stillreel's table of models nor a card on the Hugging Face Hub tells")
    return _of_card(card, "its card on the Hugging Face Hub says so", page)


def _in_folder(folder: str, storage: Storage) -> Licence:
    if (card := folder_card(folder, storage)) is not None:
        return _of_card(card, f"the {CARD} in its folder says so", "")
    origin = saved_from(folder, storage) or ""
    if _HUB_ID.fullmatch(origin) and (known := known_licence(origin)) is not None:
        why = f"its model_index.json names {one_line(origin)}, which is in {known.known_from}"
        return Licence(known.name, why, known.outputs, known.read_at)
    return _unknown(f"no {CARD} in its folder tells")


def _of_card(card: CardLicence, known_from: str, page: str) -> Licence:
    name = one_line(card.name)
    return Licence(name, known_from, read_at=one_line(card.link) or page) if name else _unknown("its card is blank")


def _unknown(why: str) -> Licence:
    return Licence(UNKNOWN, why)
