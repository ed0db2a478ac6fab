"""Where LoRAs are, what identifies them, and their copies on a node. Needs no torch: the driver looks, too."""

import json
import re
import shutil
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

from actors.checkpoints.sources import for_models
from actors.checkpoints.tensor_file import open_header
from actors.errors import CheckpointError
from actors.fingerprint import fingerprint_files
from actors.node_cache import CACHE_NAME_DIGITS, made_once
from actors.storage import Storage
from actors.uris import WEB, without_query

CONFIG = "adapter_config.json"
_WEIGHTS = ".safetensors"
_PLUS = "+"  # before each LoRA, in the revision of a model
# How PEFT and diffusers call the file in a folder of theirs.
_USUAL = ("adapter_model.safetensors", "pytorch_lora_weights.safetensors")
_LORA = re.compile(r"\.lora[._](A|B|up|down)\b|\.lora_(linear_layer|A|B)|_lora\.(up|down)\.|\.(hada|lokr)_w|\.lora_")


class Wanted(Protocol):
    """What the configuration says of one."""

    @property
    def source(self) -> str:
        """Path or URI."""

    @property
    def scale(self) -> float:
        """How strong it is."""


class Place(NamedTuple):
    """The files of a LoRA, as URIs."""

    weights: str
    config: str | None


@dataclass(frozen=True, slots=True)
class Lora:
    """A LoRA on this machine.

    Attributes:
        source: what the user calls it.
        config: PEFT's `adapter_config.json`; None: there is none.
    """

    source: str
    weights: Path
    config: Path | None = None
    scale: float = 1.0


def is_lora(names: Collection[str]) -> bool:
    """Whether a file holds changes to weights, and no weights."""
    return any(_LORA.search(name) for name in names)


def revision_unread(loras: Sequence[Wanted], storage: Storage) -> str:
    """What is added to the revision of the model: content and scale of each; of those that diffusers' own loaders read.

    "" where none changes anything. What they change is not looked at.

    Raises CheckpointError and StorageError.
    """
    storage = for_models(storage)
    places = [(lora, find(lora.source, storage)) for lora in loras]
    for lora, place in places:
        if not is_lora(open_header(place.weights, storage, f"model.loras: {lora.source}").tensors):
            raise _refused(lora.source, "is no LoRA: it holds no changes to weights")
        if place.config is not None and _is_scaled(storage.read_bytes(place.config)):
            raise _refused(
                lora.source,
                f"has a lora_alpha in {CONFIG} that is not its rank, which diffusers' loaders do not read: take the "
                "file away, and set scale to alpha / r",
            )
    return "".join(part_of_revision(lora, place, storage) for lora, place in places)


def _is_scaled(config: bytes) -> bool:
    """Whether PEFT's configuration says more of its strength than the tensors do."""
    try:
        found = json.loads(config)
        return bool(found.get("lora_alpha", found.get("r")) != found.get("r"))
    except (ValueError, AttributeError):
        return False


def part_of_revision(lora: Wanted, place: Place, storage: Storage) -> str:
    """What one adds."""
    return f"{_PLUS}{_fingerprint(place, storage)[:CACHE_NAME_DIGITS]}*{lora.scale!r}" if lora.scale else ""


def without_loras(revision: str) -> str:
    """The revision of the model alone."""
    return revision.partition(_PLUS)[0]


def local_ones(loras: Sequence[Wanted], cache: Path, storage: Storage) -> list[Lora]:
    """Those that change anything, on this machine; what is remote is fetched, once per node.

    Raises CheckpointError and StorageError.
    """
    storage = for_models(storage)
    return [_local(lora, cache, storage) for lora in loras if lora.scale]


def find(source: str, storage: Storage) -> Place:
    """The files of a LoRA: a .safetensors file, with `adapter_config.json` beside it or without; or a folder of these.

    Raises CheckpointError where there is none.
    """
    uri = storage.absolute(source.strip()).rstrip("/")
    name = without_query(uri).lower()
    if name.endswith((".bin", ".pt", ".pth", ".ckpt", ".pkl")):
        raise _refused(source, "is a pickle file, which can run code, and is not read: take it as .safetensors")
    if storage.scheme(uri) in WEB:
        if not name.endswith(_WEIGHTS):
            raise _refused(source, f"is no {_WEIGHTS} file: name the file itself")
        return Place(uri, None)
    if storage.is_folder(uri):
        return _in_folder(uri, source, storage)
    if not storage.exists(uri):
        raise _refused(source, f"does not exist ({uri}): name a {_WEIGHTS} file, or the folder that PEFT wrote")
    if not name.endswith(_WEIGHTS):
        raise _refused(source, f"is no {_WEIGHTS} file: LoRAs are read from those alone")
    return Place(uri, _config_in(storage.parent(uri), storage))


def _in_folder(folder: str, source: str, storage: Storage) -> Place:
    names = storage.list_names(folder)
    files = sorted(name for name in names if name.endswith(_WEIGHTS))
    if usual := [name for name in _USUAL if name in files]:
        files = usual[:1]
    if len(files) != 1:
        what = f"several {_WEIGHTS} files ({', '.join(files)}): name the one" if files else f"no {_WEIGHTS} file"
        raise _refused(source, f"is a folder with {what}")
    return Place(storage.join(folder, files[0]), storage.join(folder, CONFIG) if CONFIG in names else None)


def _config_in(folder: str, storage: Storage) -> str | None:
    config = storage.join(folder, CONFIG)
    return config if storage.exists(config) else None


def _fingerprint(place: Place, storage: Storage) -> str:
    files = {"weights": place.weights} | ({"config": place.config} if place.config else {})
    return fingerprint_files(files, storage)


def _local(lora: Wanted, cache: Path, storage: Storage) -> Lora:
    place = find(lora.source, storage)
    if storage.is_local(place.weights):
        config = Path(storage.native_path(place.config)) if place.config else None
        return Lora(lora.source, Path(storage.native_path(place.weights)), config, lora.scale)
    files = {"weights.safetensors": place.weights} | ({CONFIG: place.config} if place.config else {})

    def copy(folder: Path) -> None:
        for name, uri in files.items():
            with storage.open(uri) as source, (folder / name).open("wb") as target:
                shutil.copyfileobj(source, target)

    folder = cache / f"{_fingerprint(place, storage)[:CACHE_NAME_DIGITS]}-lora"
    made_once(folder, copy, what=lora.source, done="copied")
    config = folder / CONFIG if place.config else None
    return Lora(lora.source, folder / "weights.safetensors", config, lora.scale)


def _refused(source: str, why: str) -> CheckpointError:
    return CheckpointError(f"model.loras: {source} {why}")
