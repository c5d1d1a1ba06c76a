"""Addresses that open one thing for a while: HMAC-SHA256 over path and end."""

from __future__ import annotations

import hashlib
import hmac
from base64 import urlsafe_b64encode
from collections.abc import Sequence

from diptych.service.guards.problem import Problem

_SHORTEST = 32  # bytes of a secret: as many as the hash gives


def signed(path: str, secret: bytes, *, expires: int) -> str:
    """`path?expires=...&signature=...`; `expires` in Unix seconds, `path` as the server will see
    it, percent-encoded, without query. Raises ValueError for a query or a secret under 256 bits."""
    if "?" in path or "#" in path:
        raise ValueError("Only a path without query is signed.")
    return f"{path}?expires={expires}&signature={_signature(path, secret, expires)}"


def verify(
    path: str, expires: str, signature: str, secrets: Sequence[bytes], *, now: float
) -> None:
    """Whether one of the secrets (the present one, those before it) signed this and its time is
    not over. Raises Problem 403 bad-signature, the same for every cause."""
    # At most 12 digits: int() takes signs, spaces, underscores and other scripts' digits too.
    if expires.isascii() and expires.isdigit() and len(expires) <= 12 and signature.isascii():
        until = int(expires)
        written = expires == str(until)
        same = [hmac.compare_digest(_signature(path, s, until), signature) for s in secrets]
        if any(same) and written and now < until:
            return
    raise Problem("bad-signature", detail="Ask for the address anew.", field="signature")


def _signature(path: str, secret: bytes, expires: int) -> str:
    if len(secret) < _SHORTEST:
        raise ValueError(f"A secret has at least {_SHORTEST} bytes.")
    # The end first: digits end at the newline, so no two pairs give one message.
    tag = hmac.digest(secret, f"GET\n{expires}\n{path}".encode(), hashlib.sha256)
    return urlsafe_b64encode(tag).decode().rstrip("=")
