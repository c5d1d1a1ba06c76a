"""T5's tokenizer: from a folder, with weights, to rows of one length."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers

from diptych.foundation.errors import NotFound, Unreadable
from diptych.text.prompts import parse, plain
from diptych.text.sentencepiece_model import sentencepiece_model
from diptych.text.t5_tokenizer import T5Tokenizer, is_t5, t5_tokens
from tests.tiny_clip import tiny_folder
from tests.tiny_t5 import pieces, spiece, spiece_folder, tiny_t5


@pytest.fixture(scope="module")
def tokenizer() -> T5Tokenizer:
    return tiny_t5()


def test_pieces_of_a_sentencepiece_file(tmp_path: Path):
    path = tmp_path / "spiece.model"
    path.write_bytes(spiece(charsmap=bytes(range(200))))
    found = sentencepiece_model(path)
    assert found.pieces == pieces() and found.charsmap == bytes(range(200))


BROKEN = {
    "empty": b"",
    "a text": b"once upon a time there was a text",
    "cut short": spiece()[:500],
    "another model": spiece(kind=2),
    "a picture": b"\x89PNG\r\n\x1a\n" + bytes(100),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_what_is_no_unigram_model_is_refused(kind: str, tmp_path: Path):
    (tmp_path / "spiece.model").write_bytes(BROKEN[kind])
    with pytest.raises(Unreadable, match="SentencePiece"):
        T5Tokenizer.load(tmp_path)


def test_folders_that_hold_none(tmp_path: Path):
    with pytest.raises(NotFound, match=r"tokenizer\.json or spiece\.model"):
        T5Tokenizer.load(tmp_path)
    clip = tiny_folder(tmp_path / "clip")
    (clip / "tokenizer.json").write_text(json.dumps({"model": {"type": "BPE"}}))
    with pytest.raises(Unreadable, match="BPE"):
        T5Tokenizer.load(clip)
    assert not is_t5(clip) and is_t5(spiece_folder(tmp_path / "t5")) and not is_t5(tmp_path)
    (tmp_path / "tokenizer.json").write_text("[1]")
    with pytest.raises(Unreadable, match="none"):
        T5Tokenizer.load(tmp_path)
    (tmp_path / "tokenizer.json").write_text('{"model": {"type": "Unigram"}}')
    with pytest.raises(Unreadable, match="no tokenizer"):
        T5Tokenizer.load(tmp_path)


def test_words_and_spaces(tokenizer: T5Tokenizer):
    text = "the red house"
    places = {i for token in tokenizer.encode(text) for i in range(token.begin, token.stop)}
    assert places >= {i for i, sign in enumerate(text) if sign != " "}
    one, other = tokenizer.encode("the  cat\n sat "), tokenizer.encode("the cat sat")
    assert [token.number for token in one] == [token.number for token in other]
    assert tokenizer.encode("") == [] and tokenizer.end == 1 and tokenizer.pad == 0


def test_a_row_has_an_end_and_the_shortest_length_that_holds_it(tokenizer: T5Tokenizer):
    count = len(tokenizer.encode("the red house"))
    for lengths, wanted in (
        ((count + 1, 40), count + 1),
        ((count, 40), 40),
        ((40, count + 1), count + 1),
    ):
        found = t5_tokens(plain("the red house"), tokenizer, lengths)
        assert found.chunks == 1 and len(found.ids[0]) == len(found.weights[0]) == wanted
        assert found.ids[0][count:] == (1, *[0] * (wanted - count - 1)) and not found.truncated
    assert t5_tokens(plain(""), tokenizer, [4]).ids == ((1, 0, 0, 0),)


def test_what_finds_no_room_is_returned(tokenizer: T5Tokenizer):
    text = "the red house and the green hill"
    whole = tokenizer.encode(text)
    for length in range(2, len(whole) + 2):
        found = t5_tokens(plain(text), tokenizer, [length])
        assert len(found.ids[0]) == length and found.ids[0][-1] == 1
        kept = len(whole) - (length - 1)
        cut = text[whole[length - 1].begin :].strip() if kept > 0 else ""
        assert found.truncated == cut
        assert text.replace(" ", "").endswith(cut.replace(" ", ""))


def test_weights_do_not_change_the_tokens(tokenizer: T5Tokenizer):
    text = "the (red:1.5) house with a (green hi:0.5)ll"
    found = t5_tokens(parse(text), tokenizer, [64])
    bare = "the red house with a green hill"
    assert found.ids == t5_tokens(plain(bare), tokenizer, [64]).ids
    tokens = tokenizer.encode(bare)
    for token, weight in zip(tokens, found.weights[0], strict=False):
        place = token.begin + (bare[token.begin] == " ")
        assert weight == (1.5 if 4 <= place < 7 else 0.5 if 21 <= place < 29 else 1.0)
    assert set(found.weights[0][len(tokens) :]) == {1.0}


def test_a_space_before_a_word_has_its_weight():
    """Where a tokenizer takes spaces for the beginning of the word behind."""
    build: Any = models.Unigram
    made = Tokenizer(build(list(pieces()), 2, False))
    made.pre_tokenizer = pre_tokenizers.Metaspace()
    found = t5_tokens(parse("the (cat:2)"), T5Tokenizer(made), [12])
    count = len(made.encode("the", add_special_tokens=False))
    assert set(found.weights[0][:count]) == {1.0} and found.weights[0][count] == 2


def test_a_break_is_a_space(tokenizer: T5Tokenizer):
    one = t5_tokens(parse("the red BREAK house BREAK"), tokenizer, [32])
    assert one.ids == t5_tokens(plain("the red house"), tokenizer, [32]).ids
    assert set(one.weights[0]) == {1.0}
