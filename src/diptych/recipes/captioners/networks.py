"""One recipe an architecture: what differs is the network, its loss and what it begins with. Costs
and scores stand in docs/captioners.md."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from torch import nn

from diptych.models.captioners.bottom_up_top_down import BottomUpTopDown, BottomUpTopDownConfig
from diptych.models.captioners.clip_cap import ClipCap, ClipCapConfig
from diptych.models.captioners.flamingo import Flamingo, FlamingoConfig
from diptych.models.captioners.linear_bridge import LinearBridge, LinearBridgeConfig
from diptych.models.captioners.show_and_tell import ShowAndTell, ShowAndTellConfig
from diptych.models.captioners.show_attend_tell import ShowAttendTell, ShowAttendTellConfig
from diptych.models.captioners.sim_vlm import SimVLM, SimVLMConfig
from diptych.models.captioners.vit_gpt2 import ViTGPT2, ViTGPT2Config
from diptych.objectives.captioning import attentive_loss, prefix_loss
from diptych.recipes.captioners.recipe import (
    VOCABULARY,
    WORDS,
    CaptionerRecipe,
    settings,
    speak_first,
)
from diptych.recipes.captioners.turns import TURNS
from diptych.training.plan import Settings


@dataclass(frozen=True, kw_only=True)
class ShowAndTellRecipe(CaptionerRecipe):
    """Show and Tell (Vinyals et al., 2015)."""

    network = ShowAndTell
    model: ShowAndTellConfig = ShowAndTellConfig(vocabulary=VOCABULARY)
    training: Settings = settings(2500, 3e-3)


@dataclass(frozen=True, kw_only=True)
class ShowAttendTellRecipe(CaptionerRecipe):
    """Show, Attend and Tell (Xu et al., 2015)."""

    network = ShowAttendTell
    objective = staticmethod(partial(attentive_loss, weight=0.1))
    model: ShowAttendTellConfig = ShowAttendTellConfig(vocabulary=VOCABULARY)
    training: Settings = settings(1600, 3e-3)


@dataclass(frozen=True, kw_only=True)
class BottomUpTopDownRecipe(CaptionerRecipe):
    """Bottom-up and top-down attention (Anderson et al., 2018)."""

    network = BottomUpTopDown
    model: BottomUpTopDownConfig = BottomUpTopDownConfig(vocabulary=VOCABULARY)
    training: Settings = settings(1600, 3e-3)


@dataclass(frozen=True, kw_only=True)
class ViTGPT2Recipe(CaptionerRecipe):
    """The patches of scenes-clip and a language model that looks at them."""

    network = ViTGPT2
    model: ViTGPT2Config = ViTGPT2Config(words=WORDS)
    training: Settings = settings(1000, 2e-3)

    def begin(self, network: nn.Module) -> None:
        speak_first(self, network, frozen=False)


@dataclass(frozen=True, kw_only=True)
class ClipCapRecipe(CaptionerRecipe):
    """ClipCap (Mokady et al., 2021) by an MLP; the language model learns along."""

    network = ClipCap
    model: ClipCapConfig = ClipCapConfig(words=WORDS)
    training: Settings = settings(1000, 2e-3)

    def begin(self, network: nn.Module) -> None:
        speak_first(self, network, frozen=False)


@dataclass(frozen=True, kw_only=True)
class FlamingoRecipe(CaptionerRecipe):
    """Flamingo (Alayrac et al., 2022): pictures and texts in turns, the language model frozen."""

    network = Flamingo
    each = TURNS
    batch: int = 24
    model: FlamingoConfig = FlamingoConfig(words=WORDS)
    training: Settings = settings(1000, 2e-3)

    def begin(self, network: nn.Module) -> None:
        speak_first(self, network, frozen=True)


@dataclass(frozen=True, kw_only=True)
class SimVLMRecipe(CaptionerRecipe):
    """SimVLM (Wang et al., 2022): a picture and a drawn prefix are read, the rest is said."""

    network = SimVLM
    objective = staticmethod(prefix_loss)
    batch: int = 32
    model: SimVLMConfig = SimVLMConfig(vocabulary=VOCABULARY)
    training: Settings = settings(1200, 2e-3)


@dataclass(frozen=True, kw_only=True)
class LinearBridgeRecipe(CaptionerRecipe):
    """One matrix (MiniGPT-4, Zhu et al., 2023) between two networks that stay as they are."""

    network = LinearBridge
    batch: int = 32
    model: LinearBridgeConfig = LinearBridgeConfig(words=WORDS)
    training: Settings = settings(1000, 3e-3)

    def begin(self, network: nn.Module) -> None:
        speak_first(self, network, frozen=True)
