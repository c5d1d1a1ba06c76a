"""Labels beside pictures: what is read, and what is refused with its line."""

from __future__ import annotations

from pathlib import Path

import pytest

from diptych.data.labels import read_labels, same_words
from diptych.foundation.errors import DiptychError, InvalidValue, NotFound


def _file(folder: Path, *lines: str) -> Path:
    (folder / "a.png").write_bytes(b"")
    path = folder / "labels.jsonl"
    path.write_text("\n".join(lines))
    return path


def test_questions_and_captions_are_read(tmp_path: Path):
    path = _file(
        tmp_path,
        '{"file": "a.png", "question": "what?", "answer": ["a cat", "cats"]}',
        "",
        '{"file": "a.png", "caption": "a cat on a mat"}',
    )
    first, second = read_labels(tmp_path)
    assert (first.task, first.wanted) == ("what?", ("a cat", "cats"))
    assert (second.task, second.wanted) == ("caption", ("a cat on a mat",))
    assert first.picture == tmp_path / "a.png"
    assert read_labels(path, most=1) == [first]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{", "line 1 is no JSON"),
        ("[1]", "line 1 has no label"),
        ('{"file": "a.png"}', "line 1 has no label"),
        ('{"file": "a.png", "text": "a cat", "score": 1}', "line 1 has no label"),
        ('{"file": "a.png", "caption": " "}', "none empty"),
        ('{"file": "a.png", "question": "what?", "answer": []}', "none empty"),
        ('{"file": "a.png", "question": "what?", "answer": 3}', "must be words"),
        ('{"file": "b.png", "caption": "a cat"}', r"no picture 'b\.png'"),
        ("", "holds no labels"),
    ],
)
def test_lines_without_a_label_are_named(line: str, said: str, tmp_path: Path):
    with pytest.raises(DiptychError, match=said) as error:
        read_labels(_file(tmp_path, line))
    assert isinstance(error.value, NotFound) or error.value.do


def test_a_folder_has_one_file_of_labels(tmp_path: Path):
    with pytest.raises(NotFound, match="no JSONL"):
        read_labels(tmp_path)
    _file(tmp_path, "")
    (tmp_path / "more.jsonl").write_text("")
    with pytest.raises(NotFound, match="2 JSONL"):
        read_labels(tmp_path)
    with pytest.raises(NotFound):
        read_labels(tmp_path / "none")
    with pytest.raises(InvalidValue):
        read_labels(tmp_path / "more.jsonl")


@pytest.mark.parametrize(
    ("said", "wanted", "same"),
    [
        ("A cat.", "cat", True),
        ("  the   red cat ", "Red Cat", True),
        ("a cat", "a dog", False),
        ("theatre", "atre", False),
        ("2", "two", False),
    ],
)
def test_answers_are_the_same_but_for_how_they_are_written(said: str, wanted: str, same: bool):
    assert same_words(said, wanted) == same
