"""What the recipes of all captioners share: scenes as they are seen, a caption of each, a probe."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, cast

import torch
from torch import nn

from diptych.checkpoints.folder import write_network
from diptych.foundation.files import write_whole
from diptych.foundation.randomness import mix
from diptych.models.captioners.captioner import Captioner
from diptych.models.captioners.word_decoder import WordDecoder, WordDecoderConfig
from diptych.objectives.captioning import caption_loss
from diptych.objectives.loss import Loss
from diptych.recipes.captioners.scores import Pictures, caption_scores
from diptych.recipes.captioners.seen import seen_of
from diptych.recipes.captioners.turns import turns
from diptych.recipes.scenes_words import scenes_tokenizer
from diptych.recipes.stages import stage
from diptych.training.plan import Plan, Settings

Objective = Callable[[Any, Any, torch.Generator], Loss]
Judged = Callable[[Any, Path, str, Pictures], Mapping[str, float]]
More = Callable[[Any, int, list[int]], dict[str, Any]]
VOCABULARY = len(scenes_tokenizer())
WORDS = WordDecoderConfig(vocabulary=VOCABULARY)


def settings(steps: int, learning_rate: float, **more: Any) -> Settings:
    """What all train with."""
    return Settings(
        steps=steps,
        learning_rate=learning_rate,
        warmup=50,
        trackers=(),
        workers=0,
        threads=1,
        precision="fp32",
        log_every=50,
        **more,
    )


@dataclass(frozen=True, kw_only=True)
class CaptionerRecipe:
    """`eyes`: a run of `captioner-eyes`; `words`: one of `captioner-words`, for those that begin
    with it. `blind`: every picture is the same one, what is learned is how people speak. `each`:
    pictures and captions in turns in a row.

    `network` builds from `model`; `objective` is how it learns; `more` adds to a batch what else it
    wants of these scenes; `judged` is how it is scored on the way.
    """

    network: ClassVar[Callable[[Any], nn.Module]]
    objective: ClassVar[Objective] = staticmethod(caption_loss)
    each: ClassVar[int] = 1
    more: ClassVar[More] = staticmethod(lambda recipe, index, numbers: {})
    judged: ClassVar[Judged] = staticmethod(caption_scores)

    eyes: str = "runs/captioner-eyes"
    words: str = "runs/captioner-words"
    blind: bool = False
    batch: int = 64
    model: Any
    training: Settings

    def build(self) -> Plan:
        torch.manual_seed(mix(self.training.seed))
        network = type(self).network(self.model)
        self.begin(network)
        return Plan(
            model=network,
            objective=type(self).objective,
            batch_at=partial(seen_and_said, self),
            settings=self.training,
            probes={"tune": partial(_probe, self)},
        )

    def begin(self, network: nn.Module) -> None:
        """What the network starts with; nothing by default."""

    def finish(self, plan: Plan, run: Path) -> None:
        """Writes the network and the tokenizer of its words."""
        write_network(run, plan.model)
        write_whole(run / "tokenizer.json", scenes_tokenizer().to_json())


def speak_first(recipe: CaptionerRecipe, network: Any, *, frozen: bool) -> None:
    """Begin with the language model of an earlier stage, and leave it as it is if `frozen`."""
    words = stage(WordDecoder, recipe.model.words, recipe.words)
    if next(network.parameters()).device.type != "meta":
        network.words.load_state_dict(words.state_dict())
    network.words.requires_grad_(not frozen)


def seen_and_said(recipe: CaptionerRecipe, index: int) -> dict[str, Any]:
    """Batch `index`: tokens [B, L], mask [B, L], numbers of the scenes; seen: features by kind,
    with a dimension for turns where there are several."""
    batch = turns("train", recipe.training.seed, recipe.batch, recipe.each, index)
    numbers = [number for row in batch["numbers"] for number in row]
    kinds = cast(type[Captioner], type(recipe).network).sees
    shown = [0] * len(numbers) if recipe.blind else numbers
    seen = seen_of(Path(recipe.eyes) / "seen", "train").rows(kinds, shown)
    if recipe.each > 1:
        seen = {kind: rows.unflatten(0, (-1, recipe.each)) for kind, rows in seen.items()}
    more = type(recipe).more(recipe, index, numbers)
    return {**batch, "numbers": numbers, "seen": seen, **more}


def _probe(
    recipe: CaptionerRecipe, model: nn.Module, step: int, folder: Path
) -> Mapping[str, float]:
    pictures = "same" if recipe.blind else "own"
    return type(recipe).judged(model, Path(recipe.eyes) / "seen", "tune", pictures)
