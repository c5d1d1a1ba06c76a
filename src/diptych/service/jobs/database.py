"""One writer, many readers, and a commit that many share.

On SQLite, one thread holds the only connection that writes and makes checkpoints. So readers never
wait, no write ever meets another's lock, and SQLite's WAL-reset bug (3.7.0 to 3.51.2: two
connections that write or checkpoint at once may corrupt the file) cannot be met; `doctor` tells of
the version for this reason alone. No memory map either: a failing disk must be an error, no signal.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine, create_engine
from sqlalchemy.exc import DatabaseError, DBAPIError, IntegrityError, OperationalError

from diptych.foundation.errors import InvalidValue, NotWritten, Unreadable
from diptych.foundation.files import sync_folder
from diptych.foundation.lock import held
from diptych.service.jobs.migrations import upgrade
from diptych.service.jobs.schema import metadata
from diptych.service.jobs.sqlite import READER, WRITER, connected, sqlite_notice

A = TypeVar("A")
T = TypeVar("T")

MOST_TOGETHER = 64


@dataclass(frozen=True)
class _Order:
    """A function to run in a transaction. `loop`: where the answer is waited for, else a thread."""

    run: Callable[..., Any]
    answer: Future[Any] | asyncio.Future[Any]
    loop: asyncio.AbstractEventLoop | None = None
    items: tuple[Any, ...] = ()  # one, of a function that takes many


class Database:
    """Open it by `Database.open`, `Database.in_memory` or `Database.at`; `close` it."""

    def __init__(self, writer: Engine, reader: Engine | None, held_open: ExitStack):
        self._writer, self._reader, self._held_open = writer, reader, held_open
        self._orders: queue.SimpleQueue[_Order | None] = queue.SimpleQueue()
        self._door = threading.Lock()
        self._closed = False
        self.commits = 0  # of the writer, since it began
        self._thread = threading.Thread(target=self._work, name="jobs-writer", daemon=True)
        self._thread.start()

    @classmethod
    def open(cls, folder: Path) -> Database:
        """The file `jobs.db` of a folder, brought to today's form.

        Raises InvalidValue while another server has the folder, or for a SQLite that is too old;
        NotWritten when the disk refuses.
        """
        sqlite_notice()
        with ExitStack() as stack:
            _make(folder)
            stack.enter_context(
                held(
                    folder / "server.lock",
                    f"Cannot open {str(folder)!r}: another server has this folder.",
                    "End it, or choose another folder.",
                )
            )
            file = folder / "jobs.db"
            writer = connected(str(file), WRITER)
            stack.callback(writer.dispose)
            _upgraded(writer, file)
            reader = connected(f"{file.resolve().as_uri()}?mode=ro", READER)
            stack.callback(reader.dispose)
            return cls(writer, reader, stack.pop_all())

    @classmethod
    def in_memory(cls) -> Database:
        """For tests: nothing stays, and reads wait for their turn with the writer."""
        writer = connected(":memory:", WRITER)
        _in_transaction(writer, metadata.create_all)
        stack = ExitStack()
        stack.callback(writer.dispose)
        return cls(writer, None, stack)

    @classmethod
    def at(cls, url: str) -> Database:
        """A PostgreSQL database, `postgresql+psycopg://...`, which several servers may share."""
        if not url.startswith("postgresql"):
            raise InvalidValue(f"{url.partition(':')[0]!r} is no database of the service.",
                               do="Give a folder or postgresql+psycopg://...")  # fmt: skip
        # `begin_again` and the like see what is committed, and rows are locked where they are read.
        both = create_engine(url, isolation_level="READ COMMITTED", pool_pre_ping=True)
        stack = ExitStack()
        stack.callback(both.dispose)
        try:
            _in_transaction(both, upgrade)
        except BaseException:
            stack.close()
            raise
        return cls(both, both, stack)

    async def write(self, run: Callable[[Connection], T]) -> T:
        """Run a function in a transaction of the writer, and answer when it is committed.

        Others' may share the transaction, and it may be run twice: it must change nothing but the
        database. Its exceptions come back here and undo what it did, and only that. Raises
        NotWritten when the disk is full or the file is locked.
        """
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[T] = loop.create_future()
        self._put(_Order(run, answer, loop))
        return await answer

    async def write_each(self, run: Callable[[Connection, list[A]], list[T]], item: A) -> T:
        """As `write`, of a function that answers several at once: items that come at the same time
        are given to one call of it."""
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[T] = loop.create_future()
        self._put(_Order(run, answer, loop, (item,)))
        return await answer

    def write_now(self, run: Callable[[Connection], T]) -> T:
        """As `write`, for a thread without a loop."""
        assert threading.current_thread() is not self._thread, "the writer would wait for itself"
        answer: Future[T] = Future()
        self._put(_Order(run, answer))
        return answer.result()

    def read(self, run: Callable[[Connection], T]) -> T:
        """Run a function on a read-only connection that the calling thread has to itself, with one
        state of the database from its first to its last query."""
        if self._reader is None:
            return self.write_now(run)
        with self._reader.connect() as connection, connection.begin():
            return run(connection)

    def close(self) -> None:
        """End, after all that was asked for is written."""
        with self._door:
            if self._closed:
                return
            self._closed = True
            self._orders.put(None)
        self._thread.join()
        self._held_open.close()

    def _put(self, order: _Order) -> None:
        with self._door:
            if self._closed:
                raise NotWritten("The database is closed.", do="The server is shutting down.")
            self._orders.put(order)

    # --- the writer's thread ----------------------------------------------------------------------

    def _work(self) -> None:
        with self._writer.connect() as connection:
            ended = False
            while not ended:
                orders = [self._orders.get()]
                while len(orders) < MOST_TOGETHER and orders[-1] is not None:
                    try:
                        orders.append(self._orders.get_nowait())
                    except queue.Empty:
                        break
                ended = orders[-1] is None
                self._serve(connection, [order for order in orders if order is not None])

    def _serve(self, connection: Connection, orders: Sequence[_Order]) -> None:
        if not orders:
            return
        try:
            results = self._together(connection, orders)
        except BaseException as error:  # whatever it is, it belongs to who asked for it
            if len(orders) > 1 or _may_pass(error):
                for order in orders:
                    _resolve([(order, *self._alone(connection, order))])
            else:
                _resolve([(orders[0], None, _said(error))])
            return
        _resolve([(order, one, None) for order, one in zip(orders, results, strict=True)])

    def _together(self, connection: Connection, orders: Sequence[_Order]) -> list[Any]:
        with connection.begin():
            results = [one for group in _groups(orders) for one in _run(connection, group)]
        self.commits += 1
        return results

    def _alone(self, connection: Connection, order: _Order) -> tuple[Any, BaseException | None]:
        try:
            return self._together(connection, [order])[0], None
        except BaseException as error:
            return None, _said(error)


def _groups(orders: Sequence[_Order]) -> list[list[_Order]]:
    """Neighbours that are one call of a function."""
    found: list[list[_Order]] = []
    for order in orders:
        if found and order.items and found[-1][0].items and found[-1][0].run is order.run:
            found[-1].append(order)
        else:
            found.append([order])
    return found


def _run(connection: Connection, group: list[_Order]) -> list[Any]:
    first = group[0]
    if not first.items:
        return [first.run(connection)]
    return first.run(connection, [item for order in group for item in order.items])


def _upgraded(writer: Engine, file: Path) -> None:
    """Bring the tables to today's form. Raises Unreadable for a file that is no database."""
    try:
        _in_transaction(writer, upgrade)
    except DatabaseError as error:
        if isinstance(error, OperationalError):
            raise
        raise Unreadable(
            f"{str(file)!r} is no database of jobs.", do="Put a backup in its place, or move it."
        ) from error


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with suppress(PermissionError):  # a folder above that others may not list
            sync_folder(folder.resolve().parent)
    except OSError as error:
        raise NotWritten(
            f"Cannot make the folder {str(folder)!r}: {error.strerror or error}.",
            do="Choose another place for the data.",
        ) from error


def _in_transaction(engine: Engine, run: Callable[[Connection], object]) -> None:
    try:
        with engine.begin() as connection:
            run(connection)
    except DBAPIError as error:
        raise _said(error) from error


# --- answers --------------------------------------------------------------------------------------


def _may_pass(error: BaseException) -> bool:
    """Another server was faster with the same row, or the connection was lost: once more."""
    return isinstance(error, OperationalError | IntegrityError)


def _said(error: BaseException) -> BaseException:
    if not isinstance(error, OperationalError):
        return error
    said = NotWritten(
        f"The database did not take it: {error.orig}.",
        do="Free some space, or end what holds the file; nothing was changed.",
    )
    said.__cause__ = error
    return said


def _resolve(done: Sequence[tuple[_Order, Any, BaseException | None]]) -> None:
    """Tell who waits; each loop is woken once."""
    by_loop: dict[asyncio.AbstractEventLoop, list[tuple[Any, Any, BaseException | None]]] = {}
    for order, result, error in done:
        if order.loop is None:
            _settle([(order.answer, result, error)])
        else:
            by_loop.setdefault(order.loop, []).append((order.answer, result, error))
    for loop, answers in by_loop.items():
        try:
            loop.call_soon_threadsafe(_settle, answers)
        except RuntimeError:  # the loop has ended: nobody waits there
            continue


def _settle(answers: Sequence[tuple[Any, Any, BaseException | None]]) -> None:
    for answer, result, error in answers:
        if answer.cancelled():
            continue
        if error is None:
            answer.set_result(result)
        else:
            answer.set_exception(error)
