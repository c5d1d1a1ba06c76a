"""Requests asked and answered, and prompts read, in one call."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from diptych.decoding.choices import Decoding
from diptych.decoding.prefixes import PrefixStore
from diptych.decoding.slots import Prefix
from diptych.pipelines.answering import Answering
from diptych.pipelines.reading import Answer, Ask, Prompt, Reading
from diptych.pipelines.texts import Text

TOGETHER = 16  # texts under way at once


def answered(
    reading: Reading,
    asks: Sequence[Ask],
    *,
    store: PrefixStore | None = None,
    exact: bool = True,
    watch: Callable[[str], None] | None = None,
) -> list[Answer]:
    """All requests, as many together as there is room for. Raises what the first of them to fail
    failed of, when all are done."""
    texts = [Text(ask, watch) for ask in asks]
    answering = Answering(reading, min(TOGETHER, len(asks) or 1), store=store, exact=exact)
    waiting = list(reversed(texts))
    while waiting or answering.texts or answering.searches:
        while waiting and answering.room:
            answering.join(waiting.pop())
        answering.step()
    return [text.answer() for text in texts]


@torch.inference_mode()
def read_whole(
    reading: Reading, prompt: Prompt, store: PrefixStore | None = None
) -> tuple[Prefix, Tensor]:
    """A prompt read to its end: what is kept of it, and logits [V] of what follows."""
    answering = Answering(reading, 1, store=store)
    text = Text(Ask(prompt, Decoding(most=1)))
    found = list[tuple[Prefix, Tensor]]()

    def through(slot: int, logits: Tensor) -> None:
        found.append((answering.slots.taken(slot, text.following), logits))

    text.through = through
    answering.join(text)
    answering.run()
    if text.error is not None:
        raise text.error
    return found[0]
