"""`DualEncoder` over published folders against transformers: tokens, pixels, vectors, shares."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers as hf
from PIL import Image
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil
from transformers.models.siglip2.tokenization_siglip2 import Siglip2Tokenizer

from diptych.checkpoints.families.preprocessor import square_in
from diptych.models.inputs import shown
from diptych.pipelines.dual_front import DualEncoder
from diptych.pipelines.published_dual import clip_inputs, siglip_inputs
from tests.tiny_dual import PICTURES, clip_folder, gemma_words, siglip_folder

LABELS = ["the cat", "A red house", "old town!!", "über größe 😀"]
PROCESSORS = {"clip": CLIPImageProcessorPil, "siglip": SiglipImageProcessorPil}
every_family = pytest.mark.parametrize("name", PROCESSORS)


def photo(width: int, height: int, seed: int = 0) -> Image.Image:
    draw = np.random.default_rng(seed)
    ramp = np.linspace(0, 255, width)[None, :, None] + draw.normal(0, 60, (height, width, 3))
    return Image.fromarray(np.clip(ramp, 0, 255).astype(np.uint8))


@every_family
def test_pixels_are_theirs_to_the_bit(name: str, tmp_path: Path):
    for change in ({}, {"resample": 1}, {"image_mean": [0.1, 0.2, 0.3]}):
        (tmp_path / "preprocessor_config.json").write_text(json.dumps(PICTURES[name] | change))
        how = square_in(tmp_path, siglip_inputs(7))
        theirs = PROCESSORS[name].from_pretrained(tmp_path)
        for size in ((31, 47), (47, 31), (20, 20), (23, 20), (20, 27), (640, 481), (9, 12)):
            picture = photo(*size)
            wanted = theirs(picture, return_tensors="pt").pixel_values[0]
            assert torch.equal(shown(picture, how)[1][0], wanted), size


def test_defaults_are_theirs():
    clip, siglip = CLIPImageProcessorPil(), SiglipImageProcessorPil()
    picture = photo(300, 260)
    for theirs, how in ((clip, clip_inputs(224)), (siglip, siglip_inputs(224))):
        wanted = theirs(picture, return_tensors="pt").pixel_values[0]
        assert torch.equal(shown(picture, how)[1][0], wanted)


@every_family
def test_vectors_and_scores_are_theirs(name: str, tmp_path: Path):
    folder = clip_folder(tmp_path) if name == "clip" else siglip_folder(tmp_path, second=True)
    ours = DualEncoder.load(str(folder))
    pictures = [photo(31, 47, 1), photo(64, 20, 2), photo(20, 20, 3)]
    if name == "clip":
        theirs, tokenizer = (
            hf.CLIPModel.from_pretrained(folder),
            hf.CLIPTokenizer.from_pretrained(folder),
        )
    else:
        theirs = hf.SiglipModel.from_pretrained(folder)
        tokenizer = hf.PreTrainedTokenizerFast(
            tokenizer_object=gemma_words(), pad_token="<pad>", eos_token="<eos>"
        )
    sentences = [ours.networks.template.replace("{}", label) for label in LABELS]
    if name == "siglip":
        sentences = [f"{sentence}<eos>" for sentence in sentences]
    ids = tokenizer(
        sentences, padding="max_length", max_length=40, padding_side="right", return_tensors="pt"
    ).input_ids
    pixels = PROCESSORS[name].from_pretrained(folder)(pictures, return_tensors="pt").pixel_values
    with torch.no_grad():
        out = theirs.eval()(pixel_values=pixels, input_ids=ids)
    np.testing.assert_allclose(ours.embed_pictures(pictures), out.image_embeds, atol=2e-6)
    plain = [sentence.removesuffix("<eos>") for sentence in sentences]
    np.testing.assert_allclose(ours.embed_texts(plain), out.text_embeds, atol=2e-6)
    logits = out.logits_per_image
    wanted = logits.softmax(1) if name == "clip" else logits.sigmoid()
    for row, found in zip(wanted, ours.classify(pictures, LABELS), strict=True):
        assert {one.label: one.score for one in found} == pytest.approx(
            dict(zip(LABELS, row.tolist(), strict=True)), abs=2e-5
        )
        assert [one.score for one in found] == sorted((one.score for one in found), reverse=True)


def test_siglip_2_reads_lower_case_as_theirs(tmp_path: Path):
    """Their class puts the lower-casing there itself; a file may lack it."""
    made = json.loads(gemma_words().to_str())
    made["normalizer"] = made["normalizer"]["normalizers"][1]
    siglip_folder(tmp_path, second=True)
    (tmp_path / "tokenizer.json").write_text(json.dumps(made))
    theirs = Siglip2Tokenizer(
        vocab=made["model"]["vocab"], merges=[tuple(pair) for pair in made["model"]["merges"]]
    )
    words = DualEncoder.load(str(tmp_path)).networks.words
    for text in ("A Red HOUSE", "the cat, on 12 MATS!", "ÜBER größe"):
        own = words(text)
        found = theirs(text, add_special_tokens=False).input_ids
        assert own == [*found, 1, *[0] * (40 - 1 - len(found))]
