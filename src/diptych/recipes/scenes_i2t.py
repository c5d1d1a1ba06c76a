"""`scenes-i2t`: captions, descriptions, answers and reading of scenes, all by one model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from random import Random
from typing import cast

import torch
from torch import Tensor, nn

from diptych.checkpoints.folder import load_network
from diptych.data.scenes.captions import Wording, detailed, relational, short
from diptych.data.scenes.questions import questions
from diptych.data.scenes.render import render
from diptych.data.scenes.world import Scene, World, pick
from diptych.evaluation.scenes.reading import calibrated, reading_scores
from diptych.foundation.randomness import mix, stream
from diptych.models.vision_language import VisionLanguage, VisionLanguageConfig
from diptych.objectives.answering import answer_loss
from diptych.pipelines.folders import write_image_to_text
from diptych.pipelines.image_to_text import TASK_WORDS, ImageToTextNetworks
from diptych.recipes.packed_texts import Said, packed
from diptych.recipes.scenes_batches import scenes, to_image
from diptych.recipes.scenes_words import scenes_tokenizer
from diptych.text.word_tokenizer import WordTokenizer
from diptych.training.plan import Plan, Settings

SEEN = World(words=0.45)
TEXTS = 6  # a picture: caption, description or relation, and four that are asked
# How often a kind is asked beside the others: where two things are compared is learned last.
OFTEN = {"relation": 3, "compare": 3}
# What a token of an answer weighs beside one of a caption: answers are one word, captions twenty.
ANSWER_WEIGHT = 4.0


@dataclass(frozen=True, kw_only=True)
class ScenesI2T:
    """Cost, scores: see the model card. `start`: a finished run to go on from (none: scratch)."""

    start: str | None = None
    batch: int = 40
    world: World = SEEN
    model: VisionLanguageConfig = VisionLanguageConfig(vocabulary=len(scenes_tokenizer(TASK_WORDS)))
    training: Settings = Settings(
        steps=2000,
        learning_rate=2e-3,
        muon_learning_rate=0.015,
        optimizer="muon",
        warmup=60,
        betas=(0.9, 0.98),
        ema=0.997,
        probe_every=400,
        threads=1,
    )

    def build(self) -> Plan:
        torch.manual_seed(mix(self.training.seed))
        tokenizer = scenes_tokenizer(TASK_WORDS)
        reader = VisionLanguage(self.model)
        if self.start is not None:
            begun = load_network(Path(self.start) / "reader", VisionLanguage)
            reader.load_state_dict(begun.state_dict())
        return Plan(
            model=reader,
            objective=answer_loss,
            batch_at=partial(asked_pictures, self, tokenizer),
            settings=self.training,
            probes={"tune": partial(_probe, tokenizer)},
        )

    def finish(self, plan: Plan, run: Path) -> None:
        networks = ImageToTextNetworks(
            cast(VisionLanguage, plan.model), scenes_tokenizer(TASK_WORDS)
        )
        write_image_to_text(run, calibrated(networks))


def asked_pictures(recipe: ScenesI2T, tokenizer: WordTokenizer, index: int) -> dict[str, Tensor]:
    """Batch `index`: image [B, 3, H, W]; tokens, segments and weights [B, L], the texts of a
    picture one behind the other."""
    seed, world = recipe.training.seed, recipe.world
    drawn = scenes(world, seed, index, recipe.batch)
    texts = [
        texts_of(scene, stream(seed, 1, index * recipe.batch + row))
        for row, scene in enumerate(drawn)
    ]
    image = to_image([render(scene, world.size) for scene in drawn])
    return {"image": image, **packed(tokenizer, texts)}


def texts_of(scene: Scene, draw: Random) -> list[Said]:
    """TEXTS of them."""
    said = [("caption", short(scene, draw, Wording(size=0.3, relation=0.3)), 1.0)]
    related = relational(scene, draw) if draw.random() < 0.3 else None
    said.append(("relate", related, 1.0) if related else ("describe", detailed(scene, draw), 0.7))
    asked = [
        (q.text, q.answer, ANSWER_WEIGHT)
        for q in questions(scene, draw)
        for _ in range(OFTEN.get(q.kind, 1))
    ]
    if scene.word is not None or draw.random() < 0.15:
        said.append(("read", scene.word.text if scene.word else "", ANSWER_WEIGHT))
    while len(said) < TEXTS:
        said.append(pick(draw, asked))
    return said


def _probe(
    tokenizer: WordTokenizer, model: nn.Module, step: int, folder: Path
) -> Mapping[str, float]:
    networks = ImageToTextNetworks(cast(VisionLanguage, model), tokenizer)
    return reading_scores(networks, "tune", seed=5, captions=120, each=30)
