"""`scenes-vae`: a KL autoencoder for pictures of the scenes world, the first stage of
`scenes-t2i` (Rombach et al., 2022)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import cast

import torch
from torch import nn

from diptych.data.scenes.world import World
from diptych.foundation.config import to_json
from diptych.foundation.randomness import mix
from diptych.imaging.sheet import write_sheet
from diptych.models.autoencoder_kl import AutoencoderKL, AutoencoderKLConfig
from diptych.objectives.autoencoding import reconstruction_loss
from diptych.recipes.scenes_batches import images
from diptych.training.plan import Plan, Settings
from diptych.training.weights import write_model


@dataclass(frozen=True, kw_only=True)
class ScenesVAE:
    """Cost: about ten minutes on two cores. Score: peak signal-to-noise on held-out scenes."""

    batch: int = 64
    kl_weight: float = 1e-4
    world: World = World(themes=(0.25, 0.2, 0.3, 0.25), words=0.0, plain=0.6)
    model: AutoencoderKLConfig = AutoencoderKLConfig()
    training: Settings = Settings(
        steps=2400,
        learning_rate=2e-3,
        warmup=40,
        betas=(0.9, 0.97),
        ema=0.99,
        probe_every=150,
    )

    def build(self) -> Plan:
        torch.manual_seed(mix(self.training.seed))
        return Plan(
            model=AutoencoderKL(self.model),
            objective=partial(reconstruction_loss, kl_weight=self.kl_weight),
            batch_at=partial(images, self.world, self.training.seed, self.batch),
            settings=self.training,
            probes={"reconstruction": reconstruction_probe},
        )

    def finish(self, plan: Plan, run: Path) -> None:
        """Write the weights with the latent's measured shift and scale in the config."""
        model = cast(AutoencoderKL, plan.model)
        with torch.no_grad():
            z = model.posterior(images(self.world, 1, 512, 0))[0].float()
        config = replace(self.model, shift=float(z.mean()), scale=float(1 / z.std()))
        write_model(run, model, {"model": "autoencoder-kl", "config": to_json(config)})


def reconstruction_probe(model: nn.Module, step: int, folder: Path) -> Mapping[str, float]:
    """Peak signal-to-noise ratio in dB on 256 held-out pictures; a sheet of before and after."""
    image = images(World(split="heldout", words=0.0), 2, 256, 0)
    again = model(image)[0].float().clamp(-1, 1)
    error = (again - image).square().mean()
    pairs = torch.cat([image[:8], again[:8], image[8:16], again[8:16]])
    pixels = ((pairs + 1) * 127.5).round().byte().permute(0, 2, 3, 1).cpu().numpy()
    words = [*["drawn"] * 8, *["decoded"] * 8] * 2
    write_sheet(list(pixels), words, None, folder / "pairs.png")
    return {"psnr": float(10 * torch.log10(4 / error))}
