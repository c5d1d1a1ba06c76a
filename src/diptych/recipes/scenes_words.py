"""The tokenizer of the scenes world, and what each shape word of a caption stands for."""

from __future__ import annotations

from diptych.data.scenes import vocabulary as v
from diptych.data.scenes.captions import plural
from diptych.data.scenes.claims import Claims
from diptych.data.scenes.grammar import parse
from diptych.data.scenes.questions import words
from diptych.text.word_tokenizer import WordTokenizer

TRAITS = {
    "color": (None, *v.COLORS),
    "size": (None, *v.SIZES),
    "fill": (None, *v.FILLS),
    "count": tuple(range(7)),
    "role": (None, *v.RELATIONS),
}
_SHAPE_WORDS = {*v.SHAPES, *map(plural, v.SHAPES)}


def scenes_tokenizer(more: tuple[str, ...] = ()) -> WordTokenizer:
    """Every word of the world's sentences, questions and answers, its letters, and `more`."""
    return WordTokenizer.of_words([*words(), *more], v.LETTERS + "10")


def marked(tokenizer: WordTokenizer, sentence: str) -> list[int]:
    """Ids between the marks of begin and end."""
    return [tokenizer.bos, *tokenizer.encode(sentence), tokenizer.eos]


def traits(tokenizer: WordTokenizer, sentence: str) -> list[list[int]]:
    """For each token of `marked` the classes of `TRAITS`, -100 at all but the shape words."""
    claims = parse(sentence)
    shapes = {tokenizer.vocabulary[word] for word in _SHAPE_WORDS}
    rows, group = [], 0
    for number in marked(tokenizer, sentence):
        if number in shapes:
            rows.append(_classes(claims, group))
            group += 1
        else:
            rows.append([-100] * len(TRAITS))
    return rows


def _classes(claims: Claims, index: int) -> list[int]:
    group = claims.groups[index]
    role = None
    for subject, relation, other in claims.relations:
        if subject == index:
            role = relation
        elif other == index:
            role = v.OPPOSITE[relation]
    values = (group.color, group.size, group.fill, group.count, role)
    return [names.index(value) for names, value in zip(TRAITS.values(), values, strict=True)]
