"""One text under way: what it was asked, what it has said, and why it ended."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from math import exp

from torch import Tensor

from diptych.decoding.choices import choose, filtered, loops
from diptych.decoding.constraints import State
from diptych.decoding.spelling import Spelling, ended, spelled
from diptych.foundation.errors import InvalidValue
from diptych.pipelines.reading import Answer, Ask, Reading, Rows
from diptych.pipelines.searching import Search


@dataclass(eq=False)
class Text:
    """One request on its way; `watch` is called with each piece of text that is final."""

    ask: Ask
    watch: Callable[[str], None] | None = None
    spelling: Spelling = field(default_factory=Spelling)
    tokens: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    chosen: list[float] = field(default_factory=list)
    likeliest: list[tuple[tuple[int, float], ...]] = field(default_factory=list)
    constraint: State | None = None
    finish: str = ""
    error: Exception | None = None
    cancelled: bool = False
    # Reading: rows that are not read yet, of the prefix and then of the rest.
    prefix: Rows | None = None
    prefixed: bool = False
    rest: Rows | None = None
    following: int = 0
    search: Search | None = None
    # Called with the slot and the logits behind the prompt, in place of the first word.
    through: Callable[[int, Tensor], None] | None = None

    @property
    def done(self) -> bool:
        """Whether nothing more is to come."""
        return bool(self.finish) or self.error is not None or self.cancelled

    def cancel(self) -> None:
        """Give it up before its next word."""
        self.cancelled = True

    def answer(self) -> Answer:
        """What was said. Raises what the request failed of, and InvalidValue for one that is not
        done."""
        if self.error is not None:
            raise self.error
        if not self.finish:
            what = "was cancelled" if self.cancelled else "is not done"
            raise InvalidValue(f"The request {what}.", do="Ask when it is done.")
        return Answer(
            self.spelling.whole, exp(sum(self.logprobs)), None, tuple(self.logprobs),
            tuple(self.tokens), tuple(self.chosen), tuple(self.likeliest), self.finish,
        )  # fmt: skip

    def choose(self, reading: Reading, logits: Tensor, logs: Tensor) -> None:
        """The next token from logits [V] and their log-probabilities."""
        decoding = self.ask.decoding
        allowed = None if self.constraint is None else self.constraint.allowed(len(logits))
        left = filtered(logits, decoding, self.tokens, allowed=allowed, ends=reading.ends)
        token = choose(left, decoding, len(self.tokens))
        if decoding.alternatives:
            top = logs.topk(min(decoding.alternatives, len(logs)))
            pairs = zip(top.indices.tolist(), top.values.tolist(), strict=True)
            self.likeliest.append(tuple(pairs))
        chosen = float(left[token] - left.logsumexp(0))
        self.say(reading, token, float(logs[token]), chosen)

    def say(self, reading: Reading, token: int, logprob: float, chosen: float) -> None:
        """One token more; it may be the last."""
        self.logprobs.append(logprob)
        self.chosen.append(chosen)
        if self.constraint is not None:
            self.constraint = self.constraint.after(token)
        decoding = self.ask.decoding
        if token in reading.ends:
            self.finish = "end"
        else:
            self.tokens.append(token)
            self._spell(spelled(self.spelling, token, reading.spell, decoding.stop))
            if self.spelling.stopped:
                self.finish = "stop"
            elif decoding.loops and loops(self.tokens, decoding.loops):
                self.finish = "loop"
            elif len(self.tokens) >= decoding.most:
                self.finish = "length"
        if self.finish:
            self._spell(ended(self.spelling, reading.spell))

    def found(self, reading: Reading, logits: Tensor) -> None:
        """One step of a search on logits [K, V] of its open beams; the best answer at its end."""
        if self.search is None:
            return
        self.search = self.search.advanced(logits, reading.ends)
        if not self.search.beams.done:
            return
        best = self.search.beams.ended[0]
        self.tokens, self.logprobs = list(best.tokens), list(best.logprobs)
        self.chosen = list(best.logprobs)
        for token in best.tokens:
            self.spelling = spelled(self.spelling, token, reading.spell)
        self.finish = "end" if len(best.logprobs) > len(best.tokens) else "length"
        self._spell(ended(self.spelling, reading.spell))

    def _spell(self, spelling: Spelling) -> None:
        before = 0 if self.search is not None else len(self.spelling.text)
        self.spelling = spelling
        if self.watch is not None and len(spelling.text) > before:
            self.watch(spelling.text[before:])
