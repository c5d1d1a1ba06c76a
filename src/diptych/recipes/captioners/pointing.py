"""`captioner-ofa`: captions, and the box of a thing that is named, by one network."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from diptych.data.scenes import vocabulary as v
from diptych.data.scenes.captions import grouped, phrase
from diptych.data.scenes.world import Scene, Thing
from diptych.decoding.words import spoken
from diptych.models.captioners.ofa import OFA, POINT, OFAConfig
from diptych.nn.boxes import overlaps
from diptych.objectives.captioning import caption_loss, next_words
from diptych.objectives.loss import Loss
from diptych.recipes.captioners.recipe import VOCABULARY, CaptionerRecipe, settings
from diptych.recipes.captioners.seen import seen_of
from diptych.recipes.captioners.turns import scenes_of
from diptych.recipes.scenes_words import scenes_tokenizer
from diptych.training.plan import Settings


def pointing_loss(model: OFA, batch: dict[str, Any], generator: torch.Generator) -> Loss:
    """Of captions and of location words, as the mean over each."""
    said = caption_loss(model, batch, generator)
    memory = model.asked(batch["seen"]["grid"], POINT, batch["asked"])
    begin = torch.full((len(memory), 1), scenes_tokenizer().bos)
    tokens = torch.cat([begin, model.bins_of(batch["box"])], dim=1)
    mask = batch["there"][:, None].expand_as(tokens)
    pointed = next_words(model.say(memory, tokens[:, :-1]), tokens, mask)
    parts = {"said": said.total.detach(), "pointed": pointed.detach()}
    return Loss(said.total + pointed, parts)


def things_asked(recipe: CaptionerRecipe, index: int, numbers: list[int]) -> dict[str, Tensor]:
    """Of the n-th scene the n-th thing, in turns, that its color and shape name alone: asked
    [B, 3] words, box [B, 4], there [B], whether there is one."""
    chosen = [alone(scenes_of("train")[number]) for number in numbers]
    picked = [things[(index + row) % len(things)] if things else None
              for row, things in enumerate(chosen)]  # fmt: skip
    return asked_of(picked)


def alone(scene: Scene) -> list[Thing]:
    """Things that no other shares color and shape with."""
    return [group[0] for group in grouped(scene) if len(group) == 1]


def asked_of(things: list[Thing | None]) -> dict[str, Tensor]:
    """The words for each, its box, and whether it is there."""
    tokenizer = scenes_tokenizer()
    words = [phrase(1, t.color, shape=t.shape, article="the") if t else "the red star"
             for t in things]  # fmt: skip
    sides = [[t.x, t.y, 2 * t.radius, 2 * t.radius] if t else [32, 32, 8, 8] for t in things]
    return {
        "asked": torch.tensor([tokenizer.encode(text) for text in words]),
        "box": torch.tensor(sides, dtype=torch.float32) / v.UNITS,
        "there": torch.tensor([thing is not None for thing in things]),
    }


@dataclass(frozen=True, kw_only=True)
class OFARecipe(CaptionerRecipe):
    """OFA (Wang et al., 2022): captions and boxes as one sequence to another."""

    network = OFA
    objective = staticmethod(pointing_loss)
    more = staticmethod(things_asked)
    batch: int = 32
    model: OFAConfig = OFAConfig(vocabulary=VOCABULARY)
    training: Settings = settings(900, 2e-3)


@torch.no_grad()
def box_overlap(network: OFA, eyes: Path, *, blind: bool = False) -> dict[str, float]:
    """Over the things of the held-out set that are named alone: `overlap`, the mean intersection
    over union of the box that is said with the thing's, and `found`, the share from 0.5 on."""
    pairs = [(n, t) for n, scene in enumerate(scenes_of("heldout")) for t in alone(scene)]
    asked = asked_of([thing for _, thing in pairs])
    shared = []
    for start in range(0, len(pairs), 100):
        part = slice(start, start + 100)
        numbers = [0 if blind else number for number, _ in pairs[part]]
        grid = seen_of(eyes, "heldout").rows(("grid",), numbers)["grid"]
        memory = network.asked(grid, POINT, asked["asked"][part])
        begin = torch.full((len(grid), 1), scenes_tokenizer().bos)
        words = spoken(network.step, memory, begin, eos=-1, longest=4)
        boxes = network.boxes_of(words)
        shared.append(overlaps(boxes[:, None], asked["box"][part][:, None])[:, 0, 0])
    found = torch.cat(shared)
    return {"overlap": float(found.mean()), "found": float((found >= 0.5).float().mean())}
