"""What a node keeps: checkpoints that it has fetched or converted, and compiled networks."""

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock

from actors.errors import StorageError

# Half of a SHA-256: short enough to read in a path, and no two things that a node keeps ever share it.
CACHE_NAME_DIGITS = 32


def cache_folder(cache_dir: str | None) -> Path:
    """The folder for it: `cache_dir` where that is set, else `~/.cache/stillreel` (XDG_CACHE_HOME moves it)."""
    if cache_dir:
        return Path(cache_dir).expanduser()
    if base := os.environ.get("XDG_CACHE_HOME"):
        return Path(base) / "stillreel"
    try:
        home = Path.home()
    except RuntimeError:  # a user without a home folder
        home = Path(tempfile.gettempdir())
    return home / ".cache" / "stillreel"


def made_once(folder: Path, make: Callable[[Path], object], *, what: str, done: str) -> Path:
    """`folder` in the cache, made by whichever process of the node comes first; it appears when all of it is there.

    Args:
        make: fills the folder that it is given.
        what: what it is made of, and
        done: what is done with that ("copied"), for the error.

    Raises:
        StorageError: the disk is full, or the cache cannot be written. Nothing is left of it.
    """
    partial = folder.with_name(f"{folder.name}.partial")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{folder}.lock"):
            if not folder.is_dir():
                shutil.rmtree(partial, ignore_errors=True)  # whoever left it was killed: the lock is ours
                partial.mkdir()
                try:
                    make(partial)
                    partial.rename(folder)
                except BaseException:
                    shutil.rmtree(partial, ignore_errors=True)
                    raise
    except OSError as error:  # ours are none
        raise StorageError(
            f"{what} could not be {done} to {folder}: {error}; free space there, or set model.cache_dir to another disk"
        ) from error
    return folder
