"""Pictures and texts become vectors of one space."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from diptych.foundation.errors import InvalidValue
from diptych.imaging.pictures import to_square
from diptych.models.dual_encoder import DualEncoderNetwork
from diptych.text.word_tokenizer import WordTokenizer

_ROWS = 64


@dataclass(frozen=True)
class EmbeddingNetworks:
    """What embedding needs; in evaluation mode, on one device, of one dtype."""

    encoder: DualEncoderNetwork
    tokenizer: WordTokenizer
    # What a label is put into by default: its captions name things and nothing else.
    template: str = "{}"

    @property
    def image_size(self) -> int:
        """Side in pixels of the square pictures that the model reads."""
        return self.encoder.config.vision.image_size

    @property
    def width(self) -> int:
        """Numbers in a vector."""
        return self.encoder.config.width

    def embed_pictures(self, pictures: Sequence[Image.Image]) -> NDArray[np.float32]:
        """Pictures of any size, squeezed into the model's -> [N, D] of unit length"""
        return embed_pictures(self, [to_square(one, self.image_size) for one in pictures])

    def embed_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """As `embed_texts`."""
        return embed_texts(self, texts)

    @torch.inference_mode()
    def shares(
        self, pictures: NDArray[np.float32], texts: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """unit vectors [N, D] and [M, D] -> [N, M]: each text's share among all, 0..1"""
        scale = self.encoder.scale.float().cpu()
        return (scale * torch.from_numpy(pictures @ texts.T)).softmax(dim=1).numpy()


@torch.inference_mode()
def embed_pictures(
    networks: EmbeddingNetworks, pictures: Sequence[NDArray[np.uint8]]
) -> NDArray[np.float32]:
    """pictures [S, S, 3] uint8 of the model's size -> [N, D] float32 of unit length"""
    weight = next(networks.encoder.parameters())
    made = [np.zeros((0, networks.width), np.float32)]
    for start in range(0, len(pictures), _ROWS):
        pixels = torch.from_numpy(np.stack(pictures[start : start + _ROWS])).to(weight.device)
        image = (pixels.permute(0, 3, 1, 2).float() / 127.5 - 1).to(weight.dtype)
        made.append(networks.encoder.encode_image(image).cpu().numpy())
    return np.concatenate(made)


@torch.inference_mode()
def embed_texts(networks: EmbeddingNetworks, texts: Sequence[str]) -> NDArray[np.float32]:
    """Sentences -> [N, D] float32 of unit length.

    Raises InvalidValue for one that is empty, too long, or has words the model does not know.
    """
    tokenizer, longest = networks.tokenizer, networks.encoder.config.text.length
    device = next(networks.encoder.parameters()).device
    # One length for all requests: a row's bits must not depend on its neighbours' words.
    tokens = torch.full((len(texts), longest), tokenizer.pad)
    for row, text in enumerate(texts):
        if not text.strip():
            raise InvalidValue("The text is empty.", do='Say what to look for: "a red circle".')
        ids = [tokenizer.bos, *tokenizer.check(text, longest - 2), tokenizer.eos]
        tokens[row, : len(ids)] = torch.tensor(ids)
    tokens = tokens.to(device)
    made = [np.zeros((0, networks.width), np.float32)]
    for part in tokens.split(_ROWS) if len(texts) else ():
        made.append(networks.encoder.encode_text(part, part != tokenizer.pad).cpu().numpy())
    return np.concatenate(made)
