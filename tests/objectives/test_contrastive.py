"""The contrastive loss against its formula, written out in loops."""

from __future__ import annotations

from math import exp, log

import pytest
import torch
from torch import Tensor

from diptych.models.dual_encoder import MOST_SCALE, DualEncoderConfig, DualEncoderNetwork
from diptych.objectives.contrastive import contrastive_loss, info_nce


def _by_hand(logits: list[list[float]], true: list[list[bool]]) -> float:
    """Mean of -log(own / all that are own or wrong), over rows and over columns."""
    total, count = 0.0, len(logits)
    for i in range(count):
        others = [j for j in range(count) if j == i or not true[i][j]]
        total -= log(exp(logits[i][i]) / sum(exp(logits[i][j]) for j in others))
        others = [j for j in range(count) if j == i or not true[j][i]]
        total -= log(exp(logits[i][i]) / sum(exp(logits[j][i]) for j in others))
    return total / (2 * count)


def _pairs(seed: int) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(seed)
    logits = 5 * torch.randn(7, 7, generator=draw, dtype=torch.float64)
    true = (torch.rand(7, 7, generator=draw) < 0.2) | torch.eye(7, dtype=torch.bool)
    return logits, true


@pytest.mark.parametrize("seed", range(4))
def test_it_is_the_loss_of_the_formula(seed: int):
    logits, true = _pairs(seed)
    assert (true != true.T).any()  # a caption may be true without the other being so
    wanted = _by_hand(logits.tolist(), true.tolist())
    assert float(info_nce(logits, true).total) == pytest.approx(wanted, rel=1e-12)


def test_a_pair_that_is_true_too_is_neither_pushed_nor_pulled():
    logits, true = _pairs(9)
    logits.requires_grad_()
    info_nce(logits, true).total.backward()
    assert logits.grad is not None
    others = true & ~torch.eye(7, dtype=torch.bool)
    assert others.any() and not logits.grad[others].any()
    assert (logits.grad[~true] > 0).all() and (logits.grad.diagonal() < 0).all()


def test_a_network_learns_to_tell_a_few_pairs_apart():
    torch.manual_seed(3)
    config = DualEncoderConfig.tiny()
    model = DualEncoderNetwork(config)
    batch = {
        "image": torch.randn(4, 3, 32, 32),
        "tokens": torch.randint(1, 20, (4, 8)),
        "mask": torch.ones(4, 8, dtype=torch.bool),
        "true": torch.eye(4, dtype=torch.bool),
    }
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(50):
        loss = contrastive_loss(model, batch, torch.Generator())
        optimizer.zero_grad()
        loss.total.backward()
        optimizer.step()
    assert float(loss.total.detach()) < 0.3 < log(4) and float(loss.parts["text_to_picture"]) == 1


def test_vectors_have_unit_length_and_the_scale_its_limit():
    model = DualEncoderNetwork(DualEncoderConfig.tiny()).eval()
    tokens, mask = (
        torch.randint(1, 20, (3, 8)),
        torch.arange(8)[None] < torch.tensor([[8], [3], [1]]),
    )
    image = torch.randn(3, 3, 32, 32)
    with torch.no_grad():
        pictures, texts = model.encode_image(image), model.encode_text(tokens, mask)
        for vectors in (pictures, texts):
            torch.testing.assert_close(vectors.norm(dim=1), torch.ones(3))
        diagonal = (model.scale * pictures @ texts.T).diagonal()
        torch.testing.assert_close(model(image, tokens, mask), diagonal)
        # What the mask leaves out is not read.
        other = torch.where(mask, tokens, 7)
        torch.testing.assert_close(model.encode_text(other, mask), texts)
        model.logit_scale.fill_(9.0)
        assert float(model.scale) == pytest.approx(exp(MOST_SCALE)) == pytest.approx(100)
