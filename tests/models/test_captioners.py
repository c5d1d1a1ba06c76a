"""What is special about each captioner: where it looks, what it may not see, what it begins as."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from diptych.models.captioners.bottom_up_top_down import BottomUpTopDown, BottomUpTopDownConfig
from diptych.models.captioners.captioner import Captioner
from diptych.models.captioners.clip_cap import ClipCap, ClipCapConfig
from diptych.models.captioners.flamingo import Flamingo, FlamingoConfig
from diptych.models.captioners.ofa import OFA, POINT, OFAConfig
from diptych.models.captioners.show_attend_tell import ShowAttendTell, ShowAttendTellConfig
from diptych.models.captioners.sim_vlm import SimVLM, SimVLMConfig
from diptych.models.captioners.table import CAPTIONERS
from diptych.models.captioners.word_decoder import WordDecoder

NAMES = [name for name, row in CAPTIONERS.items() if issubclass(row[1], Captioner)]


def drawn(network: nn.Module, seed: int = 0) -> Any:
    """The network in float64 with every parameter drawn anew."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.3, generator=generator)
    return network.double().eval().requires_grad_(False)


def inputs(name: str, batch: int = 2) -> tuple[Any, dict[str, Tensor], Tensor]:
    """A network, its features in float64, and tokens."""
    kind, build, example = CAPTIONERS[name]
    given = example(kind.tiny(), batch, 3)
    tokens = given.pop("tokens")
    return drawn(build(kind.tiny())), {key: value.double() for key, value in given.items()}, tokens


@pytest.mark.parametrize("name", NAMES)
def test_no_word_knows_what_comes_after_it(name: str):
    network, seen, tokens = inputs(name)
    other = tokens.clone()
    other[:, 4:] = 3 + (other[:, 4:] - 2) % 10
    assert not torch.equal(tokens, other)
    a, b = network(tokens=tokens, **seen), network(tokens=other, **seen)
    torch.testing.assert_close(a[:, :4], b[:, :4], rtol=1e-12, atol=1e-12)
    assert (a[:, 4:] - b[:, 4:]).abs().max() > 1e-6


@pytest.mark.parametrize("name", NAMES)
def test_step_by_step_is_what_is_learned(name: str):
    network, seen, tokens = inputs(name)
    whole, memory = network(tokens=tokens, **seen), network.look(**seen)
    for place in range(tokens.shape[1]):
        logits, memory = network.step(memory, tokens[:, : place + 1])
        torch.testing.assert_close(logits, whole[:, place], rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", ["show-attend-tell", "bottom-up-top-down"])
def test_attention_is_shares_and_is_what_is_seen(name: str):
    network, seen, tokens = inputs(name)
    logits, alphas = network.attended(tokens=tokens, **seen)
    torch.testing.assert_close(alphas.sum(-1), torch.ones_like(alphas[..., 0]), atol=1e-6, rtol=0)
    torch.testing.assert_close(logits, network(tokens=tokens, **seen))
    # In another order the same places get the same attention.
    (kind, places), order = next(iter(seen.items())), torch.randperm(places_of(seen))
    turned_logits, turned = network.attended(tokens=tokens, **{kind: places[:, order]})
    torch.testing.assert_close(turned, alphas[..., order], rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(turned_logits, logits, rtol=1e-5, atol=1e-6)


def places_of(seen: dict[str, Tensor]) -> int:
    return next(iter(seen.values())).shape[1]


def test_show_attend_tell_is_its_equations():
    network = drawn(ShowAttendTell(ShowAttendTellConfig.tiny()))
    grid = torch.randn(1, 5, 6, dtype=torch.float64)
    tokens = torch.tensor([[1, 4]])
    h = network.first_h(grid.mean(1)).tanh()
    scores = [network.score((network.key(a) + network.query(h[0])).tanh()) for a in grid[0]]
    alpha = torch.cat(scores).softmax(0)
    seen = torch.sigmoid(network.gate(h)) * (alpha[:, None] * grid[0]).sum(0)
    word = network.token_embedding(tokens[:, 0])
    c = network.first_c(grid.mean(1)).tanh()
    h, _ = network.cell(torch.cat([word, seen], dim=-1), (h, c))
    wanted = network.head(word + network.state_out(h) + network.look_out(seen))
    logits, alphas = network.attended(grid, tokens)
    torch.testing.assert_close(logits[:, 0], wanted, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(alphas[0, 0].double(), alpha, rtol=1e-6, atol=1e-7)


def test_bottom_up_top_down_is_its_equations():
    network = drawn(BottomUpTopDown(BottomUpTopDownConfig.tiny()))
    regions = torch.randn(1, 4, 6, dtype=torch.float64)
    nothing = torch.zeros(1, 12, dtype=torch.float64)
    word = network.token_embedding(torch.tensor([1]))
    first = torch.cat([nothing, regions.mean(1), word], dim=-1)
    h1, _ = network.attention_cell(first, (nothing, nothing))
    scores = [network.score((network.key(v) + network.query(h1[0])).tanh()) for v in regions[0]]
    seen = (torch.cat(scores).softmax(0)[:, None] * regions[0]).sum(0)
    h2, _ = network.language_cell(torch.cat([seen[None], h1], dim=-1), (nothing, nothing))
    logits = network(tokens=torch.tensor([[1]]), regions=regions)
    torch.testing.assert_close(logits[:, 0], network.head(h2), rtol=1e-6, atol=1e-6)


def test_flamingo_begins_as_the_language_model_it_was():
    network = Flamingo(FlamingoConfig.tiny())
    tokens = torch.tensor([[1, 5, 6, 7]])
    logits = network(tokens=tokens, patches=torch.randn(1, 4, 32))
    torch.testing.assert_close(logits, network.words(tokens))
    assert network.gates == [0.0] * 4
    # It can leave that: the gates have a gradient where they are closed.
    logits.square().sum().backward()
    assert all(layer.attention_gate.grad.abs().max() > 0 for layer in network.gated)


def test_a_text_of_flamingo_sees_the_last_picture_before_it_and_no_other():
    network = drawn(Flamingo(FlamingoConfig.tiny()))
    patches = torch.randn(1, 2, 4, 32, dtype=torch.float64)
    tokens = torch.tensor([[1, 5, 6, 1, 7, 8]])
    first, second = patches.clone(), patches.clone()
    first[:, 0] += 1
    second[:, 1] += 1
    plain = network(tokens=tokens, patches=patches)
    changed = (network(tokens=tokens, patches=second) - plain).abs().amax(-1)[0]
    assert changed[:3].max() == 0 and changed[3:].min() > 0
    # The words of the second text know the first picture only through what was said of it: not at
    # all where words do not look at each other.
    for block in network.words.blocks:
        nn.init.zeros_(block.attention.out.weight)
        nn.init.zeros_(block.attention.out.bias)
    plain = network(tokens=tokens, patches=patches)
    changed = (network(tokens=tokens, patches=first) - plain).abs().amax(-1)[0]
    assert changed[:3].min() > 0 and changed[3:].max() == 0


def test_clip_caps_mappers_make_as_many_words_and_leave_the_language_model_its_own():
    for mapper in ("mlp", "transformer"):
        network = drawn(ClipCap(ClipCapConfig.tiny(mapper=mapper)))
        assert network.look(torch.randn(2, 6).double()).shape == (2, 3, 32)
        assert isinstance(network.words, WordDecoder)


def test_a_prefix_of_sim_vlm_is_seen_whole():
    network = drawn(SimVLM(SimVLMConfig.tiny()))
    memory = network.look(torch.randn(1, 9, 6).double())
    tokens = torch.tensor([[1, 5, 6, 7, 8, 9]])
    other = tokens.clone()
    other[0, 2] = 10
    a, b = network.after(memory, tokens, 3), network.after(memory, other, 3)
    assert a.shape == (1, 3, 20) and (a - b).abs().amax(-1).min() > 0


def test_a_box_goes_to_location_words_and_back():
    network = OFA(OFAConfig.tiny(bins=101))
    boxes = torch.tensor([[0.5, 0.4, 0.2, 0.3], [0.05, 0.9, 0.3, 0.2]])
    words = network.bins_of(boxes)
    assert words.min() >= 20 and words.max() < 20 + 101
    back = network.boxes_of(words)
    torch.testing.assert_close(back[0], boxes[0], atol=0.0101, rtol=0)
    assert back[1, 0] - back[1, 2] / 2 == 0  # what hangs out is cut
    swapped = network.boxes_of(words[:, [2, 3, 0, 1]])
    assert (swapped[:, 2:] == 0).all()  # a box of nothing rather than a negative one


def test_ofa_is_told_what_to_do():
    network = drawn(OFA(OFAConfig.tiny()))
    grid, words = torch.randn(1, 9, 6).double(), torch.tensor([[4, 5]])
    a = network.asked(grid, POINT, words)
    assert a.shape == (1, 12, 16)
    assert (a - network.asked(grid, 1 - POINT, words)).abs().max() > 1e-6
    assert (a - network.asked(grid, POINT, words + 1)).abs().max() > 1e-6
