"""API keys: 256 random bits, of which only the SHA-256 is stored. No slow hash: nobody guesses
256 bits, and a fast one cannot be used to keep the server busy."""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from diptych.service.guards.problem import Problem

Role = Literal["user", "admin"]

_MARK = "dpt_"
_SHOWN = len(_MARK) + 6  # 36 bits to tell keys apart by; 220 stay secret
_FORM = re.compile(r"dpt_[A-Za-z0-9_-]{43}")


@dataclass(frozen=True, kw_only=True)
class Key:
    """What is stored of a key. `sha256`: 64 hex digits; `prefix`: its first characters, to show."""

    sha256: str
    prefix: str
    owner: str
    role: Role = "user"


def new_key(owner: str, role: Role = "user") -> tuple[str, Key]:
    """The text, to be shown once, and what is stored."""
    text = _MARK + secrets.token_urlsafe(32)
    return text, Key(sha256=sha256(text), prefix=text[:_SHOWN], owner=owner, role=role)


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def authenticated(authorization: str | None, stored: Callable[[str], Key | None]) -> Key:
    """The key of an `Authorization: Bearer` header; `stored` finds a key by its SHA-256, so that
    the time a look-up takes tells nothing about a key.

    Raises Problem 401, the same for a missing, malformed and unknown key.
    """
    scheme, _, text = (authorization or "").partition(" ")
    text = text.strip()
    if scheme.lower() == "bearer" and _FORM.fullmatch(text) and (key := stored(sha256(text))):
        return key
    raise Problem(
        "unauthorized",
        detail="Send the header 'Authorization: Bearer KEY' with a key of this server.",
        field="Authorization",
        headers={"WWW-Authenticate": "Bearer"},
    )


def administrator(key: Key) -> Key:
    """The key itself. Raises Problem 403 for any other role."""
    if key.role != "admin":
        raise Problem("forbidden", detail="Use an administrator's key.", field="Authorization")
    return key
