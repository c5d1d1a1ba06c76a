"""Vision towers that stand alone: how CLIP, SigLIP, DINOv2, ViT and InternViT folders and original
files name what `VisionTower` holds. Families with a tower among their parts use these rules below
a prefix of their own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from diptych.checkpoints.rules import BATCHED, ROW, SAME, Rule
from diptych.models.vision_tower import VisionTowerConfig

Rules = Callable[[VisionTowerConfig], list[Rule]]


@dataclass(frozen=True)
class Naming:
    """`outer`: ours to theirs and how it is turned, before and after the layers. `at`: where layer
    `{}` lies. `parts`: ours to theirs within one, as prefixes. `joined`: of ours the stored name,
    which share of it, of how many."""

    at: str
    outer: Mapping[str, tuple[str, str]]
    parts: Mapping[str, str]
    joined: Mapping[str, tuple[str, int, int]]

    def rules(self, config: VisionTowerConfig) -> list[Rule]:
        rules = [Rule(ours, theirs, op) for ours, (theirs, op) in self.outer.items()]
        for i in range(config.depth):
            ours, theirs = f"encoder.layers.{i}.", self.at.format(i) + "."
            # What is not listed is called alike in both.
            rules += [Rule(ours + a, theirs + b) for a, b in {"": "", **self.parts}.items()]
            for name, place in self.joined.items():
                rules += joined(ours + name, theirs + place[0], *place[1:])
        return rules


def joined(ours: str, theirs: str, part: int, parts: int) -> list[Rule]:
    """Weight and bias of a layer that is the `part`-th share of another's rows; `theirs` ends
    where `weight` or `bias` begins."""
    return [
        Rule(f"{ours}.{leaf}", f"{theirs}{leaf}", part=part, parts=parts)
        for leaf in ("weight", "bias")
    ]


def clip_names(config: VisionTowerConfig) -> list[Rule]:
    """CLIP's and SigLIP's folders: ours, but for the trained query's one matrix of three."""
    return [
        rule
        for part, name in enumerate("qkv")
        for rule in joined(f"head.attention.{name}_proj", "head.attention.in_proj_", part, 3)
    ]


_HUGGING = {
    "embeddings.class_embedding": ("embeddings.cls_token", ROW),
    "embeddings.position_embedding.weight": ("embeddings.position_embeddings", BATCHED),
    "embeddings.register_tokens": ("embeddings.register_tokens", BATCHED),
    "embeddings.patch_embedding.": ("embeddings.patch_embeddings.projection.", SAME),
    "post_layernorm.": ("layernorm.", SAME),
    "head.": ("pooler.", SAME),
}
_MASKED = {"embeddings.mask_token": ("embeddings.mask_token", BATCHED)}
_PROJECTED = {f"self_attn.{name}_proj.": f"attention.{name}_proj." for name in "qkv"}
_QUERIED = {
    f"self_attn.{name[0]}_proj.": f"attention.attention.{name}."
    for name in ("query", "key", "value")
}
_DINO = {
    "layer_norm1.": "norm1.",
    "layer_norm2.": "norm2.",
    "layer_scale1": "layer_scale1.lambda1",
    "layer_scale2": "layer_scale2.lambda1",
}
_AROUND = {"layer_norm1.": "layernorm_before.", "layer_norm2.": "layernorm_after."}
_SPREAD = {
    "self_attn.out_proj.": "attention.output.dense.",
    "mlp.fc1.": "intermediate.dense.",
    "mlp.fc2.": "output.dense.",
}
_OUT = {"self_attn.out_proj.": "attention.o_proj."}

# As transformers 5 holds it in memory; its files have the older names.
_DINO_NATIVE = Naming("encoder.layer.{}", _HUGGING, {**_DINO, **_PROJECTED, **_OUT}, {})
_DINO_FOLDER = Naming(
    "encoder.layer.{}",
    _HUGGING,
    {
        **_DINO, **_QUERIED,
        "self_attn.out_proj.": "attention.output.dense.",
        "mlp.down_proj.": "mlp.weights_out.",
    },
    {"mlp.gate_proj": ("mlp.weights_in.", 0, 2), "mlp.up_proj": ("mlp.weights_in.", 1, 2)},
)  # fmt: skip
_VIT_NATIVE = Naming("layers.{}", {**_HUGGING, **_MASKED}, {**_AROUND, **_PROJECTED, **_OUT}, {})
_VIT_FOLDER = Naming(
    "encoder.layer.{}", {**_HUGGING, **_MASKED}, {**_AROUND, **_QUERIED, **_SPREAD}, {}
)
_INTERNVIT = Naming(
    "encoder.layer.{}",
    {**_HUGGING, **_MASKED},
    {
        **_AROUND, **_PROJECTED,
        "self_attn.q_norm.": "attention.q_norm.",
        "self_attn.k_norm.": "attention.k_norm.",
        "self_attn.out_proj.": "attention.projection_layer.",
        "layer_scale1": "lambda_1",
        "layer_scale2": "lambda_2",
    },
    {},
)  # fmt: skip
_FUSED = {
    f"self_attn.{name}_proj": ("attn.qkv.", part, 3) for part, name in enumerate("qkv")
}  # fmt: skip
_INTERNVIT_ORIGINAL = Naming(
    "encoder.layers.{}",
    {
        "embeddings.class_embedding": ("embeddings.class_embedding", ROW),
        "embeddings.position_embedding.weight": ("embeddings.position_embedding", BATCHED),
    },
    {
        "layer_norm1.": "norm1.",
        "layer_norm2.": "norm2.",
        "layer_scale1": "ls1",
        "layer_scale2": "ls2",
        "self_attn.q_norm.": "attn.q_norm.",
        "self_attn.k_norm.": "attn.k_norm.",
        "self_attn.out_proj.": "attn.proj.",
    },
    _FUSED,
)
_BLIP = Naming(
    "encoder.layers.{}",
    {
        "embeddings.class_embedding": ("embeddings.class_embedding", ROW),
        "embeddings.position_embedding.weight": ("embeddings.position_embedding", BATCHED),
    },
    {"self_attn.out_proj.": "self_attn.projection."},
    {f"self_attn.{name}_proj": ("self_attn.qkv.", part, 3) for part, name in enumerate("qkv")},
)
_TIMM = Naming(
    "blocks.{}",
    {
        "embeddings.class_embedding": ("cls_token", ROW),
        "embeddings.position_embedding.weight": ("pos_embed", BATCHED),
        "embeddings.register_tokens": ("register_tokens", BATCHED),
        "embeddings.mask_token": ("mask_token", SAME),
        "embeddings.patch_embedding.": ("patch_embed.proj.", SAME),
        "post_layernorm.": ("norm.", SAME),
        "head.probe": ("attn_pool.latent", SAME),
        "head.attention.q_proj.": ("attn_pool.q.", SAME),
        "head.attention.out_proj.": ("attn_pool.proj.", SAME),
        "head.layernorm.": ("attn_pool.norm.", SAME),
        "head.mlp.": ("attn_pool.mlp.", SAME),
    },
    {
        "layer_norm1.": "norm1.",
        "layer_norm2.": "norm2.",
        "layer_scale1": "ls1.gamma",
        "layer_scale2": "ls2.gamma",
        "self_attn.out_proj.": "attn.proj.",
        "mlp.down_proj.": "mlp.w3.",
    },
    {
        **_FUSED,
        "mlp.gate_proj": ("mlp.w12.", 0, 2),
        "mlp.up_proj": ("mlp.w12.", 1, 2),
    },
)

blip_names: Rules = _BLIP.rules
dino_names: Rules = _DINO_NATIVE.rules
dino_folder_names: Rules = _DINO_FOLDER.rules
vit_names: Rules = _VIT_NATIVE.rules
vit_folder_names: Rules = _VIT_FOLDER.rules
internvit_names: Rules = _INTERNVIT.rules
internvit_original_names: Rules = _INTERNVIT_ORIGINAL.rules


def timm_names(config: VisionTowerConfig) -> list[Rule]:
    """DINOv2's own files, and timm's ViT with or without a trained query."""
    pool = [
        rule
        for part, name in enumerate("kv")
        for rule in joined(f"head.attention.{name}_proj", "attn_pool.kv.", part, 2)
    ]
    return [*_TIMM.rules(config), *pool]


def moved(rules: Sequence[Rule], ours: str, theirs: str) -> list[Rule]:
    """The rules of a part that lies below `ours` here and `theirs` there. What no rule fits lies
    below `theirs` too."""
    shifted = [
        Rule(ours + r.ours, theirs + r.theirs, r.op, r.part, r.parts, (), r.shares) for r in rules
    ]
    return [Rule(ours, theirs), *shifted]
