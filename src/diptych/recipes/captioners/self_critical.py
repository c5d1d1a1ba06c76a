"""`captioner-self-critical`: the bottom-up top-down captioner goes on from where cross-entropy left
it, rewarded by CIDEr-D (Rennie et al., 2017; Anderson et al., 2018, section 3.2.2)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache, partial
from typing import cast

from torch import nn

from diptych.metrics.cider import Frequencies, Weighed, cider, weighed
from diptych.models.captioners.bottom_up_top_down import BottomUpTopDown, BottomUpTopDownConfig
from diptych.objectives.self_critical import self_critical_loss
from diptych.recipes.captioners.networks import BottomUpTopDownRecipe
from diptych.recipes.captioners.recipe import VOCABULARY, settings
from diptych.recipes.captioners.sayings import LONGEST, SETS, references
from diptych.recipes.captioners.turns import scenes_of
from diptych.recipes.scenes_words import scenes_tokenizer
from diptych.recipes.stages import stage
from diptych.training.plan import Settings


def reward(words: list[int], number: int) -> float:
    """CIDEr-D, 0..10, of a caption of scene `number` of the train set, its mark of the end a word
    like others."""
    return cider(words, _wanted(number), _frequencies())


@dataclass(frozen=True, kw_only=True)
class SelfCriticalRecipe(BottomUpTopDownRecipe):
    """`start`: a finished run of `captioner-bottom-up-top-down`."""

    start: str = "runs/captioner-bottom-up-top-down"
    batch: int = 48
    model: BottomUpTopDownConfig = BottomUpTopDownConfig(vocabulary=VOCABULARY)
    training: Settings = settings(600, 1e-4)

    objective = staticmethod(
        partial(
            self_critical_loss,
            reward=reward,
            marks=(scenes_tokenizer().bos, scenes_tokenizer().eos),
            longest=LONGEST,
        )
    )

    def begin(self, network: nn.Module) -> None:
        begun = stage(BottomUpTopDown, self.model, self.start)
        if next(network.parameters()).device.type != "meta":
            cast(BottomUpTopDown, network).load_state_dict(begun.state_dict())


@lru_cache(maxsize=1)
def _frequencies() -> Frequencies:
    """Of all references of the train set."""
    return Frequencies.of(map(_spelled, range(SETS["train"].count)))


@lru_cache(maxsize=20_000)
def _wanted(number: int) -> tuple[Weighed, ...]:
    return tuple(weighed(one, _frequencies()) for one in _spelled(number))


def _spelled(number: int) -> list[list[int]]:
    tokenizer = scenes_tokenizer()
    scene, seed = scenes_of("train")[number], SETS["train"].seed
    return [[*tokenizer.encode(text), tokenizer.eos] for text in references(scene, seed, number)]
