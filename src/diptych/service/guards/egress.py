"""Pictures fetched by URL: only from public addresses, and the address checked is the one
connected.

The check sits where the socket is made: there the resolver has spoken, so names, literals and
their odd spellings (`0x7f.1`, fullwidth digits) all come as one address, and nobody can answer
otherwise between check and connection.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Set
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Any

import aiohttp
from yarl import URL

from diptych.service.guards.problem import Problem

Place = tuple[str, int]  # an address as text and a port

_PORTS = frozenset({80, 443})
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_LONGEST_URL = 2048
# What Python's `is_global` lets through, in one version or another: IPv4 inside IPv6 (6to4, NAT64,
# compatible, Teredo), site-local, protocol assignments, old relays, a cloud's own address.
_REFUSED = tuple(
    map(
        ip_network,
        (
            "2002::/16",
            "2001::/32",
            "64:ff9b::/96",
            "64:ff9b:1::/48",
            "::/96",
            "::ffff:0:0:0/96",
            "fec0::/10",
            "192.0.0.0/24",
            "192.88.99.0/24",
            "168.63.129.16/32",
        ),
    )
)


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """`most_bytes` after decompression; `seconds` for everything, redirects too."""

    most_bytes: int = 20 << 20
    seconds: float = 10.0
    redirects: int = 3


@dataclass(kw_only=True)
class _Door:
    """Makes the sockets of one fetch and remembers whether one was refused."""

    allow: Set[Place]
    refused: bool = field(default=False, init=False)

    def __call__(self, info: tuple[Any, ...]) -> socket.socket:
        """The socket for (family, type, protocol, name, address); called for every address tried.
        An OSError, so that the other addresses of a name still have their turn."""
        family, kind, protocol, _, address = info
        host, port = str(address[0]), int(address[1])
        if (host, port) not in self.allow and not (port in _PORTS and is_public(host)):
            self.refused = True
            raise OSError("the address is not fetched from")
        return socket.socket(family=family, type=kind, proto=protocol)


def is_public(host: str) -> bool:
    """Whether an address as the resolver gives it (perhaps with %scope) belongs to the internet."""
    address: IPv4Address | IPv6Address = ip_address(host.partition("%")[0])
    if isinstance(address, IPv6Address) and address.ipv4_mapped:
        address = address.ipv4_mapped
    if address.is_multicast or not address.is_global:
        return False
    return not any(address.version == net.version and address in net for net in _REFUSED)


async def fetched(
    url: str, *, bounds: Bounds | None = None, allow: Set[Place] = frozenset()
) -> bytes:
    """The body of a 200 answer to GET. `allow`: further (address, port) pairs, none in service.

    Raises Problem: 422 bad-url; 403 blocked-address, one text for whatever is not public, does not
    exist or has another port; 502 fetch-failed for the rest.
    """
    bounds = bounds or Bounds()
    door = _Door(allow=allow)
    target = checked_url(url)
    try:
        async with asyncio.timeout(bounds.seconds), _session(door) as session:
            for _ in range(bounds.redirects + 1):
                body, onward = await _hop(session, target, bounds.most_bytes)
                if not onward:
                    return body
                target = checked_url(onward, base=target)
    except (aiohttp.ClientConnectorDNSError, aiohttp.InvalidURL):
        # A name within the house must not differ from no name, nor an odd spelling of an address
        # that aiohttp knows from one that only the resolver knows.
        raise _blocked() from None
    except (aiohttp.ClientError, OSError, TimeoutError, ValueError):
        raise (_blocked() if door.refused else _failed()) from None
    raise Problem(
        "fetch-failed", detail=f"Give an address with at most {bounds.redirects} redirects."
    )


def checked_url(text: str, *, base: URL | None = None) -> URL:
    """Parsed once, by the library that connects. Raises Problem 422 bad-url."""
    try:
        if len(text) > _LONGEST_URL or any(ord(c) <= 32 or ord(c) == 127 for c in text):
            raise ValueError
        url = base.join(URL(text)) if base else URL(text)
        if url.scheme in ("http", "https") and url.host and url.port and not url.user:
            return url.with_fragment(None)
    except (ValueError, TypeError, UnicodeError):
        pass
    detail = f"Give an http or https address of up to {_LONGEST_URL} characters, without a user."
    raise Problem("bad-url", detail=detail, field="/image_url")


def _session(door: Callable[[tuple[Any, ...]], socket.socket]) -> aiohttp.ClientSession:
    connector = aiohttp.TCPConnector(
        socket_factory=door, use_dns_cache=False, force_close=True, limit=1
    )
    return aiohttp.ClientSession(
        connector=connector,
        trust_env=False,
        cookie_jar=aiohttp.DummyCookieJar(),
        headers={"Accept": "image/*", "Accept-Encoding": "gzip, deflate", "User-Agent": "diptych"},
        timeout=aiohttp.ClientTimeout(total=None),  # one deadline, around all hops
    )


async def _hop(session: aiohttp.ClientSession, url: URL, most: int) -> tuple[bytes, str]:
    """The body of this answer, or where it sends us."""
    async with session.get(url, allow_redirects=False) as answer:
        if answer.status in _REDIRECTS:
            onward = answer.headers.get("Location", "")
            if not onward:
                raise ValueError("a redirect to nowhere")
            return b"", onward
        if answer.status != 200 or (answer.content_length or 0) > most:
            raise ValueError("no picture, or one that is too large")
        body = bytearray()
        async for part in answer.content.iter_chunked(1 << 16):
            body += part
            if len(body) > most:
                raise ValueError("too large")
        return bytes(body), ""


def _blocked() -> Problem:
    detail = "Give an address on the public internet, on port 80 or 443."
    return Problem("blocked-address", detail=detail, field="/image_url")


def _failed() -> Problem:
    detail = "Give an address that sends a picture within 10 seconds, or send the picture itself."
    return Problem("fetch-failed", detail=detail, field="/image_url")
