"""Which file systems a folder's times can be believed on: those that change them whenever a file comes to it or goes.

What makes a folder of a bucket (s3fs, gcsfuse, rclone, JuiceFS and others, all of which are FUSE) often has no times of
folders, and gives the same ones for ever.
"""

import os
import re
from pathlib import Path

# A line for each: https://man7.org/linux/man-pages/man5/proc_pid_mountinfo.5.html
_TABLE = Path("/proc/self/mountinfo")
_ESCAPED = re.compile(r"\\([0-7]{3})")  # blanks and the like, in octal digits
# POSIX wants it of all. These are known to do it; of any other one it is not known.
_BELIEVED = {
    *("ext2", "ext3", "ext4", "xfs", "btrfs", "zfs", "bcachefs", "f2fs", "jfs", "tmpfs", "ramfs", "overlay"),
    *("squashfs", "erofs", "nfs", "nfs4", "ceph", "lustre", "gpfs", "beegfs", "ocfs2", "gfs2"),
}


class Mounts:
    """The mounts of this machine as they are now; each file system is looked up once."""

    def __init__(self) -> None:
        self._believed: dict[int, bool] = {}  # by device
        self._kinds: list[tuple[str, str]] | None = None

    def believed(self, folder: str) -> bool:
        """Whether the folder's times tell when files come to it or go. Where it is not there, nothing is to be told."""
        try:
            device = os.stat(folder).st_dev  # noqa: PTH116 - a string
        except (OSError, ValueError):
            return True
        if device not in self._believed:
            kind = self._kind_at(os.path.realpath(folder))
            self._believed[device] = kind is None or kind in _BELIEVED
        return self._believed[device]

    def _kind_at(self, path: str) -> str | None:
        """The type of the file system that a path lies on; None where this machine does not tell: macOS."""
        if self._kinds is None:
            self._kinds = _read()
        around = [(point, kind) for point, kind in self._kinds if f"{path}/".startswith(f"{point.rstrip('/')}/")]
        # Of several at one place the last one covers the others.
        return max(enumerate(around), key=lambda one: (len(one[1][0]), one[0]))[1][1] if around else None


def _read() -> list[tuple[str, str]]:
    """The place and the type of each mount."""
    try:
        lines = _TABLE.read_text(errors="surrogateescape").splitlines()
    except OSError:
        return []
    found = []
    for line in lines:
        before, _, after = line.partition(" - ")
        point, kind = before.split(" ")[4:5], after.split(" ")[0]
        found += [(_ESCAPED.sub(lambda code: chr(int(code[1], 8)), one), kind) for one in point]
    return found
