"""Which image URIs of a manifest may be fetched.

A manifest is data, often somebody else's. It must not choose what this job reads with the rights of its machines: a
remote list of images has no business with files of the worker, nor with the credentials that clouds serve on
link-local addresses.

Judged is what the URI itself says. A DNS name that resolves to this machine passes: where that matters, close the way
in the network. Redirects of web servers are not followed (`actors.storage`).
"""

import ipaddress
import re
import socket
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from actors.storage import Storage

LOCAL_SCHEME = "file"  # what `storage.schemes` calls paths of this machine
# Twice the longest key of an object store, and what web servers commonly take; more is text in the wrong column.
MAX_CHARACTERS = 8192

_HTTP = ("http", "https")
# Stricter than any client, because clients differ in what they make of a backslash, a blank or a second @.
_AUTHORITY = re.compile(
    r"https?://([^/?#\\@\x00-\x20\x7f]*@)?(\[[0-9a-f:.]+\]|[^/?#\\@:%\[\]\x00-\x20\x7f]+)(:[0-9]*)?([/?#]|$)",
    re.IGNORECASE,
)
_MISSPELT = re.compile(r"[^/]*://")  # before any slash: what looks like a scheme and is none
_NETWORKS = [
    ipaddress.ip_network(network)
    for network in (
        *("0.0.0.0/8", "127.0.0.0/8", "::/128", "::1/128"),  # this machine
        *("169.254.0.0/16", "fe80::/10"),  # link-local, where nearly all clouds serve metadata
        *("fd00:ec2::254/128", "fd20:ce::254/128"),  # the same for IPv6: AWS, Google
        *("100.100.100.200/32", "168.63.129.16/32", "192.0.0.192/32"),  # Alibaba, Azure, Oracle
    )
]
_NAMES = re.compile(
    r"(.*\.)?localhost(\.localdomain)?|ip6-(localhost|loopback)"
    r"|metadata(\.google\.internal|\.goog)?|instance-data(\.ec2\.internal)?"
)
# IPv6 addresses that end in an IPv4 address: compatible, mapped, translated (RFC 2765), NAT64 (RFC 6052).
_ENDING_IN_IPV4 = [
    ipaddress.IPv6Network(network) for network in ("::/96", "::ffff:0:0/96", "::ffff:0:0:0/96", "64:ff9b::/96")
]

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclass(frozen=True, slots=True)
class AllowedImages:
    """What the images of one source of the manifest may be.

    Attributes:
        schemes: in lower case; `file` stands for paths of this machine.
        hosts: those that are allowed although they mean this machine, because the manifest itself is there.
    """

    schemes: tuple[str, ...]
    hosts: frozenset[str]

    @classmethod
    def beside(cls, sources: Sequence[str], output: str | None, schemes: Sequence[str] | None) -> "AllowedImages":
        """Images of the manifest at `sources`; `schemes` as in `storage.schemes`.

        Paths of this machine come only from a manifest (or a `columns.base`) of this machine: that the output is here
        gives a remote manifest no right to read here.
        """
        hosts = frozenset(host for host in map(_host, sources) if host)
        if schemes is not None:
            return cls(tuple(dict.fromkeys(schemes)), hosts)
        found = [_scheme(source) for source in sources]
        if output is not None and _scheme(output) != LOCAL_SCHEME:
            found.append(_scheme(output))
        return cls(tuple(dict.fromkeys(found)), hosts)

    def why_not(self, uri: str, base: str) -> str | None:  # noqa: PLR0911 - a list of reasons
        """What an image's URI would have to be, where it may not be fetched as it is; else None.

        Args:
            uri: as it stands in the manifest.
            base: folder that relative URIs start from.
        """
        if len(uri) > MAX_CHARACTERS:
            return f"an image's URI must have at most {MAX_CHARACTERS} characters"
        is_relative = not Storage.scheme(uri) and not uri.startswith("/")
        if is_relative and _MISSPELT.match(uri):
            return "an image's URI must be a path, or begin with its scheme"
        scheme = _scheme(base if is_relative else uri)
        if scheme not in self.schemes:
            known = " or ".join("a path of this machine" if s == LOCAL_SCHEME else f"{s}://" for s in self.schemes)
            return f"an image's URI must be {known} (storage.schemes can allow others)"
        if scheme == LOCAL_SCHEME:
            return None
        if is_relative and _climbs_out(uri, base):
            return "a relative URI must stay within the bucket or host of the manifest"
        if not is_relative and scheme in _HTTP and (reason := self._why_not_host(uri)):
            return reason
        if "::" in uri:  # fsspec would take each of its parts for a URI of its own
            return "an image's URI must not hold ::"
        return None

    def _why_not_host(self, url: str) -> str | None:
        host = _host(url)
        if host is None:
            return "an image's URL must have a host that can be read in one way only"
        if host not in self.hosts and _is_this_machine(host):
            return "an image's URL must lead to another machine than this one, and to no cloud's metadata service"
        return None


def _scheme(uri: str) -> str:
    return LOCAL_SCHEME if Storage.is_local(uri) else Storage.scheme(uri)


def _climbs_out(path: str, base: str) -> bool:
    """Whether the relative `path` leads above the first name of the remote folder `base`."""
    depth = len([name for name in base.split("://", 1)[1].split("/") if name])
    for name in path.split("/"):
        depth += {"": 0, ".": 0, "..": -1}.get(name, 1)
        if depth < 1:
            return True
    return False


def _host(url: str) -> str | None:
    """The host of an http(s) URL, every spelling of it made one; None where clients could read it differently."""
    match = _AUTHORITY.match(url)
    return match and _one_spelling(match[2])


@lru_cache(maxsize=10_000)
def _one_spelling(host: str) -> str | None:
    try:
        if host.startswith("["):
            return str(_without_ipv6(ipaddress.IPv6Address(host[1:-1])))
        # As browsers and yarl do: fullwidth digits, circled letters and ideographic full stops are ASCII in the end.
        name = unicodedata.normalize("NFKC", host).casefold().encode("idna").decode().rstrip(".")
    except ValueError:
        return None
    try:
        # What the resolver takes for an address: also 127.1, 0x7f000001, 017700000001 and 2130706433.
        return str(ipaddress.IPv4Address(socket.inet_aton(name)))
    except OSError:
        return name or None


def _without_ipv6(address: ipaddress.IPv6Address) -> Address:
    """The IPv4 address that an IPv6 address stands for; itself, where it is none or a special one such as ::1."""
    if address.sixtofour:
        return address.sixtofour
    low = int(address) & 0xFFFFFFFF
    if low > 1 and any(address in network for network in _ENDING_IN_IPV4):
        return ipaddress.IPv4Address(low)
    return address


@lru_cache(maxsize=10_000)
def _is_this_machine(host: str) -> bool:
    """Whether a host, spelt as by `_one_spelling`, is this machine or where a cloud serves it metadata."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return _NAMES.fullmatch(host) is not None
    return any(address in network for network in _NETWORKS)
