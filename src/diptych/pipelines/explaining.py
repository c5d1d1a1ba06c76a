"""What an answer rests on: a map over the pixels of the picture.

Of published models the size of gradient times input (Shrikumar et al., 2017) at the rows that the
language model gets of a picture, laid where each was seen. The shipped reader gets few rows: there
the size of the gradient at the pixels (Simonyan et al., 2014), in cells of a few of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn.functional import avg_pool2d

from diptych.foundation.errors import InvalidValue
from diptych.imaging.pictures import to_square
from diptych.imaging.placing import Region
from diptych.imaging.plan import Newline, Rows, TokenPlan
from diptych.pipelines.classic_networks import ClassicNetworks
from diptych.pipelines.image_to_text import ImageToTextNetworks
from diptych.pipelines.reading import Answer, Prompt
from diptych.pipelines.reading import Rows as Opening
from diptych.pipelines.vlm_networks import VLMNetworks

_CELL = 4  # pixels along a cell of the shipped reader's map


@dataclass(frozen=True)
class Patch:
    """Values, `rows` x `columns` of them from `first` on, that are of a region of the original
    picture; parts of it may lie outside."""

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
    spoken = list(answer.tokens) + ([networks.ends[0]] if answer.finish == "end" else [])
    with torch.no_grad():
        first = prompt.rest if prompt.sees_all else prompt.prefix()
        opening = first.rows.clone()  # made in inference mode: a copy may have a gradient
    if isinstance(networks, ImageToTextNetworks):
        look = networks.reader.look
        pixels = networks.pixels(to_square(picture, networks.image_size))
        slope = _slope(
            lambda seen: log_odds(networks, prompt, spoken, replace(first, rows=look(seen)[0])),
            pixels,
        )
        cells = avg_pool2d(slope.abs().sum(1), _CELL)[0]
        whole: Region = (0.0, 0.0, float(picture.width), float(picture.height))
        patches = [Patch(0, len(cells), cells.shape[1], whole)]
        return laid(_plain(cells.flatten()), patches, picture.size)
    places, plan = networks.sights(picture, task)
    slope = _slope(
        lambda seen: log_odds(networks, prompt, spoken, replace(first, rows=seen)), opening
    )
    values = (slope * opening)[places.to(opening.device)].sum(-1).abs()
    return laid(_plain(values), list(patches_of(plan)), picture.size)


def log_odds(
    networks: ImageToTextNetworks | VLMNetworks, prompt: Prompt, spoken: list[int], first: Opening
) -> Tensor:
    """How sure an answer is: the sum of its tokens' log-odds, each against all others. It rises
    with the probability and, where that is nearly 1, keeps a slope. `first` stands for the
    prompt's prefix, or for all of a prompt that has none."""
    opening = first.rows
    with torch.no_grad():
        parts = [] if prompt.sees_all else [prompt.rest.rows.clone()]
        tokens = torch.tensor(spoken, device=opening.device)
        rest = torch.cat([*parts, networks.embed(tokens[:-1])])
        places = _places(prompt, first, len(spoken) - 1)
        count = len(places)
        sees = torch.ones(count, count, dtype=torch.bool, device=opening.device).tril()
        if prompt.sees_all or not prompt.causal:
            sees[:, : len(opening)] = True
    rows = torch.cat([opening, rest])
    states = networks.whole(rows[None], places[None], sees[None, None])[0]
    logits = networks.logits(states[count - len(spoken) :])
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    others = logits.scatter(1, tokens[:, None], float("-inf")).logsumexp(1)
    return (logits.gather(1, tokens[:, None])[:, 0] - others).sum()


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


def _plain(values: Tensor) -> NDArray[np.float64]:
    return values.double().cpu().numpy()


def _slope(sure: Callable[[Tensor], Tensor], at: Tensor) -> Tensor:
    with torch.enable_grad():
        seen = at.detach().clone().requires_grad_()
        (slope,) = torch.autograd.grad(sure(seen), seen)
    return slope


def _places(prompt: Prompt, first: Opening, more: int) -> Tensor:
    """Of a prompt's rows, and of `more` tokens behind it."""
    rest = prompt.rest
    following = rest.following + torch.arange(more, device=rest.places.device)
    parts = [first.places, *([] if prompt.sees_all else [rest.places]), following]
    widths = [part.shape[1] for part in parts if part.ndim == 2]
    if widths:  # a word has one place in time, row and column
        parts = [part if part.ndim == 2 else part[:, None].expand(-1, widths[0]) for part in parts]
    return torch.cat([part.clone() for part in parts])
