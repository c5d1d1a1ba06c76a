"""Prompts of more tokens than a model reads: a warning, or a refusal, and counted as it counts."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from diptych.recipes.scenes_words import scenes_tokenizer
from diptych.service.api import windows
from diptych.text.prompts import parse
from diptych.text.t5_tokenizer import t5_tokens
from tests.service.api.house import PAINTER, SMALL, Worker, house, slug
from tests.tiny_t5 import tiny_t5

WINDOW = 12
CUTS = replace(PAINTER, window=WINDOW, counts="pieces")
REFUSES = replace(SMALL, window=6, counts="words", words=("a", "red", "star", "left", "of"))
LONG = "a photo of a cat " * 20


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A folder in which the engine left the tokenizers."""
    for info, tokenizer in ((CUTS, tiny_t5()), (REFUSES, scenes_tokenizer())):
        path = windows.place_of(tmp_path, info.name)
        path.parent.mkdir(parents=True)
        path.write_text(tokenizer.to_json())
    return tmp_path


def words(count: int) -> str:
    return " ".join(["red", "star", "a"][n % 3] for n in range(count))


def test_it_is_over_where_the_engine_finds_no_room(data: Path):
    """As T5's row is made, whatever is written around the words."""
    tokenizer, over = tiny_t5(), []
    for text in ("cat", "ﷺ" * 3, "(a cat:1.3) BREAK [dog]", *(LONG[:n] for n in range(1, 60))):
        row = t5_tokens(parse(text), tokenizer, (WINDOW + 1,))
        assert windows.is_over(data, CUTS, text) == bool(row.truncated), text
        over.append(bool(row.truncated))
    assert True in over and False in over
    assert not windows.is_over(data, PAINTER, LONG), "no window"
    assert not windows.is_over(data / "gone", CUTS, LONG), "the engine has left none"


def test_10_a_long_prompt_is_warned_of_or_refused(data: Path):
    async def run() -> None:
        models = {one.name: one for one in (CUTS, REFUSES)}
        async with house(data, worker=Worker(models=models, frozen=True)) as at:
            told = await at.generate(prompt=LONG)
            assert told["warnings"] == ["Only the first 12 tokens of the prompt are read."]
            assert "warnings" not in await at.generate(prompt="a cat", strict=True)
            for asked, field in (
                ({"prompt": LONG, "strict": True}, "/prompt"),
                ({"prompt": "a", "negative_prompt": LONG, "strict": True}, "/negative_prompt"),
                ({"prompt": words(7), "model": "scenes"}, "/prompt"),
            ):
                answer = await at.client.post("/v1/generate", json=asked)
                assert (answer.status_code, slug(answer)) == (422, "too-long"), asked
                assert answer.json()["field"] == field
            await at.generate(prompt=words(6), model="scenes")
            both = {"requests": [{"prompt": "a cat"}, {"prompt": "a cat", "negative_prompt": LONG}]}
            jobs = (await at.client.post("/v1/batches", json=both)).json()["jobs"]
            assert [one.get("warnings") for one in jobs] == [
                None, ["Only the first 12 tokens of the negative_prompt are read."]
            ]  # fmt: skip
            openai = {"prompt": LONG}
            answer = await at.client.post("/v1/images/generations", json=openai)
            # Its answers have no place for a warning.
            assert answer.status_code == 422 and "12 tokens" in answer.text
            assert (await at.client.get("/v1/models/painter")).json()["window"] == WINDOW

    asyncio.run(run())
