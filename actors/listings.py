"""What is in a folder: of this machine, of S3 page by page, or of any other store."""

import os
from typing import Any, cast


def list_s3_page(request: dict[str, str], filesystem: Any, _path: str) -> dict[str, Any]:
    """One page of a listing."""
    return cast("dict[str, Any]", filesystem.call_s3("list_objects_v2", **request))


def scan(_filesystem: object, path: str) -> tuple[list[str], list[str]]:
    """The files and the folders in a local folder; a link to a folder is neither."""
    files, folders = [], []
    with os.scandir(path) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                folders.append(f"{path.rstrip('/')}/{entry.name}")
            elif not entry.is_dir():
                files.append(f"{path.rstrip('/')}/{entry.name}")
    return files, folders


def scan_folder(_filesystem: object, path: str) -> tuple[list[str], list[str]]:
    """The names of the files and of the folders in a local folder, links followed.

    A link that leads nowhere is no file, and counts as a folder: it is where one was meant to be.
    """
    files: list[str] = []
    folders: list[str] = []
    with os.scandir(path) as entries:
        for entry in entries:
            is_file = entry.is_file() or (not entry.is_dir() and not entry.is_symlink())
            (files if is_file else folders).append(entry.name)
    return files, folders


def list_files_of(filesystem: Any, path: str) -> list[str]:
    """The names of the files directly in a folder."""
    entries = filesystem.ls(path, detail=True)
    return [entry["name"].rpartition("/")[2] for entry in entries if entry["type"] != "directory"]


def list_folders_of(filesystem: Any, path: str) -> list[str]:
    """The folders directly in a folder."""
    entries = filesystem.ls(path, detail=True)
    return [filesystem.unstrip_protocol(entry["name"].rstrip("/")) for entry in entries if entry["type"] == "directory"]
