"""A published `config.json` read key by key: each is used, checked against the one value that is
built here, or refused by name; and what headers are counted with."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from diptych.foundation.errors import Unreadable


class PublishedConfig:
    """Hands out the values of a config once; `end` refuses what nobody asked for."""

    def __init__(self, content: Mapping[str, Any], what: str):
        self._left, self._what = dict(content), what

    def take(self, key: str, default: Any = None) -> Any:
        """The value of a key, which counts as used."""
        return self._left.pop(key, default)

    def only(self, key: str, *values: Any) -> None:
        """Refuse any other value than these; a key that is not there passes."""
        value = self._left.pop(key, values[0])
        if value not in values:
            raise Unreadable(f"{self._what} with {key} = {value!r} is not built here.")

    def end(self, harmless: frozenset[str] = frozenset()) -> None:
        """Refuse keys that are set and were neither taken nor are `harmless`."""
        unset = (None, False, "", {}, [])
        for key, value in self._left.items():
            if key not in harmless and not key.startswith("_") and value not in unset:
                raise Unreadable(f"{self._what} has {key} = {value!r}, which is not known here.")


# What transformers writes beside a network's shape: of itself, of training and of generation.
OF_LIBRARY = frozenset({
    "architectures", "attention_probs_dropout_prob", "auto_map", "bos_token_id",
    "chunk_size_feed_forward",
    "decoder_start_token_id", "diversity_penalty", "drop_path_rate", "dropout", "dtype",
    "encoder_no_repeat_ngram_size", "encoder_stride", "eos_token_id", "finetuning_task",
    "hidden_dropout_prob", "id2label", "initializer_factor", "initializer_range", "label2id",
    "length_penalty", "max_length", "min_length", "model_type", "no_repeat_ngram_size",
    "num_beam_groups", "num_beams", "num_return_sequences", "pad_token_id", "problem_type",
    "projection_dropout", "repetition_penalty", "return_dict", "sep_token_id", "temperature",
    "tie_encoder_decoder", "tie_word_embeddings", "top_k", "top_p", "torch_dtype",
    "transformers_version", "typical_p", "use_bfloat16", "use_cache",
})  # fmt: skip


def per_level(value: Any, levels: int) -> tuple[Any, ...]:
    """One value for all levels, or a list with one for each."""
    return tuple(value) if isinstance(value, list | tuple) else (value,) * levels


def count_of(names: Iterable[str], prefix: str) -> int:
    """How many numbered parts there are right below a prefix."""
    pattern = re.compile(re.escape(prefix) + r"\.(\d+)\.")
    return len({match[1] for name in names if (match := pattern.match(name))})
