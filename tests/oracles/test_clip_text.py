"""CLIP's text transformer beside transformers' own, in float64, all weights drawn."""

from __future__ import annotations

import pytest
import torch
from networks import all_apart, apart, drawn, randomized
from torch import Tensor, nn
from transformers import CLIPTextConfig as TheirConfig
from transformers import CLIPTextModel, CLIPTextModelWithProjection

from diptych.models.clip_text import (
    CLIP_L,
    OPENCLIP_BIGG,
    OPENCLIP_H,
    CLIPText,
    CLIPTextConfig,
    CLIPTextStates,
)

START, END = 38, 39
TINY = {
    "clip-l": CLIPTextConfig.tiny(projection=0),
    "clip-l-projected": CLIPTextConfig.tiny(),
    "openclip": CLIPTextConfig.tiny(activation="gelu", heads=3, width=30, projection=30),
    "one-layer": CLIPTextConfig.tiny(depth=1, hidden=7, norm_epsilon=1e-3),
}
every_kind = pytest.mark.parametrize("kind", TINY)


def theirs(config: CLIPTextConfig, eos: int | None = None) -> nn.Module:
    """Their network of the same sizes; `eos`: what their config says, if not the truth."""
    sizes = TheirConfig(
        vocab_size=config.vocabulary,
        max_position_embeddings=config.length,
        hidden_size=config.width,
        num_hidden_layers=config.depth,
        num_attention_heads=config.heads,
        intermediate_size=config.hidden,
        hidden_act=config.activation,
        layer_norm_eps=config.norm_epsilon,
        projection_dim=config.projection,
        bos_token_id=START,
        eos_token_id=config.eos if eos is None else eos,
        pad_token_id=config.eos,
    )
    return (CLIPTextModelWithProjection if config.projection else CLIPTextModel)(sizes)


def weights(network: nn.Module) -> dict[str, Tensor]:
    """Of their network by our names: with a projection `text_model.` is before the others."""
    return {key.removeprefix("text_model."): value for key, value in network.state_dict().items()}


def pair(config: CLIPTextConfig, eos: int | None = None) -> tuple[CLIPText, nn.Module]:
    """Ours and theirs with the same weights."""
    ours, them = CLIPText(config).double().eval(), randomized(theirs(config, eos))
    ours.load_state_dict(weights(them), strict=True)
    return ours, them


def texts() -> Tensor:
    """Three rows: full, with two words and padding by `END`, and the empty text."""
    words = torch.tensor([[5, 17, 2, 30, 8, 1, 0, 36], [9, 4, *[END] * 6], [END] * 8])
    ends = torch.full((3, 1), END)
    return torch.cat([torch.full((3, 1), START), words, ends], dim=1)


def compared(ours: CLIPTextStates, them: dict[str, Tensor]) -> float:
    """The largest difference of all that both give."""
    wanted = [*them["hidden_states"], them["last_hidden_state"]]
    got = [*ours.layers, ours.last]
    if ours.projected is None:
        return all_apart([*got, ours.pooled], [*wanted, them["pooler_output"]])
    return all_apart([*got, ours.projected], [*wanted, them["text_embeds"]])


@every_kind
def test_states_of_every_layer_pooled_and_projected(kind: str):
    ours, them = pair(TINY[kind])
    with torch.no_grad():
        got, wanted = ours(texts()), them(texts(), output_hidden_states=True)
        assert compared(got, wanted) < 1e-12
        assert len(got.layers) == TINY[kind].depth + 1


@every_kind
def test_shorter_rows_and_a_mask(kind: str):
    ours, them = pair(TINY[kind])
    tokens = texts()[:, :7].clone()
    tokens[0, 5] = END
    mask = torch.ones(3, 7, dtype=torch.bool)
    mask[0, 3] = mask[1, 4:] = mask[2, 2:] = False
    with torch.no_grad():
        got = ours(tokens, mask)
        wanted = them(tokens, attention_mask=mask.long(), output_hidden_states=True)
        assert compared(got, wanted) < 1e-12
        assert compared(ours(tokens), wanted) > 1e-3


def test_float32_stays_near():
    ours, them = pair(TINY["openclip"])
    with torch.no_grad():
        wanted = them(texts(), output_hidden_states=True)
        assert compared(ours.float()(texts()), wanted) < 3e-6


@every_kind
def test_gradients(kind: str):
    ours, them = pair(TINY[kind])
    prefix = "text_model." if TINY[kind].projection else ""
    for name in (
        "encoder.layers.0.self_attn.q_proj.weight",
        "embeddings.position_embedding.weight",
    ):
        found = []
        for network, place in ((ours, name), (them, prefix + name)):
            out = network(texts())
            last = out.last if isinstance(out, CLIPTextStates) else out.last_hidden_state
            scalar = (last * drawn(*last.shape)).sum()
            found.append(torch.autograd.grad(scalar, network.get_parameter(place))[0])
        assert apart(*found) < 1e-11


def test_a_number_above_the_end_is_no_end():
    """Words of a textual inversion come after the end token in the vocabulary."""
    config = CLIPTextConfig.tiny(vocabulary=44)
    tokens = texts()
    tokens[0, 3], tokens[1, 2] = 43, 41
    ours, right = pair(config)
    _, by_largest = pair(config, eos=2)
    with torch.no_grad():
        got = ours(tokens)
        assert apart(got.projected, right(tokens).text_embeds) < 1e-12
        wrong = by_largest(tokens).text_embeds
        assert apart(got.projected[:2], wrong[:2]) > 0.1
        assert apart(got.projected[2:], wrong[2:]) < 1e-12
        # Without such words a config that says 2 gives the same.
        assert apart(ours(texts()).projected, by_largest(texts()).text_embeds) < 1e-12


@pytest.mark.parametrize(
    ("config", "parameters"),
    [(CLIP_L, 123_060_480), (OPENCLIP_H, 340_387_840), (OPENCLIP_BIGG, 694_659_840)],
)
def test_published_sizes(config: CLIPTextConfig, parameters: int):
    with torch.device("meta"):
        ours, them = CLIPText(config), theirs(config)
    assert sum(p.numel() for p in ours.parameters()) == parameters
    shapes = {key: value.shape for key, value in weights(them).items()}
    assert {key: value.shape for key, value in ours.state_dict().items()} == shapes
