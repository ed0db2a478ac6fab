"""Hosts and addresses: which name is which in all its spellings, and which are no place for somebody else's URLs.

Three kinds of address matter to a machine that fetches what a stranger names: this machine itself, and where clouds
serve credentials to whoever asks from it; private networks, where servers trust whoever reaches them; all others.
"""

import ipaddress
import re
import socket
import unicodedata
from collections.abc import Iterator
from enum import Enum
from functools import lru_cache

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class Reach(Enum):
    """Where an address, or a name without looking it up, leads."""

    MACHINE = "this machine, or a cloud's metadata service"
    PRIVATE = "a private network"
    PUBLIC = "anywhere else"


# Stricter than any client, because clients differ in what they make of a backslash, a blank or a second @.
_AUTHORITY = re.compile(
    r"https?://([^/?#\\@\x00-\x20\x7f]*@)?(\[[0-9a-f:.]+\]|[^/?#\\@:%\[\]\x00-\x20\x7f]+)(:[0-9]*)?([/?#]|$)",
    re.IGNORECASE,
)
_MACHINE = [
    ipaddress.ip_network(network)
    for network in (
        *("0.0.0.0/8", "127.0.0.0/8", "::/128", "::1/128"),  # this machine
        *("169.254.0.0/16", "fe80::/10"),  # link-local, where nearly all clouds serve metadata
        *("fd00:ec2::254/128", "fd20:ce::254/128"),  # the same for IPv6: AWS, Google
        *("100.100.100.200/32", "168.63.129.16/32", "192.0.0.192/32"),  # Alibaba, Azure, Oracle
    )
]
# Beside those that Python's `is_global` knows: what no server on the web has.
_NOT_PUBLIC = [
    ipaddress.ip_network(network)
    for network in ("224.0.0.0/4", "240.0.0.0/4", "ff00::/8", "fec0::/10", "64:ff9b:1::/48")
]
_MACHINE_NAMES = re.compile(
    r"(.*\.)?localhost(\.localdomain)?|ip6-(localhost|loopback)"
    r"|metadata(\.google\.internal|\.goog)?|instance-data(\.ec2\.internal)?"
)
# IPv6 addresses that end in an IPv4 address: compatible, mapped, translated (RFC 2765), NAT64 (RFC 6052).
_ENDING_IN_IPV4 = [
    ipaddress.IPv6Network(network) for network in ("::/96", "::ffff:0:0/96", "::ffff:0:0:0/96", "64:ff9b::/96")
]
# NAT64 within a network (RFC 8215), which may hold the IPv4 address in any of the places of RFC 6052.
_LOCAL_NAT64 = ipaddress.IPv6Network("64:ff9b:1::/48")
# The last 64 bits of an ISATAP address (RFC 5214) begin with one of these.
_ISATAP = frozenset({0x00005EFE, 0x02005EFE})
_DEFAULT_PORTS = {"http": "80", "https": "443"}


def host_of(url: str) -> str | None:
    """The host of an http(s) URL, every spelling of it made one; None where clients could read it differently."""
    match = _AUTHORITY.match(url)
    return match and canonical_host(match[2])


def server_of(url: str) -> str | None:
    """The scheme, host and port of an http(s) URL in one spelling, such as `https://example.com`; None as above."""
    match = _AUTHORITY.match(url)
    if match is None or (host := canonical_host(match[2])) is None:
        return None
    scheme, port = url.partition(":")[0].lower(), (match[3] or ":")[1:].lstrip("0")
    bracketed = f"[{host}]" if ":" in host else host
    return f"{scheme}://{bracketed}" + (f":{port}" if port and port != _DEFAULT_PORTS[scheme] else "")


@lru_cache(maxsize=10_000)
def canonical_host(host: str) -> str | None:
    """A name in lower case and ASCII, an address as Python writes it; None for what is neither."""
    try:
        if ":" in host:
            return str(_plain(ipaddress.IPv6Address(host.removeprefix("[").removesuffix("]"))))
        # As browsers and yarl do: fullwidth digits, circled letters and ideographic full stops are ASCII in the end.
        name = unicodedata.normalize("NFKC", host).casefold().encode("idna").decode().rstrip(".")
    except ValueError:
        return None
    try:
        # What the resolver takes for an address: also 127.1, 0x7f000001, 017700000001 and 2130706433.
        return str(ipaddress.IPv4Address(socket.inet_aton(name)))
    except OSError:
        return name or None


@lru_cache(maxsize=10_000)
def reach(host: str) -> Reach:
    """Where a host, spelt as by `canonical_host`, leads; a name is judged as such and not looked up."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return Reach.MACHINE if _MACHINE_NAMES.fullmatch(host) else Reach.PUBLIC
    meanings = list(_meanings(address))
    if any(one in network for one in meanings for network in _MACHINE):
        return Reach.MACHINE
    return Reach.PUBLIC if all(map(_is_public, meanings)) else Reach.PRIVATE


def _is_public(address: Address) -> bool:
    return address.is_global and not any(address in network for network in _NOT_PUBLIC)


def _plain(address: ipaddress.IPv6Address) -> Address:
    """The IPv4 address that an IPv6 address is only another spelling of; else itself."""
    return address.ipv4_mapped or address


def _meanings(address: Address) -> Iterator[Address]:
    """The addresses that a packet to this one may end at: those of IPv4 within it, or itself where there are none."""
    if isinstance(address, ipaddress.IPv4Address):
        yield address
        return
    bits = int(address)
    low = bits & 0xFFFFFFFF
    if address.sixtofour:
        yield address.sixtofour
    elif address.teredo:
        yield from address.teredo  # the server, and the client behind it
    elif low > 1 and any(address in network for network in _ENDING_IN_IPV4):
        yield ipaddress.IPv4Address(low)
    elif address in _LOCAL_NAT64:
        yield address  # private, whatever is meant
        # With a prefix of 48, 56, 64 and 96 bits; bits 64 to 71 are left out. Zeros in front say that it is elsewhere.
        after_48 = (bits >> 64 & 0xFFFF) << 16 | (bits >> 40 & 0xFFFF)
        after_56 = (bits >> 64 & 0xFF) << 24 | (bits >> 32 & 0xFFFFFF)
        for number in (after_48, after_56, bits >> 24 & 0xFFFFFFFF, low):
            if number >> 24:
                yield ipaddress.IPv4Address(number)
    else:
        yield address
    if (bits >> 32) & 0xFFFFFFFF in _ISATAP:
        yield ipaddress.IPv4Address(low)
