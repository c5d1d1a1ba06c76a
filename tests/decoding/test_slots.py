"""Slots: what one text does is not seen in another, and memory follows what is in use."""

from __future__ import annotations

from random import Random

import torch

from diptych.decoding.slots import KVShape, KVSlots

SHAPE = KVShape(depth=2, groups=3, head_dim=4)


def test_any_schedule_leaves_each_text_its_own_rows():
    """Texts are written, moved, cut, copied out and in; each slot holds just what it was given."""
    draw, slots = Random(3), KVSlots(SHAPE, 5)
    held: list[torch.Tensor] = [torch.zeros(2, 3, 0, 4) for _ in range(5)]
    for step in range(400):
        slot = draw.randrange(5)
        kind = draw.random()
        if kind < 0.6:
            count = draw.randint(1, 90)
            new = torch.randn(2, 1, count, 3, 4, generator=torch.Generator().manual_seed(step))
            view = slots.view(slot, slot + 1, count)
            for layer in range(2):
                view.write(layer, new[layer], -new[layer])
            slots.wrote(slot, count)
            held[slot] = torch.cat([held[slot], new[:, 0].transpose(1, 2)], dim=2)
        elif kind < 0.75:
            length = draw.randint(0, held[slot].shape[2])
            slots.cut(slot, length)
            held[slot] = held[slot][:, :, :length]
        elif kind < 0.9:
            target = draw.randrange(5)
            if target != slot:
                slots.move(slot, target)
                held[target], held[slot] = held[slot], torch.zeros(2, 3, 0, 4)
        else:
            target = draw.randrange(5)
            kept = slots.taken(slot, following=7)
            slots.put(target, kept)
            held[target] = held[slot].clone()
            assert kept.following == 7
        for i in range(5):
            found = slots.taken(i, 0)
            assert torch.equal(found.keys, held[i]) and torch.equal(found.values, -held[i])


def test_memory_follows_use():
    slots = KVSlots(KVShape(depth=8, groups=8, head_dim=64), 16)
    small = slots.bytes
    slots.view(0, 1, 3000)
    one = slots.bytes
    assert one < 20 * small  # one long text takes one long slot, not sixteen
    slots.view(0, 5, 10)
    assert slots.bytes > 4 * one
    slots.emptied()
    assert slots.bytes == small
