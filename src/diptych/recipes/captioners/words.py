"""`captioner-words`: a small language model of captions that has never seen a picture. ClipCap,
Flamingo, and ViT and GPT-2 begin with it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from diptych.checkpoints.folder import write_network
from diptych.foundation.randomness import mix
from diptych.models.captioners.word_decoder import WordDecoder, WordDecoderConfig
from diptych.objectives.captioning import next_words
from diptych.objectives.loss import Loss
from diptych.recipes.captioners.turns import TURNS, turns
from diptych.recipes.scenes_words import scenes_tokenizer
from diptych.training.plan import Plan, Settings


@dataclass(frozen=True, kw_only=True)
class CaptionerWords:
    """Cost: a minute and a half. Score: nats a word on held-out scenes. It reads captions in turns,
    `TURNS` that begin alike one behind the other, as web pages go on as they began."""

    batch: int = 32
    model: WordDecoderConfig = WordDecoderConfig(vocabulary=len(scenes_tokenizer()))
    training: Settings = Settings(
        steps=800,
        learning_rate=3e-3,
        warmup=50,
        trackers=(),
        workers=0,
        threads=1,
        precision="fp32",
    )

    def build(self) -> Plan:
        torch.manual_seed(mix(self.training.seed))
        return Plan(
            model=WordDecoder(self.model),
            objective=_loss,
            batch_at=partial(turns, "train", self.training.seed, self.batch, TURNS),
            settings=self.training,
            probes={"heldout": _probe},
        )

    def finish(self, plan: Plan, run: Path) -> None:
        write_network(run, plan.model)


def _loss(model: nn.Module, batch: dict[str, Any], generator: torch.Generator) -> Loss:
    return Loss(_nats(model, batch))


def _nats(model: nn.Module, batch: dict[str, Any]) -> Tensor:
    return next_words(model(batch["tokens"][:, :-1]), batch["tokens"], batch["mask"])


def _probe(model: nn.Module, step: int, folder: Path) -> Mapping[str, float]:
    return {"nats": float(_nats(model, turns("heldout", 9, 500, 1, 0)))}
