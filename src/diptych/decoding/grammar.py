"""Answers by a regular expression or a JSON schema. `llguidance` (of the extra `grammar`) does the
work: it compiles nothing ahead, so that a stranger's schema stops nobody."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from diptych.decoding.constraints import State
from diptych.foundation.errors import InvalidValue
from diptych.foundation.extras import need


@dataclass(frozen=True)
class Grammar:
    """A `Constraint`: texts that a grammar makes, over the tokens of one tokenizer."""

    source: str
    words: Any = field(repr=False)

    def start(self) -> State:
        """Before the first token."""
        guidance = need("llguidance", "grammar")
        return _Matched(guidance.LLMatcher(self.words, self.source))


def words_of(tokenizer: str, size: int, ends: Sequence[int]) -> Any:
    """What grammars are told of a model: `tokenizer`, the content of its tokenizer.json, the `size`
    of its vocabulary, and the tokens that end an answer. Raises InvalidValue for a tokenizer of
    other than bytes, and MissingExtra."""
    guidance = need("llguidance", "grammar")
    try:
        return guidance.LLTokenizer(tokenizer, n_vocab=size, eos_token=list(ends))
    except (ValueError, RuntimeError) as error:
        raise InvalidValue(
            f"This model's words cannot be held to a grammar: {error}.",
            do="Models whose tokens are pieces of bytes can be.",
        ) from error


def regex(pattern: str, words: Any) -> Grammar:
    """Texts that a regular expression matches whole. Raises InvalidValue."""
    make = need("llguidance", "grammar").LLMatcher.grammar_from_regex
    return _checked(make, pattern, words, f"The pattern {pattern!r}")


def json_schema(schema: Mapping[str, Any] | str, words: Any) -> Grammar:
    """JSON by a schema, without needless white space. Raises InvalidValue."""
    guidance = need("llguidance", "grammar")
    told = schema if isinstance(schema, str) else json.dumps(schema)

    def make(source: str) -> str:
        return guidance.LLMatcher.grammar_from_json_schema(
            source, overrides={"whitespace_flexible": False}
        )

    return _checked(make, told, words, "The schema")


def _checked(make: Callable[[str], str], source: str, words: Any, what: str) -> Grammar:
    matcher = need("llguidance", "grammar").LLMatcher
    try:
        grammar = make(source)
    except ValueError as error:
        raise InvalidValue(f"{what} cannot be used: {error}.") from error
    wrong, said = matcher.validate_grammar_with_warnings(grammar, words)
    if wrong:
        raise InvalidValue(f"{what} cannot be used: {said[0].strip().splitlines()[0]}.")
    return Grammar(grammar, words)


@dataclass(frozen=True)
class _Matched:
    """A state of a matcher, which is copied before it is moved on."""

    matcher: Any

    def allowed(self, size: int) -> Tensor:
        """As `State`."""
        bits = np.frombuffer(self.matcher.compute_bitmask(), dtype=np.uint8)
        found = torch.zeros(size, dtype=torch.bool)
        told = np.unpackbits(bits, bitorder="little")[:size].astype(bool)
        found[: len(told)] = torch.from_numpy(told)
        return found

    def after(self, token: int) -> State:
        """As `State`."""
        moved = self.matcher.deep_copy()
        moved.consume_token(token)
        return _Matched(moved)
