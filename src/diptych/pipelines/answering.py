"""Texts under way together: their prompts are read in chunks, then each call of the network gives
every text one word more. Texts join and leave between steps.

Slot i holds text i; those that are answering stand before those that are still reading.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from diptych.decoding.prefixes import PrefixStore
from diptych.decoding.slots import KVSlots
from diptych.pipelines.exactness import fitting_rows
from diptych.pipelines.reading import Reading, Rows
from diptych.pipelines.searching import Search
from diptych.pipelines.texts import Text

CHUNK = 256  # rows of prompts in one call


class Answering:
    """Runs up to `most` texts of one model. `exact`: each has the bits that it has alone."""

    def __init__(
        self,
        reading: Reading,
        most: int = 8,
        *,
        store: PrefixStore | None = None,
        exact: bool = True,
    ):
        self.reading, self.most, self.exact = reading, most, exact
        self.store = PrefixStore(0) if store is None else store
        # Texts are read in slots of their own; what pads a call has no slot.
        self.slots = KVSlots(reading.kv, most, dtype=reading.dtype, device=reading.device)
        self.texts: list[Text] = []
        self.searches: list[Text] = []
        self.answering = 0  # how many of the texts are
        self.calls = self.rows = 0  # of the network, for words

    @property
    def room(self) -> int:
        """How many texts may join."""
        return self.most - len(self.texts) - len(self.searches)

    def join(self, text: Text) -> None:
        """A text begins to read its prompt."""
        self.slots.lengths[len(self.texts)] = 0
        text.rest = text.ask.prompt.rest
        if text.ask.constraint is not None:
            text.constraint = text.ask.constraint.start()
        self.texts.append(text)

    @torch.inference_mode()
    def step(self) -> None:
        """A chunk of prompts, and one word of every text that answers."""
        self._leave()
        self._read()
        self._leave()  # some answers are one word
        words = self.texts[: self.answering]
        if words:
            self._say(words)
        for text in list(self.searches):
            self._guarded([text], lambda text=text: self._search(text))
        self._leave()

    def run(self) -> None:
        """Until all are done."""
        while self.texts or self.searches:
            self.step()

    def _guarded(self, texts: Sequence[Text], work: Callable[[], None]) -> None:
        """An error is its own request's: the others go on."""
        try:
            work()
        except Exception as error:
            for text in texts:
                text.error = error

    def _read(self) -> None:
        reading = range(self.answering, len(self.texts))
        for slot in reading:
            text = self.texts[slot]
            if not text.prefixed:
                self._guarded([text], lambda slot=slot, text=text: self._read_prefix(slot, text))
                if not text.prefixed:
                    return
        ready = [slot for slot in reading if self.texts[slot].error is None]
        if not ready:
            return
        together = self._together(ready)
        self._guarded([self.texts[slot] for slot in together], lambda: self._read_rest(together))

    def _together(self, ready: list[int]) -> list[int]:
        """Which texts' rests share a call: neighbours in slots, as many rows as a chunk has."""
        if self.exact or self.texts[ready[0]].ask.prompt.sees_all:
            return ready[:1]
        together, longest = list[int](), 0
        for slot in ready:
            longest = max(longest, len(_rest(self.texts[slot]).rows))
            wide = (len(together) + 1) * longest > CHUNK
            wide = wide or self.texts[slot].ask.prompt.sees_all
            if together and (wide or slot != together[-1] + 1):
                break
            together.append(slot)
        return together

    def _read_prefix(self, slot: int, text: Text) -> None:
        """A chunk of what comes before the question, or all of it from the store."""
        prompt = text.ask.prompt
        if prompt.sees_all:
            text.prefixed = True
            return
        if text.prefix is None:
            kept = self.store.get(prompt.key) if prompt.key else None
            if kept is not None:
                self.slots.put(slot, kept)
                text.prefixed = True
                return
            text.prefix = prompt.prefix()
        prefix, begin = text.prefix, self.slots.lengths[slot]
        count = len(prefix.rows) - begin
        if prompt.causal:
            count = min(count, CHUNK)
        if count:
            view = self.slots.view(slot, slot + 1, count, causal=prompt.causal)
            part = slice(begin, begin + count)
            self.reading.read(prefix.rows[None, part], prefix.places[None, part], view)
            self.slots.wrote(slot, count)
        if self.slots.lengths[slot] == len(prefix.rows):
            text.prefixed, text.prefix = True, None
            if prompt.key and self.store.limit:
                self.store.put(prompt.key, self.slots.taken(slot, prefix.following))

    def _read_rest(self, together: list[int]) -> None:
        """A chunk of the questions; the first word of those that are through."""
        rests = [_rest(self.texts[slot]) for slot in together]
        whole = self.texts[together[0]].ask.prompt.sees_all
        count = max(len(rest.rows) for rest in rests)
        count = count if whole else min(CHUNK, count)
        rows = _padded([rest.rows[:count] for rest in rests])
        places = _padded([rest.places[:count] for rest in rests])
        view = self.slots.view(together[0], together[-1] + 1, count, causal=not whole)
        states = self.reading.read(rows, places, view)
        last = list[Tensor]()
        through = list[Text]()
        for i, (slot, rest) in enumerate(zip(together, rests, strict=True)):
            real, text = min(count, len(rest.rows)), self.texts[slot]
            self.slots.wrote(slot, real)
            text.following = rest.following
            if real == len(rest.rows):
                last.append(states[i, real - 1])
                through.append(text)
            else:
                text.rest = Rows(rest.rows[real:], rest.places[real:], rest.following)
        if not through:
            return
        logits = (
            [self.reading.logits(state[None])[0] for state in last]
            if self.exact
            else (self.reading.logits(torch.stack(last)))
        )
        for text, row in zip(through, logits, strict=True):
            slot = self.texts.index(text)
            if text.through is not None:
                text.through(slot, row)
                text.finish = "length"
            elif text.ask.decoding.beams > 1:
                prompt = self.slots.taken(slot, text.following)
                text.search = Search.begun(self.reading, prompt, text.ask)
                self._guarded(
                    [text], lambda text=text, row=row: text.found(self.reading, row[None])
                )
                self.texts.remove(text)
                self._close(slot, len(self.texts))
                self.searches.append(text)
            else:
                self.answering += 1
                self._chosen([text], row[None])

    def _say(self, texts: Sequence[Text]) -> None:
        """One call gives each text its next word."""
        sizes = fitting_rows(self.reading, self.most) if self.exact else ()
        at = 0
        while at < len(texts):
            part = texts[at : at + max(sizes)] if sizes else texts[at:]
            rows = min((size for size in sizes if size >= len(part)), default=0)
            self._guarded(part, lambda part=part, at=at, rows=rows: self._call(part, at, rows))
            at += len(part)

    def _call(self, texts: Sequence[Text], first: int, rows: int) -> None:
        tokens = torch.tensor([text.tokens[-1] for text in texts], device=self.reading.device)
        places = torch.tensor([text.following for text in texts], device=self.reading.device)
        view = self.slots.view(first, first + len(texts), 1)
        states = self.reading.step(self.reading.embed(tokens), places, view, rows)
        logits = self.reading.logits(states)[: len(texts)]
        self.calls, self.rows = self.calls + 1, self.rows + len(texts)
        for slot, text in enumerate(texts, first):
            self.slots.wrote(slot, 1)
            text.following += 1
        self._chosen(texts, logits)

    def _chosen(self, texts: Sequence[Text], logits: Tensor) -> None:
        """The next token of each text from logits [B, V]."""
        wide = logits.to(torch.promote_types(logits.dtype, torch.float32))
        logs = wide.log_softmax(-1)
        values, best = logs.max(-1)
        tokens, likeliest = best.tolist(), values.tolist()
        for i, text in enumerate(texts):
            plain = text.ask.decoding.plain and text.constraint is None
            if plain and not text.ask.decoding.alternatives:
                text.say(self.reading, tokens[i], likeliest[i], likeliest[i])
            else:
                self._guarded(
                    [text], lambda text=text, i=i: text.choose(self.reading, wide[i], logs[i])
                )

    def _search(self, text: Text) -> None:
        if text.search is not None and not text.done:
            text.found(self.reading, text.search.logits(self.reading))

    def _leave(self) -> None:
        """Those that are done make room; the rest close up."""
        self.searches = [text for text in self.searches if not text.done]
        if self.texts and all(text.done for text in self.texts):
            self.texts, self.answering = [], 0
            self.slots.emptied()
        slot = 0
        while slot < len(self.texts):
            if not self.texts[slot].done:
                slot += 1
                continue
            if slot < self.answering:
                # The last that answers takes the place, and the readers move up behind it.
                self.answering -= 1
                self._swap(self.answering, slot)
                slot = min(slot, self.answering)
                self.texts.pop(self.answering)
                self._close(self.answering, len(self.texts))
            else:
                self.texts.pop(slot)
                self._close(slot, len(self.texts))

    def _swap(self, source: int, target: int) -> None:
        if source != target:
            self.slots.move(source, target)
            self.texts[source], self.texts[target] = self.texts[target], self.texts[source]

    def _close(self, hole: int, last: int) -> None:
        """Move the slots behind a hole up by one."""
        for slot in range(hole, last):
            self.slots.move(slot + 1, slot)
        self.slots.lengths[last] = 0


def _rest(text: Text) -> Rows:
    if text.rest is None:
        raise RuntimeError("the text has no rows to read")
    return text.rest


def _padded(parts: Sequence[Tensor]) -> Tensor:
    """Parts [N, ...] of different lengths, one behind the other's end filled with nothing."""
    if len(parts) == 1:
        return parts[0][None]
    return torch.nn.utils.rnn.pad_sequence(list(parts), batch_first=True)
