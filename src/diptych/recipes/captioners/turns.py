"""Batches of captions: alone, or several in turns that begin alike."""

from __future__ import annotations

from functools import lru_cache
from random import Random
from typing import Any

from diptych.data.scenes.world import Scene
from diptych.foundation.randomness import stream
from diptych.recipes.captioners.sayings import SETS, said
from diptych.recipes.scenes_batches import padded
from diptych.recipes.scenes_words import marked, scenes_tokenizer

TURNS = 3


@lru_cache(maxsize=4)
def scenes_of(name: str) -> tuple[Scene, ...]:
    """All scenes of a set."""
    return tuple(SETS[name].scene(index) for index in range(SETS[name].count))


def turns(name: str, seed: int, count: int, each: int, index: int) -> dict[str, Any]:
    """Batch `index`: tokens [B, L] and mask [B, L] of `each` captions a row, and the numbers of
    their scenes [B][each]."""
    scenes, tokenizer = scenes_of(name), scenes_tokenizer()
    rows, numbers = [], []
    for row in range(count):
        draw = stream(seed, 1, index * count + row)
        chosen = [int(draw.random() * len(scenes)) for _ in range(each)]
        texts = alike([scenes[number] for number in chosen], draw)
        rows.append([token for text in texts for token in marked(tokenizer, text)])
        numbers.append(chosen)
    tokens, mask = padded(rows, tokenizer.pad)
    return {"tokens": tokens, "mask": mask, "numbers": numbers}


def alike(scenes: list[Scene], draw: Random) -> list[str]:
    """A caption of each, all with the opening of the first."""
    texts = [said(scenes[0], draw)]
    for scene in scenes[1:]:
        text = said(scene, draw)
        while opening(text) != opening(texts[0]):
            text = said(scene, draw)
        texts.append(text)
    return texts


def opening(text: str) -> str:
    """there | a picture of | nothing"""
    for words in ("there", "a picture of"):
        if text.startswith(words):
            return words
    return ""
