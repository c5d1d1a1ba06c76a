"""Which of our layers a name in an adapter's file means.

Every layer of the networks at hand is written down in every layout that is known of them, with
every prefix, with dots and flattened to underscores; a name is looked up whole in that book. Names
are never taken apart: `to_out_0` and `time_emb_proj` have underscores of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from torch import nn

from diptych.checkpoints.layout import Layout
from diptych.checkpoints.layouts import LAYOUTS, kind_of
from diptych.checkpoints.rules import COLUMNS, TRANSPOSE, Rule, Take, plan_of
from diptych.models.t5_encoder import T5Encoder

FLAT = "kohya"

_TURNED = (COLUMNS, TRANSPOSE)


class Prefix(NamedTuple):
    """What stands before the names of a component, and whose habit that is. `flat`: what follows
    has underscores for dots."""

    text: str
    dialect: str
    flat: bool = False


_BARE = (Prefix("", "diffusers"), Prefix("base_model.model.", "PEFT"))


def _encoder(number: str, kohya: Sequence[str], *others: str) -> tuple[Prefix, ...]:
    return (
        *_BARE,
        Prefix(f"text_encoder{number}.", "diffusers"),
        Prefix(f"base_model.model.text_encoder{number}.", "PEFT"),
        *(Prefix(f"{name}.transformer.", "ComfyUI") for name in others),
        *(Prefix(f"text_encoders.{name}.transformer.", "ComfyUI") for name in others),
        *(Prefix(name, FLAT, flat=True) for name in kohya),
    )


def _denoiser(name: str, *flat: str) -> tuple[Prefix, ...]:
    return (
        *_BARE,
        Prefix(f"{name}.", "diffusers"),
        Prefix(f"base_model.model.{name}.", "PEFT"),
        Prefix("diffusion_model.", "ComfyUI"),
        Prefix("model.diffusion_model.", "ComfyUI"),
        *(Prefix(text, FLAT, flat=True) for text in ("lora_unet_", "lycoris_", *flat)),
    )


PREFIXES: dict[str, tuple[Prefix, ...]] = {
    "unet": _denoiser("unet"),
    "transformer": _denoiser("transformer", "lora_transformer_"),
    "text_encoder": _encoder("", ("lora_te_", "lora_te1_"), "clip_l"),
    "text_encoder_2": _encoder("_2", ("lora_te2_",), "clip_g"),
    "text_encoder_3": _encoder("_3", ("lora_te3_",), "t5xxl"),
}
# FLUX's second encoder is T5, which trainers number as SD3's third.
_T5_SECOND = _encoder("_2", ("lora_te3_",), "t5xxl")

# Layers under names that belong to adapters alone: component -> dialect -> rules, from the names
# of the network's layers.
_Aliases = Callable[[Sequence[str]], list[Rule]]
_PROCESSORS = {"to_q": "to_q", "to_k": "to_k", "to_v": "to_v", "to_out.0": "to_out"}
_OLD_WORDS = {"q_proj": "to_q", "k_proj": "to_k", "v_proj": "to_v", "out_proj": "to_out"}


def _of_2023(ends: Mapping[str, str], before: str, between: str) -> _Aliases:
    """As diffusers wrote attentions before PEFT: `attn1.processor.to_q_lora`."""

    def rules(layers: Sequence[str]) -> list[Rule]:
        found = []
        for layer in layers:
            for ours, theirs in ends.items():
                if layer.endswith(f".{ours}"):
                    start = layer.removesuffix(ours)
                    found.append(Rule(f"{layer}.", f"{before}{start}{between}{theirs}_lora."))
        return found

    return rules


def _of_xlabs(layers: Sequence[str]) -> list[Rule]:
    """As XLabs wrote FLUX's: query, key and value in one, 1 for the picture and 2 for words."""
    double, single = "transformer_blocks", "single_transformer_blocks"
    known, rules = set(layers), list[Rule]()
    for i in range(len(known)):
        wanted = {
            f"{double}.{i}.attn.to_{{}}": f"double_blocks.{i}.processor.qkv_lora1.",
            f"{double}.{i}.attn.add_{{}}_proj": f"double_blocks.{i}.processor.qkv_lora2.",
            f"{single}.{i}.attn.to_{{}}": f"single_blocks.{i}.processor.qkv_lora.",
        }
        wanted = {ours: theirs for ours, theirs in wanted.items() if ours.format("q") in known}
        if not wanted:
            break
        for ours, theirs in wanted.items():
            rules += [
                Rule(f"{ours.format(name)}.", theirs, part=part, parts=3)
                for part, name in enumerate("qkv")
            ]
        rules += [
            Rule(f"{double}.{i}.attn.to_out.0.", f"double_blocks.{i}.processor.proj_lora1."),
            Rule(f"{double}.{i}.attn.to_add_out.", f"double_blocks.{i}.processor.proj_lora2."),
            Rule(f"{single}.{i}.proj_out.", f"single_blocks.{i}.processor.proj_lora."),
        ]
    return rules


_WORDS_OF_2023 = _of_2023(_OLD_WORDS, "text_model.", "")
_OLD = "diffusers of 2023"
ALIASES: dict[str, dict[str, _Aliases]] = {
    "unet": {_OLD: _of_2023(_PROCESSORS, "", "processor.")},
    "transformer": {"XLabs": _of_xlabs},
    "text_encoder": {_OLD: _WORDS_OF_2023},
    "text_encoder_2": {_OLD: _WORDS_OF_2023},
}


@dataclass(frozen=True)
class Spot:
    """Where a name leads: parameters of a component, of which each is all or a part of what the
    name means, by `Take.rule`."""

    component: str
    dialect: str
    layout: str
    takes: tuple[Take, ...]


@dataclass
class Names:
    """The book. `layers`: names of layers; `parameters`: of single parameters. `twice`: names
    that mean layers of several components."""

    layers: dict[str, Spot] = field(default_factory=dict)
    parameters: dict[str, Spot] = field(default_factory=dict)
    twice: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def enter(self, book: dict[str, Spot], name: str, spot: Spot) -> None:
        known = book.get(name)
        if known is None:
            book[name] = spot
        elif known.component != spot.component:
            self.twice[name] = (known.component, spot.component)


def names_of(networks: Mapping[str, nn.Module]) -> Names:
    """The book of these components, by the names that `PREFIXES` has for them."""
    names = Names()
    for component, network in networks.items():
        prefixes = prefixes_of(component, network)
        for dialect, layout, plan in plans_of(component, network):
            layers: dict[str, list[Take]] = {}
            for take in plan:
                layer, dot, leaf = take.theirs.rpartition(".")
                if dot and leaf == "weight":
                    layers.setdefault(layer, []).append(take)
                for prefix in prefixes:
                    if not prefix.flat:
                        spot = Spot(component, dialect or prefix.dialect, layout, (take,))
                        names.enter(names.parameters, prefix.text + take.theirs, spot)
            for layer, takes in layers.items():
                for prefix in prefixes:
                    said = layer.replace(".", "_") if prefix.flat else layer
                    spot = Spot(component, dialect or prefix.dialect, layout, tuple(takes))
                    names.enter(names.layers, prefix.text + said, spot)
    return names


def prefixes_of(component: str, network: nn.Module) -> tuple[Prefix, ...]:
    """What may stand before the names of a component."""
    second = component == "text_encoder_2" and isinstance(network, T5Encoder)
    return _T5_SECOND if second else PREFIXES[component]


def plans_of(component: str, network: nn.Module) -> Iterator[tuple[str, str, list[Take]]]:
    """Dialect (none: the prefix's), layout, and where each parameter is in it."""
    ours = [name for name, _ in network.named_parameters()]
    yield "", "folder", plan_of((), ours)
    config: Any = network.config
    for layout in LAYOUTS:
        mine = layout.component == component and isinstance(network, _network_of(layout))
        if mine and layout.name != "folder":
            plan = plan_of(layout.rules(config), ours)
            yield "", layout.name, [take for take in plan if take.rule.op not in _TURNED]
    layers = [name for name, _ in network.named_modules()]
    for dialect, aliases in ALIASES.get(component, {}).items():
        plan = plan_of(aliases(layers), ours)
        yield dialect, "folder", [take for take in plan if take.rule.theirs]


def _network_of(layout: Layout) -> Any:
    """The class of network that a layout is of; families call different ones by one name."""
    return kind_of(layout).build


def dialect_of(target: str) -> str:
    """Whose habit a name is, by its prefix alone: for files without a network at hand."""
    prefixes = {prefix for rows in PREFIXES.values() for prefix in rows}
    found = max((p for p in prefixes if target.startswith(p.text)), key=lambda p: len(p.text))
    return found.dialect
