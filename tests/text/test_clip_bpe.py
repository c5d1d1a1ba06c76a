"""CLIP's tokenizer: where its tokens stand, its folders, and what is refused."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import pre_tokenizers

from diptych.foundation.errors import Unreadable
from diptych.text.clip_bpe import END, START, ClipTokenizer, vocabulary_of
from tests.tiny_clip import merges, tiny_folder, tiny_tokenizer

CLIP = tiny_tokenizer()
BY_NUMBER = {number: word for word, number in CLIP.vocabulary.items()}


def numbers(text: str, tokenizer: ClipTokenizer = CLIP) -> list[int]:
    return [token.number for token in tokenizer.encode(text)]


def words(text: str) -> list[str]:
    return [BY_NUMBER[number] for number in numbers(text)]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("The  CAT\n", ["the</w>", "cat</w>"]),
        ("they're", ["they</w>", "'", "re</w>"]),
        ("12", ["1</w>", "2</w>"]),
        ("!", ["!</w>"]),
        ("the!", ["the</w>", "!</w>"]),
        ("", []),
        (" \t\u3000 ", []),
        (f"the{END}the", ["the</w>", END, "the</w>"]),
    ],
)
def test_pieces(text: str, said: list[str]):
    assert words(text) == said


@settings(deadline=None)
@given(st.text(max_size=40), st.text(max_size=40))
def test_spaces_and_case_do_not_matter_and_words_do_not_meet(one: str, other: str):
    lowered = numbers(one.lower())
    assert numbers(f"  {one.lower()}\n") == lowered
    assert numbers(f"{one} {other}") == numbers(one) + numbers(other)


# Marks that combine may change places, and are left out.
@settings(max_examples=300, deadline=None)
@given(
    st.text(st.characters(exclude_categories=["Mn", "Cs"]) | st.sampled_from("the'!"), max_size=30)
)
def test_tokens_say_where_they_stand(text: str):
    """What is left of a text from the beginning of a word on has the tokens from there on."""
    tokens = CLIP.encode(text)
    assert all(token.begin < token.stop <= len(text) for token in tokens)
    for place, (before, token) in enumerate(pairwise(tokens), 1):
        assert before.begin <= token.begin
        if BY_NUMBER[before.number].endswith("</w>") and before.begin < token.begin:
            assert numbers(text[token.begin :]) == [rest.number for rest in tokens[place:]]


def test_the_numbers_are_clips():
    found = vocabulary_of(merges())
    assert (found["!"], found["a"], found["!</w>"], found["a</w>"]) == (0, 64, 256, 320)
    letters = set(pre_tokenizers.ByteLevel.alphabet())
    assert set(list(found)[:256]) == letters == {word[:-4] for word in list(found)[256:512]}
    assert found["th"] == 512 and list(found.values()) == list(range(len(found)))
    assert found[START] + 1 == found[END] == len(found) - 1


@pytest.mark.parametrize(
    ("config", "marks", "pad"),
    [
        ({}, {}, END),
        ({"pad_token": "!"}, {}, "!"),
        ({"pad_token": END}, {"pad_token": {"content": "!", "special": True}}, "!"),
        ({"pad_token": "!", "added_tokens_decoder": {}}, {"pad_token": END}, "!"),
    ],
)
def test_what_a_folder_pads_with(tmp_path: Path, config: dict, marks: dict, pad: str):
    tiny_folder(tmp_path, **config)
    (tmp_path / "special_tokens_map.json").write_text(json.dumps(marks))
    found = ClipTokenizer.load(tmp_path)
    assert (found.pad, found.start, found.end) == (
        CLIP.vocabulary[pad],
        CLIP.start,
        CLIP.end,
    )
    assert numbers("the cat!!", found) == numbers("the cat!!")


def test_a_folder_with_one_file(tmp_path: Path):
    pairs = [" ".join(pair) for pair in merges()]
    model = {"type": "BPE", "end_of_word_suffix": "</w>", "vocab": vocabulary_of(merges())}
    added = [{"id": len(CLIP), "content": "<thing>"}, {"id": CLIP.end, "content": END}]
    for written in (pairs, merges()):
        content = {"model": model | {"merges": written}, "added_tokens": added}
        (tmp_path / "tokenizer.json").write_text(json.dumps(content))
        found = ClipTokenizer.load(tmp_path)
        assert numbers("The cat's", found) == numbers("The cat's")
        assert numbers("a <thing>!", found) == [*numbers("a"), len(CLIP), *numbers("!")]
        assert len(found) == len(CLIP) + 1


def test_what_is_no_tokenizer_is_refused(tmp_path: Path):
    with pytest.raises(Unreadable, match="holds no tokenizer"):
        ClipTokenizer.load(tmp_path)
    (tmp_path / "tokenizer.json").write_text('{"model": {"type": "Unigram"}}')
    with pytest.raises(Unreadable, match="not CLIP's"):
        ClipTokenizer.load(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(Unreadable, match="cannot be read"):
        ClipTokenizer.load(tmp_path)
    tiny_folder(tmp_path)
    (tmp_path / "merges.txt").write_text("t h e\n")
    with pytest.raises(Unreadable, match="'t h e'"):
        ClipTokenizer.load(tmp_path)
    (tmp_path / "merges.txt").write_text("zz zz\n")
    with pytest.raises(Unreadable, match="do not fit"):
        ClipTokenizer.load(tmp_path)
    (tmp_path / "added_tokens.json").write_text(json.dumps({"<thing>": len(CLIP) + 3}))
    (tmp_path / "merges.txt").write_text("#version: 0.2\n")
    with pytest.raises(Unreadable, match="<thing>"):
        ClipTokenizer.load(tmp_path)


def test_a_vocabulary_without_some_byte_is_refused():
    less = vocabulary_of(merges())
    del less["a</w>"]
    with pytest.raises(Unreadable, match="'a</w>'"):
        ClipTokenizer(less, merges())
