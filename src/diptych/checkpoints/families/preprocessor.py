"""A folder's preprocessor_config.json: which planner, which sizes, which numbers.

The kind of processor is a row of defaults, which the file may override, and how its sizes are
read. What a network makes of a tile is not in the file: rows and columns come from its config.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from diptych.checkpoints.families.config_json import PublishedConfig
from diptych.checkpoints.folder import read_json
from diptych.foundation.errors import Unreadable
from diptych.imaging.clip_pictures import DEVIATION, MEAN
from diptych.imaging.pixels import Filter, Preprocess, Three, mean_color
from diptych.models.inputs import PictureInputs, Spec
from diptych.models.internvl.inputs import TilesSpec
from diptych.models.llava.inputs import LLAVA_NEXT, ONEVISION, AnyresSpec, FixedSpec
from diptych.models.qwen_vl.inputs import NativeSpec
from diptych.models.smolvlm.inputs import SplitSpec

_HALF = (0.5, 0.5, 0.5)
# Pillow's numbers, as files hold them.
_FILTERS: tuple[Filter, ...] = ("nearest", "lanczos", "bilinear", "bicubic", "box", "hamming")
# Of batches, other inputs, and colors, which are always made RGB here.
_PASSED_OVER = (
    "auto_map", "data_format", "default_to_square", "device", "disable_grouping",
    "do_convert_rgb", "feature_extractor_type", "image_processor_type", "input_data_format",
    "model_input_names", "pad_size", "processor_class", "return_row_col_info", "return_tensors",
    "size_divisor", "video_sampling",
)  # fmt: skip


@dataclass(frozen=True)
class Tower:
    """What the network makes of one tile: `rows` x `columns` embeddings, `extra` before them;
    `pooled_above` as in `AnyresSpec`."""

    rows: int
    columns: int
    extra: int = 0
    pooled_above: int | None = None


Reader = Callable[[PublishedConfig, Tower, Any, int], Spec]


@dataclass(frozen=True)
class _Kind:
    """What a kind of processor does where the file says nothing."""

    read: Reader
    filter: Filter = "bicubic"
    mean: Three = MEAN
    deviation: Three = DEVIATION
    size: Any = None


def inputs_of_json(
    content: Mapping[str, Any], tower: Tower, *, max_visual_tokens: int = 1280
) -> PictureInputs:
    """From the file. Raises Unreadable for what is not built here, by name."""
    written = str(content.get("image_processor_type") or content.get("feature_extractor_type"))
    kind = KINDS.get(_short(written))
    if kind is None:
        raise Unreadable(
            f"A picture processor {written!r} is not built here.", do=f"Built: {', '.join(KINDS)}."
        )
    said = PublishedConfig(content, f"A {written}")
    for key in _PASSED_OVER:
        said.take(key)
    said.only("do_resize", True)
    spec = kind.read(said, tower, said.take("size") or kind.size, max_visual_tokens)
    pixels = _pixels(said, kind)
    if isinstance(spec, FixedSpec):
        _check_length(said, spec)
        if spec.fit == "square":
            pixels = replace(pixels, background=mean_color(pixels.mean))
    said.end()
    return PictureInputs(spec=spec, pixels=pixels)


def preprocessor_in(folder: Path) -> dict[str, Any] | None:
    """What a folder says of pictures: in a file of its own, or, in newer ones, within another."""
    if (folder / "preprocessor_config.json").is_file():
        return read_json(folder / "preprocessor_config.json")
    if (folder / "processor_config.json").is_file():
        inner = read_json(folder / "processor_config.json").get("image_processor")
        if isinstance(inner, dict):
            return inner
    return None


def square_in(folder: Path, usual: PictureInputs) -> PictureInputs:
    """For a tower that sees one square: as a folder says, OpenCLIP's too, or as usual. Raises
    Unreadable for what is not built here, by name."""
    said = preprocessor_in(folder)
    if said is not None:
        return inputs_of_json(said, Tower(1, 1))
    if (folder / "open_clip_config.json").is_file():
        return _of_openclip(read_json(folder / "open_clip_config.json"), usual)
    return usual


def _of_openclip(content: Mapping[str, Any], usual: PictureInputs) -> PictureInputs:
    said = PublishedConfig(content.get("preprocess_cfg") or {}, "OpenCLIP's pictures")
    said.only("mode", "RGB")
    said.only("interpolation", "bicubic")
    said.only("fill_color", 0)
    said.take("size")  # the tower's
    assert isinstance(usual.spec, FixedSpec)
    mode = said.take("resize_mode", "squash" if usual.spec.shortest is None else "shortest")
    if mode not in ("shortest", "squash"):
        raise Unreadable(f"OpenCLIP's pictures with resize_mode = {mode!r} are not built here.")
    mean, deviation = said.take("mean", usual.pixels.mean), said.take("std", usual.pixels.deviation)
    said.end()
    pixels = replace(usual.pixels, mean=_three(mean), deviation=_three(deviation))
    return PictureInputs(spec=square(usual.spec.width, cuts=mode == "shortest"), pixels=pixels)


def square(side: int, *, cuts: bool) -> FixedSpec:
    """One square, cut from the middle or squeezed."""
    fit: dict[str, Any] = {"fit": "middle", "shortest": side} if cuts else {}
    return FixedSpec(width=side, height=side, rows=1, columns=1, **fit)


def _short(written: str) -> str:
    for ending in ("Fast", "Pil", "ImageProcessor", "FeatureExtractor"):
        written = written.removesuffix(ending)
    return written


def _pixels(said: PublishedConfig, kind: _Kind) -> Preprocess:
    number = said.take("resample")
    if number is not None and number not in range(len(_FILTERS)):
        raise Unreadable(f"There is no filter of Pillow with the number {number!r}.")
    factor = said.take("rescale_factor", 1 / 255)
    mean, deviation = said.take("image_mean"), said.take("image_std")
    mean = kind.mean if mean is None else _three(mean)
    deviation = kind.deviation if deviation is None else _three(deviation)
    if said.take("do_normalize", True) is False:
        mean, deviation = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    return Preprocess(
        filter=kind.filter if number is None else _FILTERS[number],
        mean=mean,
        deviation=deviation,
        rescale=float(factor) if said.take("do_rescale", True) else 1.0,
    )


def _three(value: Any) -> Three:
    red, green, blue = value if isinstance(value, list | tuple) else (value,) * 3
    return float(red), float(green), float(blue)


def _check_length(said: PublishedConfig, spec: FixedSpec) -> None:
    length = said.take("image_seq_length") or said.take("image_seq_len")
    count = spec.extra + spec.rows * spec.columns
    if length is not None and length != count:
        raise Unreadable(f"The folder counts {length} visual tokens, its network makes {count}.")


def _sides(value: Any, what: str) -> tuple[int, int]:
    """Width and height, of a number or both."""
    if isinstance(value, int):
        return value, value
    if isinstance(value, Mapping) and set(value) == {"height", "width"}:
        return int(value["width"]), int(value["height"])
    raise Unreadable(f"A processor with {what} = {value!r} is not built here.")


def _one(value: Any, key: str, what: str) -> int:
    """The number, or that under the key."""
    if isinstance(value, Mapping) and set(value) == {key}:
        return int(value[key])
    if isinstance(value, int):
        return value
    raise Unreadable(f"A processor with {what} = {value!r} is not built here.")


def _whole(said: PublishedConfig, tower: Tower, size: Any, most: int) -> FixedSpec:
    """Squeezed to a size."""
    said.only("do_center_crop", False, None)
    said.only("do_pad", False, None)
    said.take("crop_size")
    width, height = _sides(size, "size")
    return _fixed(tower, most, width=width, height=height)


def _middle(said: PublishedConfig, tower: Tower, size: Any, most: int) -> FixedSpec:
    """The shorter side and the middle, or squeezed where the file has both sides and no cut."""
    cuts, pads = said.take("do_center_crop", True), said.take("do_pad", False)
    crop = said.take("crop_size")
    if not cuts and not pads:
        return _whole(said, tower, size, most)
    shortest = _one(size, "shortest_edge", "size")
    width, height = _sides(crop or shortest, "crop_size") if cuts else (shortest, shortest)
    if not pads:
        return _fixed(tower, most, width=width, height=height, fit="middle", shortest=shortest)
    if (width, height) != (shortest, shortest):
        raise Unreadable(f"A square of {shortest} cut to {width} x {height} is not built here.")
    return _fixed(tower, most, width=width, height=height, fit="square")


def _clip(said: PublishedConfig, tower: Tower, size: Any, most: int) -> FixedSpec:
    said.only("do_pad", False, None)
    return _middle(said, tower, size, most)


def _fixed(tower: Tower, most: int, **sizes: Any) -> FixedSpec:
    return FixedSpec(
        rows=tower.rows, columns=tower.columns, extra=tower.extra, max_visual_tokens=most, **sizes
    )


def _side(tower: Tower) -> int:
    if tower.rows != tower.columns or tower.extra:
        raise Unreadable("Tiles of other than n x n visual tokens are not built here.")
    return tower.rows


def _anyres(
    default: AnyresSpec, said: PublishedConfig, tower: Tower, size: Any, most: int
) -> AnyresSpec:
    cuts, crop = said.take("do_center_crop"), said.take("crop_size")
    said.take("do_pad")  # of batches
    short = isinstance(size, Mapping) and "shortest_edge" in size
    tile = _one(size, "shortest_edge", "size") if short else _equal(size, "size")
    if cuts is not False and crop and _equal(crop, "crop_size") != tile:
        raise Unreadable(f"Tiles of {tile} cut to {crop} are not built here.")
    points = said.take("image_grid_pinpoints")
    return AnyresSpec(
        tile=tile,
        side=_side(tower),
        pinpoints=tuple((w, h) for h, w in points) if points else default.pinpoints,
        pooled_above=tower.pooled_above,
        max_visual_tokens=most,
    )


def _equal(value: Any, what: str) -> int:
    width, height = _sides(value, what)
    if width != height:
        raise Unreadable(f"A processor with {what} = {value!r} is not built here.")
    return width


def _tiles(said: PublishedConfig, tower: Tower, size: Any, most: int) -> Spec:
    least, largest = said.take("min_patches", 1), said.take("max_patches", 12)
    # Files say false, and InternVL's own program asks for tiles all the same.
    said.take("crop_to_patches")
    if largest <= 1:
        return _whole(said, tower, size, most)
    tile, side = _equal(size, "size"), _side(tower)
    return TilesSpec(tile=tile, side=side, most=largest, fewest=least, max_visual_tokens=most)


def _split(said: PublishedConfig, tower: Tower, size: Any, most: int) -> SplitSpec:
    said.take("do_pad")  # of batches
    tile = said.take("max_image_size", {"longest_edge": 364})
    return SplitSpec(
        tile=_one(tile, "longest_edge", "max_image_size"),
        side=_side(tower),
        longest=_one(size, "longest_edge", "size"),
        split=said.take("do_image_splitting", True),
        max_visual_tokens=most,
    )


def _native(said: PublishedConfig, tower: Tower, size: Any, most: int) -> NativeSpec:
    if not isinstance(size, Mapping) or not set(size) <= {"shortest_edge", "longest_edge"}:
        raise Unreadable(f"A processor with size = {size!r} is not built here.")
    given = {"shortest_edge": 56 * 56, "longest_edge": 28 * 28 * 1280, **size}
    return NativeSpec(
        patch=said.take("patch_size", 14),
        merge=said.take("merge_size", 2),
        copies=said.take("temporal_patch_size", 2),
        min_pixels=said.take("min_pixels") or given["shortest_edge"],
        max_pixels=said.take("max_pixels") or given["longest_edge"],
        max_visual_tokens=most,
    )


_SHORT, _TALL = {"shortest_edge": 224}, {"height": 384, "width": 384}
KINDS = {
    "CLIP": _Kind(_clip, size=_SHORT),
    "Bit": _Kind(_clip, size=_SHORT),  # DINOv2's
    "Llava": _Kind(_middle, size=_SHORT),
    "Siglip": _Kind(_whole, mean=_HALF, deviation=_HALF, size=224),
    "ViT": _Kind(_whole, filter="bilinear", mean=_HALF, deviation=_HALF, size=224),
    "Blip": _Kind(_whole, size=_TALL),
    "LlavaNext": _Kind(partial(_anyres, LLAVA_NEXT), size=_SHORT),
    "LlavaOnevision": _Kind(partial(_anyres, ONEVISION), size=_TALL),
    "GotOcr2": _Kind(_tiles, size=_TALL),  # InternVL's
    "Idefics3": _Kind(_split, "lanczos", _HALF, _HALF, {"longest_edge": 4 * 364}),
    "SmolVLM": _Kind(_split, "lanczos", _HALF, _HALF, {"longest_edge": 4 * 364}),
    "Qwen2VL": _Kind(_native, size={}),
}
