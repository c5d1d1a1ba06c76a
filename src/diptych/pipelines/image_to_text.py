"""A picture becomes words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, log

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from diptych.models.vision_language import VisionLanguage
from diptych.text.word_tokenizer import WordTokenizer

TASK_WORDS = ("caption", "describe", "relate", "read")


@dataclass(frozen=True)
class Calibration:
    """confidence = sigmoid(slope * logit(score) + offset) (Platt, 1999), fitted on `n` answers of
    a split that is not scored; `error` is the expected calibration error there."""

    slope: float
    offset: float
    error: float
    n: int

    def confidence(self, score: float) -> float:
        """Probability in 0..1 that an answer of this score is right."""
        bounded = min(max(score, 1e-6), 1 - 1e-6)
        return 1 / (1 + exp(-(self.slope * log(bounded / (1 - bounded)) + self.offset)))


@dataclass(frozen=True)
class ImageToTextNetworks:
    """What reading a picture needs; in evaluation mode, on one device."""

    reader: VisionLanguage
    tokenizer: WordTokenizer
    calibration: Calibration | None = None

    @property
    def image_size(self) -> int:
        """Side in pixels of the square pictures that the model reads."""
        return self.reader.config.vision.image_size


@dataclass(frozen=True)
class Answer:
    """`score`: probability that the model gives its own answer, in 0..1; `confidence`: the same
    calibrated on held-back data, or None; `logprobs` of each token, the end included."""

    text: str
    score: float
    confidence: float | None
    logprobs: tuple[float, ...]

    def __str__(self) -> str:
        return self.text


def prompt_ids(tokenizer: WordTokenizer, task: str) -> list[int]:
    """What the decoder reads before it answers: the task or question between two marks."""
    return [tokenizer.bos, *tokenizer.encode(task), tokenizer.bos]


@torch.inference_mode()
def respond(
    networks: ImageToTextNetworks, pictures: Sequence[NDArray[np.uint8]], tasks: Sequence[str]
) -> list[Answer]:
    """Greedy answers; pictures [S, S, 3] uint8 of the model's size, a task or question each.

    Raises InvalidValue for a question with unknown words or too long.
    """
    reader, tokenizer = networks.reader, networks.tokenizer
    room = reader.config.length - 2
    prompts = [[tokenizer.bos, *tokenizer.check(task, room), tokenizer.bos] for task in tasks]
    weight = next(reader.parameters())
    device = weight.device
    image = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).to(device)
    prefix = reader.look((image.float() / 127.5 - 1).to(weight.dtype))
    answers: list[Answer | None] = [None] * len(prompts)
    # Rows of one prompt length share a forward pass without padding: nothing to get wrong.
    for length in sorted({len(prompt) for prompt in prompts}):
        rows = [row for row, prompt in enumerate(prompts) if len(prompt) == length]
        tokens = torch.tensor([prompts[row] for row in rows], device=device)
        chosen, logprobs = _greedy(reader, prefix[rows], tokens, tokenizer.eos)
        for row, ids, logs in zip(rows, chosen, logprobs, strict=True):
            score = exp(sum(logs))
            calibrated = networks.calibration and networks.calibration.confidence(score)
            answers[row] = Answer(tokenizer.decode(ids), score, calibrated, tuple(logs))
    return [answer for answer in answers if answer is not None]


def _greedy(
    reader: VisionLanguage, prefix: Tensor, tokens: Tensor, eos: int
) -> tuple[list[list[int]], list[list[float]]]:
    """Tokens up to the end mark and the log-probability of each, the end mark's included."""
    rows = torch.cat([prefix, reader.token_embedding(tokens)], dim=1)
    before, cache = prefix.shape[1], list[tuple[Tensor, Tensor]]()
    places = torch.arange(rows.shape[1], device=rows.device)
    # The picture's rows see all of it; a word sees it and the words before.
    seen = (places[:, None] >= places) | (places < before)
    seen[:before, before:] = False
    logits = reader.decode(rows, places[None], seen[None, None], cache)[:, -1]
    at, done = rows.shape[1], torch.zeros(len(rows), dtype=torch.bool, device=rows.device)
    chosen: list[Tensor] = []
    logs: list[Tensor] = []
    while True:
        best = logits.float().log_softmax(-1).max(-1)
        chosen.append(best.indices.where(~done, eos))
        logs.append(best.values.where(~done, 0.0))
        done = done | (best.indices == eos)
        if done.all() or tokens.shape[1] + len(chosen) >= reader.config.length:
            break
        everything = torch.ones(1, 1, 1, at + 1, dtype=torch.bool, device=rows.device)
        following = reader.token_embedding(chosen[-1])[:, None]
        logits = reader.decode(following, places.new_full((1, 1), at), everything, cache)[:, -1]
        at += 1
    ids, values = torch.stack(chosen, 1).tolist(), torch.stack(logs, 1).tolist()
    ends = [row.index(eos) if eos in row else len(row) for row in ids]
    return (
        [row[:end] for row, end in zip(ids, ends, strict=True)],
        [row[: end + 1] for row, end in zip(values, ends, strict=True)],
    )
