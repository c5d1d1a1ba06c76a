"""What Lumina's blocks have beside attention: norms before and after each branch, gains and gates
but no shifts (Zhuo et al., 2024, Lumina-Next, section 2.1). Names are those of the published
folders."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.functional import silu

from diptych.nn.blocks import RowLinear
from diptych.nn.norms import RMSNorm, bare_layer_norm

# What modulates is never wider.
WIDEST = 1024


class SwiGLU(nn.Module):
    """To `hidden` channels, through a gate, and back (Shazeer, 2020)."""

    def __init__(self, width: int, hidden: int):
        super().__init__()
        self.linear_1 = nn.Linear(width, hidden, bias=False)
        self.linear_2 = nn.Linear(hidden, width, bias=False)
        self.linear_3 = nn.Linear(width, hidden, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """[..., D] -> [..., D]"""
        return self.linear_2(silu(self.linear_1(x)) * self.linear_3(x))


class ModulatedNorm(nn.Module):
    """A norm with the modulation of its whole block."""

    def __init__(self, width: int, epsilon: float):
        super().__init__()
        self.linear = RowLinear(min(width, WIDEST), 4 * width)
        self.norm = RMSNorm(width, epsilon)

    def forward(self, x: Tensor, c: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """x [B, N, D], c [B, C] after its SiLU -> x normed with its gain, the branch's gate, gain
        and gate of the second branch [B, 1, D]; gates in -1..1"""
        scale, gate, last_scale, last_gate = self.linear(c)[:, None].chunk(4, dim=-1)
        return self.norm(x) * (1 + scale), gate.tanh(), 1 + last_scale, last_gate.tanh()


class ModulatedOut(nn.Module):
    """From tokens to what they are in the picture."""

    def __init__(self, width: int, values: int):
        super().__init__()
        self.linear_1 = RowLinear(min(width, WIDEST), width)
        self.linear_2 = nn.Linear(width, values)

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        """x [B, N, D], c [B, C] after its SiLU -> [B, N, values]"""
        return self.linear_2(bare_layer_norm(x) * (1 + self.linear_1(c))[:, None])
