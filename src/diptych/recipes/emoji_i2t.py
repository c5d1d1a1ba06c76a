"""`emoji-i2t`: the names of drawings, from the set that `diptych data emoji` builds."""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from statistics import fmean
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from torch.nn.functional import affine_grid, grid_sample

from diptych.data.shards import Account, Sample, read_shards
from diptych.foundation.errors import InvalidValue, NotFound
from diptych.foundation.files import write_whole
from diptych.foundation.randomness import mix
from diptych.imaging.pictures import to_square
from diptych.imaging.sheet import write_sheet
from diptych.models.vision_language import VisionConfig, VisionLanguage, VisionLanguageConfig
from diptych.objectives.answering import answer_loss
from diptych.pipelines.folders import write_image_to_text
from diptych.pipelines.image_to_text import TASK_WORDS, ImageToTextNetworks, respond
from diptych.recipes.packed_texts import packed
from diptych.text.word_tokenizer import WordTokenizer
from diptych.training.plan import Plan, Settings

# What a token of a description weighs beside one of the name, which alone is scored.
DESCRIPTION_WEIGHT = 0.3
_ROWS = 64


@dataclass(frozen=True, kw_only=True)
class EmojiI2T:
    """Cost: 48 minutes of one thread. Score: 68.6 % exact names on held-out styles.

    `data`: the folder of the set; it is read whole into memory, a quarter of a GB.
    """

    data: str = "emoji"
    batch: int = 64
    model: VisionLanguageConfig = VisionLanguageConfig(
        vision=VisionConfig(stem=(32, 64), convolutions=(1, 2, 2), width=160, depth=2),
        length=48,
        width=160,
        depth=2,
    )
    training: Settings = Settings(
        steps=3600,
        learning_rate=2e-3,
        muon_learning_rate=0.015,
        optimizer="muon",
        weight_decay=0.05,
        warmup=100,
        betas=(0.9, 0.98),
        ema=0.997,
        probe_every=400,
        threads=1,
    )

    def build(self) -> Plan:
        torch.manual_seed(mix(self.training.seed))
        if torch.get_default_device().type == "meta":  # only looked at: no file is read
            return self._plan(Drawings.of([]), {})
        train = drawings(self.data, "train", size=self.model.vision.image_size * 3 // 2)
        kept_back = {split: drawings(self.data, split) for split in ("tune", "heldout")}
        return self._plan(train, kept_back)

    def _plan(self, train: Drawings, kept_back: Mapping[str, Drawings]) -> Plan:
        tokenizer = emoji_tokenizer(train)
        return Plan(
            model=VisionLanguage(replace(self.model, vocabulary=len(tokenizer))),
            objective=answer_loss,
            batch_at=partial(named_drawings, self, train, tokenizer),
            settings=self.training,
            probes={
                split: partial(_probe, split, tokenizer, some, self.model.vision.image_size)
                for split, some in kept_back.items()
            },
        )

    def finish(self, plan: Plan, run: Path) -> None:
        tokenizer = emoji_tokenizer(drawings(self.data, "train", size=1))
        networks = ImageToTextNetworks(cast(VisionLanguage, plan.model), tokenizer)
        write_image_to_text(run, networks)


@dataclass(frozen=True)
class Drawings:
    """A split in memory: pictures [N, S, S, 4] uint8 with their transparency, names, captions."""

    pictures: NDArray[np.uint8]
    names: Sequence[str]
    captions: Sequence[str]
    styles: Sequence[str]

    @classmethod
    def of(cls, samples: list[Sample], size: int = 1) -> Drawings:
        pictures = np.zeros((len(samples), size, size, 4), np.uint8)
        for row, sample in enumerate(samples):
            picture = sample.picture.convert("RGBA").resize((size, size))
            pictures[row] = np.asarray(picture)
        facts = [sample.facts for sample in samples]
        return cls(
            pictures,
            [fact["name"] for fact in facts],
            [sample.text for sample in samples],
            [fact.get("style", "") for fact in facts],
        )


def drawings(data: str, split: str, size: int | None = None) -> Drawings:
    """A split of the set, at its own size or `size`; warns of broken samples, which are left out.

    Raises NotFound, InvalidValue.
    """
    account = Account()
    try:
        samples = list(read_shards(f"{data.rstrip('/')}/{split}-*.tar", account))
    except NotFound as error:
        raise NotFound(
            f"{data!r} holds no {split} shards of the emoji set.",
            do=f"Build it by `diptych data emoji --out {data}`, or name its folder by --data.",
        ) from error
    nameless = [sample.key for sample in samples if not sample.facts.get("name")]
    if nameless or not samples:
        what = f"sample {nameless[0]!r} has no name" if nameless else "no sample can be read"
        more = f" First damage: {account.broken[0]}." if account.broken else ""
        raise InvalidValue(f"In the {split} shards of {data!r} {what}.{more}")
    if account.broken:
        warnings.warn(
            f"{len(account.broken)} broken samples are left out; the first: {account.broken[0]}. "
            "`diptych data check` names all.",
            stacklevel=2,
        )
    return Drawings.of(samples, size or samples[0].picture.width)


def emoji_tokenizer(train: Drawings) -> WordTokenizer:
    """Every word of names and captions."""
    words = {
        word for text in (*train.names, *train.captions) for word in re.findall("[a-z]+", text)
    }
    return WordTokenizer.of_words([*words, *TASK_WORDS], ":")


def named_drawings(
    recipe: EmojiI2T, train: Drawings, tokenizer: WordTokenizer, index: int
) -> dict[str, Tensor]:
    """Batch `index`: image [B, 3, H, W] of drawings changed at random; tokens, segments and
    weights [B, L] of their names and captions. Each epoch shows every drawing once."""
    seed, count = recipe.training.seed, len(train.names)
    rows: list[int] = []
    for place in range(index * recipe.batch, (index + 1) * recipe.batch):
        order = _order(seed, place // count, count)
        rows.append(int(order[place % count]))
    generator = torch.Generator().manual_seed(mix(seed, 1, index))
    drawn = torch.from_numpy(train.pictures[rows]).permute(0, 3, 1, 2).float() / 255
    image = varied(drawn, recipe.model.vision.image_size, generator)
    texts = [
        [
            ("caption", train.names[row], 1.0),
            ("describe", train.captions[row], DESCRIPTION_WEIGHT),
        ]
        for row in rows
    ]
    return {"image": image, **packed(tokenizer, texts)}


@lru_cache(maxsize=2)
def _order(seed: int, epoch: int, count: int) -> NDArray[np.int64]:
    return np.random.default_rng(mix(seed, 2, epoch)).permutation(count)


def varied(drawn: Tensor, size: int, generator: torch.Generator) -> Tensor:
    """RGBA [B, 4, H, W] in 0..1 -> image [B, 3, size, size] in -1..1: turned, moved, stretched,
    in other colors, on another ground. Not mirrored: left and right are names."""
    count = len(drawn)

    def between(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(count, *shape, generator=generator)

    angle, shear = between(-0.25, 0.25), between(-0.15, 0.15)
    across, down = between(0.85, 1.3), between(0.85, 1.3)
    turn = torch.stack(
        [
            torch.stack([across * angle.cos(), shear - angle.sin(), between(-0.15, 0.15)], -1),
            torch.stack([angle.sin(), down * angle.cos(), between(-0.15, 0.15)], -1),
        ],
        dim=1,
    )
    colors, cover = drawn[:, :3], drawn[:, 3:]
    grid = affine_grid(turn, [count, 4, size, size], align_corners=False)
    # Colors under nothing must not bleed in: they are weighed by what they cover.
    moved = grid_sample(torch.cat([colors * cover, cover], 1), grid, align_corners=False)
    white = (between(0, 1, 1, 1, 1) < 0.6).float()
    ground = white + (1 - white) * between(0.3, 1, 3, 1, 1)
    image = moved[:, :3] + (1 - moved[:, 3:]) * ground
    gray = image.mean(1, keepdim=True)
    image = gray + (image - gray) * between(0.2, 1.5, 1, 1, 1)
    image = 0.5 + (image - 0.5) * between(0.6, 1.4, 1, 1, 1)
    image = image * between(0.8, 1.2, 3, 1, 1) + between(-0.1, 0.1, 1, 1, 1)
    return image.clamp(0, 1) * 2 - 1


def _probe(
    split: str,
    tokenizer: WordTokenizer,
    drawn: Drawings,
    size: int,
    model: nn.Module,
    step: int,
    folder: Path,
) -> Mapping[str, float]:
    """The share of drawings in styles never seen with their names that are named exactly; the
    same by style in a file, and a sheet of 64 taken evenly."""
    networks = ImageToTextNetworks(cast(VisionLanguage, model), tokenizer)
    pictures = [to_square(Image.fromarray(picture), size) for picture in drawn.pictures]
    said: list[str] = []
    for start in range(0, len(pictures), _ROWS):
        part = pictures[start : start + _ROWS]
        said += [answer.text for answer in respond(networks, part, ["caption"] * len(part))]
    right = [a == b for a, b in zip(said, drawn.names, strict=True)]
    shown = [int(row) for row in np.linspace(0, len(said) - 1, min(64, len(said)))]
    write_sheet(
        [pictures[row] for row in shown],
        [said[row] + ("" if right[row] else f" (is: {drawn.names[row]})") for row in shown],
        [right[row] for row in shown],
        folder / f"{split}.png",
        width=96,
    )
    by_style = {
        style: fmean(r for r, s in zip(right, drawn.styles, strict=True) if s == style)
        for style in sorted(set(drawn.styles))
    }
    write_whole(folder / f"{split}.json", json.dumps(by_style, indent=2) + "\n")
    return {"right": fmean(right)}
