"""Every kind of vision tower in small, ours and transformers', with the same random weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
import transformers as hf
from networks import exact_norms, randomized
from pytest import MonkeyPatch
from torch import Tensor, nn
from transformers.models.idefics3.modeling_idefics3 import Idefics3VisionTransformer

from diptych.checkpoints.families.vision_names import (
    clip_names,
    dino_names,
    internvit_names,
    vit_names,
)
from diptych.checkpoints.rules import Rule, ours_of, plan_of
from diptych.models.vision_tower import VisionTower, VisionTowerConfig

SMALL = {
    "hidden_size": 24, "num_hidden_layers": 3, "num_attention_heads": 4, "image_size": 20,
    "patch_size": 4,
}  # fmt: skip
MLP = {"intermediate_size": 40}
OURS = {
    "image_size": 20, "patch_size": 4, "width": 24, "depth": 3, "heads": 4, "hidden": 40,
}  # fmt: skip
CLIP = {"patch_bias": False, "input_norm": True, "placing": "fixed", "norm_epsilon": 1e-5}
SIGLIP = {"class_token": False, "activation": "gelu_tanh", "placing": "fixed", "pooling": "map"}
INTERN = {"qkv_bias": False, "layer_scale": 0.1, "pooling": "none"}
Named = Callable[[VisionTowerConfig], list[Rule]]


@dataclass(frozen=True)
class Case:
    """`theirs()`: their tower; `named`: rules from our names to those of its parameters; `size`:
    height and width of the picture; `asked`: what else they are called with."""

    ours: dict[str, Any]
    theirs: Callable[[], nn.Module]
    named: Named
    size: tuple[int, int] = (20, 20)
    asked: dict[str, Any] = field(default_factory=dict)

    @property
    def config(self) -> VisionTowerConfig:
        return VisionTowerConfig(**{**OURS, **self.ours})


def clip(activation: str) -> Callable[[], nn.Module]:
    config = hf.CLIPVisionConfig(**SMALL, **MLP, hidden_act=activation)
    return lambda: hf.CLIPVisionModel(config)


def siglip(**said: Any) -> Callable[[], nn.Module]:
    return lambda: hf.SiglipVisionModel(hf.SiglipVisionConfig(**SMALL, **MLP, **said))


def dino(**said: Any) -> Callable[[], nn.Module]:
    return lambda: hf.Dinov2Model(hf.Dinov2Config(**SMALL, **said))


def registered(**said: Any) -> Callable[[], nn.Module]:
    return lambda: hf.Dinov2WithRegistersModel(hf.Dinov2WithRegistersConfig(**SMALL, **said))


def vit(pools: bool) -> Callable[[], nn.Module]:
    return lambda: hf.ViTModel(hf.ViTConfig(**SMALL, **MLP), add_pooling_layer=pools)


def intern(**said: Any) -> Callable[[], nn.Module]:
    return lambda: hf.InternVLVisionModel(hf.InternVLVisionConfig(**SMALL, **MLP, **said))


def idefics() -> nn.Module:
    return Idefics3VisionTransformer(hf.Idefics3VisionConfig(**{**SMALL, **MLP}))


DINO = {"layer_scale": 1.0, "mask_token": True, "hidden": 96}
# The hidden width of SwiGLU is two thirds of the other, up to a multiple of 8.
GIANT = {**DINO, "feedforward": "swiglu", "hidden": 64}
PLACED = {"interpolate_pos_encoding": True}
CASES = {
    "CLIP": Case({**CLIP, "activation": "quick_gelu"}, clip("quick_gelu"), clip_names),
    "OpenCLIP": Case(CLIP, clip("gelu"), clip_names),
    "CLIP, other size": Case(
        {**CLIP, "placing": "bicubic"}, clip("gelu"), clip_names, (12, 28), PLACED
    ),
    "SigLIP": Case(SIGLIP, siglip(), clip_names),
    "SigLIP, other size": Case(
        {**SIGLIP, "placing": "bicubic"}, siglip(), clip_names, (28, 12), PLACED
    ),
    "PaliGemma": Case({**SIGLIP, "pooling": "none"}, siglip(vision_use_head=False), clip_names),
    "DINOv2": Case(DINO, dino(), dino_names),
    "DINOv2, other size": Case(DINO, dino(), dino_names, (12, 28)),
    "DINOv2 giant": Case(GIANT, dino(use_swiglu_ffn=True), dino_names, (24, 20)),
    "DINOv2, registers": Case(
        {**DINO, "registers": 4, "placing": "antialias"}, registered(), dino_names
    ),
    "DINOv2, registers, other size": Case(
        {**DINO, "registers": 3, "placing": "antialias"},
        registered(num_register_tokens=3),
        dino_names,
        (12, 28),
    ),
    "ViT": Case(
        {"norm_epsilon": 1e-12, "pooling": "dense", "placing": "fixed"}, vit(True), vit_names
    ),
    "ViT, other size": Case(
        {"norm_epsilon": 1e-12, "pooling": "none"}, vit(False), vit_names, (28, 16), PLACED
    ),
    "InternViT": Case(
        {**INTERN, "output_norm": False}, intern(use_mean_pooling=True), internvit_names
    ),
    "InternViT 6B": Case(
        {**INTERN, "norm": "rms", "qk_norm": True, "output_norm": False, "mask_token": True},
        intern(norm_type="rms_norm", use_qk_norm=True, use_mask_token=True),
        internvit_names,
        (28, 16),
    ),
    "InternViT, norm": Case(
        {**INTERN, "qkv_bias": True},
        intern(use_mean_pooling=False, attention_bias=True),
        internvit_names,
    ),
    "Idefics3": Case(
        {**SIGLIP, "placing": "fractional", "pooling": "none"}, idefics, clip_names, (16, 12)
    ),
}


def pair(case: Case) -> tuple[VisionTower, nn.Module]:
    theirs = randomized(exact_norms(case.theirs()))
    ours = VisionTower(case.config).double().eval()
    state = theirs.state_dict()
    plan = plan_of(case.named(case.config), ours.state_dict())
    assert {take.theirs for take in plan} == state.keys()
    ours.load_state_dict({take.ours: ours_of(take, state[take.theirs]) for take in plan})
    return ours, theirs


@contextmanager
def wide() -> Iterator[None]:
    """Where they turn positions into float32, and take a norm's mean in it, float64 stays."""
    to = Tensor.to

    def kept(self: Tensor, *args: Any, **said: Any) -> Tensor:
        narrow = torch.float32 in args or said.get("dtype") is torch.float32
        return self if narrow and self.dtype == torch.float64 else to(self, *args, **said)

    with MonkeyPatch.context() as patch:
        patch.setattr(Tensor, "to", kept)
        yield
