"""CLIP's tokenizer: byte pairs (Sennrich et al., 2016) of lower-cased text, the last piece of
each word marked `</w>`. `tokenizers` does the work; vocabulary and merges come from a folder.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping, Sequence
from copy import copy
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from diptych.foundation.errors import InvalidValue, Unreadable

if TYPE_CHECKING:
    from tokenizers import Tokenizer

START, END = "<|startoftext|>", "<|endoftext|>"
_LAST = "</w>"
_SYNTAX = frozenset("()[]\\\n")
# The marks as such, English contractions, words, single digits, runs of anything else.
_WORD = r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|\p{L}+|\p{N}|[^\s\p{L}\p{N}]+"
_AGAIN = "Copy the model folder again."

Merges = Sequence[tuple[str, str]]


class Token(NamedTuple):
    """A number, and which characters of the text it stands for: `text[begin:stop]`. `joined`: it
    is not to be parted from the one before, with which it stands for one word."""

    number: int
    begin: int
    stop: int
    joined: bool = False


class ClipTokenizer:
    """Texts to numbers. Safe to share between threads.

    `pad` fills rows up: the end mark for CLIP, `!`, which is number 0, for OpenCLIP.
    It stays a word all the same: a `!` in a text is `!</w>`, as in training. (transformers reads
    every `!` of an OpenCLIP prompt as padding: diffusers issue 4153.) The marks of start and end
    are read as such when a text holds them. What the first program did before, mending wrong
    decodings and HTML, the published tokenizers do not.
    """

    def __init__(
        self,
        vocabulary: Mapping[str, int],
        merges: Merges,
        *,
        start: str = START,
        end: str = END,
        pad: str = END,
        added: Mapping[str, int] | None = None,
    ):
        """`added`: words with numbers after the vocabulary's. Raises Unreadable for a vocabulary
        that lacks a mark, a byte or a merge: then some texts would have no numbers."""
        alphabet = _byte_letters()
        needed = [start, end, pad, *alphabet, *(letter + _LAST for letter in alphabet)]
        lacking = [word for word in needed if word not in vocabulary]
        if lacking:
            raise Unreadable(f"The vocabulary lacks {lacking[0]!r}.", do=_AGAIN)
        self.vocabulary = {**vocabulary, **(added or {})}
        self.start, self.end, self.pad = (vocabulary[word] for word in (start, end, pad))
        self._tokenizer = _built(vocabulary, merges, (start, end), added or {})
        self._learnt: dict[int, tuple[int, ...]] = {}

    @classmethod
    def load(cls, folder: Path) -> ClipTokenizer:
        """From `vocab.json` and `merges.txt`, or else `tokenizer.json`, and the small files
        beside them. Raises Unreadable."""
        vocabulary, merges, added = _pieces(folder)
        config = _json(folder / "tokenizer_config.json")
        said = cast(dict[str, dict[str, Any]] | None, config.get("added_tokens_decoder"))
        if said is None:
            # What was written before that key existed says the truth in the other file.
            config |= _json(folder / "special_tokens_map.json")
        added |= {str(token["content"]): int(number) for number, token in (said or {}).items()}
        names = {
            key: _content(config[f"{word}_token"])
            for key, word in (("start", "bos"), ("end", "eos"), ("pad", "pad"))
            if config.get(f"{word}_token")
        }
        new = {word: number for word, number in added.items() if word not in vocabulary}
        return cls(vocabulary, merges, added=new, **names)

    @classmethod
    def published(cls, *, pad: str = END) -> ClipTokenizer:
        """CLIP's own 49,408 words, which come with the package, for files that hold weights
        alone; OpenCLIP has the same with `!` for `pad`."""
        return cls(*cls.published_words(), pad=pad)

    @staticmethod
    def published_words() -> tuple[dict[str, int], list[tuple[str, str]]]:
        """Numbers by word, and the merges, of CLIP's own vocabulary."""
        packed = Path(__file__).with_name("clip") / "merges.txt.gz"
        merges = _merges(gzip.decompress(packed.read_bytes()).decode())
        return vocabulary_of(merges), merges

    def __len__(self) -> int:
        return len(self.vocabulary)

    def extended(self, word: str, numbers: Sequence[int]) -> ClipTokenizer:
        """A tokenizer that also reads `word`, in any case and not within others, as these numbers:
        those of a textual inversion. Raises InvalidValue for a word that cannot be told apart."""
        from tokenizers import AddedToken, Tokenizer

        if not word.strip() or _SYNTAX & set(word):
            raise InvalidValue(
                f"{word!r} cannot stand in a prompt.", do="Give it a name without brackets."
            )
        twin = copy(self)
        twin._tokenizer = Tokenizer.from_str(self._tokenizer.to_str())
        part = any(self._tokenizer.token_to_id(one) is not None for one in (word, word.lower()))
        if part or len({token.begin for token in self.encode(word) if not token.joined}) < 2:
            raise InvalidValue(
                f"{word!r} is a word, or a part of words, already.", do="Give it another name."
            )
        add: Any = twin._tokenizer
        add.add_tokens([AddedToken(word.lower(), normalized=True, single_word=True)])
        own = cast(int, twin._tokenizer.token_to_id(word.lower()))
        twin._learnt = {**self._learnt, own: tuple(numbers)}
        return twin

    def encode(self, text: str) -> list[Token]:
        """All tokens of a text, without marks of start and end and without padding."""
        encoded = self._tokenizer.encode(text, add_special_tokens=False)
        return [
            Token(each, *place, joined=at > 0)
            for number, place in zip(encoded.ids, encoded.offsets, strict=True)
            for at, each in enumerate(self._learnt.get(number, (number,)))
        ]


def vocabulary_of(merges: Merges) -> dict[str, int]:
    """The numbers that CLIP gives: 256 bytes, the same at the end of a word, merges, marks."""
    letters = _byte_letters()
    words = [*letters, *(letter + _LAST for letter in letters), *map("".join, merges), START, END]
    return {word: number for number, word in enumerate(words)}


def _byte_letters() -> list[str]:
    """A letter for each byte, in CLIP's order: what can be printed stands for itself, the rest
    for letters from 256 on, in the order of their bytes."""
    shown = [*range(33, 127), *range(161, 173), *range(174, 256)]
    return [*map(chr, shown), *(chr(256 + number) for number in range(256 - len(shown)))]


def _built(
    vocabulary: Mapping[str, int], merges: Merges, marks: tuple[str, str], added: Mapping[str, int]
) -> Tokenizer:
    from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers

    try:
        model = models.BPE(
            dict(vocabulary), list(merges), end_of_word_suffix=_LAST, unk_token=marks[1]
        )
    except Exception as error:  # the library raises bare exceptions of its own
        raise Unreadable(f"Merges and vocabulary do not fit: {error}.", do=_AGAIN) from error
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    # What is no word is dropped, so every run of white space is one gap.
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_WORD), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, trim_offsets=True),
        ]
    )
    add: Any = tokenizer  # its methods take lists of anything
    add.add_special_tokens([AddedToken(mark, special=True) for mark in marks])
    words = sorted(added, key=lambda word: added[word])
    add.add_tokens([AddedToken(word, normalized=False) for word in words])
    moved = [word for word in words if tokenizer.token_to_id(word) != added[word]]
    if moved:
        raise Unreadable(
            f"The added word {moved[0]!r} has the number {added[moved[0]]}, where "
            f"{tokenizer.token_to_id(moved[0])} is the next free one.",
            do=_AGAIN,
        )
    return tokenizer


def _pieces(folder: Path) -> tuple[dict[str, int], list[tuple[str, str]], dict[str, int]]:
    """Vocabulary, merges and added words of a folder."""
    words, merges, whole = (
        folder / name for name in ("vocab.json", "merges.txt", "tokenizer.json")
    )
    if words.is_file() and merges.is_file():
        return _json(words), _merges(_text(merges)), _json(folder / "added_tokens.json")
    if not whole.is_file():
        raise Unreadable(
            f"{str(folder)!r} holds no tokenizer.",
            do="Put vocab.json and merges.txt there, or tokenizer.json.",
        )
    content = _json(whole)
    model = cast(dict[str, Any], content.get("model", {}))
    if model.get("type", "BPE") != "BPE" or model.get("end_of_word_suffix") != _LAST:
        raise Unreadable(
            f"{str(whole)!r} is not CLIP's tokenizer: its words do not end in {_LAST}."
        )
    added = {str(token["content"]): int(token["id"]) for token in content.get("added_tokens", [])}
    # Older files have "a b", newer ["a", "b"].
    pairs = [pair.split(" ") if isinstance(pair, str) else pair for pair in model["merges"]]
    return model["vocab"], [(first, second) for first, second in pairs], added


def _merges(text: str) -> list[tuple[str, str]]:
    lines = [line for line in text.split("\n") if line and not line.startswith("#version")]
    pairs = [tuple(line.split(" ")) for line in lines]
    wrong = [pair for pair in pairs if len(pair) != 2]
    if wrong:
        raise Unreadable(f"{' '.join(wrong[0])!r} in merges.txt is no pair.", do=_AGAIN)
    return cast(list[tuple[str, str]], pairs)


def _content(token: Any) -> str:
    """Marks are written as a word or as an object with a `content`."""
    return token if isinstance(token, str) else str(token["content"])


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise Unreadable(f"{str(path)!r} cannot be read: {error}.", do=_AGAIN) from error


def _json(path: Path) -> dict[str, Any]:
    """The object in a file; none in a file that is not there."""
    if not path.is_file():
        return {}
    try:
        content: Any = json.loads(_text(path))
    except ValueError as error:
        raise Unreadable(f"{str(path)!r} cannot be read: {error}.", do=_AGAIN) from error
    if not isinstance(content, dict):
        raise Unreadable(f"{str(path)!r} holds no JSON object.", do=_AGAIN)
    return cast(dict[str, Any], content)
