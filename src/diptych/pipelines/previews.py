"""What a picture looks like while it is painted."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from diptych.pipelines.painting import Painting


@dataclass(frozen=True, eq=False)
class LinearPreview:
    """A linear map from a cell of the latent to its mean color, [C + 1, 3]: no decoder, next to no
    time, an eighth of the size."""

    weights: Tensor

    def __call__(self, latent: Tensor) -> NDArray[np.uint8]:
        """latent [B, C, h, w] -> pictures [B, h, w, 3]"""
        cells = latent.float().nan_to_num().movedim(1, -1)
        ones = torch.ones_like(cells[..., :1])
        image = torch.cat([cells, ones], dim=-1) @ self.weights.to(latent.device)
        return ((image.clamp(-1, 1) + 1) * 127.5).round().byte().cpu().numpy()


@torch.inference_mode()
def fitted(
    networks: Painting, *, samples: int = 4, cells: int = 16, seed: int = 0
) -> LinearPreview:
    """The map that is nearest to the family's own decoder (least squares) on smooth drawn latents:
    it needs no numbers of any family. Costs a few decodings of small pictures."""
    channels = networks.latent_shape(*networks.size)[0]
    draw = torch.Generator().manual_seed(0)
    coarse = torch.randn(samples, channels, 4, 4, generator=draw)
    latent = torch.nn.functional.interpolate(coarse, size=(cells, cells), mode="bicubic")
    latent = latent.to(networks.device, networks.dtype)
    image = adaptive_avg_pool2d(networks.decode(latent).float(), (cells, cells))
    known = latent.float().movedim(1, -1).flatten(0, 2)
    known = torch.cat([known, torch.ones_like(known[:, :1])], dim=1)
    wanted = image.movedim(1, -1).flatten(0, 2)
    return LinearPreview(torch.linalg.lstsq(known.cpu(), wanted.cpu()).solution)
