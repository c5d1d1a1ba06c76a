"""Sentences become claims. Understands all that `captions` writes and plain prompts like them.

In signs:

    sentence = [opening] item {("," | "and" | relation) item} ["on a" background "background"]
    item     = number [size] [fill] [color] (shape | "object") [place] | "the word" "ABC"
    relation = ["is"] ("above" | "over" | "to the left of" | ...)
"""

from __future__ import annotations

import re
from difflib import get_close_matches

from diptych.data.scenes import vocabulary as v
from diptych.data.scenes.captions import NUMBERS, PLACES, SAID, plural
from diptych.data.scenes.claims import Claims, Group
from diptych.foundation.errors import InvalidValue

_OPENINGS = ("there is ", "there are ", "a picture of ", "an image of ", "a photo of ")
_SHAPES = {shape: shape for shape in v.SHAPES} | {plural(shape): shape for shape in v.SHAPES}
_SHAPES |= {"object": "", "objects": "", "shape": "", "shapes": ""}
_COUNTS = {word: count for count, word in enumerate(NUMBERS)} | {"an": 1, "one": 1, "the": 1}
_COUNTS |= {str(count): count for count in range(1, 7)}
_RELATIONS = {tuple(form.split()): name for name, forms in SAID.items() for form in forms}
_PLACES = {tuple(words.split()) for row in PLACES for words in row}
_KNOWN = (
    set(_SHAPES) | set(_COUNTS) | set(v.COLORS) | set(v.SIZES) | set(v.FILLS)
    | set(v.BACKGROUNDS) | {word for form in _RELATIONS for word in form}
    | {word for form in _PLACES for word in form}
    | {"and", "is", "on", "a", "an", "background", "with", "word", "there", "are", "picture", "of"}
)  # fmt: skip
_TOKEN = re.compile(r'"[^"]*"|[A-Za-z]+|\d+|[^\sA-Za-z\d]')


def parse(sentence: str) -> Claims:
    """What a sentence states. Raises InvalidValue naming the word that is not understood."""
    if not sentence.strip():
        raise InvalidValue("The prompt is empty.", do='Say what to paint, as "a red circle".')
    text = sentence.strip().rstrip(".")
    for opening in _OPENINGS:
        if text.lower().startswith(opening):
            text = text[len(opening) :]
            break
    tokens = _TOKEN.findall(text)
    return _Reader([t if t.startswith('"') else t.lower() for t in tokens], sentence).claims()


class _Reader:
    """Recursive descent over tokens; `at` is the next one to read."""

    def __init__(self, tokens: list[str], sentence: str):
        self.tokens, self.sentence, self.at = tokens, sentence, 0
        self.groups: list[Group] = []
        self.relations: list[tuple[int, str, int]] = []
        self.word: str | None = None
        self.background: str | None = None

    def claims(self) -> Claims:
        subject = self.item()
        while self.at < len(self.tokens):
            self.take("is")
            relation = self.relation()
            if relation and subject is not None:
                self.related(subject, relation)
            elif self.ground() or self.place():
                continue
            elif self.take(",") or self.take("and") or self.take("with"):
                self.take("and")
                relation = self.relation()
                if relation and subject is not None:  # "... is above X and left of Y"
                    self.related(subject, relation)
                elif not self.ground():
                    subject = self.item()
            else:
                self.fail()
        return Claims(tuple(self.groups), tuple(self.relations), self.word, self.background)

    def related(self, subject: int, relation: str) -> None:
        other = self.item()
        if other is None:
            self.fail()
        else:
            self.relations.append((subject, relation, other))

    def item(self) -> int | None:
        """Index of the group that was read, or None for a word."""
        if self.sequence(("the", "word")) or self.sequence(("word",)):
            token = self.next()
            if not token.startswith('"'):
                self.fail(back=1)
            self.word = token.strip('"').upper()
            return None
        definite = self.peek() == "the"
        count = _COUNTS.get(self.peek())
        if count is None:
            count = 1
        else:
            self.at += 1
        said: dict[str, str] = {}
        kinds = (("size", v.SIZES), ("fill", v.FILLS), ("color", v.COLORS))
        while (kind := next((k for k, names in kinds if self.peek() in names), None)) is not None:
            said[kind] = self.next()
        shape = _SHAPES.get(self.peek())
        if shape is None:
            self.fail()
        self.at += 1
        group = Group(count, shape or None, said.get("color"), said.get("size"), said.get("fill"))
        if definite and group in self.groups:  # "the red circle" again is the same one
            return self.groups.index(group)
        self.groups.append(group)
        return len(self.groups) - 1

    def relation(self) -> str | None:
        return next((name for form, name in _RELATIONS.items() if self.sequence(form)), None)

    def place(self) -> bool:
        longest_first = sorted(_PLACES, key=len, reverse=True)
        return any(self.sequence(form) for form in longest_first)

    def ground(self) -> bool:
        start = self.at
        if self.take("on") and (self.take("a") or self.take("the")):
            name = self.peek()
            if name in v.BACKGROUNDS:
                self.at += 1
                if self.take("background"):
                    self.background = name
                    return True
        self.at = start
        return False

    def peek(self) -> str:
        return self.tokens[self.at] if self.at < len(self.tokens) else ""

    def next(self) -> str:
        token = self.peek()
        self.at += 1
        return token

    def take(self, token: str) -> bool:
        return self.sequence((token,))

    def sequence(self, words: tuple[str, ...]) -> bool:
        if tuple(self.tokens[self.at : self.at + len(words)]) != words:
            return False
        self.at += len(words)
        return True

    def fail(self, back: int = 0) -> None:
        token = self.tokens[self.at - back] if self.at - back < len(self.tokens) else ""
        if not token:
            raise InvalidValue(
                f"The prompt {self.sentence!r} ends too early.",
                do='Name a shape, as in "a red circle".',
            )
        near = get_close_matches(token, _KNOWN, n=1)
        hint = f"Did you mean {near[0]!r}?" if near and near[0] != token else ""
        raise InvalidValue(
            f"The word {token!r} is not understood in {self.sentence!r}.",
            do=hint or 'Say it like "a large red circle above two blue stars".',
        )
