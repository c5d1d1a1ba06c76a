"""CLIP, SigLIP, DINOv2 and InternViT as their first programs name and cut their tensors, written
from the formats: a file of these is read right if our network then says the same.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, normalize, scaled_dot_product_attention, silu

EPSILON = 1e-6


class Resblock(nn.Module):
    """OpenCLIP's: PyTorch's own attention, its three matrices in one."""

    def __init__(self, width: int, heads: int, hidden: int, tanh: bool):
        super().__init__()
        self.ln_1, self.ln_2 = nn.LayerNorm(width, 1e-5), nn.LayerNorm(width, 1e-5)
        self.attn = nn.MultiheadAttention(width, heads, batch_first=True)
        self.mlp = nn.ModuleDict(
            {"c_fc": nn.Linear(width, hidden), "c_proj": nn.Linear(hidden, width)}
        )
        self.approximate = "tanh" if tanh else "none"

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        h = self.ln_1(x)
        x = x + self.attn(h, h, h, need_weights=False, attn_mask=mask)[0]
        inner = gelu(self.mlp["c_fc"](self.ln_2(x)), approximate=self.approximate)
        return x + self.mlp["c_proj"](inner)


class Resblocks(nn.Module):
    def __init__(self, width: int, heads: int, hidden: int, tanh: bool = False):
        super().__init__()
        self.resblocks = nn.ModuleList(Resblock(width, heads, hidden, tanh) for _ in range(2))

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        for block in self.resblocks:
            x = block(x, mask)
        return x


class Visual(nn.Module):
    """OpenCLIP's tower: x @ proj in the end."""

    def __init__(self, width: int, heads: int, hidden: int, out: int, places: int, patch: int):
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, patch, patch, bias=False)
        self.class_embedding = nn.Parameter(torch.empty(width))
        self.positional_embedding = nn.Parameter(torch.empty(places + 1, width))
        self.ln_pre, self.ln_post = nn.LayerNorm(width), nn.LayerNorm(width)
        self.transformer = Resblocks(width, heads, hidden)
        self.proj = nn.Parameter(torch.empty(width, out))

    def forward(self, image: Tensor) -> Tensor:
        x = self.conv1(image).flatten(2).transpose(1, 2)
        first = self.class_embedding.expand(len(x), 1, -1)
        x = self.ln_pre(torch.cat([first, x], dim=1) + self.positional_embedding)
        return self.ln_post(self.transformer(x)[:, 0]) @ self.proj


class Text(nn.Module):
    """OpenCLIP's: causal and read at the largest number, or, `siglip`, seeing all and read last."""

    def __init__(
        self, width: int, heads: int, hidden: int, out: int, words: int, siglip: bool = False
    ):
        super().__init__()
        self.siglip = siglip
        self.token_embedding = nn.Embedding(words, width)
        self.positional_embedding = nn.Parameter(torch.empty(10, width))
        self.transformer = Resblocks(width, heads, hidden, siglip)
        self.ln_final = nn.LayerNorm(width)
        self.text_projection = (
            nn.Linear(width, out) if siglip else nn.Parameter(torch.empty(width, out))
        )
        if siglip:
            for norm in (module for module in self.modules() if isinstance(module, nn.LayerNorm)):
                norm.eps = EPSILON

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.token_embedding(tokens) + self.positional_embedding
        if self.siglip:
            return self.text_projection(self.ln_final(self.transformer(x))[:, -1])
        ahead = torch.full((10, 10), float("-inf"), dtype=x.dtype).triu(1)
        x = self.ln_final(self.transformer(x, ahead))
        return x[torch.arange(len(x)), tokens.argmax(1)] @ self.text_projection


class Attention(nn.Module):
    """timm's: rows of one matrix in the order (query, key, value), heads, channels."""

    def __init__(self, width: int, heads: int, normed: bool = False):
        super().__init__()
        self.heads = heads
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        if normed:
            self.q_norm = nn.RMSNorm(width, EPSILON)
            self.k_norm = nn.RMSNorm(width, EPSILON)
        self.normed = normed

    def forward(self, x: Tensor) -> Tensor:
        b, n, width = x.shape
        three = self.qkv(x).reshape(b, n, 3, self.heads, width // self.heads)
        q, k, v = three.permute(2, 0, 3, 1, 4).unbind(0)
        if self.normed:
            q, k = (
                norm(one.transpose(1, 2).flatten(2)).unflatten(2, (self.heads, -1)).transpose(1, 2)
                for norm, one in ((self.q_norm, q), (self.k_norm, k))
            )
        out = scaled_dot_product_attention(q, k, v)
        return self.proj(out.transpose(1, 2).reshape(b, n, width))


class MLP(nn.Module):
    def __init__(self, width: int, hidden: int, approximate: str):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(width, hidden), nn.Linear(hidden, width)
        self.approximate = approximate

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(gelu(self.fc1(x), approximate=self.approximate))


class SwiGLU(nn.Module):
    """DINOv2's giant: the half that is gated by comes first."""

    def __init__(self, width: int, hidden: int):
        super().__init__()
        self.w12, self.w3 = nn.Linear(width, 2 * hidden), nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        gate, up = self.w12(x).chunk(2, dim=-1)
        return self.w3(silu(gate) * up)


class Scale(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.gamma = nn.Parameter(torch.empty(width))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gamma


class Block(nn.Module):
    def __init__(self, width: int, heads: int, hidden: int, kind: str):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width, EPSILON), nn.LayerNorm(width, EPSILON)
        self.attn = Attention(width, heads)
        approximate = "tanh" if kind == "siglip" else "none"
        self.mlp = SwiGLU(width, hidden) if kind == "giant" else MLP(width, hidden, approximate)
        scaled = kind != "siglip"
        self.ls1 = Scale(width) if scaled else nn.Identity()
        self.ls2 = Scale(width) if scaled else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.ls1(self.attn(self.norm1(x)))
        return x + self.ls2(self.mlp(self.norm2(x)))


class PatchEmbed(nn.Module):
    def __init__(self, width: int, patch: int):
        super().__init__()
        self.proj = nn.Conv2d(3, width, patch, patch)


class AttentionPool(nn.Module):
    """timm's: a latent asks, keys and values are one matrix."""

    def __init__(self, width: int, heads: int, hidden: int):
        super().__init__()
        self.heads = heads
        self.latent = nn.Parameter(torch.empty(1, 1, width))
        self.q, self.kv = nn.Linear(width, width), nn.Linear(width, 2 * width)
        self.proj, self.norm = nn.Linear(width, width), nn.LayerNorm(width, EPSILON)
        self.mlp = MLP(width, hidden, "tanh")

    def forward(self, x: Tensor) -> Tensor:
        b, n, width = x.shape
        one = width // self.heads
        q = self.q(self.latent.expand(b, -1, -1)).reshape(b, 1, self.heads, one).transpose(1, 2)
        k, v = self.kv(x).reshape(b, n, 2, self.heads, one).permute(2, 0, 3, 1, 4).unbind(0)
        out = scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, 1, width)
        out = self.proj(out)
        return (out + self.mlp(self.norm(out)))[:, 0]


class Trunk(nn.Module):
    """`kind`: siglip (timm's, with a trained query), dino, registers or giant (DINOv2's own)."""

    def __init__(self, width: int, heads: int, hidden: int, places: int, patch: int, kind: str):
        super().__init__()
        self.kind, first = kind, int(kind != "siglip")
        self.patch_embed = PatchEmbed(width, patch)
        self.pos_embed = nn.Parameter(torch.empty(1, places + first, width))
        if first:
            self.cls_token = nn.Parameter(torch.empty(1, 1, width))
            self.mask_token = nn.Parameter(torch.empty(1, width))
        if kind == "registers":
            self.register_tokens = nn.Parameter(torch.empty(1, 3, width))
        self.blocks = nn.ModuleList(Block(width, heads, hidden, kind) for _ in range(2))
        self.norm = nn.LayerNorm(width, EPSILON)
        if not first:
            self.attn_pool = AttentionPool(width, heads, hidden)

    def forward(self, image: Tensor) -> Tensor:
        x = self.patch_embed.proj(image).flatten(2).transpose(1, 2)
        if self.kind != "siglip":
            x = torch.cat([self.cls_token.expand(len(x), -1, -1), x], dim=1)
        x = x + self.pos_embed
        if self.kind == "registers":
            registers = self.register_tokens.expand(len(x), -1, -1)
            x = torch.cat([x[:, :1], registers, x[:, 1:]], dim=1)
        for block in self.blocks:
            x = block(x)
        x = self.norm(x)
        return self.attn_pool(x) if self.kind == "siglip" else x


class Both(nn.Module):
    """Two towers as OpenCLIP saves them; `apart`: the text tower below `text.`."""

    def __init__(self, visual: nn.Module, text: Text, trunk: bool, apart: bool):
        super().__init__()
        self.visual = nn.ModuleDict({"trunk": visual}) if trunk else visual
        self._seen, self.apart = (visual,), apart  # hidden in a tuple: no second name
        self.text = text
        self.logit_scale = nn.Parameter(torch.empty(()))
        if trunk:
            self.logit_bias = nn.Parameter(torch.empty(()))

    def tensors(self) -> dict[str, Tensor]:
        return {
            name if self.apart else name.removeprefix("text."): tensor.contiguous()
            for name, tensor in self.state_dict().items()
        }

    def forward(self, image: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        return normalize(self._seen[0](image), dim=-1), normalize(self.text(tokens), dim=-1)


class InternLayer(nn.Module):
    def __init__(self, width: int, heads: int, hidden: int):
        super().__init__()
        self.attn = Attention(width, heads, normed=True)
        self.mlp = MLP(width, hidden, "none")
        self.norm1, self.norm2 = nn.LayerNorm(width, EPSILON), nn.LayerNorm(width, EPSILON)
        self.ls1, self.ls2 = nn.Parameter(torch.empty(width)), nn.Parameter(torch.empty(width))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x)) * self.ls1
        return x + self.mlp(self.norm2(x)) * self.ls2


class InternEmbeddings(nn.Module):
    def __init__(self, width: int, places: int, patch: int):
        super().__init__()
        self.class_embedding = nn.Parameter(torch.empty(1, 1, width))
        self.position_embedding = nn.Parameter(torch.empty(1, places + 1, width))
        self.patch_embedding = nn.Conv2d(3, width, patch, patch)


class InternViT(nn.Module):
    """As OpenGVLab's repository saves it."""

    def __init__(self, width: int, heads: int, hidden: int, places: int, patch: int):
        super().__init__()
        self.embeddings = InternEmbeddings(width, places, patch)
        layers = nn.ModuleList(InternLayer(width, heads, hidden) for _ in range(2))
        self.encoder = nn.ModuleDict({"layers": layers})

    def forward(self, image: Tensor) -> Tensor:
        parts = self.embeddings
        x = parts.patch_embedding(image).flatten(2).transpose(1, 2)
        x = torch.cat([parts.class_embedding.expand(len(x), -1, -1), x], dim=1)
        x = x + parts.position_embedding
        for layer in self.encoder["layers"]:
            x = layer(x)
        return x
