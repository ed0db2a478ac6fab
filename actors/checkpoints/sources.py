"""What `model.source` may name: a folder, a Hugging Face id, any fsspec URI, or a single file."""

import re
from dataclasses import replace
from pathlib import Path

from actors.errors import CheckpointError, ConfigError
from actors.storage import Storage
from actors.store_options import names_of_one_store
from actors.uris import without_query

_HUB_ID = re.compile(r"\w[\w.-]*/\w[\w.-]*")
_HUB_PAGE = re.compile(r"https?://(?:www\.)?huggingface\.co/(\w[\w.-]*/\w[\w.-]*)(?:/.*)?")
_FILE = re.compile(r"\.(safetensors|ckpt|pth?|bin|gguf|pkl|onnx|sft)$", re.IGNORECASE)


def tidied(source: str) -> str:
    """Without white space and slashes at its end."""
    bare = source.strip()
    return bare.rstrip("/") or bare


def is_on_hub(source: str) -> bool:
    """Whether it is to be looked for on the Hugging Face Hub: neither a path of this machine nor a URI."""
    source = tidied(source)
    return not Storage.scheme(source) and not (source and _is_path(source))


def is_file(source: str) -> bool:
    """Whether it names a file of weights, or a file is there."""
    is_local = Storage.is_local(source)
    if is_local and source and Path(Storage.absolute(source)).is_dir():
        return False  # whatever it is called
    return _FILE.search(without_query(source)) is not None or (
        is_local and bool(source) and Path(Storage.absolute(source)).is_file()
    )


def _is_path(source: str) -> bool:
    """Whether it can be nothing but a path, or there is something at it."""
    return source.startswith(("/", "~", ".")) or is_file(source) or Path(source).exists()


def for_models(storage: Storage) -> Storage:
    """`storage` that follows redirects on the web, as the sites do that people have weights from.

    Which address is read is the configuration's to say; a manifest's images are read with the stricter one.
    """
    names = names_of_one_store("https", storage.options) or ["https"]
    options = {name: {"allow_redirects": True} | storage.options.get(name, {}) for name in names}
    return replace(storage, options=storage.options | options)


def refuse_page(source: str) -> None:
    """Raise CheckpointError for a page of the Hub."""
    if page := _HUB_PAGE.fullmatch(source):
        raise CheckpointError(
            f"model.source={source} is a page: name the model by its id, model.source={page[1]}, or download the file "
            "and name its path"
        )


def check_source(source: str, revision: str | None) -> None:
    """Raise CheckpointError for what can be no checkpoint, ConfigError for a revision of what has none."""
    refuse_page(source)
    if is_on_hub(source):
        if not _HUB_ID.fullmatch(source):
            raise CheckpointError(
                f"model.source={source}: there is no such folder, and it is neither a URI (s3://...) nor a Hugging "
                "Face id"
            )
        return
    if Storage.is_local(source) and not Path(Storage.absolute(source)).is_dir():
        raise CheckpointError(f"model.source={source}: there is no such folder ({Storage.absolute(source)})")
    if revision is not None:
        raise ConfigError(f"model.revision={revision} has no meaning for {source}: only Hugging Face ids have one")
