"""How good captions are: exact, and like what people say."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from diptych.decoding.words import cut, spoken
from diptych.evaluation.scenes.reading import caption_is_exact
from diptych.metrics.bleu import bleu
from diptych.metrics.cider import mean_cider
from diptych.models.captioners.captioner import Captioner
from diptych.recipes.captioners.sayings import LONGEST, SETS, references
from diptych.recipes.captioners.seen import seen_of
from diptych.recipes.captioners.turns import scenes_of
from diptych.recipes.scenes_words import scenes_tokenizer

# Whose picture is shown: the scene's own, that of the scene after it, or always the first.
Pictures = Literal["own", "shuffled", "same"]
_ROWS = 100


@dataclass(frozen=True)
class Said:
    """A caption of each scene of a set, and whether it is exact."""

    texts: list[str]
    exact: list[bool]


def scored(
    network: Captioner, eyes: Path, name: str, *, pictures: Pictures = "own"
) -> tuple[dict[str, float], Said]:
    """`exact` (the share that names all things by number, color and shape, and says nothing that is
    not so), `cider` (CIDEr-D, 0..10) and `bleu` (BLEU-4, 0..1) of the most likely captions."""
    seen, scenes = seen_of(eyes, name), scenes_of(name)
    count = len(scenes)
    shown = shown_to(count, pictures)
    texts = []
    for start in range(0, count, _ROWS):
        texts += captions(network, seen.rows(network.sees, shown[start : start + _ROWS]))
    said = Said(texts, [caption_is_exact(t, s) for t, s in zip(texts, scenes, strict=True)])
    wanted = references_of(name)
    mine = [text.split() for text in texts]
    scores = {
        "exact": sum(said.exact) / count,
        "cider": mean_cider(mine, wanted),
        "bleu": bleu(mine, wanted),
    }
    return scores, said


def caption_scores(
    network: Captioner, eyes: Path, name: str, pictures: Pictures
) -> dict[str, float]:
    """`scored` without the captions."""
    return scored(network, eyes, name, pictures=pictures)[0]


def shown_to(count: int, pictures: Pictures) -> list[int]:
    """Whose picture is shown for each scene."""
    return {
        "own": list(range(count)),
        "shuffled": [(number + 1) % count for number in range(count)],
        "same": [0] * count,
    }[pictures]


@torch.no_grad()
def captions(network: Captioner, seen: dict[str, Tensor], before: Any = None) -> list[str]:
    """The most likely caption of each picture; `before` [B, N]: tokens of earlier turns."""
    tokenizer = scenes_tokenizer()
    rows = len(next(iter(seen.values())))
    begin = torch.full((rows, 1), tokenizer.bos)
    begin = begin if before is None else torch.cat([before, begin], dim=1)
    memory = network.look(**seen)
    tokens = spoken(network.step, memory, begin, eos=tokenizer.eos, longest=LONGEST)
    return [tokenizer.decode(row) for row in cut(tokens, tokenizer.eos)]


@lru_cache(maxsize=4)
def references_of(name: str) -> list[list[list[str]]]:
    """The words of the references of each scene of a set."""
    return [
        [text.split() for text in references(scene, SETS[name].seed, index)]
        for index, scene in enumerate(scenes_of(name))
    ]
