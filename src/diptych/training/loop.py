"""The training loop: steps, averages, log, probes, checkpoints; resumes by itself."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Literal, cast

import torch

from diptych.foundation.config import to_json
from diptych.foundation.errors import InvalidValue
from diptych.foundation.extras import need
from diptych.foundation.memory import keep_freed_memory
from diptych.foundation.progress import Progress, Report, silent
from diptych.foundation.records import finish_record, read_record, start_record, write_record
from diptych.training import checkpoint as checkpoints
from diptych.training import trackers
from diptych.training.average import Average
from diptych.training.batches import batches
from diptych.training.checkpoint import Checkpoint
from diptych.training.clock import Clock
from diptych.training.curve import draw_curve
from diptych.training.hardware import accelerator_of, resolved_precision
from diptych.training.lock import alone
from diptych.training.log import Log, Means, finite
from diptych.training.optimizers import load_state, state_of
from diptych.training.plan import Outcome, Plan
from diptych.training.step import Diverged, Stepper
from diptych.training.stop import StopWish


def train(
    plan: Plan,
    run: Path,
    *,
    report: Report = silent,
    extra_record: Mapping[str, Any] | None = None,
) -> Outcome:
    """Train a plan in a run folder, from its last checkpoint if it has one.

    Leaves checkpoints, `log.jsonl`, `loss.png`, `probes/STEP/` and `run.json` in the folder.
    After a finished run `plan.model` holds the averaged weights (its own without averaging).
    The same plan gives the same weights, bit for bit, however often it was stopped or killed
    between, on the same machine with the same number of threads. `extra_record` goes into
    `run.json`; its `config` is what a later call must repeat to go on.
    Raises InvalidValue when the folder holds a run of another plan, MissingExtra for a library
    that is not there, NotWritten for a full disk, and Diverged when the loss is not finite; the
    last checkpoint is good in each case.
    """
    run = Path(run)
    for library in ("accelerate", "matplotlib"):
        need(library, "train")
    trackers.refuse_missing(plan.settings.trackers)
    keep_freed_memory()
    if plan.settings.threads is not None:
        torch.set_num_threads(plan.settings.threads)
    with StopWish() as stop:
        return _Training(plan, run, dict(extra_record or {})).go(report, stop)


class _Training:
    def __init__(self, plan: Plan, run: Path, extra: dict[str, Any]):
        self.plan, self.run, self.settings = plan, run, plan.settings
        config = {**extra.get("config", {}), "training": to_json(plan.settings)}
        self.parameters = dict(plan.model.named_parameters())
        kept = plan.model.state_dict().keys()
        self.buffers = {n: b for n, b in plan.model.named_buffers() if n in kept}
        self.bound = checkpoints.bound(config, self.parameters)
        saved = checkpoints.latest(run)
        if saved is not None:
            checkpoints.refuse_other_plan(run, saved.state["plan"], self.bound)
        _set_gradient_checkpointing(plan)
        before = saved.state if saved else {}
        # "auto" may mean another precision on another machine: what was begun is kept.
        self.precision = before.get("precision") or resolved_precision(self.settings.precision)
        self.accelerator = accelerator_of(self.settings, self.precision, run)
        self.stepper = Stepper(plan, self.accelerator, self.precision)
        self.average = Average(plan.model, self.settings.ema) if self.settings.ema else None
        self.names = {parameter: name for name, parameter in self.parameters.items()}
        self.made: int = before.get("step", 0)
        self.means = Means(before.get("means"))
        self.loss: float | None = before.get("loss")
        self.scores: dict[str, dict[str, float | None]] = before.get("scores", {})
        self.clock = Clock(before.get("seconds", 0.0), before.get("cpu_seconds", 0.0))
        if saved is not None:
            self._restore(saved)
        self.record = self._record(saved is not None, config, extra)
        self.config = config

    def go(self, report: Report, stop: StopWish) -> Outcome:
        """Make the steps that are left."""
        ahead = batches(
            self.plan.batch_at,
            self.stepper.indices(self.made),
            workers=self.settings.workers if self.made < self.settings.steps else 0,
            pin_memory=self.accelerator.device.type == "cuda",
        )
        if not self.accelerator.is_main_process:
            report = silent
        state: Literal["finished", "interrupted", "paused"] = "finished"
        if self.made < self.settings.steps:
            with alone(self.run) if self.accelerator.is_main_process else nullcontext():
                self._open()
                try:
                    state = self._steps(ahead, report, stop)
                except Diverged as error:
                    raise self._explained(error) from None
                finally:
                    self.accelerator.end_training()
                self._conclude(state)
        if state == "finished" and self.average is not None:
            self.average.swap()
        return self._outcome(state)

    def _steps(
        self, ahead: Iterator[Any], report: Report, stop: StopWish
    ) -> Literal["finished", "interrupted", "paused"]:
        settings = self.settings
        began = saved_at = time.monotonic()
        report(Progress(self.made, settings.steps))
        self.plan.model.train()
        while self.made < settings.steps:
            values = self.stepper.step(self.made, ahead)
            self.made += 1
            if self.average is not None:
                self.average.update(self.made)
            self._note(values)
            done = self.made == settings.steps
            if done or (settings.probe_every and self.made % settings.probe_every == 0):
                self._probe()
            report(Progress(self.made, settings.steps, f"loss {values['loss']:.4g}"))
            now = time.monotonic()
            late = settings.minutes is not None and now - began > settings.minutes * 60
            stopping, leaving, saving = self._any(
                stop.wished, late, now - saved_at > settings.save_every
            )
            if done or stopping or leaving or saving:
                self._save()
                saved_at = time.monotonic()
            if not done and (stopping or leaving):
                return "interrupted" if stopping else "paused"
        return "finished"

    def _any(self, *wishes: bool) -> list[bool]:
        """Whether any process wishes it: all must do the same."""
        if self.accelerator.num_processes == 1:
            return list(wishes)
        mine = torch.tensor(wishes, device=self.accelerator.device, dtype=torch.float32)
        summed = cast(torch.Tensor, self.accelerator.reduce(mine, reduction="sum"))
        return [bool(wish) for wish in summed.tolist()]

    def _note(self, values: dict[str, float]) -> None:
        self.means.add(values)
        if self.made % self.settings.log_every and self.made < self.settings.steps:
            return
        means = self.means.take()
        self.loss = means["loss"]
        if self.accelerator.is_main_process:
            self.log.write(self.made, {**finite(means), "seconds": self.clock.seconds})
        self.accelerator.log(means, step=self.made)

    def _probe(self) -> None:
        model, average = self.plan.model, self.average
        if not self.plan.probes or not self.accelerator.is_main_process:
            return
        folder = self.run / "probes" / f"{self.made:07d}"
        folder.mkdir(parents=True, exist_ok=True)
        model.eval()
        with torch.no_grad(), average.applied() if average else nullcontext():
            for name, probe in self.plan.probes.items():
                scores = finite(probe(model, self.made, folder))
                self.scores[name] = scores
                self.log.write(self.made, {"probe": name, **scores})
                flat = {f"{name}/{key}": v for key, v in scores.items() if v is not None}
                self.accelerator.log(flat, step=self.made)
        trackers.log_pictures(self.accelerator, folder, self.made)
        model.train()

    def _save(self) -> None:
        if self.accelerator.is_main_process:
            tensors = {
                "model": {**self.parameters, **self.buffers},
                "optimizer": state_of(self.stepper.optimizers, self.names),
            }
            if self.average is not None:
                tensors["average"] = self.average.weights
            checkpoints.save(self.run, Checkpoint(tensors, self._state()))
            draw_curve(self.run)
        self.accelerator.wait_for_everyone()

    def _state(self) -> dict[str, Any]:
        scaler = self.accelerator.scaler
        return {
            "step": self.made,
            "plan": self.bound,
            "precision": self.precision,
            "scaler": scaler.state_dict() if scaler else None,
            "means": self.means.state,
            "loss": self.loss,
            "scores": self.scores,
            "seconds": self.clock.seconds,
            "cpu_seconds": self.clock.cpu_seconds,
        }

    @torch.no_grad()
    def _restore(self, saved: Checkpoint) -> None:
        weights = saved.tensors["model"]
        for name, tensor in {**self.parameters, **self.buffers}.items():
            tensor.copy_(weights[name])
        load_state(self.stepper.optimizers, self.names, saved.tensors.get("optimizer", {}))
        if self.average is not None:
            self.average.load(saved.tensors["average"])
        if self.accelerator.scaler is not None:
            self.accelerator.scaler.load_state_dict(saved.state["scaler"])

    def _record(
        self, resumed: bool, config: dict[str, Any], extra: dict[str, Any]
    ) -> dict[str, Any]:
        if resumed:
            return read_record(self.run)
        return {**start_record(config, seed=self.settings.seed), **extra, "config": config}

    def _open(self) -> None:
        if self.accelerator.is_main_process:
            self.log = Log(self.run, self.made)
            write_record(self.run, {**self.record, "state": "running", "finished": None})
        trackers.start(self.accelerator, self.run, self.config, self.made)

    def _conclude(self, state: str) -> None:
        if not self.accelerator.is_main_process:
            return
        outcome = self._outcome("finished")
        results = {
            "state": state,
            "precision": self.precision,
            "parameters": sum(p.numel() for p in self.parameters.values()),
            "device": self.accelerator.device.type,
            "processes": self.accelerator.num_processes,
            "threads": torch.get_num_threads(),
            "step": outcome.step,
            "loss": outcome.loss,
            "scores": outcome.scores,
            "seconds": outcome.seconds,
            "cpu_seconds": outcome.cpu_seconds,
        }
        write_record(self.run, finish_record(self.record, **results))

    def _outcome(self, state: Literal["finished", "interrupted", "paused"]) -> Outcome:
        return Outcome(
            run=self.run,
            state=state,
            step=self.made,
            steps=self.settings.steps,
            loss=self.loss,
            seconds=self.clock.seconds,
            cpu_seconds=self.clock.cpu_seconds,
            scores=self.scores,
        )

    def _explained(self, error: Diverged) -> Diverged:
        saved = checkpoints.latest(self.run)
        kept = f"The checkpoint of step {saved.step} is kept" if saved else "Nothing was saved yet"
        return Diverged(
            error.what,
            do=f"{kept}. Begin a new run with a lower learning_rate, a longer warmup or fp32.",
        )


def _set_gradient_checkpointing(plan: Plan) -> None:
    switch = getattr(plan.model, "set_gradient_checkpointing", None)
    if switch is not None:
        switch(plan.settings.gradient_checkpointing)
    elif plan.settings.gradient_checkpointing:
        raise InvalidValue(
            f"{type(plan.model).__name__} has no gradient checkpointing.",
            do="Leave training.gradient_checkpointing=false.",
        )
