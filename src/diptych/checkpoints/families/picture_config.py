"""How a published folder says that its pictures are prepared: `preprocessor_config.json`, the part
of `processor_config.json` that newer ones have, or `open_clip_config.json`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from diptych.checkpoints.families.config_json import PublishedConfig
from diptych.checkpoints.folder import read_json
from diptych.foundation.errors import Unreadable
from diptych.imaging.fixed_pictures import Filter, FixedPictures, Three

# Pillow's numbers.
_FILTERS: dict[int, Filter] = {1: "lanczos", 2: "bilinear", 3: "bicubic"}
# What is said of the library, of the arrays it makes, and of what is done to every picture anyway.
_PASSED_OVER = frozenset({
    "data_format", "device", "disable_grouping", "do_convert_rgb", "feature_extractor_type",
    "image_processor_type", "input_data_format", "processor_class", "return_tensors",
    "crop_size", "use_square_size",
})  # fmt: skip


def pictures_of_folder(folder: Path, usual: FixedPictures) -> FixedPictures:
    """As a folder says, or `usual` where it says nothing. Raises Unreadable for what is not done
    here, by name."""
    if (folder / "preprocessor_config.json").is_file():
        return pictures_of_json(read_json(folder / "preprocessor_config.json"), usual)
    if (folder / "processor_config.json").is_file():
        inner = read_json(folder / "processor_config.json").get("image_processor")
        if isinstance(inner, dict):
            return pictures_of_json(inner, usual)
    if (folder / "open_clip_config.json").is_file():
        return _of_openclip(read_json(folder / "open_clip_config.json"), usual)
    return usual


def pictures_of_json(content: Mapping[str, Any], usual: FixedPictures) -> FixedPictures:
    """From the content of a preprocessor_config.json; what it does not say is as usual."""
    said = PublishedConfig(content, "A picture processor")
    said.only("do_resize", True)
    said.only("do_rescale", True)
    said.only("do_normalize", True)
    said.only("do_pad", False, None)
    factor = said.take("rescale_factor", 1 / 255)
    if abs(factor * 255 - 1) > 1e-6:
        raise Unreadable(f"A picture processor with rescale_factor = {factor} is not built here.")
    number = said.take("resample", 3)
    if number not in _FILTERS:
        raise Unreadable(f"A picture processor with resample = {number!r} is not built here.")
    size = said.take("size", {"shortest_edge": usual.short} if usual.short else usual.size)
    cuts = said.take("do_center_crop", bool(usual.short))
    side, short = _sides(size, content.get("crop_size"), cuts)
    mean, deviation = (
        _three(said.take(key, default), key)
        for key, default in (("image_mean", usual.mean), ("image_std", usual.deviation))
    )
    said.end(_PASSED_OVER)
    return FixedPictures(
        size=side, short=short, filter=_FILTERS[number], mean=mean, deviation=deviation
    )


def _sides(size: Any, crop: Any, cuts: bool) -> tuple[int, int]:
    """The square's side, and what the shorter side is scaled to, 0 for squeezing."""
    if isinstance(size, int):  # as written before sizes had names
        size = {"shortest_edge": size} if cuts else {"height": size, "width": size}
    short = size.get("shortest_edge", 0)
    square = crop if cuts and crop is not None else size if not short else {"height": short}
    height, width = _pair(square)
    if height != width or bool(short) != bool(cuts):
        raise Unreadable(
            f"A picture processor with size = {size!r} and crop_size = {crop!r} "
            f"{'that cuts' if cuts else 'that does not cut'} is not built here."
        )
    return height, short


def _pair(square: Any) -> tuple[int, int]:
    if isinstance(square, int):
        return square, square
    return square["height"], square.get("width", square["height"])


def _three(value: Any, key: str) -> Three:
    if not isinstance(value, list | tuple) or len(value) != 3:
        raise Unreadable(f"A picture processor with {key} = {value!r}: three numbers are needed.")
    return cast(Three, tuple(float(one) for one in value))


def _of_openclip(content: Mapping[str, Any], usual: FixedPictures) -> FixedPictures:
    said = PublishedConfig(content.get("preprocess_cfg") or {}, "OpenCLIP's pictures")
    said.only("mode", "RGB")
    said.only("interpolation", "bicubic")
    said.only("fill_color", 0)
    said.take("size")  # the tower's
    mode = said.take("resize_mode", "shortest" if usual.short else "squash")
    if mode not in ("shortest", "squash"):
        raise Unreadable(f"OpenCLIP's pictures with resize_mode = {mode!r} are not built here.")
    mean, deviation = (
        _three(said.take(key, default), key)
        for key, default in (("mean", usual.mean), ("std", usual.deviation))
    )
    said.end()
    return FixedPictures(
        size=usual.size,
        short=usual.size if mode == "shortest" else 0,
        mean=mean,
        deviation=deviation,
    )
