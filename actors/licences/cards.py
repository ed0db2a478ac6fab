"""Model cards: the README.md beside the weights, which begins with a few lines of YAML about them."""

import json
import re
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from actors.errors import StillreelError
from actors.retries import retried
from actors.storage import Storage

CARD = "README.md"
_INDEX = "model_index.json"
# Cards are some kilobytes; those with results of a hundred benchmarks have a few hundred.
_MAX_BYTES = 2**20
# The Hub has just answered, or its cache has: what fails now is not waited for as long as for the weights.
_TRIES = 2


class CardLicence(NamedTuple):
    """What a card says: the licence's label or name, and an address or file of its text, "" where there is none."""

    name: str
    link: str = ""


def licence_in(card: str) -> CardLicence | None:
    """The licence that a card names; None where it names none.

    `license: other` goes with `license_name`, and `license_link` with both. Only these lines are read, so that whatever
    else is wrong with a card does no harm.
    """
    lines = re.split(r"\r?\n", card.removeprefix("\ufeff"))
    if lines[0].rstrip() != "---":
        return None
    with suppress(ValueError):  # without an end it is no YAML at the beginning, but a line
        found = _parsed(lines[1 : [line.rstrip() for line in lines].index("---", 1)])
        own, name, link = (found.get(key, "") for key in ("license", "license_name", "license_link"))
        if said := name if own.casefold() in ("", "other") and name else own:
            return CardLicence(said, link)
    return None


def _parsed(lines: list[str]) -> dict[str, str]:
    """The entries about the licence that are text, or a list of texts."""
    import yaml  # not for workers, which import this

    kept, is_ours = [], False
    for line in lines:
        if line[:1].strip() and not line.startswith(("-", "#")):  # else it belongs to the entry above
            is_ours = re.match(r"license(_name|_link)?\s*:", line) is not None
        if is_ours:
            kept.append(line)
    try:
        tree = yaml.load("\n".join(kept), Loader=yaml.BaseLoader)  # noqa: S506 - it makes texts alone
    except (yaml.YAMLError, RecursionError) as error:
        raise ValueError(str(error)) from error
    entries = tree if isinstance(tree, dict) else {}
    return {str(name): _text(value) for name, value in entries.items()}


def _text(value: object) -> str:
    several = value if isinstance(value, list) else [value]
    return ", ".join(one.strip() for one in several[:5] if isinstance(one, str))


def folder_card(folder: str, storage: Storage) -> CardLicence | None:
    """What the card in a folder, or at a URI, says."""
    text = _read(Storage.join(folder, CARD), storage)
    return None if text is None else licence_in(text)


def saved_from(folder: str, storage: Storage) -> str | None:
    """The id of the model that a pipeline was loaded from before it was saved into this folder, if it says so."""
    with suppress(ValueError, RecursionError):
        index = json.loads(_read(Storage.join(folder, _INDEX), storage) or "")
        name = index.get("_name_or_path") if isinstance(index, dict) else None
        return name if isinstance(name, str) else None
    return None


def hub_card(model: str, revision: str | None, cache_dir: str | None) -> CardLicence | None:
    """What the card of a model on the Hugging Face Hub says: asked for once, then taken from the local cache."""
    import huggingface_hub  # a fifth of a second
    from huggingface_hub.errors import HTTPError

    def fetch() -> str:
        return str(huggingface_hub.hf_hub_download(model, CARD, revision=revision, cache_dir=cache_dir))

    with suppress(OSError, HTTPError, ValueError):
        return licence_in(_decoded(Path(_retried(fetch)).read_bytes()[:_MAX_BYTES]))
    return None


def _retried(fetch: Callable[[], str]) -> str:
    return retried(fetch, _TRIES)


def _read(uri: str, storage: Storage) -> str | None:
    with suppress(StillreelError, OSError):
        return _decoded(storage.read_bytes(uri, max_bytes=_MAX_BYTES))
    return None


def _decoded(data: bytes) -> str:
    return data.decode("utf-8", "replace")
