"""What `foundation.memory.keep_freed_memory` saves: CPU seconds of a training step of
`scenes-t2i`, with and without, each in a process of its own.

    python -m benchmarks.kept_memory
"""

from __future__ import annotations

import subprocess
import sys
from statistics import median
from time import process_time

_STEPS = 5


def steps(keep: bool) -> list[float]:
    """CPU seconds of each step after the first, batch 64, bf16."""
    import torch

    from diptych.foundation.memory import keep_freed_memory
    from diptych.models.autoencoder_kl import AutoencoderKL, AutoencoderKLConfig
    from diptych.models.painter import Painter
    from diptych.recipes.scenes_t2i import ScenesT2I, captioned_pictures, painting_loss
    from diptych.recipes.scenes_words import scenes_tokenizer

    if keep:
        keep_freed_memory()
    recipe = ScenesT2I()
    batch = captioned_pictures(recipe, scenes_tokenizer(), 0)
    painter, autoencoder = Painter(recipe.model), AutoencoderKL(AutoencoderKLConfig())
    generator, spent = torch.Generator().manual_seed(0), list[float]()
    for _ in range(_STEPS + 1):
        started = process_time()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = painting_loss(
                autoencoder, painter, batch, generator, times=(0.7, 1.2), layout_weight=0.3
            )
        loss.total.backward()
        spent.append(process_time() - started)
    return spent[1:]


def main() -> None:
    """Print a row each and the ratio."""
    if len(sys.argv) > 1:
        print(*steps(sys.argv[1] == "kept"))
        return
    middle: dict[str, float] = {}
    for name in ("returned", "kept"):
        command = [sys.executable, "-m", "benchmarks.kept_memory", name]
        out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        spent = [float(word) for word in out.split()]
        middle[name] = median(spent)
        print(f"{name:9} {middle[name]:6.2f} s  ({min(spent):.2f} .. {max(spent):.2f})")
    print(f"ratio     {middle['returned'] / middle['kept']:6.2f}")


if __name__ == "__main__":
    main()
