"""Gemma's tokenizer beside transformers' own, from the same folder."""

from __future__ import annotations

from pathlib import Path

import pytest
from transformers import GemmaTokenizer as Theirs

from diptych.foundation.errors import NotFound, Unreadable
from diptych.text.gemma_tokenizer import GemmaTokenizer, gemma_tokens
from diptych.text.prompts import parse, plain
from tests.tiny_gemma import learnt

TEXTS = [
    "a photo of the red house", "", "  The cat,  sat?!\n\non the mat ", "über größe naïve café",
    "東京 is a town 123 (maybe)", "😀 they're — “here” <Prompt Start> there", "a" * 300,
]  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("gemma")
    vocabulary, merges = learnt()
    theirs = Theirs(vocab=vocabulary, merges=merges, add_bos_token=True)
    theirs("padded", padding="max_length", max_length=9)  # what is saved then says so
    theirs.save_pretrained(path)
    return path


@pytest.mark.parametrize("text", TEXTS)
def test_the_same_numbers(text: str, folder: Path):
    theirs = Theirs.from_pretrained(folder)
    wanted = theirs(text, max_length=60, truncation=True).input_ids
    ours = GemmaTokenizer.load(folder)
    found = gemma_tokens(plain(text), ours, 60)
    assert list(found.ids[0]) == wanted and wanted[0] == ours.start
    assert bool(found.truncated) == (len(theirs(text).input_ids) > 60)


def test_weights_and_what_is_cut(folder: Path):
    ours = GemmaTokenizer.load(folder)
    parts = parse("a (red:1.5) house BREAK the sun")
    whole = gemma_tokens(parts, ours, 100)
    assert whole.ids == gemma_tokens(plain("a red house the sun"), ours, 100).ids
    assert set(whole.weights[0]) == {1.0, 1.5} and whole.weights[0][0] == 1
    assert len(whole.weights[0]) == len(whole.ids[0])
    cut = gemma_tokens(parts, ours, len(whole.ids[0]) - 1)
    assert cut.ids[0] == whole.ids[0][:-1] and cut.truncated and "sun".endswith(cut.truncated)


def test_folders_that_hold_none(tmp_path: Path):
    with pytest.raises(NotFound, match=r"tokenizer\.json"):
        GemmaTokenizer.load(tmp_path)
    (tmp_path / "tokenizer.json").write_text("[1]")
    with pytest.raises(Unreadable, match="no tokenizer"):
        GemmaTokenizer.load(tmp_path)
    model = '{"type": "BPE", "vocab": {"a": 0}, "merges": []}'
    (tmp_path / "tokenizer.json").write_text(f'{{"version": "1.0", "model": {model}}}')
    with pytest.raises(Unreadable, match="bos"):
        GemmaTokenizer.load(tmp_path)
