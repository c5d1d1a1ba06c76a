"""A folder's `preprocessor_config.json`: every key is used, known to say nothing, or refused."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from diptych.checkpoints.families.config_json import PublishedConfig
from diptych.foundation.errors import Unreadable
from diptych.imaging.pixels import Preprocess
from diptych.models.internvl.inputs import TilesInputs
from diptych.models.llava.inputs import AnyresInputs, FixedInputs
from diptych.models.smolvlm.inputs import SplitInputs
from diptych.models.vlm import VLMConfig

Inputs = FixedInputs | AnyresInputs | SplitInputs | TilesInputs
# Pillow's numbers of its filters.
_FILTERS = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic", 4: "box", 5: "hamming"}
_PASSED_OVER = (
    "image_processor_type", "feature_extractor_type", "processor_class", "do_convert_rgb",
    "data_format", "input_data_format", "return_tensors", "device", "disable_grouping",
    "return_row_col_info", "_valid_processor_keys", "default_to_square", "image_seq_length",
    "auto_map", "video_sampling", "video_processor_type", "do_convert_annotations",
)  # fmt: skip


def preprocessing_of_json(
    content: Mapping[str, Any], config: VLMConfig, family: str
) -> tuple[Inputs, Preprocess]:
    """How a model sees pictures, from the file and the network's config. Raises Unreadable."""
    said = PublishedConfig(content, "A preprocessor_config.json")
    for key in _PASSED_OVER:
        said.take(key)
    said.only("do_resize", True)
    said.only("do_rescale", True)
    said.only("do_normalize", True)
    factor = said.take("rescale_factor", 1 / 255)
    if abs(factor * 255 - 1) > 1e-6:
        raise Unreadable(f"A preprocessor with rescale_factor = {factor!r} is not built here.")
    number = said.take("resample", _USUAL[family])
    if number not in _FILTERS:
        raise Unreadable(f"A preprocessor with resample = {number!r} is not known.")
    how = Preprocess(
        resample=_FILTERS[number],
        mean=_three(said.take("image_mean"), Preprocess.mean),
        deviation=_three(said.take("image_std"), Preprocess.deviation),
    )
    inputs = _INPUTS[family](said, config)
    said.end()
    if isinstance(inputs, FixedInputs) and inputs.fit == "pad":
        how = replace(how, fill=_fill(how.mean))
    return inputs, how


_USUAL = {
    "llava": 3, "llava_next": 3, "llava_onevision": 3, "idefics3": 1, "smolvlm": 1, "internvl": 3,
    "paligemma": 3,
}  # fmt: skip


def _three(values: Any, usual: tuple[float, float, float]) -> tuple[float, float, float]:
    if values is None:
        return usual
    if len(values) != 3:
        raise Unreadable(f"{values!r} are not three numbers.")
    return values[0], values[1], values[2]


def _fill(mean: tuple[float, float, float]) -> tuple[int, int, int]:
    return int(mean[0] * 255), int(mean[1] * 255), int(mean[2] * 255)


def _side(told: Any, *names: str) -> int | None:
    """Of `{"height": n, "width": n}`, `{"shortest_edge": n}` or a number."""
    if told is None or isinstance(told, int):
        return told
    found = {told[name] for name in (*names, "height", "width") if told.get(name) is not None}
    if len(found) != 1:
        raise Unreadable(f"A size of {told!r} is not built here.")
    return found.pop()


def _fixed(said: PublishedConfig, config: VLMConfig) -> FixedInputs:
    size, crop = said.take("size"), _side(said.take("crop_size"))
    side = config.vision.image_size
    cuts = said.take("do_center_crop", True)
    fit = "crop" if cuts else "squash"
    if said.take("do_pad", False):
        fit = "pad"
    told = crop if fit == "crop" else _side(size, "shortest_edge")
    if told not in (None, side) or (fit == "crop" and _side(size, "shortest_edge") != told):
        raise Unreadable(f"A preprocessor for {told} pixels does not fit a tower for {side}.")
    return FixedInputs(side=side, grid=config.rows[0], fit=fit)


def _squashed(said: PublishedConfig, config: VLMConfig) -> FixedInputs:
    told, side = _side(said.take("size"), "shortest_edge"), config.vision.image_size
    said.only("do_center_crop", False, None)
    said.take("crop_size")
    if told not in (None, side):
        raise Unreadable(f"A preprocessor for {told} pixels does not fit a tower for {side}.")
    return FixedInputs(side=side, grid=config.rows[0], fit="squash")


def _anyres(said: PublishedConfig, config: VLMConfig) -> AnyresInputs:
    for key in ("size", "crop_size", "do_center_crop", "do_pad"):
        said.take(key)
    shapes = tuple((h, w) for h, w in said.take("image_grid_pinpoints", _NEXT_SHAPES))
    return AnyresInputs(shapes=shapes, side=config.vision.image_size, grid=config.vision.side)


def _thinned(said: PublishedConfig, config: VLMConfig) -> AnyresInputs:
    return replace(_anyres(said, config), most=9)


def _split(said: PublishedConfig, config: VLMConfig) -> SplitInputs:
    size = (said.take("size") or {}).get("longest_edge", 4 * config.vision.image_size)
    told = (said.take("max_image_size") or {}).get("longest_edge", config.vision.image_size)
    said.take("do_pad")
    if told != config.vision.image_size or size > 4096:
        raise Unreadable(f"Tiles of {told} and a side of {size} pixels are not built here.")
    split = said.take("do_image_splitting", True)
    return SplitInputs(side=told, grid=config.rows[0], longest=size, split=split)


def _tiles(said: PublishedConfig, config: VLMConfig) -> TilesInputs:
    told, side = _side(said.take("size")), config.vision.image_size
    said.only("do_center_crop", False, None)
    said.take("crop_size")
    if told not in (None, side):
        raise Unreadable(f"A preprocessor for {told} pixels does not fit a tower for {side}.")
    cuts = said.take("crop_to_patches", True)
    return TilesInputs(
        side=side,
        grid=config.rows[0],
        fewest=said.take("min_patches", 1),
        most=said.take("max_patches", 12) if cuts else 1,
        thumbnail=said.take("use_thumbnail", True),
    )


_NEXT_SHAPES = ((336, 672), (672, 336), (672, 672), (1008, 336), (336, 1008))
_INPUTS = {
    "llava": _fixed, "llava_next": _anyres, "llava_onevision": _thinned, "idefics3": _split,
    "smolvlm": _split, "internvl": _tiles, "paligemma": _squashed,
}  # fmt: skip
