"""An argument parser whose errors name the nearest right word."""

from __future__ import annotations

from argparse import Action, ArgumentError, ArgumentParser, Namespace
from collections.abc import Iterable, Iterator, Sequence
from difflib import get_close_matches
from typing import NoReturn

from diptych.foundation.errors import InvalidValue

# What `--offline` says, of all verbs that take a model.
OFFLINE = "ask nothing of the network: a hub id is one that was downloaded before"


class Parser(ArgumentParser):
    """Raises InvalidValue instead of leaving the process; sub-parsers are of this kind too."""

    def __init__(self, *args: object, **options: object) -> None:
        options.setdefault("allow_abbrev", False)
        super().__init__(*args, **options)  # pyright: ignore[reportArgumentType]

    def error(self, message: str) -> NoReturn:
        raise InvalidValue(f"{self.prog}: {message}.", do=f"See `{self.prog} --help`.")

    def parse_strictly(self, arguments: Sequence[str]) -> Namespace:
        """Parse all of `arguments`; raises InvalidValue for a word that nothing takes."""
        known, left = self.parse_known_args(arguments)
        if left:
            word = left[0]
            flags = set(_flags(self)) if word.startswith("-") else set[str]()
            raise InvalidValue(
                f"{self.prog} does not take {word!r}.",
                do=_nearest(word.partition("=")[0], flags) or f"See `{self.prog} --help`.",
            )
        return known

    def _check_value(self, action: Action, value: object) -> None:
        if action.choices is None or value in action.choices:
            return
        offered = [str(choice) for choice in action.choices]
        near = _nearest(str(value), offered) or f"Offered: {', '.join(offered)}."
        raise ArgumentError(action, f"there is no {str(value)!r}. {near}".rstrip("."))


def _nearest(word: str, known: Iterable[str]) -> str:
    near = get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f"Did you mean {near[0]!r}?" if near else ""


def _flags(parser: ArgumentParser) -> Iterator[str]:
    for action in parser._actions:
        yield from action.option_strings
        if isinstance(action.choices, dict):  # the sub-parsers of a verb with verbs of its own
            for child in action.choices.values():
                if isinstance(child, ArgumentParser):
                    yield from _flags(child)
