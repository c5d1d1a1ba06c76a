"""Prompts read with T5 beside CLIP, and what stands in its place where a model came without."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from diptych.foundation.errors import InvalidValue
from diptych.models.t5_encoder import T5Encoder
from diptych.pipelines.conditioning import Cat, ClipEncoder, Pad, Take, TextRecipe
from diptych.pipelines.encoded import stamp_of
from diptych.text.prompts import Part, Tokens
from diptych.text.t5_tokenizer import T5Tokenizer, t5_tokens


def sd3_words(width: int) -> TextRecipe:
    """CLIP's two side by side, with zeros behind up to the `width` of T5's, which follow (Esser et
    al., 2024, figure 2)."""
    clip = Pad(width, Cat(-1, (Take("clip_l", -2), Take("clip_g", -2))))
    return TextRecipe(sequence=Cat(-2, (clip, _T5)), pooled=("clip_l", "clip_g"))


def flux_words(width: int) -> TextRecipe:
    """T5's, and CLIP's one vector. A negative prompt is read
    where one is given, for a true guidance, and else nothing."""
    return TextRecipe(sequence=_T5, pooled=("clip_l",), zeros=True)


_T5 = Take("t5", -1, norm=True)


@dataclass(frozen=True)
class T5Reader:
    """`lengths` of rows: a prompt has the shortest that holds it, the longest cuts it off. Padding
    is read too, as SD3 and FLUX were trained. `component`: the name that published folders have
    for the network."""

    network: T5Encoder
    tokenizer: T5Tokenizer
    lengths: tuple[int, ...]
    component: str = "text_encoder_3"

    def tokens(self, parts: Sequence[Part], most: int | None) -> Tokens:
        """As a whole: T5 knows no chunks."""
        return t5_tokens(parts, self.tokenizer, self.lengths)

    def padded(self, tokens: Tokens, chunks: int) -> Tokens:
        return tokens

    def states(self, ids: tuple[int, ...]) -> Tensor:
        return self.network(torch.tensor([ids], device=self.network.shared.weight.device))

    def stamp(self) -> Hashable | None:
        return stamp_of(self.network)

    def layer(self, states: Tensor, take: Take, skip: int) -> Tensor:
        """The last, normed: `skip` counts layers of CLIP."""
        if take.layer != -1 or not take.norm:
            raise InvalidValue(f"Of T5 the last layer is read, normed, and not {take}.")
        return states

    def pooled(self, states: Tensor) -> Tensor:
        raise InvalidValue("T5 has no vector for a whole text.")


@dataclass(frozen=True)
class NoWords:
    """Zeros of T5's `width`, where SD3 is used without it: it was trained so, too. They are
    `beside` the states of another encoder."""

    width: int
    length: int
    beside: ClipEncoder = field(repr=False)

    def tokens(self, parts: Sequence[Part], most: int | None) -> Tokens:
        return Tokens(((0,) * self.length,), ((1.0,) * self.length,))

    def padded(self, tokens: Tokens, chunks: int) -> Tokens:
        return tokens

    def states(self, ids: tuple[int, ...]) -> Tensor:
        return self.beside.network.final_layer_norm.weight.new_zeros(1, len(ids), self.width)

    def stamp(self) -> Hashable | None:
        return None  # zeros are made faster than found

    def layer(self, states: Tensor, take: Take, skip: int) -> Tensor:
        return states

    def pooled(self, states: Tensor) -> Tensor:
        raise InvalidValue("T5 has no vector for a whole text.")
