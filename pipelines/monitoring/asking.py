"""A Prometheus, asked by its HTTP interface."""

import base64
import http.client
import json
import os
import urllib.error
import urllib.parse
import urllib.request
from http import HTTPStatus
from typing import Any

from actors.errors import ConfigError, RunError
from actors.secrets import hidden, remember

_TIMEOUT_S = 30.0
# As many tools for Prometheus take it; in the environment, because others see the command line.
TOKEN_VARIABLE = "PROMETHEUS_TOKEN"  # noqa: S105 - a name

_REFUSED = (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN, HTTPStatus.PROXY_AUTHENTICATION_REQUIRED)


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """Leads nowhere: what is sent on arrives without the query, and perhaps with the login."""

    def redirect_request(self, *_: Any) -> None:
        """As urllib has it: None means that the answer is an error."""


_OPENER = urllib.request.build_opener(_NoRedirects)


class QueryError(Exception):
    """Prometheus has not understood a query, or could not answer it."""


class Prometheus:
    """One of them, by its address; a login may stand in that, as in `https://USER:PASSWORD@HOST`."""

    def __init__(self, address: str) -> None:
        """Raises ConfigError for what can be no address."""
        self.shown = hidden(address)
        try:
            parts = urllib.parse.urlsplit(address)
            port, user = parts.port, parts.username
        except ValueError:
            parts = None
        if parts is None or parts.scheme not in ("http", "https") or not parts.hostname:
            raise ConfigError(f"--prometheus={self.shown} is no address: it is to be as http://HOST:9090")
        host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
        self._base = f"{parts.scheme}://{host}{f':{port}' if port else ''}{parts.path.rstrip('/')}"
        self._headers = {"Accept": "application/json"}
        if token := os.environ.get(TOKEN_VARIABLE):
            remember(token)
            self._headers["Authorization"] = f"Bearer {token}"
        if user is not None:
            login = ":".join(map(urllib.parse.unquote, (user, parts.password or "")))
            remember(login, urllib.parse.unquote(parts.password or ""))
            self._headers["Authorization"] = f"Basic {base64.b64encode(login.encode()).decode()}"

    def ask(self, expression: str) -> list[float]:
        """The values of all series that an expression gives now.

        Raises:
            QueryError: it has an error.
            RunError: the server cannot be reached, is no Prometheus, or does not let us in.
        """
        data = urllib.parse.urlencode({"query": expression}).encode()
        request = urllib.request.Request(f"{self._base}/api/v1/query", data, self._headers)  # noqa: S310 - http(s)
        status, text = self._opened(request)
        if status in _REFUSED:
            raise RunError(
                f"the Prometheus at {self.shown} does not let us in ({status}): put the login into the address "
                f"(https://USER:PASSWORD@HOST), or a token into the environment variable {TOKEN_VARIABLE}"
            )
        answer = _parsed(text)
        if answer.get("status") == "error" and "errorType" in answer:
            raise QueryError(str(answer.get("error")))
        try:
            return _values(answer["data"])
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise RunError(
                f"what answers at {self.shown} is no Prometheus (status {status}), or a page that asks for a login: "
                "name the address under which /api/v1/query is"
            ) from error

    def _opened(self, request: urllib.request.Request) -> tuple[int, str]:
        try:
            with _OPENER.open(request, timeout=_TIMEOUT_S) as answer:
                return answer.status, answer.read().decode("utf-8", "replace")
        except urllib.error.HTTPError as error:
            with error:
                if target := error.headers.get("Location"):
                    raise RunError(f"{self.shown} redirects to {target}: name that address, or log in first") from error
                return error.code, error.read().decode("utf-8", "replace")
        except (OSError, ValueError, http.client.HTTPException) as error:  # of the first is urllib's URLError
            reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or error
            raise RunError(
                f"no Prometheus can be reached at {self.shown} ({reason}): start one, or name another with --prometheus"
            ) from error


def _parsed(text: str) -> dict[str, Any]:
    try:
        answer = json.loads(text)
    except ValueError:
        return {}
    return answer if isinstance(answer, dict) else {}


def _values(data: Any) -> list[float]:
    """The values of an answer: a vector, or one scalar."""
    if data["resultType"] == "scalar":
        return [float(data["result"][1])]
    return [float(series["value"][1]) for series in data["result"]]
