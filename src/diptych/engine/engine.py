"""The engine: requests of many models and shapes, one turn of one bucket at a time.

A bucket is what may share a call: a model and a shape of latents, or a model's texts. The bucket
that has had the least time is next, so that a short request never waits for the whole of a long one
(step-level time slicing; `python -m benchmarks.serve_mixed` measures it).
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from time import monotonic

from diptych.engine.batching import MOST
from diptych.engine.painting import Job, PaintingEngine
from diptych.engine.reading import ReadingEngine
from diptych.foundation.errors import InvalidValue
from diptych.pipelines.painting import Painting, Request
from diptych.pipelines.reading import Ask, Reading
from diptych.pipelines.text_to_image import PaintState
from diptych.pipelines.texts import Text

# A bucket, how many rows its turn had, and the seconds that it took.
Learn = Callable[[Hashable, int, float], None]
Turn = tuple[Callable[[], object], int]


@dataclass
class Engine:
    """`exact`: every result has the bits that its request has alone. `learn` is told of each turn.

    Nothing happens but in `step`, and in one thread.
    """

    exact: bool = True
    most: int = MOST
    learn: Learn | None = None
    clock: Callable[[], float] = monotonic
    painters: dict[str, PaintingEngine] = field(default_factory=dict)
    readers: dict[str, ReadingEngine] = field(default_factory=dict)
    spent: dict[Hashable, float] = field(default_factory=dict)

    def add_painter(self, name: str, networks: Painting) -> None:
        """A model that paints. Raises InvalidValue for a name that is taken."""
        self._free(name)
        self.painters[name] = PaintingEngine(networks, self.exact, self.most)

    def add_reader(self, name: str, reading: Reading) -> None:
        """A model that reads. Raises InvalidValue for a name that is taken."""
        self._free(name)
        self.readers[name] = ReadingEngine(reading, self.exact)

    def _free(self, name: str) -> None:
        if name in self.painters or name in self.readers:
            raise InvalidValue(f"There is {name!r} already.", do="Give it another name.")

    def remove(self, name: str) -> None:
        """Forget a model; what it has under way is lost."""
        self.painters.pop(name, None)
        self.readers.pop(name, None)

    def paint(
        self,
        name: str,
        request: Request,
        watch: Callable[[PaintState], None] | None = None,
        state: PaintState | None = None,
    ) -> Job:
        """A request to a painter; `state` is where it was and goes on."""
        return self.painters[name].submit(request, watch, state)

    def read(self, name: str, ask: Ask, watch: Callable[[str], None] | None = None) -> Text:
        """A request to a reader."""
        return self.readers[name].submit(ask, watch)

    def step(self) -> bool:
        """A turn of the bucket that has had the least time; whether there was one."""
        turns = self._turns()
        if not turns:
            self.spent.clear()
            return False
        # Who comes late begins where the others are: time that was not used is not saved up.
        least = min((self.spent[key] for key in turns if key in self.spent), default=0.0)
        self.spent = {key: max(self.spent.get(key, least), least) for key in turns}
        key = min(turns, key=lambda one: self.spent[one])
        turn, rows = turns[key]
        began = self.clock()
        turn()
        took = self.clock() - began
        self.spent[key] += took / max(rows, 1)
        if self.learn is not None:
            self.learn(key, rows, took)
        return True

    def run(self) -> None:
        """All that was submitted."""
        while self.step():
            pass

    def _turns(self) -> dict[Hashable, Turn]:
        turns: dict[Hashable, Turn] = {}
        for name, painter in self.painters.items():
            for shape, jobs in painter.shapes().items():
                turns[name, shape] = (_advancing(painter, shape), len(jobs))
            if painter.ready:
                turns[name, "decode"] = (painter.decode, 1)
        for name, reader in self.readers.items():
            if reader.busy:
                turns[name, "words"] = (reader.step, reader.busy)
        return turns


def _advancing(painter: PaintingEngine, shape: tuple[int, ...]) -> Callable[[], None]:
    return lambda: painter.advance(shape)
