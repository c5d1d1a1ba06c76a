"""Errors that a user may read: what is wrong, and what to do about it."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class DiptychError(Exception):
    """A mistake in what was asked for, never in our code.

    The command line prints it without a traceback and ends with `exit_code`; the service
    answers with `status`.
    """

    exit_code = 2
    status = 400

    def __init__(self, what: str, *, do: str = ""):
        super().__init__(what)
        self.what = what
        self.do = do

    def __str__(self) -> str:
        return f"{self.what} {self.do}".strip()


class InvalidValue(DiptychError):
    """A value outside what is offered."""


class NotFound(DiptychError):
    """A name, file or checkpoint that is not there."""

    exit_code = 3
    status = 404


class Unreadable(DiptychError):
    """A file that exists and is not what it should be."""

    exit_code = 4
    status = 422


class NotWritten(DiptychError):
    """The disk refused; nothing half-written is left behind."""

    exit_code = 5
    status = 507


class MissingExtra(DiptychError):
    """A library of an optional extra is not installed."""

    exit_code = 6
    status = 501


def unknown(kind: str, name: str, known: Iterable[str], *, see: str = "") -> NotFound:
    """The error for a name that is in no table: names it and the nearest right one."""
    known = sorted(known)
    near = get_close_matches(name, known, n=1, cutoff=0.4)
    listed = [f"Known: {', '.join(known)}."] if known else []
    parts = [f"Did you mean {near[0]!r}?"] if near else listed
    if see:
        parts.append(see)
    return NotFound(f"There is no {kind} called {name!r}.", do=" ".join(parts))
