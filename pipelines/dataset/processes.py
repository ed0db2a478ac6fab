"""Whether a process that wrote down who it is still runs, where that can be known: on the same machine."""

import getpass
import os
import socket
from pathlib import Path


def this_user() -> str:
    """The user and the machine of this process, for people."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # containers run under numbers that no name belongs to
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"


def name_of(pid: int) -> str | None:
    """What no other process is called, here or elsewhere: a number alone is given again; None if that is not known."""
    machine = _machine()
    try:
        # After the name in parentheses: field 3 is the state, field 22 the start time.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    has_ended = fields[0] in "ZX"  # killed, and its parent has not asked for its exit code yet
    return f"{machine}{pid}/{'ended' if has_ended else fields[19]}" if machine else None


def is_gone(pid: int, name: str | None) -> bool:
    """Whether the process of this number and name ran on this machine, since its last start, and runs no more."""
    machine = _machine()
    if machine is None or name is None or not name.startswith(machine):
        return False
    try:
        os.kill(pid, 0)  # signal 0 only asks
    except ProcessLookupError:
        return True
    except PermissionError:  # it belongs to another user, who may hide what is read next
        pass
    now = name_of(pid)
    return now is not None and now != name


def _machine() -> str | None:
    """This machine since its last start, and this container in it: they number their processes apart."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        namespace = Path("/proc/self/ns/pid").readlink()
    except OSError:  # not Linux: a lease of this machine ends by time alone
        return None
    return f"{socket.gethostname()}/{boot}/{namespace}/"
