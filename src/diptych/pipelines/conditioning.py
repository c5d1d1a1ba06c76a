"""From a prompt to what a denoiser is given.

How families differ is data: a `TextRecipe` says which layers of which encoders are put together
and how. The rest is the same for all: a prompt becomes chunks of tokens (77 for CLIP, one for T5),
each is encoded by itself, weights are applied, chunks follow each other on the token axis.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn.functional import pad

from diptych.foundation.errors import InvalidValue
from diptych.models.clip_text import CLIPText, CLIPTextStates
from diptych.nn.positions import number_features
from diptych.pipelines.encoded import EncodedStore, stamp_of
from diptych.text.clip_bpe import ClipTokenizer
from diptych.text.prompts import Part, Tokens, padded, parse, plain, tokens_of


@dataclass(frozen=True)
class Take:
    """The states of an encoder's layer, -1 the last, with its final norm after it or not."""

    encoder: str
    layer: int = -1
    norm: bool = False


@dataclass(frozen=True)
class Cat:
    """Side by side on an axis: -1 channels, -2 tokens."""

    axis: int
    parts: tuple[Source, ...]


@dataclass(frozen=True)
class Pad:
    """Zeros behind, up to `width` channels."""

    width: int
    part: Source


Source = Take | Cat | Pad


@dataclass(frozen=True, kw_only=True)
class TextRecipe:
    """`pooled`: encoders whose vectors of the whole text are put side by side, projected where
    they have a projection. `sizes`: the numbers that the denoiser is told beside (`size_vector`).
    `zeros`: without a negative prompt the other side is zeros, not the empty text."""

    sequence: Source
    pooled: tuple[str, ...] = ()
    sizes: tuple[str, ...] = ()
    zeros: bool = False


_SIZES = ("original", "crop")
TEXT_RECIPES: dict[str, TextRecipe] = {
    "sd1": TextRecipe(sequence=Take("clip_l", -1, norm=True)),
    # Of 24 layers the folders hold the first 23: their last is the last but one.
    "sd2": TextRecipe(sequence=Take("clip_h", -1, norm=True)),
    "sdxl": TextRecipe(
        sequence=Cat(-1, (Take("clip_l", -2), Take("clip_g", -2))),
        pooled=("clip_g",),
        sizes=(*_SIZES, "target"),
        zeros=True,
    ),
    "sdxl-refiner": TextRecipe(
        sequence=Take("clip_g", -2), pooled=("clip_g",), sizes=(*_SIZES, "aesthetic")
    ),
}


class Encoder(Protocol):
    """A tokenizer and what reads its numbers. `tokens`: a prompt's, in `most` chunks at most."""

    def tokens(self, parts: Sequence[Part], most: int | None) -> Tokens: ...

    def padded(self, tokens: Tokens, chunks: int) -> Tokens:
        """With empty chunks behind, where many chunks are read."""
        ...

    def states(self, ids: tuple[int, ...]) -> Any:
        """All that there is to know of one chunk."""
        ...

    def stamp(self) -> Hashable | None:
        """What `states` depend on beside the chunk; None where it cannot be told."""
        ...

    def layer(self, states: Any, take: Take, skip: int) -> Tensor:
        """What a recipe takes of it, [1, L, D], `skip` layers sooner. Raises InvalidValue."""
        ...

    def pooled(self, states: Any) -> Tensor:
        """One vector for the whole text, [1, P]."""
        ...


@dataclass(frozen=True)
class ClipEncoder:
    """A text transformer, in evaluation mode, and the tokenizer that belongs to it; `learnt`
    [N, D]: what is read for its numbers beyond the network's vocabulary. `component`: the name
    that published folders have for the network."""

    network: CLIPText
    tokenizer: ClipTokenizer
    component: str = "text_encoder"
    learnt: Tensor | None = None

    def knowing(self, word: str, rows: Tensor) -> ClipEncoder:
        """An encoder that reads `word` as rows [n, D]. Raises InvalidValue for a word that cannot
        be told apart."""
        count = self.network.config.vocabulary
        count += 0 if self.learnt is None else len(self.learnt)
        tokenizer = self.tokenizer.extended(word, range(count, count + len(rows)))
        rows = rows.to(self.network.final_layer_norm.weight)
        learnt = rows if self.learnt is None else torch.cat([self.learnt, rows])
        return replace(self, tokenizer=tokenizer, learnt=learnt)

    def tokens(self, parts: Sequence[Part], most: int | None) -> Tokens:
        return tokens_of(parts, self.tokenizer, length=self.network.config.length, most=most)

    def padded(self, tokens: Tokens, chunks: int) -> Tokens:
        return padded(tokens, chunks, self.tokenizer)

    def states(self, ids: tuple[int, ...]) -> CLIPTextStates:
        device = self.network.final_layer_norm.weight.device
        return self.network(torch.tensor([ids], device=device), learnt=self.learnt)

    def stamp(self) -> Hashable | None:
        return None if self.learnt is not None else stamp_of(self.network)

    def layer(self, states: CLIPTextStates, take: Take, skip: int) -> Tensor:
        most = self.network.config.depth + take.layer
        if skip > most:
            raise InvalidValue(
                f"clip_skip={skip} leaves nothing of {take.encoder}, which has "
                f"{self.network.config.depth} layers.",
                do=f"Choose 0 to {most}.",
            )
        z = states.layers[take.layer - skip]
        return self.network.final_layer_norm(z) if take.norm else z

    def pooled(self, states: CLIPTextStates) -> Tensor:
        return states.pooled if states.projected is None else states.projected


@dataclass(frozen=True, kw_only=True)
class Reading:
    """How prompts are read. Raises InvalidValue for values that mean nothing.

    `clip_skip`: how many layers less, of every encoder, in both prompts. `syntax`: whether
    brackets weigh and BREAK breaks. `mean_restored`: see `weighted`. `most`: chunks at most, the
    rest is returned as truncated; None: as many as the prompt takes.
    """

    clip_skip: int = 0
    syntax: bool = True
    mean_restored: bool = True
    most: int | None = None

    def __post_init__(self) -> None:
        if self.clip_skip < 0:
            raise InvalidValue(f"clip_skip={self.clip_skip} is no number of layers.", do="Take 0.")
        if self.most is not None and self.most < 1:
            raise InvalidValue(f"most={self.most} leaves no chunk.", do="Choose 1 or more.")


@dataclass(frozen=True)
class TextCond:
    """One row of conditioning: `sequence` [1, L, D]; `pooled` [1, P] or None;
    `truncated`: the text that found no room, empty if all did."""

    sequence: Tensor
    pooled: Tensor | None
    truncated: str = ""


_States = Callable[[str, tuple[int, ...]], Any]
_PLAIN_READING = Reading()


@torch.no_grad()
def condition(
    encoders: Mapping[str, Encoder],
    recipe: TextRecipe,
    prompt: str,
    negative_prompt: str | None = None,
    reading: Reading = _PLAIN_READING,
    store: EncodedStore | None = None,
) -> tuple[TextCond, TextCond]:
    """A prompt and what to keep away from, of one length: the shorter has empty chunks behind.

    Each chunk is encoded alone, so the bits depend on nothing but this pair; `store` has those
    that were read before. Raises InvalidValue for a `clip_skip` beyond the encoder, or weights
    beyond all numbers.
    """
    no_negative = negative_prompt is None and recipe.zeros
    texts = [prompt] if no_negative else [prompt, negative_prompt or ""]
    found = [_tokens(encoders, recipe, text, reading) for text in texts]
    chunks = max(tokens.chunks for side in found for tokens in side.values())
    known: dict[tuple[str, tuple[int, ...]], Any] = {}

    def states(name: str, ids: tuple[int, ...]) -> Any:
        """Of one chunk; the empty one comes often."""
        if (name, ids) not in known:
            known[name, ids] = _states(encoders[name], name, ids, store)
        return known[name, ids]

    conds = []
    for side in found:
        full = {name: encoders[name].padded(t, chunks) for name, t in side.items()}
        conds.append(_cond(encoders, recipe, full, reading, states))
    if no_negative:
        pooled = None if conds[0].pooled is None else torch.zeros_like(conds[0].pooled)
        conds.append(TextCond(torch.zeros_like(conds[0].sequence), pooled))
    return conds[0], conds[1]


def _states(encoder: Encoder, name: str, ids: tuple[int, ...], store: EncodedStore | None) -> Any:
    stamp = None if store is None else encoder.stamp()
    if store is None or stamp is None:
        return encoder.states(ids)
    key = name, ids, stamp
    found = store.find(key)
    if found is None:
        found = encoder.states(ids)
        store.keep(key, found)
    return found


def weighted(z: Tensor, weights: Sequence[float], mean_restored: bool) -> Tensor:
    """z [1, L, D], the states of one chunk, times the weights of its L tokens.

    The rule is AUTOMATIC1111's "Original" (`modules/sd_emphasis.py`): then all of the chunk is
    scaled so that the mean of its numbers is what it was; without `mean_restored` it is "No
    norm". That mean has no meaning, but the pictures of many people hang on it. Where it is near
    zero, as in the penultimate layers of SDXL, the scaling can be large: then go without.
    """
    if all(weight == 1 for weight in weights):
        return z
    wide = z.to(torch.promote_types(z.dtype, torch.float32))
    scaled = wide * wide.new_tensor(weights)[:, None]
    if mean_restored:
        restored = (scaled * (wide.mean() / scaled.mean())).to(z.dtype)
        if restored.isfinite().all():  # weights may cancel, and then there is no mean to scale
            return restored
    return scaled.to(z.dtype)


def size_vector(pooled: Tensor, numbers: Sequence[float], width: int = 256) -> Tensor:
    """pooled [1, P] and K numbers, each as `width` waves -> [1, P + K * width], SDXL's vector."""
    told = torch.tensor([numbers], device=pooled.device)
    return torch.cat([pooled, number_features(told, width, pooled.dtype)], dim=-1)


def size_numbers(
    recipe: TextRecipe,
    target: tuple[int, int],
    *,
    original: tuple[int, int] | None = None,
    crop: tuple[int, int] = (0, 0),
    aesthetic: float = 6.0,
) -> tuple[float, ...]:
    """What SDXL is told of a picture (Podell et al., 2023, section 2.2), in the network's order.

    `target` (width, height) of the picture; `original`: as if it had been so large before it was
    scaled (if not said: as large as it is); `crop` (left, top): and cut so. The refiner is told an
    `aesthetic` score instead of `target`; for the negative prompt 2.5 is usual.
    """
    said: dict[str, tuple[float, ...]] = {
        "original": (original or target)[::-1],
        "crop": crop[::-1],
        "target": target[::-1],
        "aesthetic": (aesthetic,),
    }
    return tuple(float(number) for name in recipe.sizes for number in said[name])


def _tokens(
    encoders: Mapping[str, Encoder], recipe: TextRecipe, text: str, reading: Reading
) -> dict[str, Tokens]:
    parts = parse(text) if reading.syntax else plain(text)
    return {
        name: encoders[name].tokens(parts, reading.most)
        for name in dict.fromkeys([*_encoders_of(recipe.sequence), *recipe.pooled])
    }


def _encoders_of(source: Source) -> list[str]:
    if isinstance(source, Take):
        return [source.encoder]
    parts = source.parts if isinstance(source, Cat) else (source.part,)
    return [name for part in parts for name in _encoders_of(part)]


def _cond(
    encoders: Mapping[str, Encoder],
    recipe: TextRecipe,
    tokens: Mapping[str, Tokens],
    reading: Reading,
    states: _States,
) -> TextCond:
    """One prompt, all of its tokens given."""

    def made(source: Source) -> Tensor:
        if isinstance(source, Cat):
            return torch.cat([made(part) for part in source.parts], dim=source.axis)
        if isinstance(source, Pad):
            part = made(source.part)
            return pad(part, (0, source.width - part.shape[-1]))
        encoder, found = encoders[source.encoder], tokens[source.encoder]
        chunks = []
        for ids, weights in zip(found.ids, found.weights, strict=True):
            z = encoder.layer(states(source.encoder, ids), source, reading.clip_skip)
            chunks.append(weighted(z, weights, reading.mean_restored))
        return torch.cat(chunks, dim=1)

    # The first chunk's, where a prompt has many: the text begins there.
    vectors = [encoders[name].pooled(states(name, tokens[name].ids[0])) for name in recipe.pooled]
    return TextCond(
        made(recipe.sequence),
        torch.cat(vectors, dim=-1) if vectors else None,
        max((found.truncated for found in tokens.values()), key=len),
    )
