"""CLIP and SigLIP against transformers' with the same random weights, in float64."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
import transformers as hf
from networks import all_apart, apart, drawn, gradients, randomized
from torch import Tensor, nn

from diptych.checkpoints.families.siglip import siglip_rules
from diptych.checkpoints.rules import Rule, ours_of, plan_of, shape_of
from diptych.models.clip import CLIP, CLIP_B32, CLIP_L14_336, OPENCLIP_H14, CLIPConfig
from diptych.models.clip_blocks import Activation
from diptych.models.siglip import SIGLIP_B16, SIGLIP_SO400M_384, SigLIP, SigLIPConfig

THEIR_WORD: dict[Activation, str] = {
    "quick_gelu": "quick_gelu", "gelu": "gelu", "gelu_tanh": "gelu_pytorch_tanh"
}  # fmt: skip
OPENCLIP = CLIPConfig.tiny(
    vision=replace(CLIPConfig.tiny().vision, activation="gelu"),
    text=replace(CLIPConfig.tiny().text, activation="gelu", heads=3),
)
TINY = {"CLIP": CLIPConfig.tiny(), "OpenCLIP": OPENCLIP, "SigLIP": SigLIPConfig.tiny()}
every_kind = pytest.mark.parametrize("name", TINY)


def _tower(config: Any, **more: Any) -> dict[str, Any]:
    return {
        "hidden_size": config.width,
        "intermediate_size": config.hidden,
        "num_hidden_layers": config.depth,
        "num_attention_heads": config.heads,
        "hidden_act": THEIR_WORD[config.activation],
        "layer_norm_eps": config.norm_epsilon,
        **more,
    }


def described(config: CLIPConfig | SigLIPConfig) -> hf.PreTrainedConfig:
    """Our config in their words."""
    said = {
        "vision_config": _tower(
            config.vision,
            image_size=config.vision.image_size,
            patch_size=config.vision.patch_size,
        ),
        "text_config": _tower(
            config.text,
            vocab_size=config.text.vocabulary,
            max_position_embeddings=config.text.length,
        ),
    }
    if isinstance(config, CLIPConfig):
        said["text_config"]["eos_token_id"] = config.text.eos
        return hf.CLIPConfig(**said, projection_dim=config.projection)
    said["text_config"]["projection_size"] = config.text.projection
    return hf.SiglipConfig(**said)


def built(config: CLIPConfig | SigLIPConfig) -> tuple[CLIP | SigLIP, nn.Module]:
    if isinstance(config, CLIPConfig):
        return CLIP(config), hf.CLIPModel(described(config))
    return SigLIP(config), hf.SiglipModel(described(config))


def rules_of(config: CLIPConfig | SigLIPConfig) -> list[Rule]:
    return [] if isinstance(config, CLIPConfig) else siglip_rules(config)


def pair(name: str) -> tuple[CLIP | SigLIP, nn.Module]:
    ours, theirs = built(TINY[name])
    randomized(theirs)
    state = theirs.state_dict()
    plan = plan_of(rules_of(TINY[name]), ours.state_dict())
    assert {take.theirs for take in plan} == state.keys()
    ours.double().eval()
    ours.load_state_dict({take.ours: ours_of(take, state[take.theirs]) for take in plan})
    return ours, theirs


def tokens(config: CLIPConfig | SigLIPConfig, ends: tuple[int, ...] = (3, 9, 1)) -> Tensor:
    """[3, L]: CLIP's end somewhere in each row, and more of them behind it."""
    length, draw = config.text.length, torch.Generator().manual_seed(5)
    words = torch.randint(30, (3, length), generator=draw)
    if isinstance(config, CLIPConfig):
        behind = torch.arange(length) >= torch.tensor(ends)[:, None]
        words[behind] = config.text.eos
    return words


@every_kind
def test_the_same_vectors_and_logits(name: str):
    ours, theirs = pair(name)
    x, words = drawn(2, 3, 16, 16), tokens(TINY[name])
    with torch.no_grad():
        out = theirs(pixel_values=x, input_ids=words)
        pictures, texts = ours.encode_image(x), ours.encode_text(words)
        assert apart(pictures, out.image_embeds) <= 1e-9
        assert apart(texts, out.text_embeds) <= 1e-9
        assert apart(ours.logits(pictures, texts), out.logits_per_image) <= 1e-9
        own = ours(x, words[:2])
        assert apart(own, out.logits_per_image[:, :2].diagonal()) <= 1e-9
        ours.float()
        rounded = ours.logits(ours.encode_image(x.float()), ours.encode_text(words))
        assert apart(rounded, out.logits_per_image) <= 1e-5


@every_kind
def test_the_same_gradients(name: str):
    ours, theirs = pair(name)
    words = tokens(TINY[name])
    names = [key for key, _ in ours.named_parameters() if not key.endswith("k_proj.bias")]
    takes = plan_of(rules_of(TINY[name]), names)
    places = list(dict.fromkeys(take.theirs for take in takes))
    found = []
    for network, wanted in ((ours, names), (theirs, places)):
        x = drawn(3, 3, 16, 16).requires_grad_(True)
        if network is ours:
            out = ours.logits(ours.encode_image(x), ours.encode_text(words))
        else:
            out = theirs(pixel_values=x, input_ids=words).logits_per_image
        parameters = [x, *(network.get_parameter(key) for key in wanted)]
        found.append(gradients(lambda out=out: out, parameters))
    by_place = dict(zip(places, found[1][1:], strict=True))
    theirs_turned = [ours_of(take, by_place[take.theirs]) for take in takes]
    assert all_apart(found[0], [found[1][0], *theirs_turned]) <= 1e-9


def test_clip_reads_nothing_behind_the_end_and_siglip_every_place():
    for name, changed in (("CLIP", False), ("SigLIP", True)):
        ours, _ = pair(name)
        words = tokens(TINY[name])
        other = words.clone()
        other[0, 5:-1] = 7
        with torch.no_grad():
            assert (apart(ours.encode_text(other), ours.encode_text(words)) > 1e-6) == changed


def test_a_mask_is_heard_as_theirs_hears_it():
    for name in ("CLIP", "SigLIP"):
        ours, theirs = pair(name)
        words = tokens(TINY[name], (3, 6, 4))
        mask = torch.arange(10)[None] < torch.tensor([[10], [8], [7]])
        with torch.no_grad():
            out = theirs.get_text_features(input_ids=words, attention_mask=mask.long())
            wanted = torch.nn.functional.normalize(out.pooler_output, dim=-1)
            assert apart(ours.encode_text(words, mask), wanted) <= 1e-9


@pytest.mark.parametrize(
    ("config", "millions"),
    [
        (CLIP_B32, 151.28), (CLIP_L14_336, 427.94), (OPENCLIP_H14, 986.11),
        (SIGLIP_B16, 203.16), (SIGLIP_SO400M_384, 877.96),
    ],
)  # fmt: skip
def test_full_sizes_have_the_published_parameters(
    config: CLIPConfig | SigLIPConfig, millions: float
):
    with torch.device("meta"):
        ours, theirs = built(config)
    count = sum(parameter.numel() for parameter in ours.parameters())
    assert round(count / 1e6, 2) == millions
    shapes = {name: tuple(value.shape) for name, value in ours.state_dict().items()}
    plan = plan_of(rules_of(config), shapes)
    assert {take.theirs: shape_of(take, shapes[take.ours]) for take in plan} == {
        name: tuple(value.shape) for name, value in theirs.state_dict().items()
    }
