"""TensorBoard, Weights and Biases, MLflow, Aim: scalars through accelerate, pictures by kind."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diptych.foundation.errors import MissingExtra

if TYPE_CHECKING:
    from accelerate import Accelerator

PROJECT = "diptych"


def refuse_missing(names: Iterable[str]) -> None:
    """Raises MissingExtra for the first tracker whose library, of the same name, is not there."""
    for name in names:
        if find_spec(name) is None:
            raise MissingExtra(
                f"The tracker {name!r} is not installed.",
                do=f"Run `pip install {name}`, or leave it out of training.trackers.",
            )


def start(accelerator: Accelerator, run: Path, config: Mapping[str, Any], step: int) -> None:
    """Open the trackers. TensorBoard's points beyond `step`, of an earlier try, are taken back;
    the others begin a run of the same name when a training goes on."""
    if not accelerator.log_with:
        return
    options: dict[str, Any] = {
        "tensorboard": {"purge_step": step + 1},
        "wandb": {"name": run.name, "dir": str(run)},
        "mlflow": {"run_name": run.name},
    }
    accelerator.init_trackers(PROJECT, init_kwargs=options)
    for tracker in accelerator.trackers:
        if tracker.name != "tensorboard":  # it would make a folder of its own at each start
            tracker.store_init_configuration(dict(config))


def log_pictures(accelerator: Accelerator, folder: Path, step: int) -> None:
    """Hand the PNG files of a folder to every tracker."""
    files = sorted(folder.glob("*.png"))
    for tracker in accelerator.trackers if files else ():
        _PICTURES[tracker.name](tracker, files, step)


def _to_tensorboard(tracker: Any, files: list[Path], step: int) -> None:
    import numpy
    from PIL import Image

    for file in files:
        with Image.open(file) as picture:
            pixels = numpy.asarray(picture.convert("RGB"))[None]
        tracker.log_images({file.stem: pixels}, step=step, dataformats="NHWC")


def _to_wandb(tracker: Any, files: list[Path], step: int) -> None:
    tracker.log_images({file.stem: [str(file)] for file in files}, step=step)


def _to_mlflow(tracker: Any, files: list[Path], step: int) -> None:
    for file in files:
        tracker.log_artifact(str(file), artifact_path=f"probes/{step:07d}")


def _to_aim(tracker: Any, files: list[Path], step: int) -> None:
    tracker.log_images({file.stem: str(file) for file in files}, step=step)


_PICTURES: dict[str, Callable[[Any, list[Path], int], None]] = {
    "tensorboard": _to_tensorboard,
    "wandb": _to_wandb,
    "mlflow": _to_mlflow,
    "aim": _to_aim,
}
