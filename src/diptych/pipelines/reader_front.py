"""`ImageToText`: pictures become words in one call."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from diptych.foundation.errors import InvalidValue
from diptych.foundation.memory import keep_freed_memory
from diptych.imaging.pictures import read_picture, to_square
from diptych.pipelines.device import device_of, dtype_of
from diptych.pipelines.folders import read_image_to_text
from diptych.pipelines.image_to_text import Answer, ImageToTextNetworks, respond
from diptych.pipelines.reference import folder_of

if TYPE_CHECKING:
    import torch

Picture = Image.Image | str | Path


class ImageToText:
    """A model that reads pictures. Holds no state between calls; threads may share it."""

    def __init__(self, networks: ImageToTextNetworks, name: str):
        self.networks, self.name = networks, name

    @classmethod
    def load(
        cls,
        reference: str,
        *,
        device: str | None = None,
        dtype: str | torch.dtype | None = None,
        offline: bool = False,
    ) -> ImageToText:
        """A shipped name, a folder or a hub id.

        The device is the best there is; the dtype (float32, bfloat16, float16) what fits it:
        float32 on a CPU. `offline`: a hub id is one that was downloaded before. Raises NotFound,
        Unreadable, InvalidValue.
        """
        keep_freed_memory()
        place = device_of(device)
        kind = dtype_of(dtype, place)
        networks = read_image_to_text(folder_of(reference, offline=offline))
        networks.reader.to(place, kind)
        return cls(networks, Path(reference).name)

    def caption(self, picture: Picture) -> Answer:
        """What is there, in one sentence."""
        return self._one(picture, "caption")

    def describe(self, picture: Picture) -> Answer:
        """Everything by size, fill, color, shape and place."""
        return self._one(picture, "describe")

    def read(self, picture: Picture) -> Answer:
        """What is written in the picture; empty where nothing is."""
        return self._one(picture, "read")

    def answer(self, picture: Picture, question: str) -> Answer:
        """The answer to a question. Raises InvalidValue for words the model does not know."""
        if not question.strip():
            raise InvalidValue("The question is empty.", do='Ask, as "how many stars?".')
        asked = question.strip()
        return self._one(picture, asked if asked.endswith("?") else f"{asked}?")

    def respond(self, pictures: Sequence[Picture], tasks: Sequence[str]) -> list[Answer]:
        """A task (`caption`, `describe`, `relate`, `read`) or question for each picture."""
        size = self.networks.image_size
        pixels = [
            to_square(p if isinstance(p, Image.Image) else read_picture(p), size) for p in pictures
        ]
        return respond(self.networks, pixels, tasks)

    def _one(self, picture: Picture, task: str) -> Answer:
        return self.respond([picture], [task])[0]
