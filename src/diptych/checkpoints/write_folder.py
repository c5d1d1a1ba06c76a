"""Networks written as a published folder: one a component, with what its files are to say."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from diptych.checkpoints.families.config_said import config_said
from diptych.checkpoints.families.scheduler import V_MARK, ZERO_TERMINAL_MARK
from diptych.checkpoints.folder import read_json, save_tensors
from diptych.checkpoints.folder_forms import FORMS, FolderForm
from diptych.checkpoints.header import header_of
from diptych.checkpoints.layout import Layout
from diptych.checkpoints.layouts import LAYOUTS, kind_of
from diptych.checkpoints.load import found_in, load
from diptych.checkpoints.rules import plan_of, stored_of
from diptych.foundation.errors import InvalidValue, NotFound, NotWritten
from diptych.text.clip_bpe import ClipTokenizer
from diptych.text.t5_tokenizer import is_t5

# Names of layouts that a folder may have, the one that every program reads first.
_LAYOUTS = ("with text_model", "T5", "Gemma", "folder")
# Whose networks their file's name tells: all others are of diffusers.
_TEXTS = "text_encoder"
_SMALL = (".json", ".txt", ".model", ".md", ".jinja")


def write_folder(
    source: Path,
    out: Path,
    dtype: torch.dtype | None = None,
    *,
    variant: str = "",
    shard: int | None = None,
) -> Path:
    """A single file, a component's folder or a pipeline's folder as a published folder.

    What `source` says is kept: config.json, schedule and tokenizers of a folder are copied. A
    single file says none of it, so its family's are written (`folder_forms`); T5's tokenizer must
    lie beside it. A file of one network alone becomes that component's folder. `dtype` for
    floating-point tensors, None for what they have; `shard`: at most so many bytes in a file.
    Written whole or not at all. Raises NotFound, Unreadable, InvalidValue, NotWritten.
    """
    if out.exists():
        raise InvalidValue(f"{str(out)!r} is there already.", do="Name another with -o.")
    found = {one.part.component: one for one in found_in(source, variant=variant)}
    for one in found.values():
        one.report.check()
    kinds = {one.report.family: None for one in found.values() if one.report.family != "any"}
    form = _form(source, next(iter(kinds), "any"), found)
    words = {} if form is None or source.is_dir() else _words_beside(source, form, found)
    networks = {name: load(one) for name, one in found.items()}
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as made:
            whole = Path(made) / "whole"
            whole.mkdir()
            for name, network in networks.items():
                said = _said(source, name, network, form)
                place = whole / name if _is_whole(source, form) else whole
                _write_network(place, name, network, said, dtype, shard)
            _write_rest(source, whole, form, networks, words)
            whole.replace(out)
    except OSError as error:
        reason = error.strerror or str(error)
        raise NotWritten(f"Cannot write {str(out)!r}: {reason}.", do="Nothing was left.") from error
    return out


def _is_whole(source: Path, form: FolderForm | None) -> bool:
    return form is not None or (source / "model_index.json").is_file()


def _form(source: Path, family: str, found: Mapping[str, Any]) -> FolderForm | None:
    """Of a single file that holds a whole model; None for a folder, which says it itself, and
    for one network alone. Raises InvalidValue for a file of some networks."""
    if source.is_dir() or len(found) == 1:
        return None
    if family not in FORMS:
        known = ", ".join(FORMS)
        raise InvalidValue(f"No folder is made of a file of {family}.", do=f"Known: {known}.")
    form = FORMS[family]
    needs = {"vae", *(encoder for encoder, _ in form.clips.values()), form.t5[1]} - {""}
    missing = sorted(needs - set(form.optional) - found.keys())
    if missing:
        raise InvalidValue(
            f"{str(source)!r} holds {', '.join(found)} and no {missing[0]}: no whole folder.",
            do="Name the file of the whole model, or of one network alone.",
        )
    return form


def _said(source: Path, name: str, network: nn.Module, form: FolderForm | None) -> dict[str, Any]:
    """The component's config.json: the folder's own, or ours said as one."""
    for place in (source / name, source) if source.is_dir() else ():
        if (place / "config.json").is_file():
            return read_json(place / "config.json")
    said = config_said(network.config)
    side = {} if form is None else form.side
    if name == "unet" and side:
        said["sample_size"] = side[_prediction(source)]
    return said


def _prediction(source: Path) -> str:
    return "v" if V_MARK in header_of(source) else "eps"


def _layout(name: str, network: nn.Module) -> Layout:
    rows = {
        row.name: row
        for row in LAYOUTS
        if row.component == name and kind_of(row).build is type(network)
    }
    for known in _LAYOUTS:
        if known in rows:
            return rows[known]
    raise InvalidValue(f"A folder has no place for {name!r}, a {type(network).__name__}.")


def _write_network(
    place: Path,
    name: str,
    network: nn.Module,
    said: Mapping[str, Any],
    dtype: torch.dtype | None,
    shard: int | None,
) -> None:
    state = network.state_dict()
    stored = stored_of(plan_of(_layout(name, network).rules(network.config), state), state)
    tensors, known = dict[str, Tensor](), set[int]()
    for key, tensor in stored.items():
        kind = dtype if dtype and tensor.is_floating_point() else tensor.dtype
        made = tensor.detach().to(kind).contiguous()
        # One tensor may stand in several places, and a file has no room that two share.
        tensors[key] = made.clone() if made.data_ptr() in known else made
        known.add(made.data_ptr())
    stem = "model" if name.startswith(_TEXTS) else "diffusion_pytorch_model"
    _write_json(place / "config.json", said)
    parts = _parts(tensors, shard)
    if len(parts) == 1:
        save_tensors(place / f"{stem}.safetensors", tensors, {"format": "pt"})
        return
    places: dict[str, str] = {}
    for number, part in enumerate(parts, 1):
        file = f"{stem}-{number:05}-of-{len(parts):05}.safetensors"
        save_tensors(place / file, part, {"format": "pt"})
        places |= dict.fromkeys(part, file)
    size = sum(tensor.nbytes for tensor in tensors.values())
    index = {"metadata": {"total_size": size}, "weight_map": places}
    _write_json(place / f"{stem}.safetensors.index.json", index)


def _parts(tensors: dict[str, Tensor], shard: int | None) -> list[dict[str, Tensor]]:
    """In order, each of at most `shard` bytes, or of one larger tensor."""
    if shard is None:
        return [tensors]
    if shard < 1:
        raise InvalidValue(f"A file of {shard} bytes holds nothing.", do="Give more.")
    parts, room = [dict[str, Tensor]()], shard
    for name, tensor in tensors.items():
        if parts[-1] and tensor.nbytes > room:
            parts.append({})
            room = shard
        parts[-1][name] = tensor
        room -= tensor.nbytes
    return parts


def _copy(source: Path, whole: Path, networks: Mapping[str, nn.Module]) -> None:
    """What a folder says beside its weights; components that were left out are named as none."""
    index = source / "model_index.json"
    if not index.is_file():
        return
    listed = read_json(index)
    for name, said in listed.items():
        weights = any((source / name).glob("*.safetensors")) if (source / name).is_dir() else False
        if name not in networks and weights:
            listed[name] = [None, None]
        elif name not in networks and isinstance(said, list) and (source / name).is_dir():
            (whole / name).mkdir()
            for file in sorted((source / name).iterdir()):
                if file.suffix in _SMALL:
                    shutil.copyfile(file, whole / name / file.name)
    _write_json(whole / "model_index.json", listed)


def _words_beside(source: Path, form: FolderForm, found: Mapping[str, Any]) -> dict[str, Path]:
    """Where the tokenizer of T5 or Gemma lies, where it is needed. Raises NotFound."""
    folder, component = form.t5
    if component not in found:
        return {}
    gemma = form.words.startswith("Gemma")
    for place in (source.parent / folder, source.parent / "tokenizer", source.parent):
        if (place / "tokenizer.json").is_file() if gemma else is_t5(place):
            return {folder: place}
    name = "Gemma" if gemma else "T5"
    raise NotFound(
        f"{source.name!r} holds {name} and no file of its vocabulary, which does not come with "
        "Diptych.",
        do=f"Put tokenizer.json{'' if gemma else ' or spiece.model'} of the published {folder!r} "
        f"beside it, in a folder {folder!r}.",
    )


def _write_rest(
    source: Path,
    whole: Path,
    form: FolderForm | None,
    networks: Mapping[str, nn.Module],
    words: Mapping[str, Path],
) -> None:
    """Tokenizers, schedule and the index of what there is, which comes last."""
    if source.is_dir():
        _copy(source, whole, networks)
    if form is None:
        return
    painter = next(name for name in ("unet", "transformer") if name in networks)
    for folder, (_, pad) in form.clips.items():
        _write_clip(whole / folder, pad)
    for folder, place in words.items():
        (whole / folder).mkdir()
        for file in sorted(place.iterdir()):
            if file.name in _T5_FILES:
                shutil.copyfile(file, whole / folder / file.name)
    marked = ZERO_TERMINAL_MARK in header_of(source)
    schedule = form.schedule_of(_prediction(source), zero_terminal=marked)
    _write_json(whole / "scheduler" / "scheduler_config.json", schedule)
    index: dict[str, Any] = {
        "_class_name": form.pipeline_of(_channels(networks[painter].config)),
        **form.index,
        "scheduler": ["diffusers", schedule["_class_name"]],
    }
    for name, network in networks.items():
        said = config_said(network.config)
        texts = name.startswith(_TEXTS)
        kind = said["architectures"][0] if texts else said["_class_name"]
        index[name] = ["transformers" if texts else "diffusers", kind]
    index |= {folder: ["transformers", "CLIPTokenizer"] for folder in form.clips}
    index |= {folder: ["transformers", form.words] for folder in words}
    for name in form.optional:
        index |= {} if name in networks else {name: [None, None], form.t5[0]: [None, None]}
    _write_json(whole / "model_index.json", index)


def _channels(config: Any) -> int:
    return config.in_channels


_T5_FILES = ("tokenizer.json", "spiece.model", "tokenizer_config.json", "special_tokens_map.json")


def _write_clip(folder: Path, pad: str) -> None:
    """CLIP's own words, as its folders have them."""
    vocabulary, merges = ClipTokenizer.published_words()
    _write_json(folder / "vocab.json", vocabulary)
    lines = ["#version: 0.2", *(" ".join(pair) for pair in merges)]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n")
    end = "<|endoftext|>"
    said = {"bos_token": "<|startoftext|>", "eos_token": end, "unk_token": end, "pad_token": pad}
    _write_json(folder / "special_tokens_map.json", said)
    said |= {"tokenizer_class": "CLIPTokenizer", "model_max_length": 77}
    _write_json(folder / "tokenizer_config.json", said | {"do_lower_case": True})


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=2) + "\n")
