"""One token of each text through a packed decoder: the same sums as `Decoder.forward` in as few
operations as they take. With one row an operation costs what it takes to call it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, pad, silu

from diptych.decoding.slots import KVView
from diptych.models.decoder_config import DecoderConfig
from diptych.models.decoder_layer import DecoderLayer
from diptych.nn.rope import Rotary


class DecoderStep:
    """What `Decoder.pack` leaves for texts that go on by one token each."""

    def __init__(
        self,
        config: DecoderConfig,
        layers: Sequence[DecoderLayer],
        norm: nn.Module,
        rotaries: tuple[Rotary, Rotary],
    ):
        """`rotaries`: of layers that look all the way, and of those with a window."""
        self.config = config
        self.layers = [_Layer(layer) for layer in layers]
        self.final = _Norm(norm)
        self.turned, self.local = (_Turns(rotary) for rotary in rotaries)

    def __call__(self, x: Tensor, places: Tensor, view: KVView, calls: int = 0) -> Tensor:
        """x [B, D] at places [B], or [B, 3] -> states [B, D], normed; `view` has a count of 1. With
        `calls`, and no shared prefix, weights meet that many rows, and a text looks by itself:
        its bits do not depend on its neighbours. States are then [calls, D]."""
        kept = _Kept(view, self.config.groups, apart=bool(calls))
        if calls:
            x = pad(x, (0, 0, 0, calls - len(x)))
            places = torch.cat([places, places.new_zeros(calls - len(places), *places.shape[1:])])
        turned = self.turned(places, x)
        local = turned if self.local.rotary is self.turned.rotary else self.local(places, x)
        for number, layer in enumerate(self.layers):
            window = self.config.window_of(number)
            q = layer.heads(x, local if window else turned, kept, number)
            x = layer.finish(x, kept.look(layer, q, number, window))
        return self.final(x)


class _Kept:
    """Keys and values as matrices, one row a place: where this step's rows go, and what each text
    looks at."""

    def __init__(self, view: KVView, groups: int, *, apart: bool):
        self.texts, room = view.keys.shape[1], view.keys.shape[3]
        self.view, self.groups, self.apart = view, groups, apart
        self.keys = view.keys.flatten(1, 3).unbind(0)
        self.values = view.values.flatten(1, 3).unbind(0)
        heads = torch.arange(0, self.texts * groups * room, room, device=view.keys.device)
        if view.even:
            self.rows = heads + view.starts[0]
        else:
            starts = torch.tensor(view.starts, device=heads.device)
            self.rows = heads + starts.repeat_interleave(groups)
        self._nothing = view.keys.new_zeros(1, 1, 1)
        self._unseen: dict[int, Tensor] = {}
        if not apart:
            seen = slice(0, view.span)
            self._seen_keys = view.keys.flatten(1, 2)[:, :, seen].mT.unbind(0)
            self._seen_values = view.values.flatten(1, 2)[:, :, seen].unbind(0)

    def look(self, layer: _Layer, q: Tensor, number: int, window: int) -> Tensor:
        """q [B * G, H / G, E] -> the same of what layer `number` sees."""
        if not self.apart:
            own = self._seen_keys[number], self._seen_values[number]
            if self.view.shared is None:
                return layer.look(q, *own, self._hidden(window))
            shared = self.view.shared.keys[number].mT, self.view.shared.values[number]
            return layer.look_at_both(q, own, shared, self._hidden(window))
        looked = list[Tensor]()
        for text, (start, own) in enumerate(
            zip(self.view.starts, q.split(self.groups), strict=True)
        ):
            seen = slice(max(0, start + 1 - window) if window else 0, start + 1)
            keys, values = self.view.keys[number, text], self.view.values[number, text]
            looked.append(layer.look(own, keys[:, seen].mT, values[:, seen], self._nothing))
        return torch.cat(looked)

    def _hidden(self, window: int) -> Tensor:
        """Added to scores: minus infinity where a text does not look, [B * G or 1, 1, S or 1]."""
        if window not in self._unseen:
            seen = self.view.seen(window)
            self._unseen[window] = self._nothing if seen is None else self._infinite(seen)
        return self._unseen[window]

    def _infinite(self, seen: Tensor) -> Tensor:
        far = self.view.keys.new_zeros(seen.shape[0], 1, seen.shape[3])
        far = far.masked_fill(~seen[:, 0], float("-inf"))
        return far if len(far) == 1 else far.repeat_interleave(self.groups, 0)


class _Turns:
    """Rotation by places as one matrix for all heads of a text: a head times [E, E]."""

    def __init__(self, rotary: Rotary):
        self.rotary = rotary
        self._eye: Tensor | None = None

    def __call__(self, places: Tensor, x: Tensor) -> Tensor:
        """[B, E, E]"""
        cos, sin = self.rotary(places[:, None], x.dtype)[:, :, 0]  # [B, 1, E]
        if self._eye is None or self._eye.dtype != x.dtype or self._eye.device != x.device:
            self._eye = torch.eye(cos.shape[-1], dtype=x.dtype, device=x.device)
        return torch.addcmul(self._eye * cos, self._eye.roll(cos.shape[-1] // 2, 0), sin)


class _Norm:
    """A root mean square norm in half the calls of the kernel's."""

    def __init__(self, norm: nn.Module):
        weight = norm.get_parameter("weight").detach()
        self.gain = weight + getattr(norm, "plus", 0)
        self.epsilon = weight.new_tensor(float(getattr(norm, "epsilon", 0.0)))

    def __call__(self, x: Tensor) -> Tensor:
        """[..., D] -> [..., D]"""
        length = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
        mean = torch.addcmul(self.epsilon, length, length, value=1 / x.shape[-1])
        return x * mean.rsqrt_() * self.gain


class _Layer:
    def __init__(self, layer: DecoderLayer):
        attention, mlp = layer.self_attn, layer.mlp
        self.attention = attention
        if attention.fused is None or mlp.fused is None:
            raise ValueError("the decoder is not packed")
        self.fused, self.opened = attention.fused, mlp.fused
        self.before = _Norm(layer.input_layernorm)
        self.between = _Norm(layer.post_attention_layernorm)
        inner, outer = layer.pre_feedforward_layernorm, layer.post_feedforward_layernorm
        self.inner = None if inner is None else _Norm(inner)
        self.outer = None if outer is None else _Norm(outer)
        self.out, self.down = attention.o_proj.weight.T, mlp.down_proj.weight.T
        self.smooth = mlp.smooth
        self.head_norm: _Norm | None = None
        if attention.q_norm is not None and attention.k_norm is not None:
            q, self.head_norm = _Norm(attention.q_norm), _Norm(attention.k_norm)
            gains = (
                q.gain.expand(attention.heads, -1),
                self.head_norm.gain.expand(attention.groups, -1),
            )
            self.head_norm.gain = torch.cat(gains)

    def heads(self, x: Tensor, turns: Tensor, kept: _Kept, number: int) -> Tensor:
        """x [B or more, D] -> queries [B * G, H / G, E]; the new keys and values are kept."""
        attention, texts = self.attention, kept.texts
        size, count = attention.head_dim, attention.heads + attention.groups
        made = self.fused(self.before(x))
        asked = made[:, : count * size].view(len(x), count, size)
        if self.head_norm is not None:
            asked = self.head_norm(asked)
        if attention.turned:
            asked = torch.bmm(asked, turns)
        keys, values = asked[:texts, attention.heads :], made[:texts, count * size :]
        kept.keys[number].index_copy_(0, kept.rows, keys.reshape(-1, size))
        kept.values[number].index_copy_(0, kept.rows, values.reshape(-1, size))
        own = asked[:texts, : attention.heads]
        return own.reshape(texts * attention.groups, -1, size)

    def look(self, q: Tensor, keys: Tensor, values: Tensor, unseen: Tensor) -> Tensor:
        """q [B * G, H / G, E], keys [B * G, E, S], values [B * G, S, E] -> [B * G, H / G, E]"""
        attention = self.attention
        if attention.cap:
            scores = torch.bmm(q, keys) * (attention.scale / attention.cap)
            scores = scores.tanh_() * attention.cap + unseen
        else:
            scores = torch.baddbmm(unseen, q, keys, alpha=attention.scale)
        return torch.bmm(scores.softmax(-1), values)

    def look_at_both(
        self,
        q: Tensor,
        own: tuple[Tensor, Tensor],
        shared: tuple[Tensor, Tensor],
        unseen: Tensor,
    ) -> Tensor:
        """The same with keys [G, E, P] and values [G, P, E] that all texts have before their own:
        they are read once for all texts."""
        attention = self.attention
        groups = attention.groups
        asked = q.unflatten(0, (-1, groups)).transpose(0, 1).flatten(1, 2)
        before = torch.bmm(asked, shared[0]).unflatten(1, (-1, q.shape[1])).transpose(0, 1)
        scores = torch.cat([before.flatten(0, 1), torch.bmm(q, own[0])], dim=-1) * attention.scale
        if attention.cap:
            scores = (scores / attention.cap).tanh_() * attention.cap
        weights = (scores + unseen).softmax(-1)
        first, last = weights.split([shared[0].shape[2], own[0].shape[2]], dim=-1)
        first = first.unflatten(0, (-1, groups)).transpose(0, 1).flatten(1, 2)
        seen = torch.bmm(first, shared[1]).unflatten(1, (-1, q.shape[1])).transpose(0, 1)
        return torch.baddbmm(seen.flatten(0, 1), last, own[1])

    def finish(self, x: Tensor, looked: Tensor) -> Tensor:
        """What attention saw, and the MLP, onto x [B or more, D]."""
        looked = looked.view(-1, self.out.shape[0])
        if len(looked) < len(x):
            looked = pad(looked, (0, 0, 0, len(x) - len(looked)))
        if self.inner is None or self.outer is None:
            x = torch.addmm(x, looked, self.out)
            return torch.addmm(x, self._opened(self.between(x)), self.down)
        x = x + self.between(torch.mm(looked, self.out))
        return x + self.outer(torch.mm(self._opened(self.inner(x)), self.down))

    def _opened(self, x: Tensor) -> Tensor:
        gate, up = self.opened(x).chunk(2, dim=-1)
        opened = gelu(gate, approximate="tanh") if self.smooth else silu(gate)
        return opened.mul_(up)
