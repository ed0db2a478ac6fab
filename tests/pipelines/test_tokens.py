"""Ray's tokens: what is said where a cluster asks for one, and which a Ray of the run's own has."""

import os
from pathlib import Path

import pytest
from ray._private.authentication.authentication_constants import (
    TOKEN_AUTH_ENABLED_BUT_NO_TOKEN_FOUND_ERROR_MESSAGE as NONE_FOUND,
)
from ray.exceptions import AuthenticationError

from pipelines.driver.address import Address
from pipelines.driver.refusals import not_connected
from pipelines.driver.tokens import set_own_token
from tests.clusters import head_alone
from tests.jobs import stillreel

ADDRESS = Address("10.0.0.1:6379", "ray.address=10.0.0.1:6379")
TOKEN = "0123456789abcdef" * 4
HAVE = "the cluster's token in ~/.ray/auth_token or RAY_AUTH_TOKEN (`ray get-auth-token` on its head shows it)"


def connection_error() -> ConnectionError:
    """As Ray 2.60 raises it: what it is about is only in what led to it."""
    error = ConnectionError("Failed to connect to Ray cluster at 10.0.0.1:6379")
    error.__cause__ = RuntimeError("Failed to connect to GCS. ...: RPC error: InvalidAuthToken: Authentication ...")
    return error


@pytest.mark.parametrize(
    ("mode", "error", "expected"),
    [
        (None, connection_error(), f"asks for a token, and none was given: set RAY_AUTH_MODE=token, and have {HAVE}"),
        ("disabled", connection_error(), "asks for a token, and none was given: set RAY_AUTH_MODE=token, and have "),
        ("token", connection_error(), f"asks for a token, and the token given is not its own: have {HAVE}"),
        ("token", AuthenticationError(NONE_FOUND), f"asks for a token, and no token is here: have {HAVE}"),
    ],
)
def test_a_token_that_is_refused_is_no_cluster_that_is_not_there(
    mode: str | None, error: Exception, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RAY_AUTH_MODE", raising=False)
    if mode is not None:
        monkeypatch.setenv("RAY_AUTH_MODE", mode)
    said = str(not_connected(error, ADDRESS))
    assert said.startswith(f"the Ray cluster at ray.address=10.0.0.1:6379 {expected}")


@pytest.mark.parametrize(
    ("variables", "has_file", "is_set"),
    [
        ({}, False, True),
        ({"RAY_AUTH_MODE": "token"}, False, True),
        ({"RAY_AUTH_MODE": "disabled"}, False, False),
        ({"RAY_AUTH_TOKEN_PATH": "/a/token"}, False, False),
        ({}, True, False),
    ],
)
def test_a_ray_of_the_runs_own_gets_a_token_that_is_kept_nowhere(
    variables: dict[str, str], has_file: bool, is_set: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.setenv(name, "")  # what the test sets is undone
        monkeypatch.delenv(name)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    if has_file:
        (tmp_path / ".ray").mkdir()
        (tmp_path / ".ray/auth_token").write_text(TOKEN)
    set_own_token()
    assert ("RAY_AUTH_TOKEN" in os.environ) == is_set


@pytest.mark.slow
def test_a_cluster_with_a_token_takes_who_has_it() -> None:
    with head_alone(RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=TOKEN) as head:
        refused = stillreel("drain", "--address", head.address, RAY_AUTH_TOKEN=TOKEN)
        assert refused.returncode == 2
        asks = f"stillreel: the Ray cluster at --address={head.address} asks for a token, and none was given: "
        assert refused.stderr.strip() == f"{asks}set RAY_AUTH_MODE=token, and have {HAVE}"
        taken = stillreel("drain", "--address", head.address, RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=TOKEN)
        assert "is the cluster's head" in taken.stderr
