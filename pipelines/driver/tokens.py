"""Ray's tokens: one of its own for a Ray that a run starts, and what is said where a cluster asks for another.

A cluster asks for a token where RAY_AUTH_MODE=token was set when it was started, and, from Ray 2.60 on, where a token
was there (`~/.ray/auth_token`, RAY_AUTH_TOKEN, RAY_AUTH_TOKEN_PATH) and RAY_AUTH_MODE was not set. Who connects to it
by its address gives one only with RAY_AUTH_MODE=token.
"""

import os
import secrets

from actors.errors import ConfigError
from pipelines.driver.address import Address

_MODE, _TOKEN, _TOKEN_PATH = "RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"
_FILE = "~/.ray/auth_token"
_TOKEN_BYTES = 32
_ASKS = "token"
# Of `ray.exceptions.AuthenticationError`, and in the text of what Ray makes of it.
_REFUSED, _NONE_FOUND = "InvalidAuthToken", "no authentication token was found"


def set_own_token() -> None:
    """A token for the Ray that this process is about to start, unless there is one, or the environment wants none.

    Ray would make one, too, and leave it in the home folder: a cluster that is started on this machine later would ask
    for it.
    """
    is_asked_for = os.environ.get(_MODE, _ASKS).lower() == _ASKS
    has_one = _TOKEN in os.environ or _TOKEN_PATH in os.environ or os.path.exists(os.path.expanduser(_FILE))  # noqa: PTH110, PTH111 - Path.home raises
    if is_asked_for and not has_one:
        os.environ[_TOKEN] = secrets.token_hex(_TOKEN_BYTES)


def token_refused(error: BaseException | None, address: Address) -> ConfigError | None:
    """What to do where the cluster is there and wants a token that it did not get; None where that is not the error."""
    said = " ".join(_chain(error))
    if _REFUSED not in said and _NONE_FOUND not in said:
        return None
    gives_one = os.environ.get(_MODE, "").lower() == _ASKS
    lack = "no token is here" if _NONE_FOUND in said else "the token given is not its own"
    mode = "" if gives_one else f"set {_MODE}={_ASKS}, and "
    have = f"have the cluster's token in {_FILE} or {_TOKEN} (`ray get-auth-token` on its head shows it)"
    lack = lack if gives_one else "none was given"
    return ConfigError(f"the Ray cluster at {address.said} asks for a token, and {lack}: {mode}{have}")


def _chain(error: BaseException | None) -> list[str]:
    """The texts of an error and of all that led to it."""
    texts: list[str] = []
    while error is not None:
        texts.append(str(error))
        error = error.__cause__ or error.__context__
    return texts
