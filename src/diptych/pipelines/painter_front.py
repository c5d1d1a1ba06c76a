"""`TextToImage`: words become pictures in one call."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from diptych.foundation.errors import InvalidValue
from diptych.foundation.memory import keep_freed_memory
from diptych.foundation.progress import Report, silent
from diptych.foundation.version import __version__
from diptych.imaging.recipe import PictureRecipe
from diptych.pipelines.device import device_of, dtype_of
from diptych.pipelines.folders import read_text_to_image
from diptych.pipelines.painter_networks import TextToImageNetworks
from diptych.pipelines.reference import folder_of
from diptych.pipelines.text_to_image import Sampling, paint

if TYPE_CHECKING:
    import torch


class TextToImage:
    """A model that paints. Holds no state between calls; threads may share it."""

    def __init__(
        self, networks: TextToImageNetworks, sampling: Sampling, name: str, folder: Path | None
    ):
        self.networks, self.sampling, self.name, self._folder = networks, sampling, name, folder

    @classmethod
    def load(
        cls,
        reference: str,
        *,
        device: str | None = None,
        dtype: str | torch.dtype | None = None,
    ) -> TextToImage:
        """A shipped name, a folder or a hub id.

        The device is the best there is; the dtype (float32, bfloat16, float16) what fits it:
        float32 on a CPU. Raises NotFound, Unreadable, InvalidValue.
        """
        keep_freed_memory()
        place = device_of(device)
        kind = dtype_of(dtype, place)
        folder = folder_of(reference)
        networks, sampling = read_text_to_image(folder)
        networks.to(place, kind)
        return cls(networks, sampling, Path(reference).name, folder)

    @property
    def size(self) -> int:
        """Width and height in pixels of the pictures."""
        return self.networks.latent_size * self.networks.autoencoder.factor

    @cached_property
    def model_hash(self) -> str:
        """The first ten digits of the SHA-256 over the weights' files."""
        digest = hashlib.sha256()
        if self._folder is not None:
            for path in sorted(self._folder.rglob("*.safetensors")):
                digest.update(path.read_bytes())
        return digest.hexdigest()[:10]

    def chosen(
        self,
        *,
        steps: int | None = None,
        guidance: float | None = None,
        shift: float | None = None,
        solver: str | None = None,
        spacing: str | None = None,
        noise: str | None = None,
    ) -> Sampling:
        """The model's recommended sampling with these changes. Raises InvalidValue, NotFound."""
        said = {
            "steps": steps, "guidance": guidance, "shift": shift, "solver": solver,
            "spacing": spacing, "noise": noise,
        }  # fmt: skip
        return replace(self.sampling, **{k: v for k, v in said.items() if v is not None})

    def __call__(
        self,
        prompt: str | Sequence[str],
        *,
        negative_prompt: str = "",
        seed: int | Sequence[int] = 0,
        steps: int | None = None,
        guidance: float | None = None,
        shift: float | None = None,
        solver: str | None = None,
        spacing: str | None = None,
        noise: str | None = None,
        width: int | None = None,
        height: int | None = None,
        report: Report = silent,
    ) -> Image.Image | list[Image.Image]:
        """A prompt gives a picture, a list of prompts a list.

        One seed for many prompts means seed, seed + 1, ... Each picture's `.info["recipe"]` is
        its `PictureRecipe`. Raises InvalidValue for what the model cannot read or paint.
        """
        prompts = [prompt] if isinstance(prompt, str) else list(prompt)
        seeds = [seed + i for i in range(len(prompts))] if isinstance(seed, int) else list(seed)
        self._check(prompts, seeds, width, height)
        sampling = self.chosen(
            steps=steps, guidance=guidance, shift=shift, solver=solver, spacing=spacing, noise=noise
        )
        pixels = paint(
            self.networks, prompts, seeds, sampling, negative_prompt=negative_prompt, report=report
        )
        pictures = [Image.fromarray(picture) for picture in pixels]
        for picture, text, number in zip(pictures, prompts, seeds, strict=True):
            picture.info["recipe"] = self._recipe(text, negative_prompt, number, sampling)
        return pictures[0] if isinstance(prompt, str) else pictures

    def _check(
        self, prompts: list[str], seeds: list[int], width: int | None, height: int | None
    ) -> None:
        if not prompts or any(not text.strip() for text in prompts):
            raise InvalidValue("The prompt is empty.", do='Say what to paint: "a red circle".')
        if len(seeds) != len(prompts):
            raise InvalidValue(f"There are {len(prompts)} prompts and {len(seeds)} seeds.")
        if any(not 0 <= number < 2**63 for number in seeds):
            raise InvalidValue("A seed is out of range.", do="Choose 0 to 2**63 - 1.")
        if (width or self.size) != self.size or (height or self.size) != self.size:
            raise InvalidValue(
                f"{width or self.size} x {height or self.size} is not offered.",
                do=f"{self.name} paints {self.size} x {self.size}.",
            )

    def _recipe(
        self, prompt: str, negative_prompt: str, seed: int, sampling: Sampling
    ) -> PictureRecipe:
        return PictureRecipe(
            prompt=prompt,
            negative_prompt=negative_prompt,
            seed=seed,
            steps=sampling.steps,
            guidance=sampling.guidance,
            shift=sampling.shift,
            solver=sampling.solver,
            spacing=sampling.spacing,
            noise=sampling.noise,
            width=self.size,
            height=self.size,
            model=self.name,
            model_hash=self.model_hash,
            version=__version__,
        )
