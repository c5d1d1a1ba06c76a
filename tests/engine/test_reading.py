"""The engine of words over the shipped reader: requests join late, leave early and are given up,
and each answer is what it is alone, to the bit."""

from __future__ import annotations

from random import Random

import pytest

from diptych.data.scenes.render import render
from diptych.data.scenes.world import World
from diptych.decoding.choices import Decoding
from diptych.engine.reading import ReadingEngine
from diptych.foundation.errors import InvalidValue
from diptych.pipelines.asking import answered
from diptych.pipelines.image_to_text import ImageToTextNetworks
from diptych.pipelines.reader_front import ImageToText
from diptych.pipelines.reading import Ask

QUESTIONS = ("caption", "describe", "read", "how many stars are there?", "is there a circle?")


@pytest.fixture(scope="module")
def networks() -> ImageToTextNetworks:
    found = ImageToText.load("scenes-i2t").networks
    assert isinstance(found, ImageToTextNetworks)
    return found


def asks_of(networks: ImageToTextNetworks, count: int) -> list[Ask]:
    draw = Random(8)
    pictures = [render(World().scene(4, index)) for index in range(4)]
    return [
        networks.ask(
            draw.choice(pictures),
            draw.choice(QUESTIONS),
            draw.choice((None, Decoding(most=6), Decoding(temperature=1.0, seed=number))),
        )
        for number in range(count)
    ]


def test_strangers_join_and_leave_and_each_has_the_bits_it_has_alone(networks):
    asks = asks_of(networks, 24)
    engine, texts = ReadingEngine(networks, most=6), []
    for number, ask in enumerate(asks):
        texts.append(engine.submit(ask))
        if number % 3 == 0:
            engine.step()
        if number == 10:
            texts[3].cancel()
            texts[10].cancel()
    engine.run()
    assert engine.store.hits > 5 and engine.answering.rows / engine.answering.calls > 1.5
    for number, (text, ask) in enumerate(zip(texts, asks, strict=True)):
        if not text.cancelled:
            assert text.answer() == answered(networks, [ask])[0], number
    assert not engine.step()


def test_what_is_given_up_or_not_done_has_no_answer(networks):
    engine = ReadingEngine(networks)
    first, second = (engine.submit(ask) for ask in asks_of(networks, 2))
    with pytest.raises(InvalidValue, match="not done"):
        first.answer()
    second.cancel()
    engine.run()
    assert first.answer().text
    with pytest.raises(InvalidValue, match="cancelled"):
        second.answer()
    with pytest.raises(InvalidValue, match="lets nothing in"):
        ReadingEngine(networks, most=0)
