"""http(s): how a URL is asked for, what we say of ourselves, and where somebody else's URLs may lead."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import quote

from actors import __version__
from actors.addresses import Reach, host_of, reach
from actors.errors import StorageError

SCHEMES = ("http", "https")
# Wikimedia and others refuse whoever does not say who asks. A contact is for the user to add, in `storage.options`.
USER_AGENT = f"stillreel/{__version__}"

# What may stand in a URL (RFC 3986): these, letters, digits and `-._~`, and escapes.
_MAY_STAND = "!$&'()*+,/:;=?@[]"
_ESCAPES = re.compile("(%[0-9A-Fa-f]{2})")
_PARTS = re.compile(r"(https?://)([^/?#]*)([^#]*)", re.IGNORECASE)


def as_asked(url: str) -> str:
    """The URL as a server is asked for it: as it stands, byte for byte, because it may be signed.

    Only what no URL can hold is encoded, as UTF-8: blanks, letters beyond ASCII, a `%` that begins no escape. The
    fragment is no part of a request.
    """
    match = _PARTS.match(url)
    if match is None:
        return url
    scheme, authority, rest = match.groups()
    pieces = _ESCAPES.split(rest)  # every second one is an escape
    pieces[::2] = [quote(piece, safe=_MAY_STAND) for piece in pieces[::2]]
    return f"{scheme}{_ascii(authority)}{''.join(pieces)}"


def _ascii(authority: str) -> str:
    if authority.isascii():
        return authority
    import yarl  # comes with aiohttp

    return str(yarl.URL(f"http://{authority}/").raw_authority)


def with_user_agent(headers: Mapping[str, str]) -> dict[str, str]:
    """The headers of all requests; a User-Agent that is given counts."""
    is_given = any(name.lower() == "user-agent" for name in headers)
    return dict(headers) if is_given else {"User-Agent": USER_AGENT, **headers}


@dataclass(frozen=True, slots=True)
class WebAccess:
    """Where URLs that somebody else chose may lead. Called, it makes the client that keeps to it (for fsspec).

    It is checked when a connection is made: what a name resolves to may change between a look and the connection.

    Attributes:
        hosts: spelt as by `actors.addresses.canonical_host`; these may be anywhere, because the user named them.
        private_networks: whether addresses of private networks are allowed, too.
    """

    hosts: tuple[str, ...] = ()
    private_networks: bool = False

    def why_not(self, host: str, address: str | None = None) -> str | None:
        """Why not to connect to a host, or to the `address` that it resolves to; None where one may."""
        if address is None and host in self.hosts:
            return None
        where = reach(host if address is None else address)
        if where is Reach.MACHINE:
            return "lead to another machine than this one, and to no cloud's metadata service"
        if where is Reach.PRIVATE and not self.private_networks:
            return "not lead into a private network (storage.private_networks=true allows it)"
        return None

    def refusal(self, host: str, address: str) -> StorageError:
        """The error about an address that a host resolves to."""
        leads = address if host == address else f"{host} resolves to {address}"
        return StorageError(f"{leads}: an image's URL must {self.why_not('', address)}")

    def by_proxy(self, options: Mapping[str, Any]) -> "WebAccess":
        """With the proxies that the options of the scheme name: behind one, that is what decides about addresses."""
        proxies = [options.get("proxy"), dict(options.get("client_kwargs") or {}).get("proxy")]
        if dict(options.get("client_kwargs") or {}).get("trust_env") or options.get("trust_env"):
            from urllib.request import getproxies

            proxies += getproxies().values()
        found = (host_of(str(proxy)) for proxy in proxies if proxy)
        return replace(self, hosts=tuple(sorted({*self.hosts, *filter(None, found)})))
