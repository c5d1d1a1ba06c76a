"""`DualEncoder`: pictures and texts in one space, for search and comparison."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from diptych.foundation.memory import keep_freed_memory
from diptych.imaging.pictures import read_picture, to_square
from diptych.pipelines.device import device_of, dtype_of
from diptych.pipelines.embedding import EmbeddingNetworks, embed_pictures, embed_texts
from diptych.pipelines.folders import read_dual_encoder
from diptych.pipelines.reference import folder_of

if TYPE_CHECKING:
    import torch

Picture = Image.Image | str | Path


class DualEncoder:
    """A model that says how near words and pictures are. Holds no state between calls; threads
    may share it."""

    def __init__(self, networks: EmbeddingNetworks, name: str):
        self.networks, self.name = networks, name

    @classmethod
    def load(
        cls,
        reference: str,
        *,
        device: str | None = None,
        dtype: str | torch.dtype | None = None,
        offline: bool = False,
    ) -> DualEncoder:
        """A shipped name, a folder or a hub id.

        The device is the best there is; the dtype (float32, bfloat16, float16) what fits it:
        float32 on a CPU. `offline`: a hub id is one that was downloaded before. Raises NotFound,
        Unreadable, InvalidValue.
        """
        keep_freed_memory()
        place = device_of(device)
        networks = read_dual_encoder(folder_of(reference, offline=offline))
        networks.encoder.to(place, dtype_of(dtype, place))
        return cls(networks, Path(reference).name)

    @property
    def width(self) -> int:
        """Numbers in a vector."""
        return self.networks.width

    def embed_pictures(self, pictures: Sequence[Picture]) -> NDArray[np.float32]:
        """PIL images or files -> [N, D] of unit length. Raises NotFound or Unreadable."""
        size = self.networks.image_size
        pixels = [
            to_square(p if isinstance(p, Image.Image) else read_picture(p), size) for p in pictures
        ]
        return embed_pictures(self.networks, pixels)

    def embed_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Sentences -> [N, D] of unit length.

        Raises InvalidValue for one that is empty, too long, or has words the model does not know.
        """
        return embed_texts(self.networks, texts)

    def similarity(self, pictures: Sequence[Picture], texts: Sequence[str]) -> NDArray[np.float32]:
        """Cosines in -1..1 of every picture with every text [N, M]. Raises as the two above."""
        return self.embed_pictures(pictures) @ self.embed_texts(texts).T
