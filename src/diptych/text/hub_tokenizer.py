"""A published folder's tokenizer: `tokenizers` does the work, the folder says which words end an
answer and how a conversation is written."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from diptych.foundation.errors import NotFound, Unreadable
from diptych.text.chat import escaped

if TYPE_CHECKING:
    from tokenizers import Tokenizer


@dataclass(frozen=True, eq=False)
class HubTokenizer:
    """Texts to numbers and back. Safe to share between threads. `ends`: tokens that end an answer;
    `template`: the folder's own way to write a conversation, or nothing."""

    tokenizer: Tokenizer
    ends: tuple[int, ...]
    template: str = ""
    bos: str = ""
    special: tuple[str, ...] = field(default=(), repr=False)

    @classmethod
    def load(cls, folder: Path, ends: tuple[int, ...] = ()) -> HubTokenizer:
        """From `tokenizer.json` and the files beside it, which say what ends an answer unless
        `ends` does. Raises NotFound, Unreadable."""
        tokenizer = tokenizer_of(folder)
        added = tokenizer.get_added_tokens_decoder()
        special = tuple(token.content for token in added.values() if token.special)
        said = _json(folder / "tokenizer_config.json")
        return cls(
            tokenizer, ends or _ends(folder, tokenizer, said), _template_of(folder, said),
            _content(said.get("bos_token")), special,
        )  # fmt: skip

    def encode(self, text: str) -> list[int]:
        """Numbers of a text, with the mark of a beginning if the tokenizer sets one and the text
        has none."""
        begun = bool(self.bos) and self.bos in text
        return self.tokenizer.encode(text, add_special_tokens=not begun).ids

    def bare(self, text: str) -> list[int]:
        """Numbers of a text alone, without marks."""
        return self.tokenizer.encode(text, add_special_tokens=False).ids

    def plain(self, text: str) -> str:
        """Text in which no word of the model's own stands."""
        return escaped(text, self.special)

    def decode(self, tokens: Sequence[int]) -> str:
        """Text of tokens, special ones left out."""
        return self.tokenizer.decode(list(tokens))

    def decode_all(self, tokens: Sequence[int]) -> str:
        """The same, special ones kept: places are such."""
        return self.tokenizer.decode(list(tokens), skip_special_tokens=False)

    def word(self, number: int) -> str:
        """The word of a token. Raises Unreadable where there is none."""
        word = self.tokenizer.id_to_token(number)
        if word is None:
            raise Unreadable(f"The tokenizer has no token {number}.", do="Is it the model's own?")
        return word


def tokenizer_of(folder: Path) -> Tokenizer:
    """A folder's `tokenizer.json`, without its padding and cutting. Raises NotFound, Unreadable."""
    from tokenizers import Tokenizer

    path = folder / "tokenizer.json"
    if not path.is_file():
        raise NotFound(
            f"There is no tokenizer.json in {str(folder)!r}.",
            do="Save the tokenizer with transformers, which writes one.",
        )
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises bare exceptions of its own
        raise Unreadable(f"{str(path)!r} is no tokenizer: {error}.") from error
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


# Words that end a turn, where a folder's files name another end.
_ENDS = ("<|im_end|>", "<end_of_utterance>", "<|eot_id|>", "<|end|>")


def _ends(folder: Path, tokenizer: Tokenizer, said: dict[str, Any]) -> tuple[int, ...]:
    config = _json(folder / "config.json")
    inner: dict[str, Any] = config.get("text_config") or {}
    sources = (_json(folder / "generation_config.json"), config, inner)
    named: list[Any] = [source.get("eos_token_id") for source in sources]
    found = list[int]()
    for one in named:
        found += cast("list[int]", one) if isinstance(one, list) else []
        found += [one] if isinstance(one, int) else []
    words = [*_ENDS, _content(said.get("eos_token"))]
    found += [n for n in (tokenizer.token_to_id(word) for word in words if word) if n is not None]
    if not found:
        raise Unreadable(f"No file in {str(folder)!r} says which token ends an answer.")
    return tuple(dict.fromkeys(found))


def _template_of(folder: Path, said: dict[str, Any]) -> str:
    if (folder / "chat_template.jinja").is_file():
        return (folder / "chat_template.jinja").read_text()
    told: Any = _json(folder / "chat_template.json").get("chat_template")
    told = told or said.get("chat_template") or ""
    if isinstance(told, list):
        several = cast("list[dict[str, str]]", told)
        told = next((one["template"] for one in several if one.get("name") == "default"), "")
    return str(told)


def _content(told: Any) -> str:
    """A token is told as a word, or with its ways."""
    if isinstance(told, dict):
        return str(cast("dict[str, Any]", told).get("content", ""))
    return str(told or "")


def _json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        content: Any = json.loads(path.read_text())
    except ValueError as error:
        raise Unreadable(f"{str(path)!r} cannot be read: {error}.") from error
    return cast("dict[str, Any]", content) if isinstance(content, dict) else {}
