"""What the loop of words asks of an image-to-text model, and what it is asked and answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from diptych.decoding.choices import Decoding
from diptych.decoding.constraints import Constraint
from diptych.decoding.slots import KVShape, KVView


@dataclass(frozen=True)
class Rows:
    """Rows of a decoder [N, D] at places [N], or [N, 3]; `following`: that of the next token."""

    rows: Tensor
    places: Tensor
    following: int


@dataclass(frozen=True)
class Prompt:
    """What is read before the first word. The `prefix`, up to the last picture, is made only when
    no store has it under `key`, which names all that it depends on; `rest` comes behind it.
    `causal`: a row of the prefix sees the rows before it; else all of them. `sees_all`: there is no
    prefix, and all rows see one another."""

    key: bytes
    prefix: Callable[[], Rows]
    rest: Rows
    causal: bool = True
    sees_all: bool = False


@dataclass(frozen=True)
class Ask:
    """A request: `prompt` is the model's, made of pictures and words."""

    prompt: Prompt
    decoding: Decoding = field(default_factory=Decoding)
    constraint: Constraint | None = None


@dataclass(frozen=True)
class Answer:
    """`text` and its `tokens`. `score`: probability that the model gives just this answer, in 0..1;
    `confidence`: calibrated on held-back data, or None. `logprobs` of each token as the network
    gave it, the end included, and `chosen_logprobs` behind filters and constraint; `likeliest`
    tokens with theirs at each step, if asked for. `finish`: `end`, `length`, `stop` or `loop`.
    `map` [H, W] in 0..1 of the picture's pixels: what the answer rests on, if asked for."""

    text: str
    score: float
    confidence: float | None
    logprobs: tuple[float, ...]
    tokens: tuple[int, ...] = ()
    chosen_logprobs: tuple[float, ...] = ()
    likeliest: tuple[tuple[tuple[int, float], ...], ...] = ()
    finish: str = "end"
    map: NDArray[np.float32] | None = field(default=None, compare=False, repr=False)

    def __str__(self) -> str:
        return self.text


class Reading(Protocol):
    """Networks in evaluation mode, on one device, and the words they know. Holds no state."""

    @property
    def kv(self) -> KVShape:
        """What is kept of a place."""
        ...

    @property
    def dtype(self) -> torch.dtype: ...

    @property
    def device(self) -> torch.device: ...

    @property
    def ends(self) -> tuple[int, ...]:
        """Tokens that end an answer."""
        ...

    def embed(self, tokens: Tensor) -> Tensor:
        """[N] -> [N, D]"""
        ...

    def read(self, rows: Tensor, places: Tensor, view: KVView) -> Tensor:
        """Rows [B, N, D] at places [B, N] or [B, N, 3] -> states [B, N, D]"""
        ...

    def step(self, rows: Tensor, places: Tensor, view: KVView, calls: int = 0) -> Tensor:
        """One row of each text: [B, D] at places [B] -> states. With `calls`, weights meet that
        many rows, and a text's row has the bits it has in any company of so many: the states of
        `calls` rows, the first B real."""
        ...

    def logits(self, states: Tensor) -> Tensor:
        """[..., D] -> [..., V]"""
        ...

    def spell(self, tokens: Sequence[int]) -> str:
        """Tokens as text, special ones left out."""
        ...
