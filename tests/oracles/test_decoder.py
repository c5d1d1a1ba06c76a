"""The decoder against every language model of its layout in transformers, with the same random
weights."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
import transformers
from networks import (
    Float32Angles,
    all_apart,
    apart,
    drawn,
    exact_norms,
    gradients,
    randomized,
    widened,
)
from torch import Tensor, nn

from diptych.decoding.slots import KVSlots, KVView
from diptych.models.decoder import Decoder
from diptych.models.decoder_config import (
    PHI3_MINI,
    QWEN2_05B,
    QWEN3_06B,
    SMOLLM2_135M,
    DecoderConfig,
)
from diptych.nn.rope import RotaryConfig

TINY = DecoderConfig.tiny()
_ODD = (1.0, 1.3, 1.6)
_LLAMA3 = {
    "rope_type": "llama3", "factor": 4.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}  # fmt: skip
_YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32}
_LONG = {
    "rope_type": "longrope", "factor": 4.0,
    "short_factor": list(_ODD), "long_factor": list(_ODD[::-1]),
    "original_max_position_embeddings": 32,
}  # fmt: skip
_GEMMA = replace(TINY, activation="gelu_tanh", plus_one=True, scaled=True, norm_epsilon=1e-6)
# class of theirs, what their config says besides, our config
FAMILIES: dict[str, tuple[str, dict[str, Any], DecoderConfig]] = {
    "llama": ("Llama", {}, TINY),
    "llama-tied": ("Llama", {"tie_word_embeddings": True}, replace(TINY, tied=True)),
    "llama-3": (
        "Llama", {"rope": _LLAMA3},
        replace(TINY, rotary=RotaryConfig(stretch="llama3", factor=4.0, original=32)),
    ),
    "llama-linear": (
        "Llama", {"rope": {"rope_type": "linear", "factor": 3.0}},
        replace(TINY, rotary=RotaryConfig(stretch="linear", factor=3.0)),
    ),
    "qwen2-yarn": (
        "Qwen2", {"rope": _YARN},
        replace(
            TINY, bias=True,
            rotary=RotaryConfig(stretch="yarn", factor=4.0, original=32, low=1.0, high=32.0),
        ),
    ),
    "mistral": ("Mistral", {"sliding_window": 3}, replace(TINY, window=3)),
    "qwen2": ("Qwen2", {}, replace(TINY, bias=True)),
    "qwen3": ("Qwen3", {"head_dim": 12}, replace(TINY, head_norm=True, head_dim=12)),
    "smollm3": (
        "SmolLM3", {"no_rope_layer_interval": 2, "no_rope_layers": [1, 0, 1]},
        replace(TINY, unturned_each=2),
    ),
    "phi3": ("Phi3", {"sliding_window": 4}, replace(TINY, window=4)),
    "phi3-long": (
        "Phi3", {"rope": _LONG, "original_max_position_embeddings": 32},
        replace(
            TINY,
            rotary=RotaryConfig(
                stretch="longrope", factor=4.0, original=32, short=_ODD, long=_ODD[::-1]
            ),
            head_dim=6,
        ),
    ),
    "gemma": ("Gemma", {"tie_word_embeddings": True}, replace(_GEMMA, tied=True)),
    "gemma2": (
        "Gemma2",
        {
            "sliding_window": 3, "attn_logit_softcapping": 2.0, "final_logit_softcapping": 3.0,
            "query_pre_attn_scalar": 12, "tie_word_embeddings": True,
        },
        replace(
            _GEMMA, tied=True, sandwich=True, cap=2.0, final_cap=3.0, scale_width=12, window=3,
            full_each=2,
        ),
    ),
    "gemma3": (
        "Gemma3Text",
        {
            "sliding_window": 3, "query_pre_attn_scalar": 12, "tie_word_embeddings": True,
            "layer_types": ["sliding_attention", "sliding_attention", "full_attention"],
            "rope": {
                "full_attention": {"rope_type": "linear", "factor": 2.0, "rope_theta": 900.0},
                "sliding_attention": {"rope_type": "default", "rope_theta": 100.0},
            },
        },
        replace(
            _GEMMA, tied=True, sandwich=True, scale_width=12, window=3, full_each=3,
            head_norm=True, local_base=100.0,
            rotary=RotaryConfig(base=900.0, stretch="linear", factor=2.0),
        ),
    ),
}  # fmt: skip
every_family = pytest.mark.parametrize("name", FAMILIES)


def theirs_of(name: str) -> nn.Module:
    kind, said, config = FAMILIES[name]
    said = dict(said)
    rope = said.pop("rope", {"rope_type": "default"})
    if "full_attention" not in rope:
        rope = {"rope_theta": config.rotary.base, **rope}
    described = getattr(transformers, f"{kind}Config")(
        vocab_size=config.vocabulary, hidden_size=config.width,
        intermediate_size=config.hidden, num_hidden_layers=config.depth,
        num_attention_heads=config.heads, num_key_value_heads=config.groups,
        rms_norm_eps=config.norm_epsilon, max_position_embeddings=128, rope_parameters=rope,
        attn_implementation="eager", pad_token_id=0, bos_token_id=1, eos_token_id=2,
        **({"head_dim": config.head_dim, "tie_word_embeddings": False} | said),
    )  # fmt: skip
    torch.manual_seed(0)
    kind = kind.removesuffix("Text")
    theirs = getattr(transformers, f"{kind}ForCausalLM")(described)
    randomized(exact_norms(theirs, config.norm_epsilon))
    if config.scaled:  # they keep it in float32
        theirs.model.embed_tokens.embed_scale = torch.tensor(config.width**0.5, dtype=torch.float64)
    theirs.model.rotary_emb = Float32Angles(theirs.model.rotary_emb)
    return theirs


def ours_of(name: str, theirs: nn.Module) -> Decoder:
    """Our network with their weights; Phi-3's fused matrices are parted."""
    config = FAMILIES[name][2]
    state: dict[str, Tensor] = {}
    for key, value in theirs.state_dict().items():
        at = key.removeprefix("model.")
        own, shared = config.heads * config.head_dim, config.groups * config.head_dim
        if "qkv_proj" in at:
            for part, leaf in zip(value.split([own, shared, shared]), "qkv", strict=True):
                state[at.replace("qkv_proj", f"{leaf}_proj")] = part
        elif "gate_up_proj" in at:
            for part, leaf in zip(value.chunk(2), ("gate", "up"), strict=True):
                state[at.replace("gate_up_proj", f"{leaf}_proj")] = part
        elif not (config.tied and at == "lm_head.weight"):
            state[at] = value
    ours = Decoder(config).double().eval()
    ours.load_state_dict(state, strict=True)
    return ours


def pair(name: str) -> tuple[Decoder, nn.Module]:
    theirs = theirs_of(name)
    return ours_of(name, theirs), theirs


TOKENS = torch.tensor([[1, 7, 31, 5, 11, 4, 9, 38, 3], [1, 9, 9, 30, 1, 17, 12, 6, 2]])


def logits(network: nn.Module, tokens: Tensor = TOKENS) -> Tensor:
    if isinstance(network, Decoder):
        return network.logits(network(network.embed(tokens)))
    return network(tokens, use_cache=False).logits


@every_family
def test_logits_in_float64(name: str) -> None:
    ours, theirs = pair(name)
    with torch.no_grad(), widened():
        wanted = logits(theirs)
        assert apart(logits(ours), wanted) < 1e-9


@every_family
def test_logits_in_float32(name: str) -> None:
    ours, theirs = pair(name)
    with torch.no_grad():
        assert apart(logits(ours.float()), logits(theirs.float())) < 3e-6


@every_family
def test_gradients(name: str) -> None:
    ours, theirs = pair(name)
    found = []
    with widened():
        for network in (ours, theirs):
            inner = network if isinstance(network, Decoder) else network.model
            names = [n for n, _ in ours.named_parameters() if "norm" in n or "o_proj" in n]
            names = [n for n in names if n != "lm_head.weight"] + ["embed_tokens.weight"]
            wanted = [inner.get_parameter(n) for n in names]
            found.append(gradients(lambda network=network: logits(network), wanted))
    assert all_apart(*found) < 1e-9


@every_family
@pytest.mark.parametrize("packed", [False, True])
def test_one_by_one_equals_all_at_once(name: str, packed: bool) -> None:
    """Chunks of any length into slots, together and apart, packed or not."""
    ours, _ = pair(name)
    whole = logits(ours)
    if packed:
        ours.pack()
    slots = KVSlots(ours.config.kv, 3, dtype=torch.float64)
    rows = ours.embed(TOKENS)

    def run(first: int, last: int, begin: int, end: int) -> Tensor:
        view = slots.view(first, last, end - begin)
        places = torch.arange(begin, end).expand(last - first, -1)
        mine = rows[first - 1 : last - 1, begin:end]
        if packed and end - begin == 1:
            states = ours.step(mine[:, 0], places[:, 0], view)[:, None]
        else:
            states = ours(mine, places, view)
        for slot in range(first, last):
            slots.wrote(slot, end - begin)
        return ours.logits(states)

    with torch.no_grad():
        first = [run(1, 2, 0, 5), run(1, 2, 5, 6)]
        second = [run(2, 3, 0, 3), run(2, 3, 3, 6)]
        both = [run(1, 3, i, i + 1) for i in range(6, 9)]
    assert apart(torch.cat(first, 1), whole[:1, :6]) < 1e-12
    assert apart(torch.cat(second, 1), whole[1:, :6]) < 1e-12
    assert apart(torch.cat(both, 1), whole[:, 6:]) < 1e-12


@every_family
@pytest.mark.parametrize("count", [1, 2])
def test_slots_of_different_lengths_share_a_call(name: str, count: int) -> None:
    ours, _ = pair(name)
    whole = logits(ours)
    ours.pack()
    slots = KVSlots(ours.config.kv, 2, dtype=torch.float64)
    rows, lengths = ours.embed(TOKENS), (7, 2)
    with torch.no_grad():
        for slot, length in enumerate(lengths):
            view = slots.view(slot, slot + 1, length)
            ours(rows[slot : slot + 1, :length], torch.arange(length)[None], view)
            slots.wrote(slot, length)
        places = torch.tensor([[7, 8], [2, 3]])[:, :count]
        mine = torch.stack([rows[0, 7 : 7 + count], rows[1, 2 : 2 + count]])
        view = slots.view(0, 2, count)
        if count == 1:
            found = ours.logits(ours.step(mine[:, 0], places[:, 0], view))[:, None]
        else:
            found = ours.logits(ours(mine, places, view))
    assert apart(found[0], whole[0, 7 : 7 + count]) < 1e-12
    assert apart(found[1], whole[1, 2 : 2 + count]) < 1e-12


@every_family
@pytest.mark.parametrize("packed", [False, True])
def test_a_prefix_kept_once(name: str, packed: bool) -> None:
    """Two texts that begin alike look at one copy of their beginning."""
    ours, _ = pair(name)
    tokens = TOKENS.clone()
    tokens[1, :4] = tokens[0, :4]
    whole = logits(ours, tokens)
    if packed:
        ours.pack()
    slots = KVSlots(ours.config.kv, 1, dtype=torch.float64)
    rows = ours.embed(tokens)
    with torch.no_grad():
        ours(rows[:1, :4], torch.arange(4)[None], slots.view(0, 1, 4))
        slots.wrote(0, 4)
        prefix = slots.taken(0, following=4)
        kept = torch.zeros(2, 3, 2, ours.config.groups, 8, ours.config.head_dim).double()
        found = []
        for begin, end in ((4, 6), (6, 7), (7, 9)):
            view = KVView(kept[0], kept[1], [begin - 4] * 2, end - begin, shared=prefix)
            places = torch.arange(begin, end).expand(2, -1)
            mine = rows[:, begin:end]
            if end - begin == 1:
                states = ours.step(mine[:, 0], places[:, 0], view)[:, None]
            else:
                states = ours(mine, places, view)
            found.append(ours.logits(states))
    assert apart(torch.cat(found, 1), whole[:, 4:]) < 1e-12


@pytest.mark.parametrize(
    ("config", "millions"),
    [(SMOLLM2_135M, 134.52), (QWEN2_05B, 494.03), (QWEN3_06B, 596.05), (PHI3_MINI, 3821.08)],
)
def test_full_sizes(config: DecoderConfig, millions: float) -> None:
    from diptych.nn.unfilled import without_memory

    with without_memory():
        network = Decoder(config)
    count = sum(parameter.numel() for parameter in network.parameters())
    assert round(count / 1e6, 2) == millions


def test_three_axes_that_agree_are_one() -> None:
    config = replace(TINY, rotary=RotaryConfig(sections=(1, 1, 2)))
    ours = randomized(Decoder(config))
    rows, places = drawn(2, 5, 24), torch.arange(5).expand(2, -1)
    three = places[..., None].expand(-1, -1, 3)
    assert torch.equal(ours(rows, places), ours(rows, three))
    moved = three.clone()
    moved[:, 3:, 1] += 2
    assert apart(ours(rows, moved), ours(rows, places)) > 1e-3
