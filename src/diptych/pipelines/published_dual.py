"""CLIP and SigLIP as they were published: a folder or a file to what embedding needs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from diptych.checkpoints.account import LoadReport
from diptych.checkpoints.families.preprocessor import square, square_in
from diptych.checkpoints.folder import read_json
from diptych.checkpoints.header import files_of
from diptych.checkpoints.load import Found, found_in, load
from diptych.foundation.errors import InvalidValue, Unreadable
from diptych.imaging.clip_pictures import CLIP as CLIP_PIXELS
from diptych.imaging.pixels import Preprocess
from diptych.models.clip import CLIP
from diptych.models.inputs import FixedSpec, PictureInputs, shown
from diptych.models.siglip import SigLIP
from diptych.text.clip_bpe import ClipTokenizer
from diptych.text.siglip_tokenizer import SiglipTokenizer

_ROWS = 16
Vectors = NDArray[np.float32]
Words = Callable[[str], list[int]]


@dataclass(frozen=True)
class Family:
    """`usual`: pictures of a side where no file says more. `words`: those of a folder.
    `template`: what a label is put into by default, as its authors wrote. `exclusive`:
    whether labels share one whole, or each answers for itself."""

    usual: Callable[[int], PictureInputs]
    words: Callable[[Path, CLIP | SigLIP], Words]
    template: str
    exclusive: bool


@dataclass(frozen=True)
class PublishedDual:
    """What embedding needs; in evaluation mode, on one device, of one dtype. `words`: a text to a
    row of numbers, padded as in training."""

    encoder: CLIP | SigLIP
    inputs: PictureInputs
    words: Words
    template: str
    exclusive: bool
    reports: tuple[LoadReport, ...] = ()

    @property
    def width(self) -> int:
        """Numbers in a vector."""
        return self.encoder.config.projection

    @torch.inference_mode()
    def embed_pictures(self, pictures: Sequence[Image.Image]) -> NDArray[np.float32]:
        """Pictures of any size -> [N, D] float32 of unit length"""
        made = [np.zeros((0, self.width), np.float32)]
        weight = next(self.encoder.parameters())
        for at in range(0, len(pictures), _ROWS):
            some = [shown(picture, self.inputs)[1] for picture in pictures[at : at + _ROWS]]
            image = torch.cat(some)
            vectors = self.encoder.encode_image(image.to(weight.device, weight.dtype))
            made.append(vectors.float().cpu().numpy())
        return np.concatenate(made)

    @torch.inference_mode()
    def embed_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Sentences -> [N, D] float32 of unit length. Raises InvalidValue for one that is empty or
        too long."""
        device = next(self.encoder.parameters()).device
        rows = [self.words(text) for text in texts]
        made = [np.zeros((0, self.width), np.float32)]
        for at in range(0, len(rows), _ROWS):
            tokens = torch.tensor(rows[at : at + _ROWS], device=device)
            made.append(self.encoder.encode_text(tokens).float().cpu().numpy())
        return np.concatenate(made)

    @torch.inference_mode()
    def shares(self, pictures: NDArray[np.float32], texts: NDArray[np.float32]) -> Vectors:
        """unit vectors [N, D] and [M, D] -> [N, M] in 0..1"""
        device = self.encoder.logit_scale.device
        seen, said = (torch.from_numpy(one).to(device) for one in (pictures, texts))
        logits: Tensor = self.encoder.logits(seen, said).float()
        made = logits.softmax(dim=1) if self.exclusive else logits.sigmoid()
        return made.cpu().numpy()


def _row(numbers: Sequence[int], text: str, length: int, pad: int) -> list[int]:
    """Padded to `length`. Raises InvalidValue for a text that is empty or finds no room."""
    if not text.strip():
        raise InvalidValue("The text is empty.", do='Say what to look for: "a red circle".')
    if len(numbers) > length:
        raise InvalidValue(
            f"{text[:40]!r}... has {len(numbers)} tokens with its marks; {length} are read.",
            do="Make it shorter.",
        )
    return [*numbers, *[pad] * (length - len(numbers))]


def _clip_words(folder: Path, encoder: CLIP | SigLIP) -> Words:
    """Of the folder, or CLIP's own where it has none."""
    config = encoder.config.text
    there = any((folder / name).is_file() for name in ("vocab.json", "tokenizer.json"))
    tokenizer = ClipTokenizer.load(folder) if there else ClipTokenizer.published()
    if len(tokenizer) > config.vocabulary or tokenizer.end != getattr(config, "eos", -1):
        raise Unreadable(
            f"The tokenizer has {len(tokenizer)} words and ends texts with {tokenizer.end}; the "
            f"network has {config.vocabulary}.",
            do="Name the folder that holds the tokenizer of these weights.",
        )
    length = config.length

    def words(text: str) -> list[int]:
        inner = [token.number for token in tokenizer.encode(text)]
        return _row([tokenizer.start, *inner, tokenizer.end], text, length, tokenizer.pad)

    return words


def _siglip_words(folder: Path, encoder: CLIP | SigLIP) -> Words:
    tokenizer, config = SiglipTokenizer.load(folder), encoder.config.text

    def words(text: str) -> list[int]:
        numbers = [*tokenizer.encode(text), tokenizer.end]
        if max(numbers) >= config.vocabulary:
            raise Unreadable(
                f"The tokenizer knows a word {max(numbers)}, the network {config.vocabulary}.",
                do="Name the folder that holds the tokenizer of these weights.",
            )
        return _row(numbers, text, config.length, tokenizer.pad)

    return words


def clip_inputs(side: int) -> PictureInputs:
    """As CLIP was trained (Radford et al., 2021)."""
    return PictureInputs(spec=square(side, cuts=True), pixels=CLIP_PIXELS)


def siglip_inputs(side: int) -> PictureInputs:
    """As SigLIP was trained (Zhai et al., 2023)."""
    half = (0.5, 0.5, 0.5)
    pixels = Preprocess(filter="bicubic", mean=half, deviation=half)
    return PictureInputs(spec=square(side, cuts=False), pixels=pixels)


FAMILIES: dict[str, Family] = {
    "clip": Family(clip_inputs, _clip_words, "a photo of a {}.", True),
    "siglip": Family(siglip_inputs, _siglip_words, "this is a photo of {}.", False),
}


def read_published_dual(
    path: Path, dtype: torch.dtype, *, variant: str = "", allow: Sequence[str] = ()
) -> PublishedDual:
    """A folder, or one weight file. Every tensor is accounted for before any is read. Raises
    NotFound, Unreadable, InvalidValue."""
    if path.is_dir() and not (path / "config.json").is_file():
        files = files_of(path, variant)  # as OpenCLIP's folders are
        if len(files) > 1:
            raise Unreadable(
                f"{str(path)!r} holds shards and no config.json.", do="Copy the folder again."
            )
        path = files[0]
    found = found_in(path, variant=variant, allow=allow, content=_beside(path))
    one = next((one for one in found if one.part.component in FAMILIES), None)
    if one is None:
        names = ", ".join(sorted({one.part.component for one in found}))
        raise Unreadable(
            f"{str(path)!r} holds {names}, which does not put pictures and texts into one space.",
            do="CLIP and SigLIP with both towers do.",
        )
    return _whole(path, one, dtype)


def _beside(path: Path) -> dict[str, Any] | None:
    """The config.json beside a weight file, if it is one of these families'."""
    told = path.parent / "config.json"
    if path.is_dir() or not told.is_file():
        return None
    content = read_json(told)
    return content if content.get("model_type") in FAMILIES else None


def _whole(path: Path, one: Found, dtype: torch.dtype) -> PublishedDual:
    family = FAMILIES[one.part.component]
    size = one.part.config.vision.image_size
    # What lies beside a weight file is taken for its own.
    folder = path if path.is_dir() else path.parent
    inputs = square_in(folder, family.usual(size))
    spec = inputs.spec
    if not isinstance(spec, FixedSpec) or (spec.width, spec.height) != (size, size):
        told = f"{spec.width} x {spec.height}" if isinstance(spec, FixedSpec) else "tiles"
        raise Unreadable(
            f"Pictures are prepared as {told}, and the tower reads {size} x {size}.",
            do="Copy preprocessor_config.json and config.json from one model.",
        )
    encoder = load(one, dtype)
    assert isinstance(encoder, CLIP | SigLIP)
    words = family.words(folder, encoder)
    return PublishedDual(encoder, inputs, words, family.template, family.exclusive, (one.report,))
