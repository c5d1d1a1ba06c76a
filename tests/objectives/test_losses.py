"""Losses against their formulas."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import cross_entropy

from diptych.models.autoencoder_kl import AutoencoderKL, AutoencoderKLConfig
from diptych.models.vision_language import VisionLanguage, VisionLanguageConfig
from diptych.objectives.answering import answer_loss
from diptych.objectives.autoencoding import reconstruction_loss
from diptych.objectives.flow_matching import flow_loss
from diptych.objectives.levels import logit_normal


def _generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_the_true_velocity_loses_nothing():
    x0 = torch.randn(16, 2, 4, 4, generator=_generator(1))
    loss = flow_loss(
        lambda x, t: ((x - x0) / t[:, None, None, None], None), x0, _generator(), mean=0.7, std=1.2
    )
    assert float(loss.total) < 1e-4
    nothing = flow_loss(lambda x, t: (torch.zeros_like(x), None), x0, _generator(), mean=0, std=1)
    assert float(nothing.total) == pytest.approx(2, abs=0.3)  # noise and data of unit variance


def test_times_are_logit_normal_and_lean_to_noise():
    t = logit_normal(20_000, _generator(), torch.device("cpu"), mean=0.7, std=1.2)
    logits = torch.logit(t)
    assert float(logits.mean()) == pytest.approx(0.7, abs=0.05)
    assert float(logits.std()) == pytest.approx(1.2, abs=0.05)


def test_layout_is_the_mean_cross_entropy_of_its_traits():
    x0 = torch.zeros(2, 1, 2, 2)
    logits = torch.randn(2, 4, 3 * 7, generator=_generator(2))
    layout = torch.randint(0, 2, (2, 4, 3, 2), generator=_generator(3))
    loss = flow_loss(
        lambda x, t: (x, logits), x0, _generator(), mean=0, std=1,
        layout=layout, layout_sizes=(4, 3), layout_weight=0.5,
    )  # fmt: skip
    parts = logits.view(2, 4, 3, 7)
    wanted = (
        cross_entropy(parts[..., :4].reshape(-1, 4), layout[..., 0].flatten())
        + cross_entropy(parts[..., 4:].reshape(-1, 3), layout[..., 1].flatten())
    ) / 2
    torch.testing.assert_close(loss.parts["layout"], wanted)
    torch.testing.assert_close(loss.total, loss.parts["flow"] + 0.5 * wanted)


def test_kl_is_that_of_torch_distributions():
    model = AutoencoderKL(AutoencoderKLConfig.tiny())
    image = torch.randn(2, 3, 16, 16, generator=_generator(4))
    loss = reconstruction_loss(model, image, _generator(), kl_weight=0.1)
    mean, log_variance = model.posterior(image)
    there = torch.distributions.Normal(mean, (0.5 * log_variance).exp())
    unit = torch.distributions.Normal(torch.zeros_like(mean), 1.0)
    wanted = torch.distributions.kl_divergence(there, unit).mean()
    torch.testing.assert_close(loss.parts["kl"], wanted.detach())
    rest = loss.parts["l1"] + 2 * loss.parts["l2"]
    torch.testing.assert_close(loss.total.detach(), rest + 0.1 * wanted.detach())


def test_texts_in_a_row_lose_what_they_lose_alone():
    config = VisionLanguageConfig.tiny()
    model = VisionLanguage(config).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    draw = _generator(5)
    image = torch.randn(1, 3, 32, 32, generator=draw)
    texts = [torch.randint(4, config.vocabulary, (n,), generator=draw) for n in (5, 3, 7)]
    row, numbers = torch.cat(texts), [i for i, text in enumerate(texts) for _ in text]
    prefix = model.look(image)
    packed = model.answer(prefix, row[None], torch.tensor([numbers]))
    alone = torch.cat([model.answer(prefix, text[None]) for text in texts], dim=1)
    torch.testing.assert_close(packed, alone, rtol=1e-4, atol=1e-5)

    starts = [0, 5, 8]
    weights = torch.ones(1, 15).index_fill(1, torch.tensor(starts), 0.0)
    batch = {
        "image": image,
        "tokens": row[None],
        "segments": torch.tensor([numbers]),
        "weights": weights,
    }
    each = [
        cross_entropy(model.answer(prefix, t[None, :-1])[0], t[1:], reduction="sum") for t in texts
    ]
    torch.testing.assert_close(answer_loss(model, batch, draw).total, sum(each) / 12)
