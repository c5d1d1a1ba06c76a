"""`diptych models`: everything of the tables, in 80 columns, and as JSON that programs may read."""

from __future__ import annotations

import json

import pytest

from diptych.cli.main import entry
from diptych.foundation.config import from_json
from diptych.models.table import MODELS
from diptych.pipelines.reference import SHIPPED
from diptych.recipes.table import RECIPES, recipe_class

TABLES = {"shipped": SHIPPED, "networks": MODELS, "recipes": RECIPES}


def told(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert entry(["models", *words]) == 0
    return capsys.readouterr().out


def test_json_has_every_row_of_every_table(capsys):
    listed = json.loads(told(capsys, "--json"))
    assert {section: [row["name"] for row in rows] for section, rows in listed.items()} == {
        section: list(table) for section, table in TABLES.items()
    }
    for section, rows in listed.items():
        keys = {"name", "line"} | ({"parameters"} if section == "networks" else set())
        assert all(set(row) == keys and all(row.values()) for row in rows)


@pytest.mark.parametrize("columns", [80, 60])
def test_a_terminal_shows_whole_words_in_its_width(columns: int, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(columns))
    text = told(capsys)
    assert max(map(len, text.splitlines())) <= columns
    listed = json.loads(told(capsys, "--json"))
    for row in (row for rows in listed.values() for row in rows):
        assert row["line"] in " ".join(text.split())


@pytest.mark.parametrize("name", dict.fromkeys([*SHIPPED, *MODELS, *RECIPES]))
def test_one_is_told_about(name: str, capsys):
    about = json.loads(told(capsys, name, "--json"))
    assert about["name"] == name in TABLES[about["section"]]
    text = told(capsys, name)
    if about["section"] == "shipped":
        assert about["card"].rstrip() == text.rstrip()
        return
    kind = MODELS[name].config if about["section"] == "networks" else recipe_class(name)
    assert from_json(kind, about["config"]) == kind()
    assert text.startswith(about["line"])


def test_a_name_that_nothing_has(capsys):
    assert entry(["models", "mmditt"]) == 3
    assert "'mmdit'" in capsys.readouterr().err
