"""The loop of words: any company, order and history give the words, and the bits, that a request
has alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from random import Random
from typing import Any

import pytest
import torch

from diptych.decoding.choices import Decoding
from diptych.decoding.constraints import Choice
from diptych.decoding.prefixes import PrefixStore
from diptych.decoding.slots import KVSlots
from diptych.foundation.errors import InvalidValue
from diptych.models.decoder import Decoder
from diptych.models.decoder_config import DecoderConfig
from diptych.pipelines.answering import Answering
from diptych.pipelines.asking import answered
from diptych.pipelines.decoder_reading import DecoderReading
from diptych.pipelines.exactness import fitting_rows
from diptych.pipelines.reading import Answer, Ask, Prompt
from diptych.pipelines.texts import Text

VOCABULARY, END = 40, 2


@cache
def reading(packed: bool = True) -> DecoderReading:
    torch.manual_seed(3)
    config = DecoderConfig.tiny(vocabulary=VOCABULARY, width=32, head_dim=8, norm_epsilon=1e-6)
    decoder = Decoder(config).eval().requires_grad_(False)
    for parameter in decoder.parameters():
        parameter.add_(torch.randn_like(parameter) * 0.3)
    if packed:
        decoder.pack()
    return DecoderReading(decoder, (END,), lambda tokens: "".join(chr(97 + t) for t in tokens))


def asked(
    before: Sequence[int],
    question: Sequence[int],
    *,
    causal: bool = True,
    choice: tuple[tuple[int, ...], ...] = (),
    **decoding: Any,
) -> Ask:
    one = reading()
    prompt = Prompt(
        bytes([causal, *before]),
        lambda: one.words(before),
        one.words(question, len(before)),
        causal,
    )
    constraint = Choice(choice, (END,)) if choice else None
    return Ask(prompt, Decoding(**decoding), constraint)


def answers(asks: Sequence[Ask], **options: Any) -> list[Answer]:
    """All at once, as far as there is room."""
    answering = Answering(reading(), **options)
    texts = [Text(ask) for ask in asks]
    waiting = list(texts)
    while waiting or answering.texts or answering.searches:
        while waiting and answering.room:
            answering.join(waiting.pop(0))
        answering.step()
    return [text.answer() for text in texts]


def alone(ask: Ask) -> Answer:
    return answers([ask], store=PrefixStore(0))[0]


def any_ask(draw: Random) -> Ask:
    """A request as a stranger may send it."""
    before = [draw.randrange(3, VOCABULARY) for _ in range(draw.choice((0, 1, 5, 300)))]
    if draw.random() < 0.5:  # some pictures are asked about often
        before = [7, 9, 11, 13, 5]
    question = [draw.randrange(3, VOCABULARY) for _ in range(draw.randint(1, 9))]
    kind = draw.random()
    options: dict[str, Any] = {"most": draw.randint(1, 14)}
    if kind < 0.2:
        options |= {"beams": draw.randint(2, 4), "length_penalty": draw.choice((0.0, 1.0, 2.0))}
    elif kind < 0.5:
        options |= {"temperature": draw.choice((0.3, 1.0)), "seed": draw.randrange(99)}
        options |= {"top_k": draw.choice((0, 5)), "top_p": draw.choice((1.0, 0.8))}
        options |= {"min_p": draw.choice((0.0, 0.1))}
    elif kind < 0.65:
        options |= {"repetition": 1.3, "no_repeat": 2, "alternatives": 3, "bias": ((5, 1.0),)}
    choice = ((4, 5), (4, 6, 7), (9,)) if draw.random() < 0.2 else ()
    return asked(before, question, causal=draw.random() < 0.8, choice=choice, **options)


def test_many_strangers_who_come_and_go() -> None:
    """500 requests that join and are cancelled at any time: each has the bits that it has alone,
    whether its beginning was kept or not."""
    draw = Random(5)
    asks = [any_ask(draw) for _ in range(500)]
    answering = Answering(reading(), 7, store=PrefixStore(300_000))
    waiting = [Text(ask) for ask in asks]
    texts, cancelled = list(waiting), set[int]()
    while waiting or answering.texts or answering.searches:
        for _ in range(draw.choice((0, 1, 1, 3))):
            if waiting and answering.room:
                answering.join(waiting.pop(0))
        answering.step()
        if draw.random() < 0.05 and answering.texts:
            victim = draw.choice([*answering.texts, *answering.searches])
            victim.cancelled = True
            cancelled.add(texts.index(victim))
    assert answering.store.hits > 50
    assert answering.calls and answering.rows / answering.calls > 1.5
    assert len(cancelled) > 10
    for number in draw.sample(sorted(set(range(500)) - cancelled), 120):
        assert texts[number].answer() == alone(asks[number]), number


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
def test_what_is_not_packed_or_narrow_is_exact_too(kind: torch.dtype) -> None:
    """Each text then goes by itself."""
    torch.manual_seed(4)
    decoder = Decoder(DecoderConfig.tiny(vocabulary=VOCABULARY)).eval().requires_grad_(False)
    if kind == torch.bfloat16:
        decoder.to(kind).pack()
    one = DecoderReading(decoder, (END,), lambda tokens: "")
    draw = Random(1)
    asks = [
        Ask(
            Prompt(
                b"", lambda: one.words([]), one.words([draw.randrange(3, 40) for _ in range(n)])
            ),
            Decoding(most=12),
        )
        for n in (1, 4, 9, 2, 7)
    ]
    together = answered(one, asks)
    assert [answered(one, [ask])[0] for ask in asks] == together


def test_fast_says_the_same_words() -> None:
    draw = Random(6)
    asks = [any_ask(draw) for _ in range(60)]
    fast = answers(asks, exact=False, store=PrefixStore())
    for one, ask in zip(fast, asks, strict=True):
        wanted = alone(ask)
        assert (one.tokens, one.finish) == (wanted.tokens, wanted.finish)
        assert one.logprobs == pytest.approx(wanted.logprobs, abs=1e-4)


def test_more_than_one_size_of_calls_fits_and_is_used() -> None:
    sizes = fitting_rows(reading(), 8)
    assert sizes[0] == 4


def test_chunks_do_not_show() -> None:
    """A prompt of several chunks is the prompt in one."""
    long = [3 + i % 30 for i in range(600)]
    one = reading()
    whole = one.decoder(one.words(long).rows[None])[0, -1:]
    first = alone(asked(long[:550], long[550:], most=1))
    assert first.tokens[0] == int(one.logits(whole).argmax())


def test_the_sum_of_logprobs_is_the_teachers() -> None:
    """Each token's log-probability is what the network gives it with the whole text before it."""
    for options in ({}, {"temperature": 1.0, "top_k": 3}, {"beams": 3}):
        one = reading()
        found = alone(asked([3, 4, 5], [6, 7], most=9, **options))
        said = [*found.tokens, *([END] if found.finish == "end" else [])]
        states = one.decoder(one.words([3, 4, 5, 6, 7, *said]).rows[None])[0]
        logs = one.logits(states[4:-1]).log_softmax(-1)
        wanted = [float(row[token]) for row, token in zip(logs, said, strict=True)]
        assert found.logprobs == pytest.approx(wanted, abs=1e-5)


def test_one_changed_token_of_a_beginning_is_another_beginning() -> None:
    store = PrefixStore()
    for before in ([3, 4, 5], [3, 4, 6], [3, 4, 5]):
        answers([asked(before, [6])], store=store)
    assert (store.hits, store.misses) == (1, 2)


def test_a_store_keeps_to_its_limit() -> None:
    store = PrefixStore(40_000)
    for number in range(3, 30):
        answers([asked([number] * 20, [6], most=1)], store=store)
        assert 0 < store.bytes <= 40_000


def test_rows_of_a_picture_see_one_another() -> None:
    """Where the prefix is not causal, its first row knows its last."""
    seen = [alone(asked([3, 4, last], [6], causal=False, most=3)) for last in (5, 9)]
    assert seen[0].logprobs != seen[1].logprobs
    one = reading()
    slots = KVSlots(one.kv, 1)
    rows = one.words([3, 4, 5])
    states = one.read(rows.rows[None], rows.places[None], slots.view(0, 1, 3, causal=False))
    other = one.words([3, 4, 9])
    again = one.read(other.rows[None], other.places[None], slots.view(0, 1, 3, causal=False))
    assert not torch.equal(states[0, 0], again[0, 0])


def test_filters_that_do_nothing_change_nothing() -> None:
    plain = alone(asked([3, 4, 5], [6, 7], most=12))
    neutral = {"top_k": 0, "top_p": 1.0, "min_p": 0.0, "repetition": 1.0}
    assert alone(asked([3, 4, 5], [6, 7], most=12, **neutral)) == plain
    one = alone(asked([3, 4, 5], [6, 7], most=12, temperature=0.7, top_k=1, seed=4))
    assert (one.tokens, one.finish) == (plain.tokens, plain.finish)
    beam = alone(asked([3, 4, 5], [6, 7], most=12, beams=1))
    assert beam == plain


def test_a_constraint_gives_one_of_its_answers_and_a_legal_answer_is_left_alone() -> None:
    free = alone(asked([3, 4, 5], [6, 7], most=3))
    choice = (free.tokens, (9, 9), (30,))
    for beams in (1, 3):
        found = alone(asked([3, 4, 5], [6, 7], most=9, choice=choice, beams=beams))
        assert found.tokens in choice and found.finish == "end"
    greedy = alone(asked([3, 4, 5], [6, 7], most=9, choice=choice))
    assert greedy.tokens == free.tokens
    assert sum(greedy.chosen_logprobs) >= sum(greedy.logprobs)


def test_a_request_that_cannot_go_on_is_its_own_error() -> None:
    bad = asked([3, 4, 5], [6], bias=((999, 1.0),), most=5)
    good = asked([3, 4, 5], [7], most=5)
    answering = Answering(reading(), 4)
    texts = [Text(bad), Text(good)]
    for text in texts:
        answering.join(text)
    answering.run()
    with pytest.raises(InvalidValue, match="999"):
        texts[0].answer()
    assert texts[1].answer() == alone(good)


def test_stop_texts_and_pieces() -> None:
    """Pieces joined are the text, and no stop text is in it."""
    free = alone(asked([3, 4, 5], [6, 7], most=12, temperature=1.0, seed=1))
    assert len(free.text) > 6
    stop = free.text[3:5]
    text = Text(asked([3, 4, 5], [6, 7], most=12, temperature=1.0, seed=1, stop=(stop,)))
    pieces = list[str]()
    text.watch = pieces.append
    answering = Answering(reading(), 4)
    answering.join(text)
    answering.run()
    found = text.answer()
    assert found.finish == "stop"
    assert found.text == free.text[: free.text.index(stop)] == "".join(pieces)


def test_an_answer_that_goes_in_circles_is_ended() -> None:
    ask = asked([3], [6], most=60, bias=((8, 1e4),))
    assert alone(ask).finish == "length"
    ended = alone(replace(ask, decoding=replace(ask.decoding, loops=4)))
    assert ended.finish == "loop" and len(ended.tokens) == 4


@pytest.mark.parametrize(
    ("wrong", "named"),
    [({"top_p": 0.0}, "top_p"), ({"most": 0}, "most"), ({"beams": 3, "temperature": 1.0}, "Beams"),
     ({"least": 70}, "least"), ({"stop": ("",)}, "stop")],
)  # fmt: skip
def test_what_cannot_be_is_refused(wrong: dict[str, Any], named: str) -> None:
    with pytest.raises(InvalidValue, match=named):
        Decoding(**wrong)
