"""From the start of a process to a first tiny picture, beside diffusers: CPU time of the whole
process, memory, and how many modules are imported.

    python -m benchmarks.t2i_cold_start

A process for each run, in turn, one thread; the ratio is ours over theirs, the median of the rounds
with the lowest and the highest. Ends with 1 where a ratio is missed.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from statistics import median

from benchmarks.t2i_models import SIZES, peer

ROUNDS = 5
FLOORS = {"cpu": 0.30, "rss": 0.55, "modules": 0.35}
_COMMON = """
import json, re, resource, sys
used = resource.getrusage(resource.RUSAGE_SELF)
# Not ru_maxrss, which a process has from the one that started it.
most = int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1])
print(json.dumps({"cpu": used.ru_utime + used.ru_stime, "rss": most / 1024,
                  "modules": len(sys.modules)}))
"""
PROGRAMS = {
    "theirs": """
import torch
from diffusers import StableDiffusionPipeline
model = StableDiffusionPipeline.from_pretrained({folder!r}, safety_checker=None,
                                                requires_safety_checker=False)
model.set_progress_bar_config(disable=True)
model("a cat", num_inference_steps=2, width=16, height=16)
""",
    "ours": """
from diptych import TextToImage
TextToImage.load({folder!r})("a cat", steps=2, width=16, height=16)
""",
}


def run(program: str) -> dict[str, float]:
    """What a process used."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
    done = subprocess.run(
        [sys.executable, "-c", program + _COMMON], env=environment, capture_output=True, text=True,
        check=True,
    )  # fmt: skip
    return json.loads(done.stdout.strip().splitlines()[-1])


def main() -> int:
    found: dict[str, list[dict[str, float]]] = {name: [] for name in PROGRAMS}
    with tempfile.TemporaryDirectory() as folder:
        peer(SIZES["tiny"]).save_pretrained(folder)
        for round_ in range(ROUNDS + 1):
            for name, program in PROGRAMS.items():
                used = run(program.format(folder=folder))
                if round_:  # the first fills the disk's cache
                    found[name].append(used)
    missed = 0
    for what, floor in FLOORS.items():
        a, b = ([used[what] for used in found[name]] for name in ("ours", "theirs"))
        ratios = [x / y for x, y in zip(a, b, strict=True)]
        missed += median(ratios) > floor
        print(
            f"{what:<8} theirs {median(b):8.2f}  ours {median(a):8.2f}  ratio {median(ratios):.2f} "
            f"({min(ratios):.2f}..{max(ratios):.2f})  held to {floor:.2f}: "
            f"{'yes' if median(ratios) <= floor else 'no'}"
        )
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
