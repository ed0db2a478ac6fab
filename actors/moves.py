"""A file gets another place in its store: one try each, as in `actors.transfers`.

Nothing is ever overwritten, and at each moment the file is at one of its two places at least.
"""

import errno
import os
import shutil
from functools import partial
from pathlib import Path
from typing import IO, Any

from actors.errors import StorageError
from actors.transfers import READ_BUFFER_BYTES, link_local, write_local

# What rename(2) and link(2) say where one disk ends and another begins.
_OTHER_DISK = errno.EXDEV


def move_local(to: str, _filesystem: object, path: str) -> None:
    """Rename a file, a link (the link itself) or a folder; to another disk a file is copied and then removed."""
    target = _free(to)
    if os.path.islink(path):  # noqa: PTH114 - strings, here and below, as all paths here
        _link_again(path, target)
        os.unlink(path)  # noqa: PTH108
        return
    try:
        os.rename(path, target)  # noqa: PTH104
    except OSError as error:
        if error.errno != _OTHER_DISK:
            raise
        _copy_whole(path, to, target)
        os.unlink(path)  # noqa: PTH108


def copy_local(to: str, _filesystem: object, path: str) -> None:
    """A second name for a file of one disk, which takes up nothing; on another disk a copy. A link stays one."""
    target = _free(to)
    if os.path.islink(path):  # noqa: PTH114
        _link_again(path, target)
        return
    try:
        os.link(path, target)
    except OSError as error:
        if error.errno not in (_OTHER_DISK, errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK):
            raise
        _copy_whole(path, to, target)


def copy_object(to: str, filesystem: Any, path: str) -> None:
    """The store copies; nothing of the object passes this machine. Whoever calls has seen that `to` is free."""
    target = filesystem._strip_protocol(to)  # noqa: SLF001 - fsspec has no public name for it
    filesystem.cp_file(path, target)
    filesystem.invalidate_cache(target.rpartition("/")[0])
    before, after = filesystem.info(path)["size"], filesystem.info(target)["size"]
    if before != after:
        raise StorageError(f"{to} has {after:,} bytes, and {path}, of which it is a copy, {before:,}: remove it")


def _free(to: str) -> Path:
    target = Path(to)
    if os.path.lexists(target):
        raise taken(to)
    target.parent.mkdir(parents=True, exist_ok=True)
    return target


def taken(to: str) -> StorageError:
    """The error about a place that is not free."""
    return StorageError(f"{to} is there already: nothing is written over it")


def _link_again(path: str, target: Path) -> None:
    """The same link at another place: a relative one is made absolute, because it would lead elsewhere from there."""
    folder = os.path.realpath(os.path.dirname(path))  # noqa: PTH120
    target.symlink_to(os.path.normpath(os.path.join(folder, os.readlink(path))))  # noqa: PTH115, PTH118


def _copy_whole(path: str, to: str, target: Path) -> None:
    def copy(file: IO[bytes]) -> None:
        with open(path, "rb") as opened:  # noqa: PTH123
            shutil.copyfileobj(opened, file, READ_BUFFER_BYTES)

    if not write_local(copy, partial(_published, to), None, str(target)):
        raise taken(to)


def _published(to: str, temporary: Path, target: Path) -> bool:
    try:
        return link_local(to, temporary, target)
    except StorageError:  # a disk without hard links; the lease keeps others away
        if os.path.lexists(target):
            return False
        temporary.rename(target)
        return True
