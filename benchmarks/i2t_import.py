"""From the start of a process to the first caption, beside transformers with the same folder.

    python -m benchmarks.i2t_import

CPU time of whole processes and the memory they held at most, in turn; ratios are ours over theirs,
the median with the lowest and the highest. Both read one tiny published folder and one picture, and
say eight tokens. Ends with 1 where a ratio is missed, or where words differ.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

import numpy as np
from PIL import Image

ROUNDS, FLOOR = 5, 0.5
_OURS = """
import sys
from diptych.decoding.choices import Decoding
from diptych.pipelines.reader_front import ImageToText
from diptych.text.chat import Turn
reader = ImageToText.load(sys.argv[1])
answer = reader.chat([Turn("user", "what is it?", 1)], [sys.argv[2]], Decoding(most=8))
print(list(answer.tokens))
"""
_THEIRS = """
import sys, json
import torch
from PIL import Image
from tokenizers import Tokenizer
from transformers import LlavaForConditionalGeneration
from transformers.models.llava.image_processing_pil_llava import LlavaImageProcessorPil
folder = sys.argv[1]
network = LlavaForConditionalGeneration.from_pretrained(folder)
tokenizer = Tokenizer.from_file(folder + "/tokenizer.json")
pixels = LlavaImageProcessorPil.from_pretrained(folder)(
    Image.open(sys.argv[2]), return_tensors="pt"
)["pixel_values"]
text = "USER: " + "<image>" * 4 + chr(10) + "what is it? ASSISTANT:"
ids = torch.tensor([tokenizer.encode(text).ids])
out = network.generate(input_ids=ids, pixel_values=pixels, max_new_tokens=8, do_sample=False,
                       attention_mask=torch.ones_like(ids))
print(out[0, ids.shape[1]:].tolist())
"""


def main() -> int:
    from tests.tiny_vlm import folder, published

    with tempfile.TemporaryDirectory() as top:
        network = published("llava")
        folder("llava", Path(top), network)
        draw = np.random.default_rng(0)
        picture = Path(top) / "a.png"
        Image.fromarray(draw.integers(0, 256, (40, 50, 3), dtype=np.uint8)).save(picture)
        runs = {"theirs": _THEIRS, "ours": _OURS}
        took = {name: [cost(code, top, str(picture)) for _ in range(ROUNDS + 1)][1:]
                for name, code in runs.items()}  # fmt: skip
    said = {name: {one[2] for one in rows} for name, rows in took.items()}
    missed = False
    for place, (unit, scale) in enumerate((("CPU s", 1.0), ("MB", 1 / 1024))):
        ours, theirs = ([one[place] * scale for one in took[name]] for name in ("ours", "theirs"))
        over = [a / b for a, b in zip(ours, theirs, strict=True)]
        print(
            f"{unit:<6} ours {median(ours):.2f}, theirs {median(theirs):.2f}, ratio "
            f"{median(over):.2f} ({min(over):.2f}..{max(over):.2f})"
        )
        missed = missed or (place == 0 and median(over) > FLOOR)
    if said["ours"] != said["theirs"]:
        print(f"words differ: {said}")
        missed = True
    return 1 if missed else 0


def cost(code: str, folder: str, picture: str) -> tuple[float, float, str]:
    """CPU seconds and kilobytes of a process, and what it printed."""
    command = [sys.executable, "-W", "ignore", "-c", code, folder, picture]
    alone = os.environ | {"OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=alone)
    _, status, used = os.wait4(process.pid, 0)
    out = process.stdout.read().decode().strip() if process.stdout else ""
    if status:
        raise RuntimeError(process.stderr.read().decode() if process.stderr else "failed")
    return used.ru_utime + used.ru_stime, float(used.ru_maxrss), out


if __name__ == "__main__":
    sys.exit(main())
