"""From the bytes of a 12-megapixel JPEG to the tower's numbers, beside transformers' processors.

    python -m benchmarks.i2t_pixels

One thread, CPU time, both in one process and in turn, the JPEG decoded by both each time; each
family in a process of its own, because the state of the heap moves theirs by a third. The ratio is
theirs over ours, the median of the rounds with the lowest and the highest. `exact`: equal to the
last bit, which is checked. `fast`, labelled: other pixels, whose mean and largest distance are
printed in levels.

Theirs copies the picture several times: with the C library's settings much of its time is the
kernel's, which clears pages. `kept`: the same with `keep_freed_memory`, which our pipelines call
and a user of theirs does not; it makes theirs faster and ours not. The floors are for a process as
it starts. They are held where a picture is seen once, and 1.5 for all. Ends with 1 where a ratio is
missed.
"""

from __future__ import annotations

import subprocess
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
from diptych.foundation.memory import keep_freed_memory
from diptych.models.inputs import PictureInputs, shown

WIDTH, HEIGHT, QUALITY, ROUNDS = 4000, 3000, 90, 9
EXACT, FAST = 1.5, 3.0
# Theirs by module and class, its settings, what the tower makes of a tile, whether fast is held.
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
    """Texture in all sizes (1/f) and grain, as a camera's file has them."""
    draw = np.random.default_rng(0)
    pixels = np.full((HEIGHT, WIDTH, 3), 128, np.float32)
    for octave in range(7):
        size = (20 << octave, 15 << octave)
        coarse = Image.fromarray(draw.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))
        fine = np.asarray(coarse.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC), np.float32)
        pixels += (fine - 128) * 0.75**octave / 3
    pixels += draw.normal(0, 3, (HEIGHT, WIDTH, 1))
    content = BytesIO()
    whole = np.clip(pixels, 0, 255).astype(np.uint8)
    Image.fromarray(whole).save(content, "jpeg", quality=QUALITY)
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


def case(content: bytes, family: str, made: Any, inputs: PictureInputs, fast_too: bool) -> bool:
    """A line; whether the floors are reached."""
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
    for name, floor in (("exact", EXACT), ("fast", FAST if fast_too else 0.0)):
        ratios = [a / b for a, b in zip(took["theirs"], took[name], strict=True)]
        line += f"  {name} {median(took[name]):>4.0f} ms, "
        line += f"{median(ratios):.2f} ({min(ratios):.2f}..{max(ratios):.2f})"
        reached &= median(ratios) >= floor
    print(f"{line}  off {off.mean():.2f}, {off.max():.0f}", end="", flush=True)
    return reached


def one(family: str, kept: bool, path: str) -> int:
    """A case in this process."""
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    if kept:
        keep_freed_memory()
    _, name, settings, tower, fast_too = next(row for row in CASES if row[0] == family)
    made = peer(family, name, settings)
    return 0 if case(Path(path).read_bytes(), family, made, read(made, tower), fast_too) else 1


def main() -> int:
    content, missed = photograph(), 0
    print(f"JPEG of {WIDTH} x {HEIGHT}, {len(content) / 1e6:.1f} MB")
    print(f"Held: exact {EXACT}, and fast {FAST} where a picture is seen once")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "photograph.jpg"
        path.write_bytes(content)
        for kept in (False, True):
            print("kept" if kept else "as it starts", " theirs ms, theirs / ours (lowest..highest)")
            for family, *_ in CASES:
                command = [sys.executable, "-m", "benchmarks.i2t_pixels", family, str(path)]
                done = subprocess.run(command + ["kept"] * kept, stderr=subprocess.DEVNULL)
                print("" if kept else f"  held: {'no' if done.returncode else 'yes'}", flush=True)
                missed += 0 if kept else done.returncode
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(one(sys.argv[1], "kept" in sys.argv, sys.argv[2]) if sys.argv[1:] else main())
