"""What loading and decoding keep in memory beside diffusers.

    python -m benchmarks.t2i_memory

A process for each case, one thread. `load`: the U-Net of 90M from a folder in its own type, memory
of the process' own (not the mapped file's) over the file; `convert`: float32 to bfloat16, the same;
`decode`: the autoencoder of Stable Diffusion at 512 x 512, peak over what stood before, and CPU
time. Ends with 1 where a figure is missed.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.t2i_models import SIZES, peer

_WATCH = """
import json, re, sys, threading, time
class Most(threading.Thread):
    def __init__(self, what):
        super().__init__(daemon=True)
        self.what, self.most, self.on = what, 0, True
    def now(self):
        said = open("/proc/self/status").read()
        return int(re.search(self.what + r":\\s+(\\d+)", said)[1]) / 1024
    def run(self):
        while self.on:
            self.most = max(self.most, self.now())
            time.sleep(0.001)
def watched(run, what):
    most = Most(what)
    before = most.now()
    most.start()
    start = time.process_time()
    kept = run()
    took = time.process_time() - start
    most.on = False
    most.join()
    print(json.dumps({"most": most.most - before, "cpu": took}))
"""
_OURS = """
from pathlib import Path
import torch
torch.set_num_threads(1)
from diptych.checkpoints.load import found_in, load
"""
_THEIRS = """
import torch
torch.set_num_threads(1)
from diffusers import AutoencoderKL, UNet2DConditionModel
"""
PROGRAMS = {
    ("load", "ours"): _OURS + "watched(lambda: load(found_in(Path({unet!r}))[0]), 'RssAnon')",
    ("load", "theirs"): _THEIRS
    + "watched(lambda: UNet2DConditionModel.from_pretrained({unet!r}), 'RssAnon')",
    ("convert", "ours"): _OURS
    + "watched(lambda: load(found_in(Path({unet!r}))[0], torch.bfloat16), 'RssAnon')",
    ("convert", "theirs"): _THEIRS
    + "watched(lambda: UNet2DConditionModel.from_pretrained({unet!r}, torch_dtype=torch.bfloat16)"
    ", 'RssAnon')",
    ("decode", "ours"): _OURS
    + """
from diptych.models.autoencoder_sd import AutoencoderSD, AutoencoderSDConfig
vae = AutoencoderSD(AutoencoderSDConfig()).eval().requires_grad_(False)
latent = torch.randn(1, 4, 64, 64)
with torch.inference_mode():
    vae.decode(latent[:, :, :8, :8])
    watched(lambda: vae.decode(latent), 'VmRSS')
""",
    ("decode", "theirs"): _THEIRS
    + """
vae = AutoencoderKL(
    block_out_channels=(128, 256, 512, 512), down_block_types=["DownEncoderBlock2D"] * 4,
    up_block_types=["UpDecoderBlock2D"] * 4, layers_per_block=2, latent_channels=4,
).eval().requires_grad_(False)
latent = torch.randn(1, 4, 64, 64)
with torch.inference_mode():
    vae.decode(latent[:, :, :8, :8])
    watched(lambda: vae.decode(latent), 'VmRSS')
""",
}


def run(program: str) -> dict[str, float]:
    """What a process used."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
    done = subprocess.run(
        [sys.executable, "-c", _WATCH + program], env=environment, capture_output=True, text=True,
        check=True,
    )  # fmt: skip
    return json.loads(done.stdout.strip().splitlines()[-1])


def main() -> int:
    found: dict[tuple[str, str], dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        peer(SIZES["90M"]).save_pretrained(folder)
        unet = str(Path(folder) / "unet")
        size = sum(one.stat().st_size for one in Path(unet).glob("*.safetensors")) / 2**20
        for key, program in PROGRAMS.items():
            found[key] = run(program.replace("{unet!r}", repr(unet)))
    lines = [
        ("load, of the file", found["load", "ours"]["most"] / size,
         max(0.05, found["load", "theirs"]["most"] / size)),
        ("convert, of the file", found["convert", "ours"]["most"] / size, 0.6),
        ("decode, peak to theirs",
         found["decode", "ours"]["most"] / found["decode", "theirs"]["most"], 0.70),
        ("decode, time to theirs",
         found["decode", "ours"]["cpu"] / found["decode", "theirs"]["cpu"], 0.9),
    ]  # fmt: skip
    print(f"theirs: load {found['load', 'theirs']['most'] / size:.2f} of the file, convert "
          f"{found['convert', 'theirs']['most'] / size:.2f}, decode "
          f"{found['decode', 'theirs']['most']:.0f} MB")  # fmt: skip
    for what, value, floor in lines:
        print(f"{what:<24}{value:.2f}  held to {floor:.2f}: {'yes' if value <= floor else 'no'}")
    return 1 if any(value > floor for _, value, floor in lines) else 0


if __name__ == "__main__":
    sys.exit(main())
