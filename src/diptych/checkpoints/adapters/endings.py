"""What a tensor of an adapter is, by the end of its name. What stands before it is the name of a
layer in some dialect, and is looked up whole (`names`)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

# Parts of changes, by the names that `kinds` has for them.
UP, DOWN, MID, ALPHA = "up", "down", "mid", "alpha"
MAGNITUDE, DORA_SCALE = "magnitude", "dora_scale"  # the same; the second may be of columns
DIFF, BIAS, UP_BIAS, VALUE = "diff", "bias", "up bias", "value"

# A way of writing -> part -> end of the name.
STYLES: dict[str, dict[str, str]] = {
    "kohya": {
        DOWN: ".lora_down.weight", UP: ".lora_up.weight", MID: ".lora_mid.weight",
        UP_BIAS: ".lora_up.bias",
    },
    "PEFT": {
        DOWN: ".lora_A.weight", UP: ".lora_B.weight", UP_BIAS: ".lora_B.bias",
        MAGNITUDE: ".lora_magnitude_vector",
    },
    "PEFT with a name": {
        DOWN: ".lora_A.default.weight", UP: ".lora_B.default.weight",
        UP_BIAS: ".lora_B.default.bias", MAGNITUDE: ".lora_magnitude_vector.default.weight",
    },
    "PEFT, magnitude as a layer": {MAGNITUDE: ".lora_magnitude_vector.weight"},
    "diffusers": {DOWN: ".lora.down.weight", UP: ".lora.up.weight"},
    "diffusers, words": {
        DOWN: ".lora_linear_layer.down.weight", UP: ".lora_linear_layer.up.weight",
    },
    "processors": {DOWN: ".down.weight", UP: ".up.weight"},
    "LoHa": {name: f".hada_{name}" for name in ("w1_a", "w1_b", "w2_a", "w2_b", "t1", "t2")},
    "LoKr": {
        f"k{name}": f".lokr_{name}"
        for name in ("w1", "w1_a", "w1_b", "w2", "w2_a", "w2_b", "t2")
    },
    "LyCORIS": {DIFF: ".diff", BIAS: ".diff_b", DORA_SCALE: ".dora_scale"},
    "LyCORIS, norms": {DIFF: ".w_norm", BIAS: ".b_norm"},
    "ComfyUI": {VALUE: ".set_weight"},
    "all": {ALPHA: ".alpha"},
}  # fmt: skip

# Kinds that are known and not built -> what their tensors' names hold.
UNBUILT: dict[str, tuple[str, ...]] = {
    "OFT": (".oft_blocks", ".oft_diag", ".oft_R", ".boft_"),
    "GLoRA": (".a1.weight", ".b1.weight"),
    "(IA)^3": (".on_input", ".ia3_"),
    "AdaLoRA": (".lora_E", ".ranknum"),
    "VeRA": (".vera_lambda_",),
    "LoRA of a word table": (".lora_embedding_A", ".lora_embedding_B"),
}
# A name that ends so is an adapter's. Of the processors' ends alone many a layer has the like.
_MARKS = tuple(
    end
    for style, parts in STYLES.items()
    for part, end in parts.items()
    if part != ALPHA and style != "processors"
)
_PROCESSORS = tuple(
    f"_lora{number}{end}" for number in ("", "1", "2") for end in STYLES["processors"].values()
)
# These bring a LoRA as a part of something else.
_OTHERS = ("image_proj.", "ip_adapter.")

_ENDS = sorted(
    ((end, style, part) for style, parts in STYLES.items() for part, end in parts.items()),
    key=lambda row: -len(row[0]),
)


class Ended(NamedTuple):
    """A tensor's name: of which target, which part of its change, in which way of writing."""

    target: str
    part: str
    style: str


def ended(name: str) -> Ended | None:
    """None for a name that ends in none of these ways."""
    for end, style, part in _ENDS:
        if name.endswith(end):
            return Ended(name.removesuffix(end), part, style)
    return None


def is_adapter(names: Iterable[str]) -> bool:
    """Whether tensors of these names are changes and no model."""
    listed = list(names)
    if any(name.startswith(_OTHERS) for name in listed):
        return False
    return any(name.endswith(_MARKS + _PROCESSORS) for name in listed) or bool(unbuilt(listed))


def unbuilt(names: Iterable[str]) -> str:
    """The kind that is not built here, or nothing."""
    listed = list(names)
    for kind, ends in UNBUILT.items():
        if any(end in name for name in listed for end in ends):
            return kind
    return ""


@dataclass(frozen=True)
class Target:
    """All that a file says of one layer: the names of its tensors by part."""

    name: str
    tensors: dict[str, str]
    styles: frozenset[str]

    def missing(self, part: str) -> str:
        """How a part that is not there would be called beside those that are."""
        ends = next((STYLES[s][part] for s in sorted(self.styles) if part in STYLES[s]), "")
        return self.name + (ends or f": {part}")


def targets_of(names: Iterable[str]) -> tuple[dict[str, Target], list[str]]:
    """Targets by name, and names that end in no known way or say what another says."""
    found: dict[str, dict[str, str]] = {}
    styles: dict[str, set[str]] = {}
    left: list[str] = []
    for name in names:
        end = ended(name)
        if end is None:
            left.append(name)
            continue
        parts = found.setdefault(end.target, {})
        if end.part in parts:  # written twice, in two ways
            left.append(name)
            continue
        parts[end.part] = name
        styles.setdefault(end.target, set()).add(end.style)
    return {
        name: Target(name, parts, frozenset(styles[name])) for name, parts in found.items()
    }, left
