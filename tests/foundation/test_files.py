"""A file is the old one or the new one, whatever happens while it is written."""

from __future__ import annotations

import errno

import pytest

from diptych.foundation.errors import NotWritten
from diptych.foundation.files import write_whole, write_with


def test_content_replaces_content(tmp_path):
    path = tmp_path / "new" / "a.txt"
    for content in ("first", "second"):
        write_whole(path, content)
        assert path.read_text() == content
    assert [one.name for one in path.parent.iterdir()] == ["a.txt"]


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), ValueError()])
def test_a_failure_in_the_middle_leaves_the_old_file_alone(tmp_path, error):
    path = write_whole(tmp_path / "a.txt", "old")

    def write(temporary):
        temporary.write_text("half")
        raise error

    with pytest.raises(NotWritten if isinstance(error, OSError) else ValueError) as raised:
        write_with(path, write)
    assert path.read_text() == "old"
    assert [one.name for one in tmp_path.iterdir()] == ["a.txt"]
    if isinstance(error, OSError):
        assert "No space left" in str(raised.value)


def test_a_folder_in_the_way_is_an_error_for_the_user(tmp_path):
    (tmp_path / "a").write_text("a file")
    with pytest.raises(NotWritten):
        write_whole(tmp_path / "a" / "b", "x")
