"""Chunks that were read before: the same bits, and never those of other weights."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from diptych.engine.precision import in_float32
from diptych.pipelines.conditioning import TEXT_RECIPES, TextCond, condition
from diptych.pipelines.encoded import EncodedStore, stamp_of, tensors_of
from diptych.pipelines.painter_front import TextToImage
from diptych.pipelines.stable_diffusion import StableDiffusionNetworks
from tests.pipelines.test_adapters import SIZE, family, files, model
from tests.pipelines.test_conditioning import ENCODERS, LONG, drawn

__all__ = ["family", "files", "model"]  # fixtures


def told(encoders: dict, store: EncodedStore | None, family: str = "sdxl") -> list[torch.Tensor]:
    pair = condition(encoders, TEXT_RECIPES[family], LONG, "the house", store=store)
    assert all(isinstance(one, TextCond) for one in pair)
    return [one for cond in pair for one in tensors_of((cond.sequence, cond.pooled))]


def same(first: list[torch.Tensor], second: list[torch.Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_what_was_read_has_the_same_bits():
    store = EncodedStore()
    fresh, first = told(ENCODERS, None), told(ENCODERS, store)
    assert store.hits == 0
    again = told(ENCODERS, store)
    assert store.hits > 2 and same(fresh, first) and same(fresh, again)


def test_changed_weights_are_read_anew():
    encoders, store = {"clip_l": drawn(7, projection=0)}, EncodedStore()
    network = encoders["clip_l"].network
    before = told(encoders, store, "sd1")
    with torch.no_grad():
        network.final_layer_norm.weight.mul_(1.5)
    changed = told(encoders, store, "sd1")
    assert not same(before, changed) and same(changed, told(encoders, None, "sd1"))
    network.to(torch.bfloat16)
    assert told(encoders, store, "sd1")[0].dtype == torch.bfloat16
    with in_float32([network]):
        assert told(encoders, store, "sd1")[0].dtype == torch.float32
    assert told(encoders, store, "sd1")[0].dtype == torch.bfloat16


def test_learnt_words_are_not_kept():
    rows = torch.randn(2, ENCODERS["clip_l"].network.config.width)
    knowing = {"clip_l": drawn(8, projection=0).knowing("xyzzy", rows)}
    store = EncodedStore()
    told(knowing, store, "sd1")
    assert not store._kept


def test_no_more_is_kept_than_may_be():
    store = EncodedStore(most=5000)
    for number in range(20):
        store.keep(number, torch.zeros(250))  # 1,000 bytes
        store.find(0)
    assert store._bytes <= 5000 and len(store._kept) == 5
    assert store.find(0) is not None and store.find(19) is not None and store.find(10) is None
    store.keep("large", torch.zeros(5000))
    assert store.find("large") is None


def test_inference_tensors_have_no_stamp():
    with torch.inference_mode():
        network = torch.nn.Linear(2, 2)
    assert stamp_of(network) is None and stamp_of(torch.nn.Linear(2, 2)) is not None


@pytest.mark.parametrize("prompt", ["a cat", "a (cat:1.3) on a mat"])
def test_pictures_are_those_of_a_model_without_it(
    model: TextToImage, files: dict[str, str], prompt: str
):
    networks = model.networks
    assert isinstance(networks, StableDiffusionNetworks)

    def forgetful(**more: object) -> np.ndarray:
        model.networks = replace(networks, encoded=EncodedStore(most=0))
        try:
            return np.asarray(model(prompt, **SIZE, **more))  # pyright: ignore[reportArgumentType]
        finally:
            model.networks = networks

    for seed in (1, 2):
        assert np.array_equal(np.asarray(model(prompt, **SIZE, seed=seed)), forgetful(seed=seed))
    hits = networks.encoded.hits
    assert hits > 0
    lora = [(files["soft"], 0.8)]
    assert np.array_equal(
        np.asarray(model(prompt, **SIZE, seed=1, loras=lora)), forgetful(seed=1, loras=lora)
    )
    assert networks.encoded.hits == hits, "with adapters of a row nothing is kept or found"
