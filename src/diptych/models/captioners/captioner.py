"""What all captioners share: a picture is looked at once, then words follow one another."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor, nn


class Captioner(nn.Module, ABC):
    """`look(**seen)` makes a memory of features (what `sees` names), a tensor or a tuple of them;
    `say(memory, tokens)` gives logits of each next word."""

    sees: tuple[str, ...] = ("grid",)

    @abstractmethod
    def look(self, **seen: Tensor) -> Any:
        """Features with rows first -> memory"""

    @abstractmethod
    def say(self, memory: Any, tokens: Tensor) -> Tensor:
        """memory, tokens [B, L] int64 from the mark of begin on -> logits of the next [B, L, V]"""

    def step(self, memory: Any, tokens: Tensor) -> tuple[Tensor, Any]:
        """memory, all tokens so far [B, N] -> logits of the next [B, V], and the memory for it.

        Here by reading all of them again; networks with a state of their own read the last."""
        return self.say(memory, tokens)[:, -1], memory

    def forward(self, tokens: Tensor, **seen: Tensor) -> Tensor:
        """tokens [B, L], features -> logits of the next words [B, L, V]"""
        return self.say(self.look(**seen), tokens)


class Recurrent(Captioner):
    """A captioner that goes word by word in training too."""

    def say(self, memory: Any, tokens: Tensor) -> Tensor:
        """memory, tokens [B, L] -> logits of the next [B, L, V]"""
        logits = []
        for place in range(tokens.shape[1]):
            here, memory = self.step(memory, tokens[:, : place + 1])
            logits.append(here)
        return torch.stack(logits, dim=1)
