"""A missing library is an error that names the extra."""

from __future__ import annotations

import sys

import pytest

from diptych.foundation.errors import MissingExtra
from diptych.foundation.extras import need


def test_missing_library_names_its_extra():
    with pytest.raises(MissingExtra) as raised:
        need("no_such_library.inside", "train")
    assert "diptych[train]" in str(raised.value)


def test_a_library_that_lacks_something_itself_is_not_called_missing(tmp_path, monkeypatch):
    (tmp_path / "half_there.py").write_text("import no_such_library\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="no_such_library"):
        need("half_there", "train")
    sys.modules.pop("half_there", None)


def test_a_library_that_is_there_is_returned():
    assert need("json", "train").dumps([]) == "[]"
