"""Losses of captioners against sums written out, and what reward may and may not move."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from diptych.decoding.words import cut, spoken
from diptych.models.captioners.show_and_tell import ShowAndTell, ShowAndTellConfig
from diptych.models.captioners.show_attend_tell import ShowAttendTell, ShowAttendTellConfig
from diptych.objectives.captioning import attentive_loss, caption_loss
from diptych.objectives.self_critical import self_critical_loss, within

BOS, EOS = 1, 2
DRAW = torch.Generator()


def batch() -> dict[str, Any]:
    return {
        "tokens": torch.tensor([[1, 5, 6, 2], [1, 7, 2, 0]]),
        "mask": torch.tensor([[True] * 4, [True, True, True, False]]),
        "seen": {"pooled": torch.randn(2, 6), "grid": torch.randn(2, 9, 6)},
        "numbers": [3, 4],
    }


def test_the_loss_is_the_mean_over_words_that_are_there():
    torch.manual_seed(0)
    network, given = ShowAndTell(ShowAndTellConfig.tiny()), batch()
    given["seen"].pop("grid")
    chances = network(tokens=given["tokens"], **given["seen"]).log_softmax(-1)
    wanted = [chances[0, 0, 5], chances[0, 1, 6], chances[0, 2, 2], chances[1, 0, 7]]
    wanted.append(chances[1, 1, 2])
    loss = caption_loss(network, given, DRAW).total
    torch.testing.assert_close(loss, -torch.stack(wanted).mean())
    given["tokens"][1, 3] = 9  # behind the end
    torch.testing.assert_close(caption_loss(network, given, DRAW).total, loss)


def test_looking_everywhere_alike_costs_nothing():
    torch.manual_seed(0)
    network, given = ShowAttendTell(ShowAttendTellConfig.tiny()), batch()
    given["seen"].pop("pooled")
    nn.init.zeros_(network.score.weight)  # all places alike
    loss = attentive_loss(network, given, DRAW, weight=1.0)
    assert float(loss.parts["uneven"]) == pytest.approx(0, abs=1e-10)
    torch.testing.assert_close(loss.total, caption_loss(network, given, DRAW).total)
    nn.init.normal_(network.score.weight, std=20.0)
    loss = attentive_loss(network, given, DRAW, weight=0.5)
    _, alphas = network.attended(tokens=given["tokens"][:, :-1], **given["seen"])
    looked = torch.stack([alphas[0].sum(0), alphas[1, :2].sum(0)])
    uneven = (torch.tensor([[3 / 9], [2 / 9]]) - looked).square().sum(1).mean()
    torch.testing.assert_close(loss.total, loss.parts["words"] + 0.5 * uneven)
    assert uneven > 0.1


class Coin(nn.Module):
    """Says 3 or 4, whatever it has seen, and then the end; both are said as often at first."""

    sees = ("pooled",)

    def __init__(self) -> None:
        super().__init__()
        self.lean = nn.Parameter(torch.zeros(()))

    def look(self, pooled: Tensor) -> Tensor:
        return pooled

    def step(self, memory: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        logits = torch.full((len(tokens), 6), -30.0)
        logits = logits.index_fill(1, torch.tensor([EOS if tokens.shape[1] > 1 else 3]), 0.0)
        if tokens.shape[1] == 1:
            logits = torch.cat([logits[:, :4], self.lean.expand(len(tokens), 1), logits[:, 5:]], 1)
        return logits, memory

    def forward(self, tokens: Tensor, pooled: Tensor) -> Tensor:
        return torch.stack([self.step(pooled, tokens[:, : i + 1])[0] for i in range(2)], dim=1)


def critical(reward: Any, lean: float = 0.0) -> tuple[float, float]:
    """The loss and its gradient on Coin's lean towards 4, over 400 samples."""
    network = Coin()
    with torch.no_grad():
        network.lean += lean
    given = {"numbers": list(range(400)), "seen": {"pooled": torch.zeros(400, 6)}}
    draw = torch.Generator().manual_seed(0)
    loss = self_critical_loss(
        network, given, draw, reward=reward, marks=(BOS, EOS), longest=5
    ).total
    loss.backward()
    assert network.lean.grad is not None
    return float(loss.detach()), float(network.lean.grad)


def test_what_is_worth_more_than_the_baseline_becomes_likelier():
    # The most likely caption is 3; 4 is worth 1 more, and is drawn half of the time:
    # d/dlean of -1 * log p(4) is -(1 - p(4)), so the mean is about -0.5 * 0.5.
    _, gradient = critical(lambda words, _: float(words[0] == 4), lean=-1e-4)
    assert gradient == pytest.approx(-0.25, abs=0.03)
    # What is worth less becomes unlikelier, by as much.
    _, gradient = critical(lambda words, _: -float(words[0] == 4), lean=-1e-4)
    assert gradient == pytest.approx(0.25, abs=0.03)


def test_a_reward_that_all_get_moves_nothing():
    loss, gradient = critical(lambda words, _: 7.0)
    assert loss == gradient == 0


def test_the_reward_sees_the_mark_of_the_end_and_the_number_of_the_scene():
    asked: list[tuple[list[int], int]] = []
    critical(lambda words, number: asked.append((words, number)) or 0.0)
    assert all(words in ([3, EOS], [4, EOS]) for words, _ in asked)
    assert sorted(number for _, number in asked) == sorted([*range(400)] * 2)


def test_the_end_is_learned_and_nothing_behind_it():
    tokens = torch.tensor([[3, 2, 2], [4, 5, 2], [4, 5, 6]])
    assert within(tokens, EOS).tolist() == [[1, 1, 0], [1, 1, 1], [1, 1, 1]]
    assert cut(tokens, EOS) == [[3], [4, 5], [4, 5, 6]]


def test_words_end_at_the_mark_and_at_the_longest():
    def step(memory: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        # The first row ends behind its second word and would go on, the second never ends.
        word = torch.tensor([EOS if tokens.shape[1] == 3 else 3, 4])
        return nn.functional.one_hot(word, 6).float(), memory

    begin = torch.full((2, 1), BOS)
    words = spoken(step, None, begin, eos=EOS, longest=4)
    assert words.tolist() == [[3, 3, 2, 2], [4, 4, 4, 4]]


def test_drawn_words_are_a_function_of_the_generator():
    def step(memory: None, tokens: Tensor) -> tuple[Tensor, None]:
        return torch.zeros(len(tokens), 6), None

    begin = torch.full((50, 1), BOS)
    a, b, c = (
        spoken(step, None, begin, eos=EOS, longest=4, draw=torch.Generator().manual_seed(seed))
        for seed in (0, 0, 1)
    )
    assert a.tolist() == b.tolist() != c.tolist()
