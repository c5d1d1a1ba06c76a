"""The language models that share LLaMA's layout (Touvron et al., 2023): Llama, Mistral, Qwen 2 and
3, Phi-3, SmolLM 2 and 3, Gemma 1 to 3, by flags. Names are those of the published folders."""

from __future__ import annotations

from dataclasses import replace
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from diptych.decoding.slots import KVView
from diptych.models.decoder_config import DecoderConfig
from diptych.models.decoder_layer import DecoderLayer, norm_of
from diptych.models.decoder_step import DecoderStep
from diptych.nn.fused import Fused
from diptych.nn.rope import Rotary


class Decoder(nn.Module):
    """Rows of words and pictures alike to states, and states to logits."""

    def __init__(self, config: DecoderConfig):
        super().__init__()
        self.config = config
        self.embed_tokens = nn.Embedding(config.vocabulary, config.width)
        self.layers = nn.ModuleList(DecoderLayer(config, i) for i in range(config.depth))
        self.norm = norm_of(config, config.width)
        self.lm_head = (
            None if config.tied else nn.Linear(config.width, config.vocabulary, bias=False)
        )
        turned = Rotary(config.rotary, config.head_dim)
        local = replace(config.rotary, base=config.local_base, stretch="default")
        self.turned = turned
        self.local = Rotary(local, config.head_dim) if config.local_base else turned
        self.one: DecoderStep | None = None
        self.head: Fused | None = None
        # Words are told apart from the start, and no logit is wild.
        nn.init.normal_(self.embed_tokens.weight, std=0.02)

    def embed(self, tokens: Tensor) -> Tensor:
        """tokens [B, N] int64 -> rows [B, N, D]"""
        rows = self.embed_tokens(tokens)
        if not self.config.scaled:
            return rows
        # Rounded to the weights' type, as it was trained.
        return rows * torch.tensor(self.config.width**0.5, dtype=rows.dtype, device=rows.device)

    def forward(
        self,
        rows: Tensor,
        places: Tensor | None = None,
        view: KVView | None = None,
        mask: Tensor | None = None,
    ) -> Tensor:
        """rows [B, N, D] at places [B, N], or [B, N, 3] (time, row, column), None for 0..N-1 ->
        states [B, N, D], normed.

        With `view`, rows come behind what is kept and are kept themselves. Without, they are whole
        texts, and a row sees the rows before it, or what `mask` [B or 1, 1, N, N] says (True: may
        look).
        """
        if places is None:
            places = torch.arange(rows.shape[1], device=rows.device)[None]
        kind = torch.promote_types(rows.dtype, torch.float32)
        turned = self.turned(places, kind)
        local = turned if self.local is self.turned else self.local(places, kind)
        seen = _Seen(rows.shape[1], rows.device, mask)
        h = rows
        for number, layer in enumerate(self.layers):
            window = self.config.window_of(number)
            visible = seen.of(window) if view is None else view.seen(window)
            h = layer(h, local if window else turned, visible, view)
        return self.norm(h)

    def logits(self, states: Tensor) -> Tensor:
        """states [..., D] -> logits of the next token [..., V]"""
        if self.head is not None:
            logits = self.head(states)
        elif self.lm_head is None:
            logits = states @ self.embed_tokens.weight.T
        else:
            logits = self.lm_head(states)
        cap = self.config.final_cap
        return cap * (logits / cap).tanh() if cap else logits

    def pack(self) -> None:
        """Put weights that are used together side by side, laid as fits their shape: the same
        parameters, which from then on are parts of one. For inference; results differ by
        rounding."""
        layers = [cast(DecoderLayer, layer) for layer in self.layers]
        for layer in layers:
            layer.pack()
        self.head = Fused([self.embed_tokens if self.lm_head is None else self.lm_head])
        self.one = DecoderStep(self.config, layers, self.norm, (self.turned, self.local))

    def read(self, rows: Tensor, places: Tensor, view: KVView) -> Tensor:
        """As `forward`, behind what is kept."""
        return self(rows, places, view)

    def step(self, rows: Tensor, places: Tensor, view: KVView, calls: int = 0) -> Tensor:
        """One row of each text: rows [B, D] at places [B] or [B, 3] -> states [B, D], normed; with
        `calls` as `DecoderStep` if it is packed and of 32 bits or more, else each text alone."""
        narrow = rows.dtype not in (torch.float32, torch.float64)
        if self.one is None or narrow:
            if calls:
                # Copied: where a row begins in memory decides the kernel, and the last bits.
                each = zip(rows.split(1), places.split(1), view.each(), strict=True)
                alone = torch.cat([self.step(row.clone(), at, own) for row, at, own in each])
                return pad(alone, (0, 0, 0, calls - len(rows)))
            return self(rows[:, None], places[:, None], view)[:, 0]
        return self.one(rows, places, view, calls)


class _Seen:
    """Masks of whole texts, made once for all layers of a kind."""

    def __init__(self, count: int, device: torch.device, mask: Tensor | None):
        places = torch.arange(count, device=device)
        self._back = places[:, None] - places
        self._mask = (self._back >= 0)[None, None] if mask is None else mask
        self._made: dict[int, Tensor] = {0: self._mask}

    def of(self, window: int) -> Tensor:
        """[B or 1, 1, N, N]"""
        if window not in self._made:
            self._made[window] = self._mask & (self._back < window)
        return self._made[window]
