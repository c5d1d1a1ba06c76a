"""LoRA and its relatives, and words learnt from pictures, added to a model that paints."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import isfinite
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from diptych.adapters.adapter import Adapter, Weighted
from diptych.adapters.changes import Value
from diptych.adapters.rows import RowPlan, planned
from diptych.checkpoints.account import LoadReport
from diptych.checkpoints.adapters.endings import is_adapter
from diptych.checkpoints.adapters.inversion import (
    found_inversion,
    is_inversion,
    load_inversion,
)
from diptych.checkpoints.adapters.read import found_adapter, load_adapter
from diptych.checkpoints.adapters.said import weights_of
from diptych.checkpoints.header import header_of
from diptych.foundation.errors import InvalidValue, NotFound, Unreadable, unknown
from diptych.models.clip_text import CLIPText

Loras = Sequence[tuple[str | Path, float]]
"""Names or files of adapters, and how strongly each acts: 1 as trained."""


@runtime_checkable
class Following(Protocol):
    """A family whose network can be made to follow a picture by a control LoRA."""

    def following(self, changes: Sequence[tuple[Adapter, float]]) -> Any:
        """The same, changed for good and shown a picture beside the latent. Raises
        InvalidValue."""
        ...


@runtime_checkable
class Adaptable(Protocol):
    """A family whose networks take adapters."""

    @property
    def device(self) -> torch.device: ...

    def components(self) -> dict[str, nn.Module]:
        """The networks that adapters change, by the names of published folders."""
        ...

    def knowing(self, word: str, rows: Mapping[str, Tensor]) -> Any:
        """The same with a word learnt from pictures, rows [n, D] by component. Raises InvalidValue
        for a word that cannot be told apart."""
        ...


@dataclass(frozen=True, eq=False)
class AddedLora:
    """An adapter that was added, the account of its file, and the file's mark."""

    adapter: Adapter
    report: LoadReport
    mark: str


def what_is(path: Path) -> str:
    """`lora` or `word` for a file or folder of such, else nothing."""
    try:
        file = weights_of(path)
        header = header_of(file)
    except (NotFound, Unreadable):  # whoever reads it says why
        return ""
    return "lora" if is_adapter(header) else "word" if is_inversion(header) else ""


def is_control(path: Path, networks: Any) -> bool:
    """Whether a LoRA makes the first layer twice as wide, for a picture to be followed, as those
    of FLUX for depth and edges. Raises NotFound, Unreadable."""
    if not isinstance(networks, Adaptable) or what_is(path) != "lora":
        return False
    layer: Any = getattr(networks.components().get("transformer"), "x_embedder", None)
    if not isinstance(layer, nn.Linear):
        return False
    wide = 2 * layer.in_features
    return any(
        ("img_in" in name or "x_embedder" in name) and len(one.shape) == 2 and one.shape[1] == wide
        for name, one in header_of(weights_of(path)).items()
    )


def read_lora(path: Path, networks: Any, name: str, allow: Sequence[str]) -> AddedLora:
    """Raises NotFound, Unreadable, InvalidValue."""
    found = found_adapter(path, _adaptable(networks).components(), name=name, allow=allow)
    adapter = load_adapter(found).to(networks.device)
    return AddedLora(adapter, found.report, mark_of_file(weights_of(path)))


def read_word(
    path: Path, networks: Any, word: str, allow: Sequence[str]
) -> tuple[Any, str, LoadReport]:
    """The networks with the word, the word as prompts have it, and the account of its file.
    Raises NotFound, Unreadable, InvalidValue."""
    owner, path = _adaptable(networks), weights_of(path)
    widths: dict[str, int] = {}
    for component, network in owner.components().items():
        if isinstance(network, CLIPText):
            widths[component] = network.config.width
    found = found_inversion(path, widths, word=word, allow=allow)
    learnt = load_inversion(found)
    return owner.knowing(learnt.word, learnt.rows), learnt.word, found.report


def plans_for(
    components: Mapping[str, nn.Module], each: Sequence[Weighted], count: int
) -> list[RowPlan | None]:
    """How the adapters of each of `count` pictures change the networks; the same adapters, the
    same plan. Raises InvalidValue."""
    sets = [tuple(one) for one in each or [()] * count]
    found = {one: planned(components, one) for one in dict.fromkeys(sets)}
    return [found[one] for one in sets]


def _adaptable(networks: Any) -> Adaptable:
    if not isinstance(networks, Adaptable):
        raise InvalidValue("This model takes no adapters.", do="Take a published one.")
    return networks


def loras_of_each(asked: Loras | Sequence[Loras], count: int) -> list[Loras]:
    """The adapters of each of `count` pictures: one list for all, or one for each. Raises
    InvalidValue."""
    said: list[Any] = list(asked)
    if all(_is_pair(one) for one in said):
        return [said] * count
    each: list[Loras] = [list(one) if isinstance(one, Sequence) else [one] for one in said]
    if len(each) == count and all(_is_pair(pair) for one in each for pair in one):
        return each
    raise InvalidValue(
        f"loras={asked!r} says neither what all pictures have nor what each of {count} has.",
        do='Write [("name", 0.8)], or a list of such lists, as long as the prompts.',
    )


def _is_pair(one: Any) -> bool:
    if not isinstance(one, tuple) or len(one) != 2 or not isinstance(one[0], str | Path):
        return False
    if not isinstance(one[1], int | float) or not isfinite(one[1]):
        raise InvalidValue(f"{one[1]!r} is no strength of {str(one[0])!r}.", do="Say 1, or 0.8.")
    return True


class Adapters:
    """What was added to a model: `loras` by name, and of learnt `words` their files' marks."""

    def __init__(self) -> None:
        self.loras: dict[str, AddedLora] = {}
        self.words: dict[str, str] = {}
        self.merged: tuple[str, ...] = ()

    def merge_control(
        self, networks: Any, path: Path, name: str, strength: float, allow: Sequence[str]
    ) -> tuple[Any, LoadReport]:
        """The networks with a control LoRA in their weights. Raises NotFound, Unreadable,
        InvalidValue."""
        if not isinstance(networks, Following):
            raise InvalidValue("This model follows no picture by a LoRA.", do="FLUX.1 [dev] does.")
        if not isfinite(strength):
            raise InvalidValue(f"{strength!r} is no strength of {name!r}.", do="Say 1, or 0.85.")
        one = read_lora(path, networks, Path(name).stem, allow)
        values, rest = _parted(one.adapter)
        # Norms are replaced and not moved, so they have no strength.
        made = networks.following([(values, 1.0), (rest, strength)])
        self.merged = (*self.merged, f"{one.adapter.name} x {strength:g} {one.mark}")
        return made, one.report

    def add_lora(self, networks: Any, path: Path, name: str, allow: Sequence[str]) -> LoadReport:
        """Raises NotFound, Unreadable, InvalidValue."""
        self.loras[name] = read_lora(path, networks, Path(name).stem, allow)
        return self.loras[name].report

    def add_word(
        self, networks: Any, path: Path, word: str, allow: Sequence[str]
    ) -> tuple[Any, LoadReport]:
        """The networks with the word. Raises NotFound, Unreadable, InvalidValue."""
        knowing, word, report = read_word(path, networks, word, allow)
        self.words[word] = mark_of_file(weights_of(path))
        return knowing, report

    def of_each(self, networks: Any, asked: Loras | Sequence[Loras], count: int) -> list[Loras]:
        """The adapters of each of `count` pictures; files that are not known yet are read. Raises
        NotFound, Unreadable, InvalidValue."""
        each = loras_of_each(asked, count)
        for name in (str(name) for one in each for name, _ in one):
            if name not in self.loras and not Path(name).exists():
                raise unknown("LoRA", name, self.loras, see="Add it first, or name its file.")
            if name not in self.loras and is_control(Path(name), networks):
                raise InvalidValue(
                    f"{name!r} makes a model follow pictures, all that it paints.",
                    do="Add it first: TextToImage.add, with its strength.",
                )
            if name not in self.loras:
                self.add_lora(networks, Path(name), name, ())
        return each

    def weighted(self, each: Sequence[Loras]) -> tuple[Weighted, ...]:
        """Adapters in the place of their names; nothing where no picture has any."""
        if not any(each):
            return ()
        return tuple(
            tuple((self.loras[str(name)].adapter, float(weight)) for name, weight in loras)
            for loras in each
        )

    def told(self, loras: Loras, *texts: str) -> dict[str, tuple[str, ...]]:
        """What a picture's recipe says of its adapters, and of learnt words in its prompts."""
        known = [(self.loras[str(name)], weight) for name, weight in loras]
        said = " ".join(texts).lower()
        return {
            "loras": self.merged
            + tuple(f"{one.adapter.name} x {weight:g} {one.mark}" for one, weight in known),
            "words": tuple(
                f"{word} {mark}" for word, mark in self.words.items() if word.lower() in said
            ),
        }


def _parted(adapter: Adapter) -> tuple[Adapter, Adapter]:
    """New values, and what is added to old ones."""
    found: tuple[dict[Any, Any], dict[Any, Any]] = ({}, {})
    for place, change in adapter.changes.items():
        found[not isinstance(change, Value)][place] = change
    return replace(adapter, changes=found[0]), replace(adapter, changes=found[1])


def mark_of_file(path: Path) -> str:
    """The first ten digits of the SHA-256 of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while content := file.read(1 << 24):
            digest.update(content)
    return digest.hexdigest()[:10]
