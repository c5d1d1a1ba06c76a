"""What the approximations win, and how far their pictures are from the exact ones.

    python -m benchmarks.t2i_approximations

One thread, CPU time of whole calls, each in turn with the exact call of the same words, seed and
steps; the ratio is the approximation's over the exact one's, the median of the rounds. `PSNR` in
dB between the pictures, the mean over the prompts; `weights`: bytes of the network that paints
over those in float32.

Only the last table's PSNR means anything: scenes-t2i is trained. A network of drawn weights says
what an approximation costs, and nothing of what it spoils. Its states hardly change from step to
step, or change without any order, so what DeepCache and the first block use again fits better or
worse than in a trained one, and a threshold of the first block is passed at other steps: there the
number of blocks that are skipped, and with it the ratio, is another in a trained network too. Of
DeepCache the ratio holds, for what it skips is fixed.
"""

from __future__ import annotations

import sys
import tempfile
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from math import log10
from statistics import mean, median
from time import process_time_ns

import numpy as np
import torch
from diffusers.utils import logging

from benchmarks.t2i_models import SIZES, peer
from diptych.compression.int8 import bytes_of
from diptych.foundation.errors import InvalidValue
from diptych.foundation.memory import keep_freed_memory
from diptych.models.autoencoder_kl import AutoencoderKL, AutoencoderKLConfig
from diptych.models.painter import Painter, PainterConfig
from diptych.nn.reuse import Approximation, DeepCache, FirstBlock
from diptych.pipelines.painter_front import TextToImage
from diptych.pipelines.painter_networks import TextToImageNetworks
from diptych.pipelines.sampling import Sampling
from diptych.recipes.scenes_words import scenes_tokenizer

SCENES = (
    "a large red circle above a small blue square",
    "two green stars",
    "a small yellow triangle left of a large purple moon",
    "three orange squares",
)
DEEP = [DeepCache(2), DeepCache(3), DeepCache(5), DeepCache(3, 3)]
FIRST = [FirstBlock(0.05), FirstBlock(0.1), FirstBlock(0.2), FirstBlock(0.4), FirstBlock(0.8)]
Load = Callable[[str | None], TextToImage]


def unet(size: str) -> Load:
    """A Stable Diffusion of drawn weights."""
    folder = tempfile.mkdtemp()
    peer(SIZES[size]).save_pretrained(folder)
    return lambda dtype: TextToImage.load(folder, dtype=dtype)


def transformer(width: int, depth: int, cells: int) -> Load:
    """A painter of drawn weights with the scenes' words."""

    def load(dtype: str | None) -> TextToImage:
        torch.manual_seed(0)
        tokenizer, config = scenes_tokenizer(), PainterConfig()
        text = replace(config.text, vocabulary=len(tokenizer), length=24)
        denoiser = replace(
            config.denoiser, width=width, depth=depth, hidden=3 * width, latent_channels=4
        )
        painter = Painter(replace(config, text=text, denoiser=denoiser))
        vae = AutoencoderKL(AutoencoderKLConfig.tiny())
        for network in (painter, vae):
            network.eval().requires_grad_(False)
            for parameter in network.parameters():
                if parameter.ndim > 1:
                    parameter.normal_(std=parameter[0].numel() ** -0.5)
        networks = TextToImageNetworks(painter, vae, tokenizer, cells)
        networks.to(torch.device("cpu"), getattr(torch, dtype or "float32"))
        return TextToImage(networks, Sampling(), "drawn", None)

    return load


def psnr(picture: np.ndarray, exact: np.ndarray) -> float:
    """dB; 99 for equal pictures."""
    error = float(((picture.astype(float) - exact) ** 2).mean())
    return 99.0 if error == 0 else 10 * log10(255**2 / error)


def table(
    name: str, load: Load, kinds: Sequence[Approximation], prompts: Sequence[str], rounds: int,
    **asked: int | float,
) -> None:  # fmt: skip
    """A line for each approximation."""
    exact = load(None)
    painter = exact.networks.modules()[0]
    count = sum(p.numel() for p in painter.parameters())
    print(f"\n{name}: {count / 1e6:.1f} M weights, {asked}")
    print(f"{'':<32}{'time':>7}{'PSNR':>8}{'weights':>9}")

    def paint(model: TextToImage, approximation: Approximation | None = None) -> list[np.ndarray]:
        return [
            np.asarray(model(one, seed=5, approximation=approximation, **asked)) for one in prompts
        ]

    def line(text: str, model: TextToImage, approximation: Approximation | None = None) -> None:
        ratios: list[float] = []
        pictures = paint(model, approximation)
        wanted = paint(exact)
        for _ in range(rounds):
            took: list[int] = []
            for run in (lambda: paint(model, approximation), lambda: paint(exact)):
                start = process_time_ns()
                run()
                took.append(process_time_ns() - start)
            ratios.append(took[0] / took[1])
        near = mean(psnr(a, b) for a, b in zip(pictures, wanted, strict=True))
        share = bytes_of(model.networks.modules()[0]) / bytes_of(painter)
        print(f"{text:<32}{median(ratios):>7.2f}{near:>8.1f}{share:>9.2f}", flush=True)

    line("bfloat16", load("bfloat16"))
    eight = load(None)
    try:
        eight.to_int8()
        line("int8", eight)
    except InvalidValue as error:
        print(f"{'int8':<32} {error.what}")
    for kind in kinds:
        try:
            line(str(kind), exact, kind)
        except InvalidValue as error:
            print(f"{kind!s:<32} {error.what}")


def main() -> int:
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    keep_freed_memory()
    logging.disable_progress_bar()
    cat = ["a photo of a cat on a mat"]
    small = {"guidance": 7.5, "width": 32, "height": 32}
    table("U-Net, tiny, drawn", unet("tiny"), DEEP, cat, 3, steps=20, **small)
    table("U-Net, 90M, drawn", unet("90M"), DEEP, cat, 2, steps=15, **small)
    red = ["a red star"]
    table("MMDiT, tiny, drawn", transformer(64, 4, 8), FIRST, red, 3, steps=20, guidance=3.0)
    table("MMDiT, 90M, drawn", transformer(704, 8, 16), FIRST, red, 2, steps=8, guidance=3.0)
    table("scenes-t2i", lambda dtype: TextToImage.load("scenes-t2i", dtype=dtype), FIRST,
          SCENES, 3)  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(main())
