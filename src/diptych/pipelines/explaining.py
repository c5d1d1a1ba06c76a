"""What an answer rests on: a map over the pixels of the picture.

Gradient times input (Shrikumar et al., 2017) at the rows that the language model gets of a
picture: how much each row speaks for the answer, laid where the row was seen.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from diptych.foundation.errors import InvalidValue
from diptych.imaging.placing import Region
from diptych.imaging.plan import Newline, Rows, TokenPlan
from diptych.pipelines.classic_networks import ClassicNetworks
from diptych.pipelines.image_to_text import ImageToTextNetworks
from diptych.pipelines.reading import Answer, Prompt
from diptych.pipelines.vlm_networks import VLMNetworks


@dataclass(frozen=True)
class Patch:
    """Rows of the language model, `rows` x `columns` of them from `first` on, that show a region
    of the original picture; parts of it may lie outside."""

    first: int
    rows: int
    columns: int
    region: Region


def explained(
    networks: ImageToTextNetworks | VLMNetworks | ClassicNetworks,
    picture: Image.Image,
    task: str,
    answer: Answer,
) -> NDArray[np.float32]:
    """The map [H, W] in 0..1 of an RGB picture's pixels, its largest value 1, for an answer that
    was given to `task`; one pass forth and back. Raises InvalidValue for a model whose rows have no
    place in the picture."""
    if isinstance(networks, ClassicNetworks):
        raise InvalidValue(
            "A model of before conversations does not show what its answers rest on.",
            do="The shipped reader and models that converse do.",
        )
    prompt = networks.request(picture, task).prompt
    if isinstance(networks, ImageToTextNetworks):
        side = round(networks.reader.prefix_length**0.5)
        places = torch.arange(side * side)
        patches = [Patch(0, side, side, (0.0, 0.0, float(picture.width), float(picture.height)))]
    else:
        places, plan = networks.sights(picture, task)
        patches = list(patches_of(plan))
    spoken = list(answer.tokens) + ([networks.ends[0]] if answer.finish == "end" else [])
    values = _speaking(networks, prompt, places, spoken).clamp(min=0).double().cpu().numpy()
    return laid(values, patches, picture.size)


def patches_of(plan: TokenPlan) -> Iterator[Patch]:
    """Where each run of a picture's rows was seen, in their order; words are no rows."""
    at, down = 0, 0
    for part in plan.segments:
        if isinstance(part, Newline):
            at += 1
        elif isinstance(part, Rows):
            if part.tile is not None:
                box: Region = plan.tiles[part.tile].box
            else:
                box, down = _of_grid(plan, down, part.rows), down + part.rows
            yield Patch(at, part.rows, part.columns, plan.to_source.region(box))
            at += part.rows * part.columns


def laid(
    values: NDArray[np.float64], patches: list[Patch], size: tuple[int, int]
) -> NDArray[np.float32]:
    """Values [N] of rows -> a map [H, W] in 0..1 of a picture of `size` (width, height). A value is
    spread over its row's area, with straight lines between the middles; patches add up."""
    width, height = size
    found = np.zeros((height, width))
    for one in patches:
        cells = values[one.first : one.first + one.rows * one.columns]
        left, top, right, bottom = one.region
        area = (right - left) * (bottom - top) / len(cells)
        across = _spread(width, left, right, one.columns)
        along = _spread(height, top, bottom, one.rows)
        found += along @ (cells.reshape(one.rows, one.columns) / area) @ across.T
    most = found.max()
    return (found / most if most > 0 else found).astype(np.float32)


def _of_grid(plan: TokenPlan, row: int, rows: int) -> Region:
    """Lines of the grid from `row` on, as a box of the resized picture."""
    grid, (width, height) = plan.grid, plan.resized
    if grid is None:
        raise ValueError("the plan has no grid")
    left, top, right, bottom = grid.box
    across, along = width / grid.width, height / grid.height
    each = (bottom - top) * along / grid.rows
    first = top * along + row * each
    return left * across, first, right * across, first + rows * each


def _spread(count: int, first: float, last: float, cells: int) -> NDArray[np.float64]:
    """[count, cells]: what each pixel takes of each cell between `first` and `last`."""
    middles = np.arange(count) + 0.5
    place = ((middles - first) / (last - first) * cells - 0.5).clip(0, cells - 1)
    weights = np.maximum(0.0, 1 - np.abs(place[:, None] - np.arange(cells)))
    return weights * ((middles >= first) & (middles <= last))[:, None]


def _speaking(
    networks: ImageToTextNetworks | VLMNetworks, prompt: Prompt, places: Tensor, spoken: list[int]
) -> Tensor:
    """How much each of the rows at `places` speaks for the tokens `spoken` -> [N].

    Of the sum of each token's log-odds against all others: it rises with the probability and, where
    that is nearly 1, keeps a slope.
    """
    device = networks.device
    with torch.no_grad():
        parts = [prompt.rest] if prompt.sees_all else [prompt.prefix(), prompt.rest]
        tokens = torch.tensor(spoken, device=device)
        # Made in inference mode: a copy may have a gradient.
        rows = [part.rows.clone() for part in parts] + [networks.embed(tokens[:-1])]
        where = [part.places.clone() for part in parts]
        following = parts[-1].following + torch.arange(len(spoken) - 1, device=device)
        if where[0].ndim == 2:
            following = following[:, None].expand(-1, where[0].shape[1])
        whole, places_of = torch.cat(rows), torch.cat([*where, following])
        count = len(whole)
        sees = torch.ones(count, count, dtype=torch.bool, device=device).tril()
        if prompt.sees_all or not prompt.causal:
            sees[:, : len(rows[0])] = True
    with torch.enable_grad():
        seen = whole.detach().requires_grad_()
        states = networks.whole(seen[None], places_of[None], sees[None, None])[0]
        logits = networks.logits(states[count - len(spoken) :])
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        said = logits.gather(1, tokens[:, None])[:, 0]
        others = logits.scatter(1, tokens[:, None], float("-inf")).logsumexp(1)
        (slope,) = torch.autograd.grad((said - others).sum(), seen)
    return (slope * seen.detach())[places.to(device)].float().sum(-1)
