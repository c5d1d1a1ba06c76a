"""`DualEncoder`: pictures and texts in one space, for search, comparison and labels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from diptych.foundation.errors import InvalidValue
from diptych.foundation.memory import keep_freed_memory
from diptych.imaging.pictures import read_picture
from diptych.pipelines.classifying import Ranked, Scored, label_vectors, ranked, scored
from diptych.pipelines.device import device_of, dtype_of
from diptych.pipelines.folders import read_dual_encoder
from diptych.pipelines.published_dual import read_published_dual
from diptych.pipelines.reference import folder_of

if TYPE_CHECKING:
    import torch

    from diptych.checkpoints.account import LoadReport

Picture = Image.Image | str | Path


class Embedding(Protocol):
    """What stands behind `DualEncoder`: ours, or what others published."""

    @property
    def width(self) -> int: ...
    @property
    def template(self) -> str: ...
    def embed_pictures(self, pictures: Sequence[Image.Image]) -> NDArray[np.float32]: ...
    def embed_texts(self, texts: Sequence[str]) -> NDArray[np.float32]: ...
    def shares(
        self, pictures: NDArray[np.float32], texts: NDArray[np.float32]
    ) -> NDArray[np.float32]: ...


class DualEncoder:
    """A model that says how near words and pictures are. Holds no state between calls; threads
    may share it."""

    def __init__(self, networks: Embedding, name: str):
        self.networks, self.name = networks, name

    @classmethod
    def load(
        cls,
        reference: str,
        *,
        device: str | None = None,
        dtype: str | torch.dtype | None = None,
        variant: str = "",
        allow: Sequence[str] = (),
        offline: bool = False,
    ) -> DualEncoder:
        """A shipped name, a folder, a weight file or a hub id: a model of ours, or a published
        CLIP, OpenCLIP, SigLIP or SigLIP 2 of fixed size.

        The device is the best there is; the dtype (float32, bfloat16, float16) what fits it:
        float32 on a CPU. `variant`: `fp16` and the like, of a published folder's files; `allow`:
        tensors without a place that are passed over; `offline`: a hub id is one that was
        downloaded before. Raises NotFound, Unreadable, InvalidValue.
        """
        keep_freed_memory()
        place = device_of(device)
        kind, path = dtype_of(dtype, place), folder_of(reference, offline=offline)
        if (path / "pipeline.json").is_file():
            if variant or allow:
                raise InvalidValue(
                    "variant and allow are for published models.", do="Leave them out."
                )
            networks = read_dual_encoder(path)
        else:
            networks = read_published_dual(path, kind, variant=variant, allow=allow)
        networks.encoder.to(place, kind)
        return cls(networks, Path(reference).name)

    @property
    def width(self) -> int:
        """Numbers in a vector."""
        return self.networks.width

    @property
    def reports(self) -> tuple[LoadReport, ...]:
        """What became of a published file's tensors; nothing for a model of ours."""
        return getattr(self.networks, "reports", ())

    def embed_pictures(self, pictures: Sequence[Picture]) -> NDArray[np.float32]:
        """PIL images or files -> [N, D] of unit length. Raises NotFound or Unreadable."""
        opened = [p if isinstance(p, Image.Image) else read_picture(p) for p in pictures]
        return self.networks.embed_pictures(opened)

    def embed_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Sentences -> [N, D] of unit length.

        Raises InvalidValue for one that is empty, too long, or has words the model does not know.
        """
        return self.networks.embed_texts(texts)

    def similarity(self, pictures: Sequence[Picture], texts: Sequence[str]) -> NDArray[np.float32]:
        """Cosines in -1..1 of every picture with every text [N, M]. Raises as the two above."""
        return self.embed_pictures(pictures) @ self.embed_texts(texts).T

    def classify(
        self,
        pictures: Sequence[Picture],
        labels: Sequence[str],
        *,
        templates: Sequence[str] | None = None,
    ) -> list[list[Scored]]:
        """For each picture all labels with their scores, the best first.

        Each label is put into each of `templates` at `{}` (default: the sentence of the model's
        authors), and what these say is averaged. CLIP's scores sum to 1 over the labels; SigLIP's
        are each label's own, so that none may fit. Raises InvalidValue, and as `embed_pictures`.
        """
        said = [self.networks.template] if templates is None else templates
        words = label_vectors(self.embed_texts, labels, said)
        return scored(labels, self.networks.shares(self.embed_pictures(pictures), words))

    def rank(self, pictures: Sequence[Picture], text: str) -> list[Ranked]:
        """All pictures, the nearest to the text first. Raises as `similarity`."""
        return ranked(self.similarity(pictures, [text])[:, 0])
