"""A tokenizer of whole words, with single letters and digits for what is written in pictures.

Lower-case words are one token each; capitals and digits are spelled. `tokenizers` does the
work, so that a model folder holds an ordinary `tokenizer.json`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from diptych.foundation.errors import InvalidValue, Unreadable

if TYPE_CHECKING:
    from tokenizers import Tokenizer

PAD, BOS, EOS, UNKNOWN = "<pad>", "<bos>", "<eos>", "<unknown>"
SPECIALS = (PAD, BOS, EOS, UNKNOWN)
_PIECE = r"[a-z]+|[A-Z0-9]|[^\sA-Za-z0-9]"
_NO_SPACE_BEFORE = (",", "?", ".", "'s")


class WordTokenizer:
    """Sentences to ids and back. Safe to share between threads."""

    def __init__(self, tokenizer: Tokenizer):
        self._tokenizer = tokenizer
        self.vocabulary = tokenizer.get_vocab()
        self._words = {number: word for word, number in self.vocabulary.items()}
        self.pad, self.bos, self.eos, self.unknown = (self.vocabulary[word] for word in SPECIALS)

    @classmethod
    def of_words(cls, words: Iterable[str], letters: str) -> WordTokenizer:
        """A tokenizer that knows these words, letters and the marks `" , ? .`"""
        from tokenizers import Regex, Tokenizer, models, pre_tokenizers

        known = [*SPECIALS, *sorted(set(words) - set(letters)), *letters, '"', ",", "?", "."]
        numbers = {word: number for number, word in enumerate(dict.fromkeys(known))}
        tokenizer = Tokenizer(models.WordLevel(numbers, unk_token=UNKNOWN))
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.WhitespaceSplit(),
                pre_tokenizers.Split(Regex(_PIECE), behavior="isolated"),
            ]
        )
        return cls(tokenizer)

    @classmethod
    def load(cls, path: Path) -> WordTokenizer:
        """From a `tokenizer.json`. Raises Unreadable."""
        from tokenizers import Tokenizer

        try:
            return cls(Tokenizer.from_str(path.read_text()))
        except Exception as error:  # the library raises bare exceptions of its own
            raise Unreadable(
                f"{str(path)!r} is no tokenizer: {error}.", do="Copy the model folder again."
            ) from error

    def to_json(self) -> str:
        """The content of `tokenizer.json`."""
        return self._tokenizer.to_str(pretty=True)

    def __len__(self) -> int:
        return len(self.vocabulary)

    def encode(self, sentence: str) -> list[int]:
        """Ids without marks of begin and end; words that are not known become `unknown`.

        Capitals are letters of a picture. What a person types goes through `check`.
        """
        return self._tokenizer.encode(sentence).ids

    def decode(self, numbers: Sequence[int]) -> str:
        """A sentence, or a run of one; spelled words are joined, special tokens left out."""
        words = [word for word in map(self._words.__getitem__, numbers) if word not in SPECIALS]
        text, previous, quoted = "", "", _begins_quoted(words)
        for word in words:
            joins = word in _NO_SPACE_BEFORE or (_spelled(word) and _spelled(previous))
            if word == '"':
                joins, quoted = quoted, not quoted
            elif previous == '"' and quoted:
                joins = True
            text += word if joins or not text else f" {word}"
            previous = word
        return text

    def check(self, sentence: str, longest: int) -> list[int]:
        """Like `encode` for typed text: its case does not matter outside quotation marks.

        Raises InvalidValue for unknown words or too many tokens.
        """
        lowered = _lowered(sentence)
        numbers = self.encode(lowered)
        if self.unknown in numbers:
            pieces = re.findall(_PIECE, lowered)
            strange = [piece for piece in pieces if piece not in self.vocabulary]
            raise InvalidValue(
                f"The model does not know the word {strange[0]!r}.", do=self._nearest(strange[0])
            )
        if len(numbers) > longest:
            raise InvalidValue(
                f"The text has {len(numbers)} tokens; the model reads {longest}.",
                do="Say it shorter.",
            )
        return numbers

    def count(self, sentence: str) -> int:
        """How many tokens typed text has."""
        return len(self.encode(_lowered(sentence)))

    def _nearest(self, word: str) -> str:
        from difflib import get_close_matches

        words = [known for known in self.vocabulary if known not in SPECIALS and len(known) > 1]
        near = get_close_matches(word, words, n=1)
        return f"Did you mean {near[0]!r}?" if near else f"It knows: {', '.join(sorted(words))}."


def _spelled(word: str) -> bool:
    return len(word) == 1 and word.isalnum() and not word.islower()


def _begins_quoted(words: Sequence[str]) -> bool:
    """Whether a run of words begins between quotation marks, where all is spelled: its first mark
    ends a quotation. Text that comes word by word is decoded in such runs."""
    if '"' not in words:
        return False
    first = words.index('"')
    if first:
        return all(_spelled(word) for word in words[:first])
    return len(words) > 1 and not _spelled(words[1])


def _lowered(sentence: str) -> str:
    """Outside quotation marks case does not matter; inside they are letters of the picture."""
    parts = sentence.split('"')
    return '"'.join(p.upper() if i % 2 else p.lower() for i, p in enumerate(parts)).strip()
