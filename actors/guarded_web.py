"""An HTTP client that looks at each address before it connects to it.

Imported only where it is used: aiohttp is an extra of fsspec.
"""

import socket
from typing import Any

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from actors.addresses import canonical_host
from actors.web import WebAccess


async def guarded_session(
    access: WebAccess,
    *,
    loop: Any = None,  # noqa: ARG001 - fsspec names the one that this runs in
    **client_kwargs: Any,
) -> aiohttp.ClientSession:
    """A session that connects only where `access` allows it, redirects included; as fsspec's `get_client`."""
    resolver = _Resolver(access)
    connector = aiohttp.TCPConnector(resolver=resolver, socket_factory=resolver.socket_for)
    return aiohttp.ClientSession(connector=connector, **client_kwargs)


class _Resolver(AbstractResolver):
    """Resolves names to those of their addresses that are allowed."""

    def __init__(self, access: WebAccess) -> None:
        self._access = access
        self._inner = aiohttp.DefaultResolver()
        self._granted = set(access.hosts)  # addresses of the hosts that may be anywhere

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """As in `AbstractResolver`. Raises StorageError where no address is allowed."""
        found = await self._inner.resolve(host, port, family)
        if canonical_host(host) in self._access.hosts:
            self._granted.update(str(canonical_host(one["host"])) for one in found)
            return found
        allowed = [one for one in found if self._access.why_not("", one["host"]) is None]
        if found and not allowed:
            raise self._access.refusal(host, found[0]["host"])
        return allowed

    async def close(self) -> None:
        """As in `AbstractResolver`."""
        await self._inner.close()

    def socket_for(self, info: Any) -> socket.socket:
        """The socket of a connection that is about to be made: an address that a URL itself names is never resolved."""
        family, kind, protocol, _, place = info
        address = str(place[0])
        if canonical_host(address) not in self._granted and self._access.why_not("", address) is not None:
            raise self._access.refusal(address, address)
        return socket.socket(family, kind, protocol)
