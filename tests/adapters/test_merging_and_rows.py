"""Adapters in the weights and beside them: the same pictures, the same bits back, and rows of a
batch that do not know each other."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from diptych.adapters.adapter import Adapter, Place, Weighted
from diptych.adapters.changes import Full, LowRank, Value
from diptych.adapters.merging import merge
from diptych.adapters.rows import applied, planned
from diptych.foundation.errors import InvalidValue
from diptych.models.clip_text import CLIPText, CLIPTextConfig
from diptych.models.unet import UNet, UNetConfig
from diptych.nn.blocks import RowLinear
from diptych.nn.norms import RMSNorm
from tests.tiny_adapters import KINDS, OF_KERNELS, drawing, tiny_adapter

ROWS = 5


def network(dtype: torch.dtype = torch.float64, **changes: object) -> UNet:
    torch.manual_seed(0)
    made = UNet(UNetConfig.tiny(**changes))  # type: ignore[arg-type]
    for parameter in made.parameters():
        nn.init.normal_(parameter, std=0.15)
    return made.to(dtype).eval().requires_grad_(False)


def inputs(rows: int = ROWS, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor]:
    draw = drawing(77, dtype)
    return draw(rows, 4, 10, 6), torch.linspace(1, 999, rows, dtype=dtype), draw(rows, 7, 32)


@torch.no_grad()
def with_rows(unet: UNet, requests: Sequence[Weighted], rows: Sequence[int], *given: Tensor):
    plans = [planned({"unet": unet}, weighted) for weighted in requests]
    with applied([plans[row] for row in rows]):
        return unet(*given)


@torch.no_grad()
def as_merged(unet: UNet, weighted: Weighted, *given: Tensor) -> Tensor:
    merged = merge({"unet": unet}, weighted)
    try:
        return unet(*given)
    finally:
        merged.undo()


def apart(one: Tensor, other: Tensor) -> float:
    return float((one - other).abs().max() / other.abs().max())


def state(network: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in network.state_dict().items()}


@pytest.mark.parametrize("kind", [*KINDS, *OF_KERNELS])
def test_a_row_is_as_if_its_adapter_was_merged(kind: str):
    unet = network()
    adapter, given = tiny_adapter({"unet": unet}, kind), inputs(1)
    wanted = as_merged(unet, [(adapter, 0.7)], *given)
    assert apart(wanted, unet(*given)) > 1e-3
    assert apart(with_rows(unet, [[(adapter, 0.7)]], [0], *given), wanted) < 1e-12


@pytest.mark.parametrize("projection", [False, True])
def test_rows_of_one_batch_have_other_adapters(projection: bool):
    """Each is as alone, to the bit, and as merged; one without adapters keeps its bits."""
    unet = network(linear_projection=projection, vector_width=0)
    one = tiny_adapter({"unet": unet}, "lora", seed=1)
    other = tiny_adapter({"unet": unet}, (*KINDS, *OF_KERNELS), seed=2, biases=True)
    requests: list[Weighted] = [[(one, 1.0)], [], [(other, 0.5)], [(one, 0.3), (other, -1)], []]
    given = inputs()
    together = with_rows(unet, requests, range(ROWS), *given)
    plain = unet(*given)
    for row, weighted in enumerate(requests):
        mine = [tensor[row : row + 1] for tensor in given]
        assert apart(together[row : row + 1], as_merged(unet, weighted, *mine)) < 1e-12
    for row in (1, 4):
        assert torch.equal(together[row], plain[row])
    # In any order, and a request more than once, as guidance asks.
    order = [3, 3, 0, 4, 2, 1, 0]
    again = with_rows(unet, requests, order, *(tensor[order] for tensor in given))
    assert all(torch.equal(again[at], together[row]) for at, row in enumerate(order))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_neighbours_change_no_bit(dtype: torch.dtype):
    unet = network(dtype)
    adapters = [
        tiny_adapter({"unet": unet}, seed=seed, dtype=torch.float16, biases=True)
        for seed in range(3)
    ]
    given = inputs(dtype=dtype)
    sets: list[Weighted] = [[], [(adapters[0], 1)], [(adapters[1], 0.4), (adapters[2], 1)]]
    mine: Weighted = [(adapters[0], 0.8)]
    found = [
        with_rows(unet, [mine, *[other] * (ROWS - 1)], range(ROWS), *given)[0] for other in sets
    ]
    assert all(torch.equal(row, found[0]) for row in found)
    plain = unet(*given)
    beside = with_rows(unet, [[], *[sets[2]] * (ROWS - 1)], range(ROWS), *given)
    assert torch.equal(beside[0], plain[0]) and not torch.equal(beside[1], plain[1])


def test_threads_do_not_see_each_other():
    """Eight threads, each with adapters of its own, on one network."""
    unet = network(torch.float32)
    given = inputs(3, torch.float32)
    adapters = [tiny_adapter({"unet": unet}, seed=seed) for seed in range(8)]
    requests = [[[(a, 0.5)], [], [(b, 1.0)]] for a, b in zip(adapters, adapters[::-1], strict=True)]
    wanted = [with_rows(unet, each, range(3), *given) for each in requests]
    found: dict[int, list[Tensor]] = {}
    start = threading.Barrier(9)

    def run(number: int) -> None:
        start.wait()
        each = requests[number]
        found[number] = [with_rows(unet, each, range(3), *given) for _ in range(5)]

    threads = [threading.Thread(target=run, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    start.wait()
    with torch.no_grad():
        plain = [unet(*given) for _ in range(5)]
    for thread in threads:
        thread.join()
    assert len(found) == 8
    for number, outs in found.items():
        assert all(torch.equal(out, wanted[number]) for out in outs)
    assert all(torch.equal(out, plain[0]) for out in plain)


def test_every_layer_is_called_where_hooks_see_it():
    """No linear map or convolution is asked past its call, nor any norm."""
    torch.manual_seed(0)
    networks: Mapping[str, nn.Module] = {
        "unet": network(vector_width=20),
        "text": CLIPText(CLIPTextConfig.tiny()).double().eval(),
    }
    for linear in (False, True):
        networks = {**networks, f"unet {linear}": network(linear_projection=linear)}
    for name, one in networks.items():
        seen: set[nn.Module] = set()
        known = nn.Linear | nn.Conv2d | nn.LayerNorm | nn.GroupNorm | RMSNorm
        layers = {module for module in one.modules() if isinstance(module, known)}
        for layer in layers:
            layer.register_forward_hook(lambda module, *_, seen=seen: seen.add(module))
        if name == "text":
            one(torch.tensor([[1, 2, 39]]))
        else:
            vector = drawing(0)(ROWS, 20) if name == "unet" else None
            one(*inputs(), vector)
        assert len(seen) == len(layers) > 10


def test_words_are_read_with_adapters_too():
    torch.manual_seed(1)
    text = CLIPText(CLIPTextConfig.tiny()).double().eval().requires_grad_(False)
    networks = {"text_encoder": text}
    adapter = tiny_adapter(networks, biases=True)
    words = torch.randint(0, 39, (4, 8))
    words[:, -1] = 39
    one, half = (planned(networks, [(adapter, weight)]) for weight in (1, 0.5))
    with applied([half, one, half, one]):
        found = text(words)
    for row, weight in enumerate([0.5, 1, 0.5, 1]):
        merged = merge(networks, [(adapter, weight)])
        wanted = text(words[row : row + 1])
        merged.undo()
        assert apart(found.layers[-1][row : row + 1], wanted.layers[-1]) < 1e-12
        assert apart(found.projected[row : row + 1], wanted.projected) < 1e-12


def test_merged_weights_come_back_to_the_bit():
    unet = network(torch.bfloat16)
    before, parameters = state(unet), dict(unet.named_parameters())
    first = tiny_adapter({"unet": unet}, biases=True)
    merged = merge({"unet": unet}, [(first, 0.5), (tiny_adapter({"unet": unet}, seed=1), 2)])
    names = {f"{place.module}.{place.leaf}" for place in first.changes}
    assert len(names) > 50
    assert all(torch.equal(before[k], v) != (k in names) for k, v in unet.state_dict().items())
    assert merged.memory == sum(2 * before[name].numel() for name in names)
    again = merge({"unet": unet}, [(first, 1)])  # one over the other
    again.undo()
    merged.undo()
    assert all(torch.equal(before[name], v) for name, v in unet.state_dict().items())
    assert all(parameters[name] is p for name, p in unet.named_parameters())


def test_several_at_once_add_up_in_any_order():
    unet = network()
    weighted = [(tiny_adapter({"unet": unet}, seed=seed), 0.5 + seed) for seed in range(3)]
    weight = unet.conv_in.weight
    merged = merge({"unet": unet}, weighted)
    place = Place("unet", "conv_in")
    wanted = weight + sum(w * adapter.changes[place].added(weight) for adapter, w in weighted)
    assert torch.allclose(unet.conv_in.weight, wanted, rtol=0, atol=1e-12)
    one = unet.conv_in.weight
    merged.undo()
    merge({"unet": unet}, weighted[::-1])
    assert torch.allclose(unet.conv_in.weight, one, rtol=0, atol=1e-12)


def test_a_weight_of_nothing_changes_nothing():
    """A value that takes another's place, and DoRA, go all the way with it too."""
    unet, given = network(), inputs()
    adapter = tiny_adapter({"unet": unet})
    plain = unet(*given)
    assert torch.equal(as_merged(unet, [(adapter, 0)], *given), plain)
    assert apart(with_rows(unet, [[(adapter, 0)]], [0] * ROWS, *given), plain) < 1e-12


def test_an_adapter_without_a_place_changes_nothing():
    unet = network()
    before = state(unet)
    good = tiny_adapter({"unet": unet}).changes
    change = Full(torch.ones(3, 3))
    for place in (Place("unet", "nobody"), Place("vae", "conv_in"), Place("unet", "conv_in", "x")):
        adapter = Adapter("x", {**good, place: change})
        with pytest.raises(InvalidValue, match="There is no"):
            merge({"unet": unet}, [(adapter, 1)])
        with pytest.raises(InvalidValue, match="There is no"):
            planned({"unet": unet}, [(adapter, 1)])
    adapter = Adapter("x", {**good, Place("unet", "conv_in"): change})
    for use in (lambda a: merge({"unet": unet}, a), lambda a: planned({"unet": unet}, a)):
        with pytest.raises(InvalidValue, match=r"unet\.conv_in\.weight"):
            use([(adapter, 1)])
    assert all(torch.equal(before[name], v) for name, v in unet.state_dict().items())


def test_a_layer_may_be_widened_by_merging():
    """As a control LoRA reads a second picture beside the first."""
    layer = nn.Linear(4, 6).double()
    networks = {"x": nn.ModuleDict({"img_in": layer})}
    before, draw = layer.weight, drawing(3)
    x, more = draw(5, 4), draw(5, 4)
    change = LowRank(draw(6, 2), draw(2, 8))
    adapter = Adapter("control", {Place("x", "img_in"): change})
    with pytest.raises(InvalidValue, match=r"img_in.*Merge"):
        planned(networks, [(adapter, 1)])
    plain = layer(x)
    merged = merge(networks, [(adapter, 1)])
    assert layer.in_features == 8 and layer.weight.shape == (6, 8)
    both = torch.cat([x, more], dim=1)
    wanted = plain + both @ change.down.T @ change.up.T
    assert torch.allclose(layer(both), wanted, rtol=0, atol=1e-12)
    merged.undo()
    assert layer.in_features == 4 and layer.weight is before


class Part(nn.Module):
    """A weight that is nobody's layer."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.ones(3))


def test_what_only_merging_can_change_is_said():
    networks = {"x": nn.ModuleDict({"part": Part()})}
    adapter = Adapter("x", {Place("x", "part", "table"): Value(torch.zeros(3))})
    with pytest.raises(InvalidValue, match=r"x\.part\.table.*all rows.*Merge"):
        planned(networks, [(adapter, 1)])
    merge(networks, [(adapter, 1)])
    assert not networks["x"]["part"].table.any()  # type: ignore[index]
    # A table may be read without a call, as that of places is.
    text = CLIPText(CLIPTextConfig.tiny())
    place = Place("text", "embeddings.position_embedding")
    adapter = Adapter("x", {place: Full(torch.ones(10, 24))})
    with pytest.raises(InvalidValue, match="Embedding"):
        planned({"text": text}, [(adapter, 1)])


def test_layers_that_take_rows_by_fours():
    """[B, C] maps, and norms of both kinds."""
    torch.manual_seed(0)
    layers = {"row": RowLinear(8, 6), "norm": RMSNorm(8), "layer": nn.LayerNorm(8)}
    one = nn.ModuleDict(layers).double().requires_grad_(False)
    draw = drawing(4)
    adapter = Adapter(
        "x",
        {
            Place("x", "row"): Full(draw(6, 8)),
            Place("x", "norm"): Value(draw(8)),
            Place("x", "layer"): Full(draw(8)),
        },
    )
    x = draw(6, 8)
    with torch.no_grad():
        plan = planned({"x": one}, [(adapter, 1)])
        with applied([None, plan, plan, None, plan, None]):
            found = {name: layer(x) for name, layer in layers.items()}
        plain = {name: layer(x) for name, layer in layers.items()}
        merged = merge({"x": one}, [(adapter, 1)])
        wanted = {name: layer(x) for name, layer in layers.items()}
        merged.undo()
    for name in layers:
        assert torch.equal(found[name][[0, 3, 5]], plain[name][[0, 3, 5]])
        assert torch.allclose(found[name][[1, 2, 4]], wanted[name][[1, 2, 4]], rtol=0, atol=1e-12)


def test_a_batch_of_another_size_is_an_error():
    unet = network()
    with pytest.raises(RuntimeError, match="2 rows have adapters, and 5"):
        with_rows(unet, [[(tiny_adapter({"unet": unet}), 1)]], [0, 0], *inputs())


def test_no_adapters_are_no_plan():
    assert planned({"unet": network()}, []) is None


def test_gradients_reach_the_factors_in_rows():
    """What a trainer needs: the batch's rows give gradients to their own adapters' factors."""
    unet = network()
    given = inputs(2)
    adapter = tiny_adapter({"unet": unet}, "lora")
    changes = {
        place: replace(change, up=change.up.clone().requires_grad_(True))
        for place, change in adapter.changes.items()
        if isinstance(change, LowRank)
    }
    with applied([None, planned({"unet": unet}, [(Adapter("x", changes), 1)])]):
        unet(*given).square().sum().backward()
    assert all(change.up.grad is not None for change in changes.values())
