"""The engine: requests of many models and shapes, one turn at a time.

Pictures, and the texts of each reader, get the same time where both wait. Whose turn it is among
pictures stands in `turns`: what is short never waits for the whole of what is long
(`python -m benchmarks.serve_mixed` measures it).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from time import monotonic

from diptych.engine.batching import MOST
from diptych.engine.painting import Job, PaintingEngine
from diptych.engine.reading import ReadingEngine
from diptych.engine.turns import Costs, Task, chosen, tasks_of
from diptych.foundation.errors import InvalidValue
from diptych.pipelines.painting import Painting, Request
from diptych.pipelines.reading import Ask, Reading
from diptych.pipelines.text_to_image import PaintState
from diptych.pipelines.texts import Text


@dataclass(frozen=True)
class Turn:
    """What was done: some pictures' next step, or a word of each text of a reader, and the seconds
    that it took."""

    seconds: float
    jobs: tuple[Job, ...] = ()
    reader: str = ""
    texts: int = 0


@dataclass
class Engine:
    """`exact`: every result has the bits that its request has alone. `learn` is told of each turn.

    Nothing happens but in `step`, and in one thread.
    """

    exact: bool = True
    most: int = MOST
    learn: Callable[[Turn], None] | None = None
    clock: Callable[[], float] = monotonic
    painters: dict[str, PaintingEngine] = field(default_factory=dict)
    readers: dict[str, ReadingEngine] = field(default_factory=dict)
    costs: Costs = field(default_factory=Costs)
    spent: dict[str, float] = field(default_factory=dict)

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
        job = self.painters[name].submit(request, watch, state)
        job.since = self.clock()
        return job

    def read(self, name: str, ask: Ask, watch: Callable[[str], None] | None = None) -> Text:
        """A request to a reader."""
        return self.readers[name].submit(ask, watch)

    def step(self) -> bool:
        """One turn; whether there was any."""
        tasks = self._tasks()
        # A reader by its name; "" is all pictures.
        waiting = [*([""] if tasks else []), *(n for n, one in self.readers.items() if one.busy)]
        if not waiting:
            self.spent.clear()
            return False
        # Who comes late begins where the others are: time that was not used is not saved up.
        least = min((self.spent[one] for one in waiting if one in self.spent), default=0.0)
        self.spent = {one: max(self.spent.get(one, least), least) for one in waiting}
        group = min(waiting, key=lambda one: self.spent[one])
        turn = self._read(group) if group else self._paint(tasks)
        self.spent[group] += turn.seconds
        if self.learn is not None:
            self.learn(turn)
        return True

    def _tasks(self) -> list[Task]:
        now, tasks = self.clock(), list[Task]()
        for name, painter in self.painters.items():
            jobs = [job for of_shape in painter.shapes().values() for job in of_shape]
            tasks += tasks_of(name, [*jobs, *painter.ready], self.costs, now)
        return tasks

    def _paint(self, tasks: list[Task]) -> Turn:
        now = chosen(tasks, self.costs)
        bucket, jobs = now[0].bucket, tuple(task.job for task in now)
        painter, began = self.painters[bucket.model], self.clock()
        if now[0].decodes:
            painter.decode(jobs[0])
        else:
            painter.advance(jobs)
        took = self.clock() - began
        self.costs.learn(bucket, 0 if now[0].decodes else sum(task.rows for task in now), took)
        return Turn(took, jobs)

    def _read(self, name: str) -> Turn:
        reader, began = self.readers[name], self.clock()
        texts = reader.busy
        reader.step()
        return Turn(self.clock() - began, reader=name, texts=texts)

    def run(self) -> None:
        """All that was submitted."""
        while self.step():
            pass
