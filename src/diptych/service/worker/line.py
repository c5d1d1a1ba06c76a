"""The engine's end of the socket: calls that wait for their answer, and bells that do not."""

from __future__ import annotations

import queue
import socket
import threading
from itertools import count
from pathlib import Path
from typing import Any

from diptych.service.wire import BadFrame, Message, packed, receive

PATIENCE = 60.0  # seconds for an answer; the server writes to a disk


class ServerGone(Exception):
    """There is nobody to work for any more."""


class Line:
    """`bell` is set by every word that is no answer; `heard` takes them out."""

    def __init__(self, path: Path):
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.connect(str(path))
        self._numbers, self._sending = count(1), threading.Lock()
        self._answers: queue.SimpleQueue[Message | None] = queue.SimpleQueue()
        self._bells: queue.SimpleQueue[Message] = queue.SimpleQueue()
        self.bell = threading.Event()
        self.gone = False
        threading.Thread(target=self._listen, daemon=True).start()

    def call(self, name: str, /, **said: Any) -> Any:
        """Ask and wait. Raises ServerGone."""
        number = next(self._numbers)
        self._send({**said, "number": number, "call": name})
        try:
            while True:
                answer = self._answers.get(timeout=PATIENCE)
                if answer is None:
                    raise ServerGone
                if answer.get("number") == number:
                    return answer.get("answer")
        except queue.Empty:
            raise ServerGone from None

    def tell(self, name: str, /, **said: Any) -> None:
        """Say something that nobody answers. Raises ServerGone."""
        self._send({**said, "call": name})

    def heard(self) -> list[Message]:
        """The bells since the last time."""
        self.bell.clear()
        found: list[Message] = []
        while True:
            try:
                found.append(self._bells.get_nowait())
            except queue.Empty:
                return found

    def _send(self, message: Message) -> None:
        try:
            with self._sending:
                self._socket.sendall(packed(message))
        except OSError as error:
            raise ServerGone from error

    def _listen(self) -> None:
        try:
            while (message := receive(self._socket)) is not None:
                if "answer" in message:
                    self._answers.put(message)
                else:
                    self._bells.put(message)
                    self.bell.set()
        except BadFrame:
            pass
        self.gone = True
        self._answers.put(None)
        self.bell.set()
