"""One picture as an engine is asked for it."""

from __future__ import annotations

from dataclasses import replace

from PIL import Image

from diptych.imaging.recipe import PictureRecipe
from diptych.pipelines.beginning import begin_of, marks_of
from diptych.pipelines.painter_front import TextToImage
from diptych.pipelines.painting import Request


def order(
    painter: TextToImage,
    prompt: str,
    *,
    negative_prompt: str = "",
    seed: int = 0,
    steps: int | None = None,
    guidance: float | None = None,
    solver: str | None = None,
    init: Image.Image | None = None,
    mask: Image.Image | None = None,
    strength: float | None = None,
    width: int | None = None,
    height: int | None = None,
) -> tuple[Request, PictureRecipe]:
    """What `painter(prompt, ...)` asks of its networks, and the recipe that its picture has: the
    engine's picture with it is the call's to the byte. Raises InvalidValue, NotFound."""
    painter.check([prompt], [seed])
    sampling = painter.chosen(
        steps=steps, guidance=guidance, solver=solver,
        strength=painter.strength_of(init, mask, strength),
    )  # fmt: skip
    begin = None if init is None else begin_of(init, mask)
    size = painter.sized(init, width, height)
    request = Request(
        prompts=[prompt], seeds=[seed], sampling=sampling, negative_prompt=negative_prompt,
        size=size, begin=begin,
    )  # fmt: skip
    recipe = painter.recipe(prompt, negative_prompt, seed, sampling, size)
    more = painter.apart(None, None) | ({} if begin is None else marks_of(begin))
    if painter.networks.shown == "beside":
        more["image_guidance"] = sampling.image_guidance
    return request, replace(recipe, **more)
