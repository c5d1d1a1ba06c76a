"""T5's tokenizer beside transformers' own, from the same folder."""

from __future__ import annotations

from pathlib import Path

import pytest
from transformers import T5TokenizerFast

from diptych.text.prompts import plain
from diptych.text.t5_tokenizer import T5Tokenizer, t5_tokens
from tests.tiny_t5 import pieces, tiny_t5

TEXTS = [
    "a photo of the red house", "", "  The cat,  sat?!\n\non the mat ", "über größe naïve café",
    "東京 is a town 123 (maybe)", "😀 they're — “here” </s> over <extra_id_3> there", "a" * 300,
    "x\u00a0y\tz\u3000w", "▁the ▁▁cat",
]  # fmt: skip


@pytest.fixture(scope="module")
def theirs() -> T5TokenizerFast:
    extra = [(f"<extra_id_{i}>", 0.0) for i in reversed(range(100))]
    return T5TokenizerFast(vocab=[*pieces(), *extra], model_max_length=512)


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("kept_as", ["tokenizer.json", "spiece.model"])
def test_the_same_numbers(text: str, kept_as: str, theirs: T5TokenizerFast, tmp_path: Path):
    # A padded call leaves its padding in what is saved.
    wanted = theirs(text, padding="max_length", max_length=128, truncation=True).input_ids
    theirs.save_pretrained(tmp_path)
    assert (tmp_path / "tokenizer.json").is_file()
    ours = T5Tokenizer.load(tmp_path) if kept_as == "tokenizer.json" else tiny_t5()
    assert list(t5_tokens(plain(text), ours, [128]).ids[0]) == wanted
    assert len(ours) == len(theirs)
