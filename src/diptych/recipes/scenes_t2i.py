"""`scenes-t2i`: prompts of the scenes world to pictures, by rectified flow in the latents of
`scenes-vae`, with the text encoder of `scenes-text`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from diptych.checkpoints.folder import load_network
from diptych.data.scenes.captions import Wording, short
from diptych.data.scenes.grammar import parse
from diptych.data.scenes.render import render, visible
from diptych.data.scenes.vocabulary import COLORS, SHAPES
from diptych.data.scenes.world import Scene, World
from diptych.evaluation.scenes.painting import painted_of
from diptych.evaluation.scenes.prompts import KINDS, prompts
from diptych.foundation.randomness import mix, stream
from diptych.imaging.sheet import write_sheet
from diptych.models.autoencoder_kl import AutoencoderKL, AutoencoderKLConfig
from diptych.models.mmdit import MMDiTConfig
from diptych.models.painter import Painter, PainterConfig
from diptych.models.text_encoder import TextEncoder, TextEncoderConfig
from diptych.objectives.flow_matching import flow_loss
from diptych.objectives.loss import Loss
from diptych.pipelines.folders import write_text_to_image
from diptych.pipelines.painter_networks import TextToImageNetworks
from diptych.pipelines.sampling import Sampling
from diptych.recipes.scenes_batches import padded, scenes, to_image
from diptych.recipes.scenes_text import PAINTED, SAID
from diptych.recipes.scenes_words import marked, scenes_tokenizer
from diptych.recipes.stages import stage
from diptych.text.word_tokenizer import WordTokenizer
from diptych.training.plan import Plan, Settings

PARTS = 4  # quarters of a token's 8 x 8 pixels
TRAIT_SIZES = (len(SHAPES) + 1, len(COLORS) + 1, 3)


@dataclass(frozen=True, kw_only=True)
class ScenesT2I:
    """Cost: see the model card. Score: prompts fully right by the judge.

    `vae` and `text` are the run folders of the first two stages; `start` is a Painter to go on
    from (none: from scratch).
    """

    vae: str = "runs/scenes-vae"
    text: str = "runs/scenes-text"
    start: str | None = None
    batch: int = 64
    drop: float = 0.1
    time_mean: float = 0.7
    time_std: float = 1.2
    layout_weight: float = 0.3
    world: World = PAINTED
    wording: Wording = SAID
    sampling: Sampling = Sampling(steps=20, guidance=2.0, shift=2.0)
    model: PainterConfig = PainterConfig(
        text=TextEncoderConfig(vocabulary=len(scenes_tokenizer())),
        denoiser=MMDiTConfig(layout_classes=PARTS * sum(TRAIT_SIZES)),
    )
    training: Settings = Settings(
        steps=6000,
        learning_rate=1.5e-3,
        muon_learning_rate=0.015,
        optimizer="muon",
        warmup=60,
        betas=(0.9, 0.97),
        ema=0.997,
        probe_every=500,
    )

    def build(self) -> Plan:
        torch.manual_seed(mix(self.training.seed))
        autoencoder = stage(AutoencoderKL, AutoencoderKLConfig(), self.vae)
        painter = Painter(self.model)
        if self.start is not None:
            start = stage(Painter, self.model, Path(self.start) / "painter")
            painter.load_state_dict(start.state_dict())
        else:
            text = stage(TextEncoder, self.model.text, self.text)
            painter.text.load_state_dict(text.state_dict())
        tokenizer = scenes_tokenizer()
        return Plan(
            model=painter,
            objective=partial(
                painting_loss,
                autoencoder,
                times=(self.time_mean, self.time_std),
                layout_weight=self.layout_weight,
            ),
            batch_at=partial(captioned_pictures, self, tokenizer),
            settings=self.training,
            probes={"prompts": partial(_probe, autoencoder, tokenizer, self.sampling)},
        )

    def finish(self, plan: Plan, run: Path) -> None:
        autoencoder = load_network(Path(self.vae), AutoencoderKL)
        size = self.world.size // autoencoder.factor
        painter = cast(Painter, plan.model)
        networks = TextToImageNetworks(painter, autoencoder, scenes_tokenizer(), size)
        write_text_to_image(run, networks, self.sampling)


def captioned_pictures(
    recipe: ScenesT2I, tokenizer: WordTokenizer, index: int
) -> dict[str, Tensor]:
    """Batch `index`: image [B, 3, H, W], tokens and mask [B, L], layout [B, N, 4, 3]."""
    seed, world = recipe.training.seed, recipe.world
    drawn = scenes(world, seed, index, recipe.batch)
    texts, firsts = [], []
    for row, scene in enumerate(drawn):
        draw = stream(seed, 1, index * recipe.batch + row)
        text = short(scene, draw, recipe.wording)
        first = parse(text).groups[0]
        firsts.append((first.color, first.shape))
        texts.append(marked(tokenizer, "" if draw.random() < recipe.drop else text))
    tokens, mask = padded(texts, tokenizer.pad)
    layout = torch.from_numpy(
        np.stack(
            [
                layout_of(scene, first, world.size)
                for scene, first in zip(drawn, firsts, strict=True)
            ]
        )
    )
    image = to_image([render(scene, world.size) for scene in drawn])
    return {"image": image, "tokens": tokens, "mask": mask, "layout": layout}


def layout_of(scene: Scene, first: tuple[str | None, str | None], size: int) -> np.ndarray:
    """Shape, color and place in the caption of what covers each quarter of each 8 x 8 pixels.

    [N, 4, 3] int64; 0 is the background, and the third trait is 1 for the thing named first.
    """
    cells = np.zeros((size, size, 3), np.int64)
    for thing, seen in zip(scene.things, visible(scene, size), strict=True):
        cells[seen] = (
            SHAPES.index(thing.shape) + 1,
            list(COLORS).index(thing.color) + 1,
            1 if (thing.color, thing.shape) == first else 2,
        )
    centers = cells[2::4, 2::4]
    blocks = centers.reshape(size // 8, 2, size // 8, 2, 3).transpose(0, 2, 1, 3, 4)
    return blocks.reshape(-1, PARTS, 3)


def painting_loss(
    autoencoder: AutoencoderKL,
    model: nn.Module,
    batch: dict[str, Any],
    generator: torch.Generator,
    *,
    times: tuple[float, float],
    layout_weight: float,
) -> Loss:
    """`objectives.flow_loss` in the latents of a frozen autoencoder."""
    with torch.no_grad():
        latent = autoencoder.to(batch["image"].device).encode(batch["image"]).float()
    return flow_loss(
        lambda x, t: model(x, t, batch["tokens"], batch["mask"]),
        latent,
        generator,
        mean=times[0],
        std=times[1],
        layout=batch["layout"],
        layout_sizes=TRAIT_SIZES,
        layout_weight=layout_weight,
    )


def _probe(
    autoencoder: AutoencoderKL,
    tokenizer: WordTokenizer,
    sampling: Sampling,
    model: nn.Module,
    step: int,
    folder: Path,
) -> Mapping[str, float]:
    """The share of 96 tuning prompts that the judge finds right, by kind, and a sheet."""
    networks = TextToImageNetworks(cast(Painter, model), autoencoder, tokenizer, 8)
    painted = painted_of(networks, prompts("tune", 4, 32), sampling)
    right = [one.verdict.right for one in painted]
    write_sheet(
        [one.picture for one in painted],
        [one.prompt.text for one in painted],
        right,
        folder / "prompts.png",
    )
    of_kind = {
        kind: [one.verdict.right for one in painted if one.prompt.kind == kind] for kind in KINDS
    }
    return {"right": fmean(right)} | {kind: fmean(some) for kind, some in of_kind.items()}
