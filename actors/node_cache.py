"""What a node keeps: checkpoints that it has fetched, and compiled networks."""

import os
import tempfile
from pathlib import Path


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
