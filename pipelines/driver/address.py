"""Which Ray cluster a run is told to use, as the user has said it."""

import os
import socket
from dataclasses import dataclass

from actors.errors import ConfigError
from pipelines.config import Config

ADDRESS_VARIABLE = "RAY_ADDRESS"
_AUTO, _LOCAL = "auto", "local"
# A head in another data centre answers within a second.
_CONNECT_TIMEOUT_S = 10.0
_MAX_PORT = 65_535
_USES_TLS = "RAY_USE_TLS"
# What an HTTP/2 client sends first: the preface, and a frame of type 4 (SETTINGS) that is empty.
_FRAME_BYTES, _FRAME_TYPE, _SETTINGS = 9, 3, 4
_HTTP2_BEGINNING = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, _SETTINGS, 0, 0, 0, 0, 0])


@dataclass(frozen=True, slots=True)
class Address:
    """Of a cluster: `host:port`, or `auto`.

    Attributes:
        said: how the user has set it, such as `RAY_ADDRESS=10.0.0.1:6379`.
    """

    text: str
    said: str

    def endpoint(self) -> tuple[str, int] | None:
        """Host and port; None of `auto`. Raises ConfigError for what is neither."""
        if self.text == _AUTO:
            return None
        scheme = self.text.partition("://")[0].lower() if "://" in self.text else ""
        if scheme in ("http", "https"):
            raise ConfigError(
                f"{self.said} is the address of a cluster's jobs, which a run does not connect to: submit the command "
                f"with `ray job submit --address {self.text} -- ...`, or name the cluster's head, e.g. 10.0.0.1:6379"
            )
        if scheme == "ray":
            raise ConfigError(
                f"{self.said} is an address of Ray's client, which is not supported: run the command on a node of the "
                "cluster with ray.address=auto, or submit it with `ray job submit`"
            )
        host, colon, port = self.text.rpartition(":")
        host = host[1:-1] if host.startswith("[") and host.endswith("]") else "" if ":" in host else host
        if scheme or not colon or not host or not (port.isascii() and port.isdigit() and 0 < int(port) <= _MAX_PORT):
            raise ConfigError(
                f"{self.said} is no address of a Ray cluster: write host:port, such as 10.0.0.1:6379, or auto on a "
                "node of the cluster, or nothing for a Ray of the run's own"
            )
        return host, int(port)

    def check_reachable(self) -> None:
        """Raise ConfigError where nothing listens: Ray itself tries for two minutes, in silence."""
        if (endpoint := self.endpoint()) is None:
            return  # Ray knows where to look
        try:
            with socket.create_connection(endpoint, timeout=_CONNECT_TIMEOUT_S) as connection:
                is_grpc = _USES_TLS in os.environ or _speaks_http2(connection)
        except socket.gaierror as error:
            raise ConfigError(f"no Ray cluster at {self.said}: the name {endpoint[0]} is not known") from error
        except (OSError, UnicodeError) as error:
            reason = getattr(error, "strerror", None) or error
            raise ConfigError(f"no Ray cluster at {self.said}: {reason}; is it running, and this its head?") from error
        if not is_grpc:
            raise ConfigError(
                f"no Ray cluster at {self.said}: something else listens there; the port of a cluster's head is 6379 "
                "unless it was started with another one"
            )


def _speaks_http2(connection: socket.socket) -> bool:
    """Whether the other side answers the beginning of HTTP/2, which gRPC is, as RFC 9113 (section 3.4) asks for."""
    try:
        connection.sendall(_HTTP2_BEGINNING)
        answer = connection.recv(_FRAME_BYTES, socket.MSG_WAITALL)
    except OSError:
        return False
    return len(answer) == _FRAME_BYTES and answer[_FRAME_TYPE] == _SETTINGS


def address_of(config: Config) -> Address | None:
    """The cluster to connect to; None starts a local one. `ray job submit` sets RAY_ADDRESS for its job."""
    own, variable = (config.ray.address or "").strip(), os.environ.get(ADDRESS_VARIABLE, "").strip()
    if own and own not in (_AUTO, _LOCAL):
        return Address(own, f"ray.address={own}")
    if own == _LOCAL or (variable == _LOCAL and not own):
        return None
    if variable and variable not in (_AUTO, _LOCAL):  # Ray's own `auto` takes it, too
        return Address(variable, f"{ADDRESS_VARIABLE}={variable}")
    if own or variable:
        return Address(_AUTO, f"ray.address={own}" if own else f"{ADDRESS_VARIABLE}={variable}")
    return None
