"""The operator's function that looks at painted pictures."""

from __future__ import annotations

import pytest
from PIL import Image

from diptych.foundation.errors import InvalidValue, NotFound
from diptych.service.guards.output_gate import gate_of
from diptych.service.worker.runs import Moderated, why

DARK, LIGHT = Image.new("RGB", (8, 8)), Image.new("RGB", (8, 8), "white")


def refuses_dark(picture: Image.Image) -> object:
    return 0 if picture.getpixel((0, 0)) == (255, 255, 255) else "dark"


def test_it_is_found_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "gate_of_a_test", sys.modules[__name__])
    gate = gate_of("gate_of_a_test:refuses_dark")
    assert gate(DARK) is True and gate(LIGHT) is False


@pytest.mark.parametrize("name", ["gate", "a:b:c", "a b:c", ":f", "m:"])
def test_other_forms_are_refused(name: str) -> None:
    with pytest.raises(InvalidValue):
        gate_of(name)


@pytest.mark.parametrize("name", ["no_such_module_here:f", "json:no_such_function"])
def test_what_is_not_there_is_said(name: str) -> None:
    with pytest.raises(NotFound):
        gate_of(name)


def test_a_refused_picture_fails_by_its_own_code() -> None:
    assert why(Moderated())[0] == "moderated"
