"""SigLIP's tokenizers: which texts are cut alike, and folders that hold another's."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from diptych.foundation.errors import NotFound, Unreadable
from diptych.text.siglip_tokenizer import SiglipTokenizer
from tests.tiny_dual import gemma_words, t5_words


def tokenizer(folder: Path, *, second: bool = False) -> SiglipTokenizer:
    (gemma_words() if second else t5_words()).save(str(folder / "tokenizer.json"))
    return SiglipTokenizer.load(folder)


def test_the_first_reads_words_alone(tmp_path: Path):
    """big_vision's canonical form: lower case, no punctuation of ASCII, single spaces."""
    first = tokenizer(tmp_path)
    assert first.canonical("  It's A (red) HOUSE,\n\tred-brown! ") == "its a red house redbrown"
    assert first.canonical("“quoted” — é") == "“quoted” — é"
    assert first.encode("The  cat!") == first.encode("the cat")
    assert (first.end, first.pad) == (1, 1)


def test_the_second_keeps_signs(tmp_path: Path):
    second = tokenizer(tmp_path, second=True)
    assert second.canonical("The  Cat!") == "the  cat!"
    assert second.encode("the cat!") != second.encode("the cat")
    assert (second.end, second.pad) == (1, 0)


def test_what_a_file_says_of_padding_and_cutting_is_left_to_who_asks(tmp_path: Path):
    made = t5_words()
    made.enable_padding(length=9)
    made.enable_truncation(4)
    made.save(str(tmp_path / "tokenizer.json"))
    text = "the red house and the green hill"
    found = SiglipTokenizer.load(tmp_path).encode(text)
    (tmp_path / "plain").mkdir()
    assert found == tokenizer(tmp_path / "plain").encode(text) and len(found) > 4


def test_folders_that_hold_none(tmp_path: Path):
    with pytest.raises(NotFound, match=r"tokenizer\.json"):
        SiglipTokenizer.load(tmp_path)
    path = tmp_path / "tokenizer.json"
    for content, said in (
        ("no json", "cannot be read"),
        ("[1]", "none"),
        ('{"model": {"type": "WordPiece"}}', "WordPiece"),
        ('{"model": {"type": "BPE"}}', "no tokenizer"),
        (json.dumps({"version": "1.0", "model": {"type": "BPE", "vocab": {"a": 0},
                                                 "merges": []}}), "<eos>"),
    ):  # fmt: skip
        path.write_text(content)
        with pytest.raises(Unreadable, match=said):
            SiglipTokenizer.load(tmp_path)
