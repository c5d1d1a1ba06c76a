"""How things stand when requests come in: read once for all that share a transaction.

To ask the database again for each of them would cost more than all else of an acceptance. What is
accepted on the way is added here, so that the next one sees it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from sqlalchemy import Connection

from diptych.service.jobs import fairness, queries
from diptych.service.jobs.facts import known_owner
from diptych.service.jobs.queries import Place


@dataclass
class _Rank:
    """An owner's end of the queue of one class. `ends`: where its next job begins, in virtual time;
    `seen`: the place up to which the jobs before were summed, `seconds` theirs."""

    ends: float
    seen: Place | None = None
    seconds: float = 0.0


@dataclass
class Standing:
    """Of one transaction; it is thrown away with it."""

    connection: Connection
    _loads: dict[str, tuple[int, float]] = field(default_factory=dict)
    _free: dict[int, float] = field(default_factory=dict)
    _weights: dict[str, float] = field(default_factory=dict)
    _ranks: dict[tuple[str, int], _Rank] = field(default_factory=dict)
    _new: list[tuple[Place, float]] = field(default_factory=list)
    _left: float = 0.0

    @classmethod
    def read(cls, connection: Connection) -> Standing:
        """The queue as it is before any of these requests."""
        _, left = queries.running(connection)
        standing = cls(connection, _left=left)
        for one in queries.loads(connection):
            number, seconds = standing._loads.get(one.owner, (0, 0.0))
            standing._loads[one.owner] = number + one.number, seconds + one.seconds
            standing._free[one.rank] = standing._free.get(one.rank, 0.0) + one.free
        return standing

    def load(self, name: str) -> tuple[tuple[int, float], tuple[int, float]]:
        """Jobs that wait or run and their predicted seconds: of one owner, and of all."""
        every = self._loads.values()
        return (
            self._loads.get(name, (0, 0.0)),
            (sum(number for number, _ in every), sum(seconds for _, seconds in every)),
        )

    def end(self, name: str, rank: int) -> float:
        """The virtual time of an owner's next job of a class."""
        return self._rank(name, rank).ends

    def joined(self, name: str, place: Place, cost: float) -> float:
        """An owner's new job is at the end of its class; the seconds until it is predicted to be
        done."""
        mine = self._rank(name, place.rank)
        if self._loads.keys() - {name}:
            mine.seconds += queries.seconds_before(self.connection, place, after=mine.seen)
        elif mine.seen is None:  # nobody else is there, and one's own stand before
            mine.seconds = sum(free for rank, free in self._free.items() if rank <= place.rank)
        mine.seen = place
        mine.ends = place.vtime + fairness.span(cost, self._weights[name])
        others = sum(seconds for at, seconds in self._new if at < place)
        number, seconds = self._loads.get(name, (0, 0.0))
        self._loads[name] = number + 1, seconds + cost
        self._new.append((place, cost))
        return self._left + mine.seconds + others + cost

    def _rank(self, name: str, rank: int) -> _Rank:
        if name not in self._weights:
            known_owner(self.connection, name)
            self._weights[name] = fairness.weight(self.connection, name)
        if (name, rank) not in self._ranks:
            begins = fairness.begins(self.connection, name, rank)
            self._ranks[name, rank] = _Rank(begins)
        return self._ranks[name, rank]
