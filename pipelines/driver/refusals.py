"""What it means that Ray did not start, or did not let us in: one sentence that names what the user can set."""

import errno
import os
import re
from pathlib import Path

from actors.errors import ConfigError
from pipelines.driver.address import Address
from pipelines.driver.tokens import token_refused

_FULL = {errno.ENOSPC, errno.EDQUOT}
# Ray's own words (`ray._private.utils.check_version_info`, `validate_socket_filename`; Python's `Path.home`).
_VERSIONS = re.compile(r"Ray: (\S+)\s+Python: (\S+)")
_PATH_TOO_LONG = "AF_UNIX path length"
_NO_HOME = ("Could not determine home directory", "getpwuid")


def not_connected(error: BaseException, address: Address) -> ConfigError:
    """Ray does not let us into the cluster."""
    if refused := token_refused(error, address):
        return refused
    said = _one_line(error)
    if "Version mismatch" in said and len(versions := _VERSIONS.findall(said)) == 2:  # noqa: PLR2004 - theirs and ours
        theirs, ours = (f"Ray {ray} on Python {python}" for ray, python in versions)
        return ConfigError(f"the cluster at {address.said} has {theirs}, and this is {ours}: install the same here")
    return ConfigError(f"no Ray cluster at {address.said}: {said}")


def check_temporary_folder() -> None:
    """Raise ConfigError for a relative path: each of Ray's processes would take it for another folder."""
    folder, name = _temporary_folder()
    if not Path(folder).is_absolute():
        raise ConfigError(
            f"Ray cannot start on this machine: {_said(folder, name)} is no absolute path; set {name} to one that "
            "begins with /"
        )


def not_started(error: BaseException) -> ConfigError:
    """A local Ray does not start."""
    said, (folder, name) = _one_line(error), _temporary_folder()
    if _PATH_TOO_LONG in said:
        reason = f"the path of its temporary folder ({_said(folder, name)}) is too long for the sockets in it"
        do = "set RAY_TMPDIR to a shorter one, such as /tmp"
    elif any(words in said for words in _NO_HOME):
        reason, do = "this user has no home folder", "set HOME to a folder that can be written to"
    elif isinstance(error, OSError):
        reason = f"{error.filename}: {error.strerror}" if error.filename is not None else said
        variable, place = _setting_of(error.filename, folder, name)
        do = f"set {variable} to a folder that can be written to ({place})"
        if error.errno in _FULL:
            do = f"free some space, or set {variable} to a folder of another disk ({place})"
    else:
        reason, do = said, "ray.log of this run, and the logs in Ray's temporary folder, may say more"
    return ConfigError(f"Ray cannot start on this machine: {reason}; {do}")


def _temporary_folder() -> tuple[str, str]:
    """Where Ray keeps its sockets and logs, and the variable that says so ("" where none does)."""
    for name in ("RAY_TMPDIR", "TMPDIR"):
        if name in os.environ:
            return os.environ[name], name
    return "/tmp", ""  # noqa: S108 - Ray's own default


def _setting_of(path: object, folder: str, name: str) -> tuple[str, str]:
    """The variable that decides where Ray writes `path`, and what it is now. In the home folder it keeps a token."""
    home = os.environ.get("HOME")
    if path is not None and _is_for_token(Path(str(path)), home, folder):
        return "HOME", _said(home, "HOME") if home is not None else "HOME is not set"
    return "RAY_TMPDIR", _said(folder, name) if name else f"it is {folder} now"


def _is_for_token(path: Path, home: str | None, folder: str) -> bool:
    """Whether `path` is Ray's folder in the home folder, or the home folder that it could not make that in."""
    if ".ray" in path.parts:
        return True
    return bool(home) and Path(home or "").is_relative_to(path) and not Path(folder).is_relative_to(path)


def _said(value: str, name: str) -> str:
    return f"{name}={value}" if name else value


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
