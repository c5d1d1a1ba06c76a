"""OpenCLIP's folders: weights in its own names and `open_clip_config.json`, without config.json."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from diptych.checkpoints.families.clip import openclip_rules
from diptych.checkpoints.folder import save_tensors
from diptych.checkpoints.rules import plan_of, stored_of
from diptych.foundation.errors import NotFound
from diptych.models.clip import CLIP, CLIP_B32
from diptych.pipelines.dual_front import DualEncoder
from tests.tiny_dual import drawn

_VISION = replace(CLIP_B32.vision, image_size=20, patch_size=4, width=64, depth=2, heads=1)
_TEXT = replace(CLIP_B32.text, width=64, depth=2, heads=1, hidden=96)
TINY = replace(CLIP_B32, vision=replace(_VISION, hidden=96), text=_TEXT, projection=16)


def test_a_folder_without_a_config_is_read(tmp_path: Path):
    """Its words are CLIP's, which come with the package."""
    network = drawn(CLIP(TINY))
    stored = stored_of(plan_of(openclip_rules(TINY), network.state_dict()), network.state_dict())
    weights = tmp_path / "open_clip_model.safetensors"
    save_tensors(weights, {key: tensor.contiguous() for key, tensor in stored.items()})
    said = {
        "model_cfg": {"embed_dim": 16, "quick_gelu": True},
        "preprocess_cfg": {"mean": [0.5] * 3, "std": [0.5] * 3, "interpolation": "bicubic"},
    }
    (tmp_path / "open_clip_config.json").write_text(json.dumps(said))
    encoder = DualEncoder.load(str(tmp_path))
    assert encoder.reports[0].layout == "OpenCLIP"
    # Of the tower's own size, so that nothing is resized.
    pixels = np.random.default_rng(0).integers(0, 255, (3, 20, 20, 3), dtype=np.uint8)
    image = torch.tensor((pixels / 255 - 0.5) / 0.5, dtype=torch.float32).permute(0, 3, 1, 2)
    words = torch.tensor([[49406, 320, 2368, 49407, *[0] * 73]])  # the published "a cat"
    with torch.no_grad():
        seen, read = network.encode_image(image).numpy(), network.encode_text(words).numpy()
    pictures = [Image.fromarray(one) for one in pixels]
    np.testing.assert_allclose(encoder.embed_pictures(pictures), seen, atol=1e-6)
    np.testing.assert_allclose(encoder.embed_texts(["a cat"]), read, atol=1e-6)
    weights.unlink()
    with pytest.raises(NotFound, match=r"no \.safetensors"):
        DualEncoder.load(str(tmp_path))
