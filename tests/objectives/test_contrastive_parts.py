"""Losses of pairs in chunks and over processes are those of the whole batch, gradients too."""

from __future__ import annotations

import subprocess
import sys
from math import exp, log
from pathlib import Path

import pytest
import torch
from gathered_pairs import PAIRS, losses
from torch import Tensor

from diptych.models.siglip import SigLIP, SigLIPConfig
from diptych.objectives.contrastive import contrastive_loss, info_nce, info_nce_of, pairwise_of
from diptych.objectives.contrastive import sigmoid_loss as sigmoid

HERE = Path(__file__).parent
WHOLE = slice(0, PAIRS)


def vectors(count: int = 7) -> tuple[Tensor, Tensor, Tensor]:
    draw = torch.Generator().manual_seed(1)
    drawn = torch.randn(2, count, 4, generator=draw, dtype=torch.float64)
    true = (torch.rand(count, count, generator=draw) < 0.2) | torch.eye(count, dtype=torch.bool)
    pictures, texts = torch.nn.functional.normalize(drawn, dim=-1)
    return pictures, texts, true


def test_of_vectors_it_is_the_loss_of_their_logits():
    pictures, texts, true = vectors()
    scale = torch.tensor(5.0, dtype=torch.float64)
    made = info_nce_of(pictures, texts, scale, true)
    wanted = info_nce(scale * pictures @ texts.T, true)
    torch.testing.assert_close(made.total, wanted.total, rtol=1e-12, atol=0)
    assert {k: float(v) for k, v in made.parts.items()} == pytest.approx(
        {k: float(v) for k, v in wanted.parts.items()}
    )


def test_every_pair_answers_for_itself():
    """The formula in loops; section 3.2's start, where almost nothing is right, costs little."""
    pictures, texts, true = vectors()
    scale, bias = torch.tensor(5.0).double(), torch.tensor(-2.0).double()
    logits = (scale * pictures @ texts.T + bias).tolist()
    wanted = -sum(
        log(1 / (1 + exp(-(1 if true[i, j] else -1) * logits[i][j])))
        for i in range(7)
        for j in range(7)
    )
    made = pairwise_of(pictures, texts, scale, bias, true)
    assert float(made.total) == pytest.approx(wanted / 7, rel=1e-12)


@pytest.mark.parametrize("chunk", [1, 3, 4, 8, 50])
def test_in_chunks_it_is_the_same(chunk: int):
    whole, parts = losses(WHOLE, gather=False, chunk=0), losses(WHOLE, gather=False, chunk=chunk)
    assert whole.keys() == parts.keys() and len(whole) == 12
    for name, value in whole.items():
        torch.testing.assert_close(parts[name], value, rtol=1e-12, atol=1e-14)


def test_over_two_processes_it_is_the_same(tmp_path: Path):
    """The mean of their losses and of their gradients is that of all pairs in one."""
    command = [sys.executable, str(HERE / "gathered_pairs.py"), str(tmp_path)]
    running = [subprocess.Popen([*command, str(rank)]) for rank in (0, 1)]
    assert [one.wait(60) for one in running] == [0, 0]
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1))
    whole = losses(WHOLE, gather=False, chunk=0)
    for chunk in (0, 3):
        a, b = first[chunk], second[chunk]
        assert not torch.equal(a["info_nce"], b["info_nce"])
        for name, value in whole.items():
            torch.testing.assert_close((a[name] + b[name]) / 2, value, rtol=1e-12, atol=1e-14)


def batch() -> dict[str, Tensor]:
    draw = torch.Generator().manual_seed(3)
    return {
        "image": torch.randn(4, 3, 16, 16, generator=draw),
        "tokens": torch.randint(40, (4, 10), generator=draw),
        "mask": torch.ones(4, 10, dtype=torch.bool),
        "true": torch.eye(4, dtype=torch.bool),
    }


@pytest.mark.parametrize("objective", [contrastive_loss, sigmoid])
def test_a_network_learns_to_tell_a_few_pairs_apart(objective):
    torch.manual_seed(3)
    model, given = SigLIP(SigLIPConfig.tiny()), batch()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    first = None
    for _ in range(40):
        loss = objective(model, given, torch.Generator(), chunk=3)
        first = float(loss.total.detach()) if first is None else first
        optimizer.zero_grad()
        loss.total.backward()
        optimizer.step()
    assert float(loss.total.detach()) < first / 2
    assert float(loss.parts["picture_to_text"]) == 1
