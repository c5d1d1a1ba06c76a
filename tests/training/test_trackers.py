"""What TensorBoard is told; a tracker that is not there is refused before the first step."""

from __future__ import annotations

import dataclasses
from importlib.util import find_spec
from pathlib import Path

import pytest
from PIL import Image
from small_training import batch_at, plan
from torch import nn

from diptych.foundation.errors import MissingExtra
from diptych.training.loop import train


def picture(_: nn.Module, step: int, folder: Path) -> dict[str, float]:
    Image.new("RGB", (6, 4), (step, 0, 0)).save(folder / "sheet.png")
    return {"right": step / 100}


def test_tensorboard_sees_each_step_once_and_the_pictures(tmp_path: Path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    class Cut(Exception):
        pass

    def cut_at_8(index: int) -> object:
        if index == 8:
            raise Cut
        return batch_at(index)

    made = plan(steps=12, trackers=("tensorboard",), log_every=2, probe_every=6)
    made = dataclasses.replace(made, probes={"look": picture})
    with pytest.raises(Cut):  # nothing was saved: the second try begins anew and logs again
        train(dataclasses.replace(made, batch_at=cut_at_8), tmp_path)
    made = plan(steps=12, trackers=("tensorboard",), log_every=2, probe_every=6)
    train(dataclasses.replace(made, probes={"look": picture}), tmp_path)

    seen = EventAccumulator(str(tmp_path / "diptych"))
    seen.Reload()
    assert [event.step for event in seen.Scalars("loss")] == [2, 4, 6, 8, 10, 12]
    assert [event.value for event in seen.Scalars("look/right")] == pytest.approx([0.06, 0.12])
    assert [(event.width, event.height) for event in seen.Images("sheet")] == [(6, 4), (6, 4)]


@pytest.mark.skipif(find_spec("aim") is not None, reason="aim is installed")
def test_a_tracker_that_is_not_installed_is_refused_by_name(tmp_path: Path):
    with pytest.raises(MissingExtra, match="pip install aim"):
        train(plan(trackers=("aim",)), tmp_path)
    assert not list(tmp_path.iterdir())
