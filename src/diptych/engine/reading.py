"""The engine of words: requests join between steps, each with its own decoding, constraint and
length, and leave when they are done."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from diptych.decoding.prefixes import PrefixStore
from diptych.foundation.errors import InvalidValue
from diptych.pipelines.answering import Answering
from diptych.pipelines.reading import Ask, Reading
from diptych.pipelines.texts import Text

MOST = 16  # texts under way


@dataclass
class ReadingEngine:
    """Runs requests of one model together; nothing happens but in `step`, and in one thread.

    `exact`: every answer has the bits that its request has alone. `most`: texts under way at once.
    First come, first admitted; a step reads at most one chunk of prompts, so that those that answer
    wait for no long prompt. `store` keeps the beginnings of prompts, by what they depend on.
    """

    reading: Reading
    exact: bool = True
    most: int = MOST
    store: PrefixStore = field(default_factory=PrefixStore)
    waiting: deque[Text] = field(default_factory=deque)

    def __post_init__(self) -> None:
        if self.most < 1:
            raise InvalidValue(f"most={self.most} lets nothing in.", do="Choose 1 or more.")
        self.answering = Answering(self.reading, self.most, store=self.store, exact=self.exact)

    def submit(self, ask: Ask, watch: Callable[[str], None] | None = None) -> Text:
        """A request queues up. `watch` is called with each piece of its text that is final; its
        `cancel` gives it up, its `answer` tells what was said when it is `done`."""
        text = Text(ask, watch)
        self.waiting.append(text)
        return text

    @property
    def busy(self) -> int:
        """Texts that wait or are under way."""
        under_way = len(self.answering.texts) + len(self.answering.searches)
        return len(self.waiting) + under_way

    def step(self) -> bool:
        """A chunk of prompts and a word of each answer; whether there is more to do."""
        while self.waiting and self.answering.room:
            text = self.waiting.popleft()
            if not text.done:
                self.answering.join(text)
        self.answering.step()
        return bool(self.busy)

    def run(self) -> None:
        """All that was submitted."""
        while self.step():
            pass
