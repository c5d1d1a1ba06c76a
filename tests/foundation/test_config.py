"""Configs survive JSON, and a wrong word is refused with the right one."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, replace
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from diptych.foundation.config import from_json, to_json, with_changes
from diptych.foundation.errors import InvalidValue


@dataclass(frozen=True, kw_only=True)
class Optimizer:
    rate: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.99)
    kind: Literal["adam", "sgd"] = "adam"


@dataclass(frozen=True, kw_only=True)
class Run:
    width: int
    heads: int = 4
    name: str = "plain"
    limit: int | None = None
    ema: bool = True
    sizes: tuple[int, ...] = (32, 64)
    shares: dict[str, float] = field(default_factory=dict)
    optimizer: Optimizer = Optimizer()

    def __post_init__(self):
        if self.width % self.heads:
            raise ValueError(f"width {self.width} is no multiple of heads {self.heads}")


finite = st.floats(allow_nan=False, allow_infinity=False)
optimizers = st.builds(
    Optimizer, rate=finite, betas=st.tuples(finite, finite), kind=st.sampled_from(["adam", "sgd"])
)
runs = st.builds(
    Run,
    width=st.integers(0, 99).map(lambda n: 4 * n),
    name=st.text(),
    limit=st.none() | st.integers(),
    ema=st.booleans(),
    sizes=st.lists(st.integers(), max_size=4).map(tuple),
    shares=st.dictionaries(st.text(), finite, max_size=3),
    optimizer=optimizers,
)


@given(runs)
def test_json_round_trip(run: Run):
    assert from_json(Run, json.loads(json.dumps(to_json(run)))) == run


@given(runs, runs)
def test_every_field_can_be_set_from_words(run: Run, other: Run):
    words = [
        f"width={other.width}",
        f"limit={'none' if other.limit is None else other.limit}",
        f"ema={str(other.ema).lower()}",
        f"name=a={other.name.strip()}",
        f"sizes={','.join(map(str, other.sizes))}",
        f"shares={json.dumps(other.shares)}",
        f"optimizer.rate={other.optimizer.rate!r}",
        f"optimizer.betas={list(other.optimizer.betas)}",
        f"optimizer.kind={other.optimizer.kind}",
    ]
    changed = with_changes(run, words)
    assert changed == replace(other, heads=run.heads, name=f"a={other.name.strip()}")
    assert asdict(with_changes(run, [])) == asdict(run)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("widht=8", "'width'"),  # codespell:ignore
        ("optimizer.rat=1", "'rate'"),
        ("optimizer.kind=adma", "'adam'"),
        ("width=wide", "width must be a whole number"),
        ("width=8.5", "width must be a whole number"),
        ("ema=maybe", "ema must be true or false"),
        ("limit=many", "limit must be a whole number"),
        ("optimizer.betas=0.9", "a list of 2"),
        ("sizes=8,big", "sizes[1] must be a whole number"),
        ("optimizer=adam", "optimizer.rate"),
        ("width.x=3", "no parts"),
        ("width", "key=value"),
        ("heads=3", "no multiple"),
    ],
)
def test_wrong_changes_are_refused_by_name(change: str, says: str):
    with pytest.raises(InvalidValue) as raised:
        with_changes(Run(width=8), [change])
    assert says in str(raised.value)


def test_changes_that_need_each_other_pass_together():
    assert with_changes(Run(width=8), ["heads=3", "width=9"]).width == 9


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ({"width": 8, "depht": 2}, "depht"),
        ({}, "lacks width"),
        ({"width": True}, "width must be a whole number"),
        ({"width": 8.0}, "width must be a whole number"),
        ({"width": 8, "name": 3}, "name must be a text"),
        ({"width": 8, "sizes": [1, "2"]}, "sizes[1]"),
        ({"width": 8, "optimizer": {"rate": "fast"}}, "optimizer.rate"),
        ({"width": 8, "optimizer": {"rats": 1}}, "optimizer.rats"),
        ({"width": 7}, "no multiple"),
        ([8], "must be an object"),
    ],
)
def test_wrong_json_is_refused_by_name(data, says: str):
    with pytest.raises(InvalidValue) as raised:
        from_json(Run, data)
    assert says in str(raised.value)


def test_what_json_cannot_hold_is_our_mistake():
    with pytest.raises(TypeError):
        to_json(Run(width=8, name=object()))  # pyright: ignore[reportArgumentType]
