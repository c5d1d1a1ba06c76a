"""A picture becomes words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from uuid import uuid4

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from diptych.decoding.choices import Decoding
from diptych.decoding.slots import KVShape, KVView
from diptych.imaging.pictures import to_square
from diptych.models.vision_language import VisionLanguage
from diptych.pipelines.asking import answered
from diptych.pipelines.calibration import Calibration, with_confidence
from diptych.pipelines.reading import Answer, Ask, Prompt, Rows
from diptych.text.word_tokenizer import WordTokenizer

TASK_WORDS = ("caption", "describe", "relate", "read")


@dataclass(frozen=True, eq=False)
class ImageToTextNetworks:
    """What reading a picture needs; in evaluation mode, on one device. A `Reading`."""

    reader: VisionLanguage
    tokenizer: WordTokenizer
    calibration: Calibration | None = None
    # Names these weights among the beginnings that a store keeps.
    identity: bytes = field(default_factory=lambda: uuid4().bytes)

    @property
    def image_size(self) -> int:
        """Side in pixels of the square pictures that the model reads."""
        return self.reader.config.vision.image_size

    @property
    def kv(self) -> KVShape:
        """As `Reading`."""
        return self.reader.kv

    @property
    def dtype(self) -> torch.dtype:
        """Of the weights."""
        return self.reader.token_embedding.weight.dtype

    @property
    def device(self) -> torch.device:
        """Of the weights."""
        return self.reader.token_embedding.weight.device

    @property
    def ends(self) -> tuple[int, ...]:
        """As `Reading`."""
        return (self.tokenizer.eos,)

    def embed(self, tokens: Tensor) -> Tensor:
        """[N] -> [N, D]"""
        return self.reader.token_embedding(tokens)

    def read(self, rows: Tensor, places: Tensor, view: KVView) -> Tensor:
        """Rows [B, N, D] at places [B, N] -> states [B, N, D]"""
        return self.reader.decode(rows, places, view=view)

    def whole(self, rows: Tensor, places: Tensor, mask: Tensor) -> Tensor:
        """A whole text at once: rows [B, N, D] at places [B, N], mask [1, 1, N, N] (True: may look)
        -> states [B, N, D]"""
        return self.reader.decode(rows, places, mask)

    def step(self, rows: Tensor, places: Tensor, view: KVView, calls: int = 0) -> Tensor:
        """As `Reading`."""
        return self.reader.step(rows, places, view, calls)

    def logits(self, states: Tensor) -> Tensor:
        """[..., D] -> [..., V]"""
        return self.reader.logits(states)

    def spell(self, tokens: Sequence[int]) -> str:
        """Tokens as text, marks left out."""
        return self.tokenizer.decode(tokens)

    def request(self, picture: Image.Image, task: str, decoding: Decoding | None = None) -> Ask:
        """A task (`caption`, `describe`, `relate`, `read`) or question about one picture, which is
        squeezed to the model's size. Raises InvalidValue for a question with unknown words or too
        long."""
        return self.ask(to_square(picture, self.image_size), task, decoding)

    @torch.inference_mode()
    def ask(self, picture: NDArray[np.uint8], task: str, decoding: Decoding | None = None) -> Ask:
        """picture [S, S, 3] of the model's size -> a request, greedy unless told otherwise."""
        tokenizer, room = self.tokenizer, self.reader.config.length
        asked = [tokenizer.bos, *tokenizer.check(task, room - 2), tokenizer.bos]
        before = self.reader.prefix_length
        key = sha256(self.identity + str(self.dtype).encode() + picture.tobytes()).digest()
        ids = torch.tensor(asked, device=self.device)
        places = torch.arange(before, before + len(asked), device=self.device)
        rest = Rows(self.embed(ids), places, before + len(asked))
        most = max(1, room - len(asked))
        how = (
            Decoding(most=most)
            if decoding is None
            else (replace(decoding, most=min(decoding.most, most)))
        )
        # The picture's rows see all of it.
        return Ask(Prompt(key, lambda: self.look(picture), rest, causal=False), how)

    def calibrated(self, answer: Answer) -> Answer:
        """The answer with its confidence, if the model has a calibration."""
        return with_confidence(answer, self.calibration)

    def look(self, picture: NDArray[np.uint8]) -> Rows:
        """The picture's rows [P, D]."""
        rows = self.reader.look(self.pixels(picture))[0]
        return Rows(rows, torch.arange(len(rows), device=self.device), len(rows))

    def pixels(self, picture: NDArray[np.uint8]) -> Tensor:
        """picture [S, S, 3] -> [1, 3, S, S] in -1..1"""
        image = torch.tensor(picture).permute(2, 0, 1)[None].to(self.device)
        return (image.float() / 127.5 - 1).to(self.dtype)


def prompt_ids(tokenizer: WordTokenizer, task: str) -> list[int]:
    """What the decoder reads before it answers: the task or question between two marks."""
    return [tokenizer.bos, *tokenizer.encode(task), tokenizer.bos]


def respond(
    networks: ImageToTextNetworks, pictures: Sequence[NDArray[np.uint8]], tasks: Sequence[str]
) -> list[Answer]:
    """Greedy answers; pictures [S, S, 3] uint8 of the model's size, a task or question each.

    Each is what it is alone, to the bit. Raises InvalidValue for a question with unknown words or
    too long, before anything is read.
    """
    asks = [networks.ask(*one) for one in zip(pictures, tasks, strict=True)]
    return [networks.calibrated(answer) for answer in answered(networks, asks)]
