"""What each of two processes computes: losses of its half of the pairs among all, and gradients."""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from torch import Tensor, distributed
from torch.nn.functional import normalize

from diptych.objectives.contrastive import info_nce_of, pairwise_of

PAIRS, INPUTS, WIDTH = 8, 5, 4


def pairs() -> dict[str, Tensor]:
    """Pictures and texts of all pairs, and the weights that make vectors of both."""
    draw = torch.Generator().manual_seed(4)
    shapes = {
        "pictures": (PAIRS, INPUTS), "texts": (PAIRS, INPUTS),
        "seen": (INPUTS, WIDTH), "said": (INPUTS, WIDTH),
    }  # fmt: skip
    return {
        name: torch.randn(shape, generator=draw, dtype=torch.float64)
        for name, shape in shapes.items()
    }


def true_pairs() -> Tensor:
    """[8, 8]: the diagonal, and some within each half."""
    true = torch.eye(PAIRS, dtype=torch.bool)
    true[0, 2] = true[1, 0] = true[5, 7] = True
    return true


def losses(rows: slice, *, gather: bool, chunk: int) -> dict[str, Tensor]:
    """Totals of both losses and the gradients of weights, scale and bias, for these pairs."""
    given = pairs()
    weights = [given[name].requires_grad_(True) for name in ("seen", "said")]
    scale = torch.tensor(3.0, dtype=torch.float64, requires_grad=True)
    bias = torch.tensor(-1.0, dtype=torch.float64, requires_grad=True)
    pictures = normalize(given["pictures"][rows] @ weights[0], dim=-1)
    texts = normalize(given["texts"][rows] @ weights[1], dim=-1)
    true = true_pairs()[rows, rows]
    made = {}
    for name, loss in (
        ("info_nce", info_nce_of(pictures, texts, scale, true, chunk=chunk, gather=gather)),
        ("pairwise", pairwise_of(pictures, texts, scale, bias, true, chunk=chunk, gather=gather)),
    ):
        wanted = [*weights, scale, bias] if name == "pairwise" else [*weights, scale]
        made[name] = loss.total.detach()
        found = torch.autograd.grad(loss.total, wanted, retain_graph=True)
        made |= {f"{name} {i}": gradient for i, gradient in enumerate(found)}
        made |= {f"{name} {part}": value for part, value in loss.parts.items()}
    return made


if __name__ == "__main__":
    folder, rank = Path(sys.argv[1]), int(sys.argv[2])
    torch.set_num_threads(1)
    store = distributed.FileStore(str(folder / "store"), 2)
    distributed.init_process_group("gloo", store=store, rank=rank, world_size=2)
    half = PAIRS // 2
    rows = slice(rank * half, (rank + 1) * half)
    made = {chunk: losses(rows, gather=True, chunk=chunk) for chunk in (0, 3)}
    torch.save(made, folder / f"{rank}.pt")
    distributed.destroy_process_group()
