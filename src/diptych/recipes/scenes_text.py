"""`scenes-text`: the text encoder of `scenes-t2i` learns what a sentence says before any picture
is painted: each shape word must tell its thing's color, size, fill, number and place.

Without this the painter had to learn who is red and who is above from noisy pictures alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from diptych.data.scenes.captions import Wording, short
from diptych.data.scenes.world import World
from diptych.foundation.config import to_json
from diptych.foundation.randomness import mix, stream
from diptych.models.text_encoder import TextEncoder, TextEncoderConfig
from diptych.objectives.loss import Loss
from diptych.recipes.scenes_batches import padded, scenes
from diptych.recipes.scenes_words import TRAITS, marked, scenes_tokenizer, traits
from diptych.text.word_tokenizer import WordTokenizer
from diptych.training.plan import Plan, Settings
from diptych.training.weights import write_model

PAINTED = World(themes=(0.34, 0.26, 0.32, 0.08), words=0.0, plain=0.75, most=3)
SAID = Wording(relation=0.85, background=0.1)


@dataclass(frozen=True, kw_only=True)
class ScenesText:
    """Cost: two minutes on two cores. Score: shape words with all five traits right."""

    batch: int = 128
    world: World = PAINTED
    model: TextEncoderConfig = TextEncoderConfig(vocabulary=len(scenes_tokenizer()))
    training: Settings = Settings(steps=200, learning_rate=2e-3, warmup=40)

    def build(self) -> Plan:
        torch.manual_seed(mix(self.training.seed))
        tokenizer = scenes_tokenizer()
        return Plan(
            model=Tagger(self.model),
            objective=_loss,
            batch_at=partial(sentences, self.world, tokenizer, self.training.seed, self.batch),
            settings=self.training,
            probes={"heldout": partial(_probe, tokenizer)},
        )

    def finish(self, plan: Plan, run: Path) -> None:
        encoder = cast(Tagger, plan.model).text
        write_model(run, encoder, {"model": "text-encoder", "config": to_json(self.model)})


class Tagger(nn.Module):
    """A text encoder with a linear head over its tokens."""

    def __init__(self, config: TextEncoderConfig):
        super().__init__()
        self.text = TextEncoder(config)
        self.head = nn.Linear(config.width, sum(map(len, TRAITS.values())))

    def forward(self, tokens: Tensor, mask: Tensor) -> list[Tensor]:
        """tokens [B, L], mask [B, L] -> for each trait logits [B, L, classes]"""
        logits = self.head(self.text(tokens, mask)[0])
        return list(logits.split([len(names) for names in TRAITS.values()], dim=-1))


def sentences(
    world: World, tokenizer: WordTokenizer, seed: int, count: int, index: int
) -> dict[str, Tensor]:
    """Batch `index`: tokens [B, L], mask [B, L], traits [B, L, 5] (-100: not a shape word)."""
    texts = [
        short(scene, stream(seed, 1, index * count + row), SAID)
        for row, scene in enumerate(scenes(world, seed, index, count))
    ]
    tokens, mask = padded([marked(tokenizer, text) for text in texts], tokenizer.pad)
    labels = torch.full((*tokens.shape, len(TRAITS)), -100)
    for row, text in enumerate(texts):
        tagged = torch.tensor(traits(tokenizer, text))
        labels[row, : len(tagged)] = tagged
    return {"tokens": tokens, "mask": mask, "traits": labels}


def _loss(model: nn.Module, batch: dict[str, Any], generator: torch.Generator) -> Loss:
    logits = model(batch["tokens"], batch["mask"])
    losses = [
        cross_entropy(trait.float().flatten(0, 1), batch["traits"][..., i].flatten())
        for i, trait in enumerate(logits)
    ]
    return Loss(torch.stack(losses).sum())


def _probe(
    tokenizer: WordTokenizer, model: nn.Module, step: int, folder: Path
) -> Mapping[str, float]:
    world = World(split="heldout", themes=PAINTED.themes, words=0.0, plain=0.75, most=3)
    batch = sentences(world, tokenizer, 3, 500, 0)
    logits = model(batch["tokens"], batch["mask"])
    right = torch.stack([trait.argmax(-1) for trait in logits], dim=-1) == batch["traits"]
    return {"right": float(right.all(-1)[batch["traits"][..., 0] >= 0].float().mean())}
