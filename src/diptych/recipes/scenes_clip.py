"""`scenes-clip`: pictures and captions of the scenes world in one space, for search."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from random import Random
from statistics import fmean
from typing import cast

import torch
from torch import Tensor, nn

from diptych.data.scenes.matching import caption_of, truths
from diptych.data.scenes.render import render
from diptych.data.scenes.vocabulary import COLORS, SHAPES
from diptych.data.scenes.world import Scene, World
from diptych.evaluation.scenes.retrieval import retrieval_scores
from diptych.foundation.errors import InvalidValue
from diptych.foundation.randomness import mix, stream
from diptych.models.dual_encoder import DualEncoderConfig, DualEncoderNetwork
from diptych.models.text_encoder import TextEncoder, TextEncoderConfig
from diptych.models.vision_language import VisionLanguage, VisionLanguageConfig
from diptych.objectives.contrastive import contrastive_loss
from diptych.pipelines.embedding import EmbeddingNetworks
from diptych.pipelines.folders import write_dual_encoder
from diptych.pipelines.reference import folder_of
from diptych.recipes.scenes_batches import padded, scenes, to_image
from diptych.recipes.scenes_words import marked, scenes_tokenizer
from diptych.recipes.stages import stage
from diptych.text.word_tokenizer import WordTokenizer
from diptych.training.plan import Plan, Settings

LONGEST = 96  # six things with size, fill and place, a word and a background are 85 tokens
SHARED = 4  # colors, and shapes, that the things of a batch have most often


@dataclass(frozen=True, kw_only=True)
class ScenesClip:
    """Cost, scores: see the model card.

    `start_reader`: a model of `scenes-i2t` whose vision tower to begin with; `start_text`: a run
    of `scenes-text` whose encoder to begin with; `start`: a finished run of this recipe to go on
    from, towers and all (none: scratch). `candidates`: out of how many scenes each of a batch is
    taken, so that the batch shares its colors and shapes; 1 takes them as they come.
    """

    start_reader: str | None = None
    start_text: str | None = None
    start: str | None = None
    batch: int = 96
    candidates: int = 4
    world: World = World(words=0.4)
    model: DualEncoderConfig = DualEncoderConfig(
        text=TextEncoderConfig(vocabulary=len(scenes_tokenizer()), length=LONGEST)
    )
    training: Settings = Settings(
        steps=2000,
        learning_rate=1.5e-3,
        muon_learning_rate=0.01,
        optimizer="muon",
        warmup=60,
        betas=(0.9, 0.98),
        ema=0.995,
        probe_every=250,
    )

    def build(self) -> Plan:
        """Raises InvalidValue for a model to begin with that is built otherwise than `model`."""
        torch.manual_seed(mix(self.training.seed))
        tokenizer, encoder = scenes_tokenizer(), DualEncoderNetwork(self.model)
        if self.start_reader is not None:
            config = VisionLanguageConfig(vision=self.model.vision)
            reader = stage(VisionLanguage, config, folder_of(self.start_reader) / "reader")
            _same(reader.config.vision, self.model.vision, "vision tower", self.start_reader)
            encoder.vision.load_state_dict(reader.vision.state_dict())
        if self.start_text is not None:
            text = stage(TextEncoder, self.model.text, self.start_text)
            # Rotary positions have no weights, so that a shorter text encoder fits too.
            found = replace(text.config, length=self.model.text.length)
            _same(found, self.model.text, "text encoder", self.start_text)
            encoder.text.load_state_dict(text.state_dict())
        if self.start is not None:
            begun = stage(DualEncoderNetwork, self.model, folder_of(self.start) / "encoder")
            _same(begun.config, self.model, "dual encoder", self.start)
            encoder.load_state_dict(begun.state_dict())
        return Plan(
            model=encoder,
            objective=contrastive_loss,
            batch_at=partial(captioned_scenes, self, tokenizer),
            settings=self.training,
            probes={"tune": partial(_probe, tokenizer)},
        )

    def finish(self, plan: Plan, run: Path) -> None:
        encoder = cast(DualEncoderNetwork, plan.model)
        write_dual_encoder(run, EmbeddingNetworks(encoder, scenes_tokenizer()))


def _same(found: object, wanted: object, what: str, folder: str) -> None:
    if found != wanted:
        raise InvalidValue(
            f"The {what} of {folder!r} is {found}, not {wanted}.",
            do="Give the model the same numbers, or begin without it.",
        )


def captioned_scenes(recipe: ScenesClip, tokenizer: WordTokenizer, index: int) -> dict[str, Tensor]:
    """Batch `index`: image [B, 3, H, W], tokens and mask [B, L], true [B, B]."""
    seed, world = recipe.training.seed, recipe.world
    drawn = near_scenes(recipe, index)
    captions = [
        caption_of(scene, stream(seed, 1, index * recipe.batch + row))
        for row, scene in enumerate(drawn)
    ]
    tokens, mask = padded([marked(tokenizer, one.text) for one in captions], tokenizer.pad)
    image = to_image([render(scene, world.size) for scene in drawn])
    true = torch.from_numpy(truths(captions, drawn))
    return {"image": image, "tokens": tokens, "mask": mask, "true": true}


def near_scenes(recipe: ScenesClip, index: int) -> list[Scene]:
    """The scenes of batch `index`, with many things of four colors and four shapes.

    Among such the color of one thing with the shape of another is a wrong answer that a random
    batch seldom holds. How many things the scenes have is as in the world.
    """
    seed, count = recipe.training.seed, recipe.batch * recipe.candidates
    drawn = sorted(scenes(recipe.world, seed, index, count), key=lambda one: len(one.things))
    draw = stream(seed, 2, index)
    shared = {*_some(draw, tuple(COLORS)), *_some(draw, SHAPES)}

    def nearness(scene: Scene) -> float:
        return fmean({thing.color, thing.shape} <= shared for thing in scene.things)

    groups = [drawn[i : i + recipe.candidates] for i in range(0, count, recipe.candidates)]
    return [max(group, key=nearness) for group in groups]


def _some(draw: Random, names: Sequence[str]) -> list[str]:
    return sorted(names, key=lambda _: draw.random())[:SHARED]


def _probe(
    tokenizer: WordTokenizer, model: nn.Module, step: int, folder: Path
) -> Mapping[str, float]:
    networks = EmbeddingNetworks(cast(DualEncoderNetwork, model), tokenizer)
    return retrieval_scores(networks, "tune", seed=5, count=300)
