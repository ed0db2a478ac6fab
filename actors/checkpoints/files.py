"""The files of a checkpoint in diffusers layout.

Only names are looked at here, so that a folder, an object store and the Hugging Face Hub are judged alike.
"""

from collections.abc import Callable, Collection
from pathlib import Path

from actors.errors import CheckpointError

# From all names of a checkpoint, the variant and what the user calls it, the names of the files that are loaded.
Wanted = Callable[[Collection[str], str | None, str], list[str]]

INDEX = "model_index.json"

# Folders of what pipelines are made of, as most of them call it.
_COMPONENTS = (
    *("unet", "transformer", "transformer_2", "vae", "image_encoder", "text_encoder", "text_encoder_2"),
    *("scheduler", "feature_extractor", "image_processor", "tokenizer", "tokenizer_2", "processor"),
)


def local_names(folder: Path) -> list[str]:
    """The files in a folder of this machine and in those directly in it, relative to it; links are followed.

    Raises CheckpointError for a link among them that leads nowhere, and for a folder that cannot be read.
    """
    try:
        own = sorted(folder.iterdir())
        entries = [*own, *(entry for child in own if child.is_dir() for entry in sorted(child.iterdir()))]
    except OSError as error:
        raise CheckpointError(f"{error.filename} cannot be read ({error.strerror})") from error
    for entry in entries:
        if entry.is_symlink() and not entry.exists():
            _refuse_dangling(entry, folder)
    entries += folder.glob(f"snapshots/*/{INDEX}")  # of the Hub's cache of a model: to say which folder is meant
    return [entry.relative_to(folder).as_posix() for entry in entries if entry.is_file()]


def _refuse_dangling(link: Path, folder: Path) -> None:
    """Raise CheckpointError for a link that leads nowhere, unless no variant would need it."""
    name = link.relative_to(folder).as_posix()
    if name.partition("/")[0] in (INDEX, *_COMPONENTS) or name.endswith(".safetensors"):
        raise CheckpointError(
            f"{link} is a link to {link.readlink()}, where nothing is: copy the checkpoint with what its links lead to "
            "(cp -rL)"
        )


def check_index(names: Collection[str], where: str, kind: str) -> None:
    """Raise CheckpointError where there is no index among `names`.

    Args:
        names: all files of the checkpoint, relative to it.
        where: what the user calls it.
        kind: what it should be.
    """
    if INDEX in names:
        return
    inner = sorted({name.removesuffix(f"/{INDEX}") for name in names if name.endswith(f"/{INDEX}")})
    hint = f"; there is one in {where}/{inner[0]}" if inner else ""
    raise CheckpointError(f"{where} has no {INDEX}: model.source must name {kind} checkpoint in diffusers layout{hint}")
