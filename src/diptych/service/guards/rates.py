"""How often one user and one address may ask (37), counted in this process's memory."""

from __future__ import annotations

import math
import time
from ipaddress import IPv6Address, ip_address, ip_network

from limits import RateLimitItem, parse
from limits.storage import MemoryStorage
from limits.strategies import SlidingWindowCounterRateLimiter

from diptych.service.guards.problem import Problem


class Rates:
    """`per_user` and `per_address` as the `limits` library writes them: "60/minute".

    A sliding window of two counters: two numbers a key whatever the rate is. An IPv6 user has
    a /64 at least, so its 2^64 addresses are one.
    """

    def __init__(self, *, per_user: str, per_address: str):
        self._user, self._address = parse(per_user), parse(per_address)
        self._window = SlidingWindowCounterRateLimiter(MemoryStorage())

    def admit(self, *, user: str | None, address: str) -> None:
        """Count one request; `user` is None before a key is known. Raises Problem 429 with
        Retry-After in whole seconds; a refused request is not counted against the other."""
        counted = [(self._address, "address", network(address))]
        if user is not None:
            counted.append((self._user, "user", user))
        for item, *key in counted:
            if not self._window.test(item, *key):
                raise self._refusal(item, *key)
        for item, *key in counted:
            self._window.hit(item, *key)

    def _refusal(self, item: RateLimitItem, *key: str) -> Problem:
        seconds = self._window.get_window_stats(item, *key).reset_time - time.time()
        after = min(max(1, math.ceil(seconds)), item.get_expiry())
        return Problem(
            "rate-limited",
            detail=f"Wait {after} s and ask again.",
            extra={"retry_after": after},
            headers={"Retry-After": str(after)},
        )


def network(address: str) -> str:
    """An IPv4 address as it is, an IPv6 one as its /64, an IPv4 one within IPv6 as IPv4. What is no
    address (a Unix socket's client has none) counts as one."""
    try:
        host = ip_address(address.partition("%")[0])
    except ValueError:
        return "none"
    if isinstance(host, IPv6Address):
        if host.ipv4_mapped:
            return str(host.ipv4_mapped)
        return str(ip_network((host, 64), strict=False))
    return str(host)
