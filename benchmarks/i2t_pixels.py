"""From the bytes of a 12-megapixel JPEG to the tower's numbers, beside transformers' processors.

    python -m benchmarks.i2t_pixels

One thread, CPU time, both in one process and in turn, the JPEG decoded by both each time. The
ratio is theirs over ours, the median of the rounds with the lowest and the highest. `exact`: equal
to the last bit, which is checked. `fast`, labelled: other pixels, whose mean and largest distance
are printed in levels. Ends with 1 where a ratio is missed.
"""

from __future__ import annotations

import sys
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import replace
from io import BytesIO
from json import loads
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from PIL import Image

from benchmarks.t2i_single import timed
from diptych.checkpoints.families.preprocessor import Tower, inputs_of_json
from diptych.models.inputs import PictureInputs, shown

WIDTH, HEIGHT, QUALITY, ROUNDS = 4000, 3000, 90, 9
EXACT, FAST = 1.5, 3.0
# The module and class of theirs, its settings, what the tower makes of a tile; whether held to.
Case = tuple[str, str, dict[str, Any], Tower, bool]
SIDE = {"height": 336, "width": 336}
CASES: list[Case] = [
    ("clip", "CLIPImageProcessorPil", {}, Tower(7, 7), True),
    ("llava", "LlavaImageProcessorPil", {"size": {"shortest_edge": 336}, "crop_size": SIDE},
     Tower(24, 24), True),
    ("siglip", "SiglipImageProcessorPil", {"size": {"height": 384, "width": 384}},
     Tower(27, 27), True),
    ("llava_next", "LlavaNextImageProcessorPil",
     {"size": {"shortest_edge": 336}, "crop_size": SIDE}, Tower(24, 24), False),
    ("got_ocr2", "GotOcr2ImageProcessorPil",
     {"size": {"height": 448, "width": 448}, "crop_to_patches": True}, Tower(16, 16), False),
    ("qwen2_vl", "Qwen2VLImageProcessorPil", {}, Tower(0, 0), False),
    ("smolvlm", "SmolVLMImageProcessorPil",
     {"size": {"longest_edge": 2048}, "max_image_size": {"longest_edge": 512}},
     Tower(8, 8), False),
]  # fmt: skip


def photograph() -> bytes:
    """Edges, gradients and grain, as a camera's file has them."""
    noise = np.random.default_rng(0)
    coarse = Image.fromarray(noise.integers(0, 256, (60, 80, 3), dtype=np.uint8))
    smooth = np.asarray(coarse.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC), np.int16)
    grain = noise.integers(-6, 7, (HEIGHT, WIDTH, 1), dtype=np.int16)
    content = BytesIO()
    pixels = np.clip(smooth + grain, 0, 255).astype(np.uint8)
    Image.fromarray(pixels).save(content, "jpeg", quality=QUALITY)
    return content.getvalue()


def peer(family: str, name: str, settings: dict[str, Any]) -> Any:
    """Theirs; without torchvision only this one works."""
    module = f"transformers.models.{family}.image_processing_pil_{family}"
    return getattr(__import__(module, fromlist=[name]), name)(**settings)


def read(made: Any, tower: Tower) -> PictureInputs:
    """Our settings from the folder that theirs writes."""
    with tempfile.TemporaryDirectory() as folder:
        made.save_pretrained(folder)
        content = loads((Path(folder) / "preprocessor_config.json").read_text())
    return inputs_of_json(content, tower, max_visual_tokens=10**6)


def case(content: bytes, family: str, made: Any, inputs: PictureInputs, held: bool) -> bool:
    """A line; whether both ratios are reached, or nothing was asked."""
    quick = replace(inputs, pixels=replace(inputs.pixels, fast=True))

    def theirs() -> torch.Tensor:
        found = made(Image.open(BytesIO(content)), return_tensors="pt")["pixel_values"]
        return found[0] if found.ndim == 5 else found

    runs: dict[str, Callable[[], Any]] = {
        "theirs": theirs,
        "exact": lambda: shown(content, inputs)[1],
        "fast": lambda: shown(content, quick)[1],
    }
    took = timed(runs, ROUNDS)
    wanted = theirs()
    assert torch.equal(runs["exact"](), wanted), f"{family}: other pixels"
    level = min(inputs.pixels.deviation) / inputs.pixels.rescale
    off = (runs["fast"]() - wanted).abs() * level
    line, reached = f"{family:<11}{median(took['theirs']):>9.0f}", True
    for name, floor in (("exact", EXACT), ("fast", FAST)):
        ratios = [a / b for a, b in zip(took["theirs"], took[name], strict=True)]
        line += f"  {name} {median(took[name]):>4.0f} ms, "
        line += f"{median(ratios):.2f} ({min(ratios):.2f}..{max(ratios):.2f})"
        reached &= median(ratios) >= floor
    said = ("yes" if reached else "no") if held else "-"
    print(f"{line}  off {off.mean():.2f}, {off.max():.0f}  held: {said}", flush=True)
    return reached or not held


def main() -> int:
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    content = photograph()
    print(
        f"JPEG of {WIDTH} x {HEIGHT}, {len(content) / 1e6:.1f} MB. Held: exact {EXACT}, fast {FAST}"
    )
    missed = 0
    for family, name, settings, tower, held in CASES:
        made = peer(family, name, settings)
        missed += not case(content, family, made, read(made, tower), held)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
