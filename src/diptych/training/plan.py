"""What is trained, on what, towards what, and how fast. Loads no torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import torch
    from torch import nn

    from diptych.objectives.loss import Loss

Tracker = Literal["tensorboard", "wandb", "mlflow", "aim"]

# Settings that leave the weights as they are: a run may go on with others.
FREE = frozenset(
    {"save_every", "probe_every", "log_every", "trackers", "workers", "threads", "minutes"}
)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How to train: the part of every recipe that `--set training.key=value` changes.

    The rate rises linearly over `warmup` steps, then falls by a cosine to
    `learning_rate * final_fraction` at the last step. `accumulation` batches make one step.
    `precision`: auto takes bf16 where the machine multiplies it in hardware, else fp32.
    `ema` is the decay of the averaged weights, 0 for none; it ramps up as (1 + s) / (10 + s).
    `optimizer`: muon is Muon for hidden matrices at `muon_learning_rate`, AdamW for the rest.
    `clip`: largest norm of the gradient, none for no limit. `save_every`: seconds between
    checkpoints. `probe_every`: steps between probes, 0 for only at the end. `workers`:
    processes that prepare batches, 0 for the training's own. `compile`: let torch.compile fuse
    the model's steps, which needs a C++ compiler and minutes at the start, and rounds otherwise.
    `threads`: of torch, none for its choice; another number may round the last bits differently.
    `minutes`: stop, resumable, after so long in one go.
    Raises ValueError for values out of range.
    """

    steps: int
    seed: int = 0
    learning_rate: float = 1e-3
    warmup: int = 100
    final_fraction: float = 0.01
    weight_decay: float = 0.01
    betas: tuple[float, float] = (0.9, 0.99)
    clip: float | None = 1.0
    accumulation: int = 1
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    ema: float = 0.0
    gradient_checkpointing: bool = False
    compile: bool = False
    optimizer: Literal["adamw", "muon"] = "adamw"
    muon_learning_rate: float = 0.02
    save_every: float = 120.0
    probe_every: int = 0
    log_every: int = 20
    trackers: tuple[Tracker, ...] = ("tensorboard",)
    workers: int = 1
    threads: int | None = None
    minutes: float | None = None

    def __post_init__(self) -> None:
        at_least = {"steps": 1, "accumulation": 1, "log_every": 1, "threads": 1}
        for name in ("warmup", "probe_every", "workers", "seed"):
            at_least[name] = 0
        for name, low in at_least.items():
            value = getattr(self, name)
            if value is not None and value < low:
                raise ValueError(f"{name} must be at least {low}, not {value}")
        for name in ("learning_rate", "muon_learning_rate", "clip", "minutes", "save_every"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ValueError(f"{name} must be above 0, not {value}")
        for name, value in {"ema": self.ema, "beta": max(self.betas)}.items():
            if not 0 <= value < 1:
                raise ValueError(f"{name} must be in 0 <= {name} < 1, not {value}")
        if not 0 <= self.final_fraction <= 1:
            raise ValueError(f"final_fraction must be in 0..1, not {self.final_fraction}")
        if self.weight_decay < 0:
            raise ValueError(f"weight_decay must not be below 0, not {self.weight_decay}")
        if self.optimizer == "muon" and self.precision == "fp16":
            raise ValueError("muon and fp16 do not go together; use bf16 or fp32")


# Words of a parameter's name, cut at dots and underscores, that say that it is no hidden matrix.
# fmt: off
_OUTER_WORDS = frozenset(
    {"modulation", "embedding", "embeddings", "embed", "embedder", "position", "positions",
     "time", "pooled", "null", "cls", "token", "tokens", "register",
     "registers", "patch", "stem", "head", "logits"}
)
# fmt: on
_OUTER_ENDS = ("_in", "_out", "input", "output")


def outer_parameter(name: str, parameter: nn.Parameter) -> bool:
    """Whether a parameter is a bias, gain, embedding, modulation, or input or output projection.

    Weight decay pulls those from where they work, and Muon's equal step in all directions is
    made for hidden matrices alone (Jordan, 2024).
    """
    if parameter.ndim < 2:
        return True
    parts = name.split(".")
    words = {word for part in parts for word in part.split("_")}
    # "attention.out" maps hidden to hidden; "patch_out" or a module called "output" does not.
    return bool(words & _OUTER_WORDS) or any(part.endswith(_OUTER_ENDS) for part in parts)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Everything the loop needs, built by a recipe.

    - `objective(model, batch, generator) -> Loss` runs under autocast; all its randomness must
      come from `generator`, which lives on the model's device and is seeded by (seed, index of
      the batch). Dropout's generator is seeded the same way.
    - `batch_at(index) -> batch` is a pure function; the index counts batches over all steps,
      accumulation and processes. It may run in another process. The loop moves tensors in
      dicts, lists and tuples to the device and looks no further.
    - `probes`: name -> `probe(model, step, folder) -> scores`, called with the averaged weights
      in eval mode without gradients; writes its pictures into the folder.
    - `slow_parameters(name, parameter)`: true for those without weight decay and without Muon.
    """

    model: nn.Module
    objective: Callable[[nn.Module, Any, torch.Generator], Loss]
    batch_at: Callable[[int], Any]
    settings: Settings
    probes: Mapping[str, Callable[[nn.Module, int, Path], Mapping[str, float]]] = field(
        default_factory=dict
    )
    slow_parameters: Callable[[str, nn.Parameter], bool] = outer_parameter


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a call of `train` ended, and where the run stands.

    `state`: finished (all steps), interrupted (Ctrl-C or SIGTERM), paused (`minutes` used up);
    the last two go on with the next call. `seconds` and `cpu_seconds` are those of the whole
    run, `loss` the last one logged, `scores` the last of each probe.
    """

    run: Path
    state: Literal["finished", "interrupted", "paused"]
    step: int
    steps: int
    loss: float | None
    seconds: float
    cpu_seconds: float
    scores: Mapping[str, Mapping[str, float | None]] = field(default_factory=dict)
