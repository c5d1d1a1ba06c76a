"""`captioner-uniter` and `captioner-vilbert`: whether a text belongs to a picture; masked words.

Half of the texts that do not belong are of another scene; the others are the scene's own with one
color or shape changed.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from diptych.data.scenes import vocabulary as v
from diptych.data.scenes.captions import plural
from diptych.data.scenes.grammar import parse
from diptych.data.scenes.judge import holds
from diptych.data.scenes.world import Scene, pick
from diptych.foundation.randomness import stream
from diptych.metrics.auc import auc
from diptych.models.captioners.uniter import UNITER, UNITERConfig
from diptych.models.captioners.vilbert import ViLBERT, ViLBERTConfig
from diptych.objectives.loss import Loss
from diptych.recipes.captioners.recipe import VOCABULARY, CaptionerRecipe, settings
from diptych.recipes.captioners.sayings import said
from diptych.recipes.captioners.scores import Pictures, shown_to
from diptych.recipes.captioners.seen import seen_of
from diptych.recipes.captioners.turns import scenes_of
from diptych.recipes.scenes_batches import padded
from diptych.recipes.scenes_words import marked, scenes_tokenizer
from diptych.training.plan import Settings

MASKED = 0.15  # of the words
# What a word may be changed into.
_SIBLINGS = [tuple(v.COLORS), v.SHAPES, tuple(map(plural, v.SHAPES))]


def matching_loss(model: Any, batch: dict[str, Any], generator: torch.Generator) -> Loss:
    """Masked words or belonging together, one of the two a batch, drawn (UNITER, section 3.2)."""
    if float(torch.rand((), generator=generator)) < 0.5:
        tokens, mask = batch["tokens"], batch["mask"]
        hidden = (torch.rand(tokens.shape, generator=generator) < MASKED) & mask
        hidden[:, 1] |= ~hidden.any(1)  # one at least
        shown = torch.where(hidden, scenes_tokenizer().unknown, tokens)
        words = model(shown, mask, **batch["seen"])[1]
        return Loss(cross_entropy(words[hidden].float(), tokens[hidden]))
    match, _ = model(batch["texts"], batch["texts_mask"], **batch["seen"])
    return Loss(binary_cross_entropy_with_logits(match.float(), batch["belongs"].float()))


def texts_beside(recipe: CaptionerRecipe, index: int, numbers: list[int]) -> dict[str, Tensor]:
    """texts and texts_mask [B, L] of which every other belongs to its scene, belongs [B]."""
    draws = [stream(recipe.training.seed, 6, index * len(numbers) + i) for i in range(len(numbers))]
    scenes = scenes_of("train")
    texts = [
        said(scenes[number], draw) if row % 2 else false_text(scenes, number, draw)
        for row, (number, draw) in enumerate(zip(numbers, draws, strict=True))
    ]
    tokens, mask = _tokens(texts)
    belongs = torch.arange(len(numbers)) % 2 == 1
    return {"texts": tokens, "texts_mask": mask, "belongs": belongs}


def false_text(scenes: tuple[Scene, ...], number: int, draw: Random) -> str:
    """What is not true of this scene: of another one, or with one color or shape changed."""
    near = draw.random() < 0.5
    while True:
        text = said(scenes[number], draw) if near else said(pick(draw, scenes), draw)
        text = changed(text, draw) if near else text
        if not holds(parse(text), scenes[number]).right:
            return text


def changed(text: str, draw: Random) -> str:
    """One color or shape word another one, articles as they must be."""
    words = text.replace(",", " ,").split()
    places = [(i, kind) for i, word in enumerate(words) for kind in _SIBLINGS if word in kind]
    place, kind = pick(draw, places)
    words[place] = pick(draw, [word for word in kind if word != words[place]])
    # "a orange star" would give it away.
    for i, word in enumerate(words[:-1]):
        if word in ("a", "an"):
            words[i] = "an" if words[i + 1][0] in "aeiou" else "a"
    return " ".join(words).replace(" ,", ",")


@torch.no_grad()
def match_scores(network: Any, eyes: Path, name: str, pictures: Pictures) -> dict[str, float]:
    """`auc` of a true and a false text of each scene of a set."""
    scenes, seen = scenes_of(name), seen_of(eyes, name)
    shown = shown_to(len(scenes), pictures)
    scores: tuple[list[float], list[float]] = ([], [])
    for start in range(0, len(scenes), 100):
        part = range(start, min(start + 100, len(scenes)))
        rows = seen.rows(network.sees, [shown[number] for number in part])
        for kind, belongs in enumerate((True, False)):
            draws = [stream(88, kind, number) for number in part]
            texts = [
                said(scenes[n], draw) if belongs else false_text(scenes, n, draw)
                for n, draw in zip(part, draws, strict=True)
            ]
            tokens, mask = _tokens(texts)
            scores[kind].extend(network(tokens, mask, **rows)[0].tolist())
    return {"auc": auc(*scores)}


def _tokens(texts: list[str]) -> tuple[Tensor, Tensor]:
    tokenizer = scenes_tokenizer()
    return padded([marked(tokenizer, text) for text in texts], tokenizer.pad)


@dataclass(frozen=True, kw_only=True)
class UNITERRecipe(CaptionerRecipe):
    """UNITER (Chen et al., 2020): words and regions in one stream."""

    network = UNITER
    objective = staticmethod(matching_loss)
    more = staticmethod(texts_beside)
    judged = staticmethod(match_scores)
    model: UNITERConfig = UNITERConfig(vocabulary=VOCABULARY)
    training: Settings = settings(1500, 1e-3)


@dataclass(frozen=True, kw_only=True)
class ViLBERTRecipe(CaptionerRecipe):
    """ViLBERT (Lu et al., 2019): two streams that exchange keys and values."""

    network = ViLBERT
    objective = staticmethod(matching_loss)
    more = staticmethod(texts_beside)
    judged = staticmethod(match_scores)
    model: ViLBERTConfig = ViLBERTConfig(vocabulary=VOCABULARY)
    training: Settings = settings(1500, 1e-3)
