"""The older language models against transformers, with the same random weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
import transformers as hub
from networks import all_apart, apart, drawn, exact_norms, gradients, randomized, widened
from torch import Tensor, nn

from diptych.checkpoints.families import classic
from diptych.checkpoints.rules import ours_of, plan_of, stored_of
from diptych.decoding.slots import KVSlots, KVView
from diptych.models.classic_config import ClassicConfig
from diptych.models.classic_decoder import ClassicDecoder

MEMORY = 24


@dataclass(frozen=True)
class Case:
    """`theirs`: their network; `config`: ours of their config; `rules`: naming, where the network
    and its head lie."""

    theirs: Callable[[], nn.Module]
    config: Callable[[dict[str, Any]], ClassicConfig]
    rules: tuple[str, str, str]


_SMALL = {"vocab_size": 40, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
_BERT = {
    **_SMALL, "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3,
    "intermediate_size": 40, "max_position_embeddings": 32, "is_decoder": True,
    "add_cross_attention": True, "attn_implementation": "eager",
}  # fmt: skip


def _gpt2(crosses: bool) -> nn.Module:
    return hub.GPT2LMHeadModel(hub.GPT2Config(
        **_SMALL, n_embd=24, n_layer=2, n_head=3, n_positions=32, add_cross_attention=crosses,
        attn_implementation="eager",
    ))  # fmt: skip


def _opt() -> nn.Module:
    return hub.OPTForCausalLM(hub.OPTConfig(
        **_SMALL, hidden_size=24, num_hidden_layers=2, num_attention_heads=3, ffn_dim=40,
        max_position_embeddings=32, word_embed_proj_dim=24, attn_implementation="eager",
    ))  # fmt: skip


def _bert() -> nn.Module:
    return hub.BertLMHeadModel(hub.BertConfig(**_BERT, type_vocab_size=1))


def _t5(kind: str, tied: bool) -> nn.Module:
    return hub.T5ForConditionalGeneration(hub.T5Config(
        **_SMALL, d_model=24, d_kv=8, d_ff=40, num_layers=1, num_decoder_layers=2, num_heads=3,
        relative_attention_num_buckets=8, relative_attention_max_distance=10,
        feed_forward_proj=kind, tie_word_embeddings=tied, decoder_start_token_id=0,
        attn_implementation="eager",
    ))  # fmt: skip


def _bart() -> nn.Module:
    return hub.BartForConditionalGeneration(hub.BartConfig(
        **_SMALL, d_model=24, encoder_layers=1, decoder_layers=2, encoder_attention_heads=3,
        decoder_attention_heads=3, encoder_ffn_dim=40, decoder_ffn_dim=40,
        max_position_embeddings=32, scale_embedding=True, decoder_start_token_id=2,
        attn_implementation="eager",
    ))  # fmt: skip


def _bert_of(content: dict[str, Any]) -> ClassicConfig:
    return classic.bert_of_json(
        content, "A BERT", memory=MEMORY, head_bias=True, transform=True, tied=True
    )


CASES: dict[str, Case] = {
    "gpt2": Case(lambda: _gpt2(False), lambda c: classic.gpt2_of_json(c, 0),
                 ("gpt2", "transformer.", "")),
    "gpt2-cross": Case(lambda: _gpt2(True), lambda c: classic.gpt2_of_json(c, MEMORY),
                       ("gpt2", "transformer.", "")),
    "opt": Case(_opt, classic.opt_of_json, ("opt", "model.decoder.", "")),
    "bert": Case(_bert, _bert_of, ("bert", "bert.", "cls.")),
    "t5": Case(lambda: _t5("gated-gelu", False), classic.t5_of_json, ("t5", "decoder.", "")),
    "t5-plain": Case(lambda: _t5("relu", True), classic.t5_of_json, ("t5-plain", "decoder.", "")),
    "bart": Case(_bart, lambda c: classic.bart_of_json(c, "decoder"),
                 ("bart", "model.decoder.", "")),
}  # fmt: skip
every_case = pytest.mark.parametrize("name", CASES)
TOKENS = torch.tensor([
    [1, 7, 31, 5, 11, 4, 9, 38, 3, 8, 6, 30, 12, 29], [1, 9, 9, 30, 5, 17, 12, 6, 3, 4, 4, 7, 22, 5]
])  # fmt: skip
ROWS = drawn(2, 5, MEMORY, seed=3)


def theirs_of(name: str) -> nn.Module:
    torch.manual_seed(0)
    network = CASES[name].theirs()
    if name == "t5":  # read from a folder, an untied head stays so
        network.lm_head.weight = nn.Parameter(network.lm_head.weight.detach().clone())
    return randomized(exact_norms(network))


def ours_of_(name: str, theirs: nn.Module) -> tuple[ClassicDecoder, dict[str, Tensor]]:
    case = CASES[name]
    config = case.config(theirs.config.to_dict())
    if name == "t5":
        config = replace(config, tied=False)
    kind, theirs_at, head = case.rules
    ours = ClassicDecoder(config).double().eval()
    stored = dict(theirs.state_dict())
    if name == "bert":  # the types of words, which BLIP has none of
        places = "bert.embeddings.position_embeddings.weight"
        stored[places] = stored[places] + stored.pop("bert.embeddings.token_type_embeddings.weight")
    plan = plan_of(classic.NAMINGS[kind].rules(config, "", theirs_at, head), ours.state_dict())
    ours.load_state_dict({take.ours: ours_of(take, stored[take.theirs]) for take in plan})
    back = stored_of(plan, ours.state_dict())
    assert all(torch.equal(tensor, stored[key]) for key, tensor in back.items())
    used = set(back)
    at = theirs_at if name != "bert" else ("bert.", "cls.")
    unused = [key for key in stored if key.startswith(at) and key not in used]
    assert all(key.endswith(("decoder.weight", "decoder.bias")) for key in unused), unused
    return ours, stored


def pair(name: str) -> tuple[ClassicDecoder, nn.Module]:
    theirs = theirs_of(name)
    return ours_of_(name, theirs)[0], theirs


def logits(network: nn.Module, tokens: Tensor, rows: Tensor) -> Tensor:
    if isinstance(network, ClassicDecoder):
        memory = rows if network.config.memory else None
        return network.logits(network(network.embed(tokens), memory=memory))
    if network.config.is_encoder_decoder:
        from transformers.modeling_outputs import BaseModelOutput

        given = BaseModelOutput(last_hidden_state=rows)
        return network(encoder_outputs=given, decoder_input_ids=tokens, use_cache=False).logits
    more = {"encoder_hidden_states": rows} if _crosses(network) else {}
    return network(input_ids=tokens, use_cache=False, **more).logits


def _crosses(network: nn.Module) -> bool:
    return bool(getattr(network.config, "add_cross_attention", False))


@every_case
def test_logits(name: str) -> None:
    ours, theirs = pair(name)
    with torch.no_grad(), widened():
        assert apart(logits(ours, TOKENS, ROWS), logits(theirs, TOKENS, ROWS)) < 1e-9
    with torch.no_grad():
        found = logits(ours.float(), TOKENS, ROWS.float())
        assert apart(found, logits(theirs.float(), TOKENS, ROWS.float())) < 1e-5


# Plain GPT-2 and OPT see nothing beside their words, which have no gradient.
@pytest.mark.parametrize("name", [name for name in CASES if name not in ("gpt2", "opt")])
def test_gradients(name: str) -> None:
    ours, theirs = pair(name)
    assert ours.config.memory
    found = []
    with widened():
        for network in (ours, theirs):
            rows = ROWS.clone().requires_grad_(True)
            found.append(
                gradients(lambda network=network, rows=rows: logits(network, TOKENS, rows), [rows])
            )
    assert all_apart(*found) < 1e-9


def _begun(ours: ClassicDecoder, slots: KVSlots, slot: int, rows: Tensor) -> None:
    if ours.config.memory:
        view = slots.view(slot, slot + 1, rows.shape[1], causal=False)
        ours.remember(rows, view)
        slots.wrote(slot, rows.shape[1])


@every_case
@pytest.mark.parametrize("packed", [False, True])
def test_one_by_one_equals_all_at_once(name: str, packed: bool) -> None:
    """Chunks of any length into slots, texts of other lengths with other memories beside them."""
    ours, _ = pair(name)
    few = ROWS[1:, :3]
    whole = torch.cat([logits(ours, TOKENS[:1], ROWS[:1]), logits(ours, TOKENS[1:], few)])
    if packed:
        ours.pack()
    slots = KVSlots(ours.config.kv, 3, dtype=torch.float64)
    rows = ours.embed(TOKENS)

    def run(texts: list[int], begins: list[int], count: int, calls: int = 0) -> Tensor:
        places = torch.tensor([list(range(begin, begin + count)) for begin in begins])
        mine = torch.stack([rows[i, b : b + count] for i, b in zip(texts, begins, strict=True)])
        view = slots.view(texts[0], texts[-1] + 1, count)
        if calls:
            states = ours.step(mine[:, 0], places[:, 0], view, calls)[: len(texts), None]
        elif count == 1:
            states = ours.step(mine[:, 0], places[:, 0], view)[:, None]
        else:
            states = ours.read(mine, places, view)
        for text in texts:
            slots.wrote(text, count)
        return ours.logits(states)

    with torch.no_grad():
        _begun(ours, slots, 0, ROWS[:1])
        _begun(ours, slots, 1, few)
        first = [run([0], [0], 5), run([0], [5], 1)]
        second = [run([1], [0], 2), run([1], [2], 1)]
        both = [run([0, 1], [6, 3], 1), run([0, 1], [7, 4], 3), run([0, 1], [10, 7], 1, 4)]
    assert apart(torch.cat([*first, *(one[:1] for one in both)], 1), whole[:1, :11]) < 1e-12
    assert apart(torch.cat([*second, *(one[1:] for one in both)], 1), whole[1:, :8]) < 1e-12


@every_case
def test_a_prefix_kept_once(name: str) -> None:
    """Two texts that begin alike look at one copy of their beginning and of the memory."""
    ours, _ = pair(name)
    tokens = TOKENS.clone()
    tokens[1, :4] = tokens[0, :4]
    whole = logits(ours, tokens, ROWS[:1].expand(2, -1, -1))
    slots = KVSlots(ours.config.kv, 1, dtype=torch.float64)
    rows = ours.embed(tokens)
    with torch.no_grad():
        _begun(ours, slots, 0, ROWS[:1])
        ours.read(rows[:1, :4], torch.arange(4)[None], slots.view(0, 1, 4))
        slots.wrote(0, 4)
        prefix = slots.taken(0, following=4)
        kept = torch.zeros(2, 2, 2, ours.config.heads, 8, ours.config.head_dim).double()
        found = []
        for at in range(4, 7):
            view = KVView(kept[0], kept[1], [at - 4] * 2, 1, shared=prefix)
            states = ours.step(rows[:, at], torch.full((2,), at), view)
            found.append(ours.logits(states))
    assert apart(torch.stack(found, 1), whole[:, 4:7]) < 1e-12


@every_case
@pytest.mark.parametrize("count", [1, 2])
def test_slots_of_different_lengths_share_a_call(name: str, count: int) -> None:
    """With memories of one length, so that nothing else parts them."""
    ours, _ = pair(name)
    whole, rows, lengths = logits(ours, TOKENS, ROWS), ours.embed(TOKENS), (9, 2)
    slots = KVSlots(ours.config.kv, 2, dtype=torch.float64)
    with torch.no_grad():
        for slot, length in enumerate(lengths):
            _begun(ours, slots, slot, ROWS[slot : slot + 1])
            view = slots.view(slot, slot + 1, length)
            ours.read(rows[slot : slot + 1, :length], torch.arange(length)[None], view)
            slots.wrote(slot, length)
        places = torch.tensor([list(range(at, at + count)) for at in lengths])
        mine = torch.stack([rows[i, at : at + count] for i, at in enumerate(lengths)])
        found = ours.logits(ours.read(mine, places, slots.view(0, 2, count)))
    for i, at in enumerate(lengths):
        assert apart(found[i], whole[i, at : at + count]) < 1e-12
