"""CLIP's tokenizer beside transformers' own, from the same small folder."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import CLIPTokenizer

from diptych.text.clip_bpe import END, ClipTokenizer
from diptych.text.prompts import plain, tokens_of
from tests.tiny_clip import LEARNT_FROM, tiny_folder, tiny_tokenizer

Pair = tuple[ClipTokenizer, CLIPTokenizer]
HARD = [
    LEARNT_FROM,
    "don't I'LL they're WE'VE 'tis ''s o'clock rock'n'roll it's'",
    "x²½Ⅷ١٢٣ 12:30, 3.14e-5 1,000",
    "İstanbul ß ẞ ﬁ ǅ Σίσυφος ΟΔΟΣ",
    "e\u0301 \u00e9 A\u030a \u212b \u1100\u1161 ä̈",
    "a\u00a0b\u3000c\u200bd\u2028e\x85f\x0bg\x1ch\ufeffi\x00j\x07",
    "👩‍👩‍👧‍👦 🇯🇵 1️⃣ ❤️ 😀!!!???…",
    "(word:1.3) [x] {y} <|start|> <|endoftext|> a<|endoftext|>b <|STARTOFTEXT|>!",
    "\\(escaped\\) a_b-c/d\\e #tag @name $5 100% ~` ^ |",
    "\ud7ff\ue000\uffff\U0010ffff\U000e0041",
    "𝔘𝔫𝔦𝔠𝔬𝔡𝔢 ＦＵＬＬ　ｗｉｄｔｈ ①②③ हिन्दी ไทย العربية 한국어",
]
TEXTS = st.one_of(
    st.text(max_size=60),
    st.lists(
        st.sampled_from([*"aTh1½!'.,é ́\n\u3000😀東", "the", "'s", "'RE", "cat", "photo", END]),
        max_size=25,
    ).map("".join),
)


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    """Ours and theirs, CLIP's marks."""
    folder = tiny_folder(tmp_path_factory.mktemp("clip"))
    return ClipTokenizer.load(folder), CLIPTokenizer.from_pretrained(folder)


def same(pair: Pair, text: str) -> bool:
    ours, theirs = pair
    wanted = theirs(text, add_special_tokens=False, return_offsets_mapping=True)
    places = [(token.begin, token.stop) for token in ours.encode(text)]
    assert [token.number for token in ours.encode(text)] == wanted.input_ids
    return places == wanted.offset_mapping


@pytest.mark.parametrize("text", HARD)
def test_hard_texts(pair: Pair, text: str):
    assert same(pair, text)


@settings(max_examples=500, deadline=None)
@given(TEXTS)
def test_any_text(pair: Pair, text: str):
    assert same(pair, text)


def test_from_what_they_write(pair: Pair, tmp_path: Path):
    pair[1].save_pretrained(tmp_path)
    assert not (tmp_path / "vocab.json").exists()
    again = ClipTokenizer.load(tmp_path)
    assert again.vocabulary == pair[0].vocabulary
    assert all(again.encode(text) == pair[0].encode(text) for text in HARD)


def test_marks_are_theirs(pair: Pair):
    ours, theirs = pair
    marks = theirs.bos_token_id, theirs.eos_token_id, theirs.pad_token_id
    assert (ours.start, ours.end, ours.pad) == marks


def test_where_padding_is_a_word_it_stays_one(pair: Pair, tmp_path: Path):
    """OpenCLIP pads with 0, which is `!`: theirs then reads each `!` of a text as padding."""
    folder = tiny_folder(tmp_path, pad_token="!")
    ours, theirs = ClipTokenizer.load(folder), CLIPTokenizer.from_pretrained(folder)
    assert ours.pad == theirs.pad_token_id == 0
    text = "the cat! the cat!!"
    assert 0 in theirs(text, add_special_tokens=False).input_ids
    as_trained = pair[1](text, add_special_tokens=False).input_ids
    assert [token.number for token in ours.encode(text)] == as_trained and 0 not in as_trained[:3]


@settings(max_examples=100, deadline=None)
@given(TEXTS, st.integers(1, 8), st.booleans())
def test_one_window_of_a_plain_prompt(pair: Pair, text: str, times: int, open_clip: bool):
    """With all that follows the window in what is returned."""
    theirs, prompt = pair[1], text * times
    ours = tiny_tokenizer(pad="!") if open_clip else pair[0]
    found = tokens_of(plain(prompt), ours, length=20, most=1)
    wanted = theirs(prompt, padding="max_length", max_length=20, truncation=True).input_ids
    whole = theirs(prompt, add_special_tokens=False).input_ids
    # Theirs would read each `!` as padding, so theirs pads with the end mark.
    filled = min(len(whole), 18) + 2
    assert found.ids == ((*wanted[:filled], *[ours.pad] * (20 - filled)),)
    assert bool(found.truncated) == (len(whole) > 18)
