"""Whether painted pictures are what was asked for, by the exact judge."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from diptych.data.scenes.judge import Verdict, check
from diptych.evaluation.scenes.prompts import Prompt
from diptych.foundation.progress import Progress, Report, silent
from diptych.pipelines.painter_networks import TextToImageNetworks
from diptych.pipelines.painting import Request
from diptych.pipelines.sampling import Sampling
from diptych.pipelines.text_to_image import paint

_ROWS = 50


@dataclass(frozen=True)
class Painted:
    """A prompt, the picture [H, W, 3] uint8 painted for it, and what the judge says."""

    prompt: Prompt
    picture: NDArray[np.uint8]
    verdict: Verdict


def painted_of(
    networks: TextToImageNetworks,
    prompts: Sequence[Prompt],
    sampling: Sampling,
    report: Report = silent,
) -> list[Painted]:
    """One picture a prompt, from the prompt's own seed: nothing is chosen afterwards."""
    done: list[Painted] = []
    for start in range(0, len(prompts), _ROWS):
        part = prompts[start : start + _ROWS]
        texts, seeds = [p.text for p in part], [p.seed for p in part]
        pictures = paint(networks, Request(prompts=texts, seeds=seeds, sampling=sampling))
        done += [
            Painted(prompt, picture, check(picture, prompt.text))
            for prompt, picture in zip(part, pictures, strict=True)
        ]
        report(Progress(len(done), len(prompts), "prompts"))
    return done
