"""Words learnt from pictures (textual inversion; Gal et al., 2022), in every layout of their
files. A word is a few rows of an encoder's table of words; their width tells whose."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from diptych.checkpoints.account import LoadReport, Problem
from diptych.checkpoints.adapters.endings import is_adapter
from diptych.checkpoints.adapters.read import check_allowed
from diptych.checkpoints.fill import read_tensors
from diptych.checkpoints.header import Header, Stored, header_of
from diptych.foundation.errors import Unreadable

# Names that say nothing of the word, which is then called by its file: those of AUTOMATIC1111,
# whose pickle is copied key by key, and of ComfyUI.
_PLAIN = ("emb_params", "string_to_param.*", "string_to_param['*']", "*")
# Names that say which encoder: those of ComfyUI, and of trainers of SDXL.
_ENCODERS = {
    "clip_l": "text_encoder", "clip_g": "text_encoder_2", "t5xxl": "text_encoder_3",
    "text_encoders_0": "text_encoder", "text_encoders_1": "text_encoder_2",
}  # fmt: skip
# What else a copied pickle holds.
_IGNORABLE = ("string_to_token.*", "string_to_token['*']", "step")
LONGEST = 75  # rows: a chunk of a prompt


@dataclass(frozen=True, eq=False)
class Inversion:
    """`word`: as prompts have it; `rows` [n, D] that are read for it, by component."""

    word: str
    rows: Mapping[str, Tensor]


@dataclass(frozen=True)
class FoundInversion:
    """A word before its tensors are read: of each component the name of its tensor."""

    word: str
    header: Header
    tensors: Mapping[str, str]
    report: LoadReport


def is_inversion(header: Header) -> bool:
    """Whether a file holds rows of tables and nothing else."""
    shapes = [one.shape for name, one in header.items() if name not in _IGNORABLE]
    known = {*_PLAIN, *_ENCODERS} & header.keys()
    plain = len(shapes) == 1 and not next(iter(header)).endswith((".weight", ".bias"))
    rows = all(len(shape) in (1, 2) for shape in shapes)
    return bool(shapes) and rows and bool(known or plain) and not is_adapter(header)


def found_inversion(
    path: Path, widths: Mapping[str, int] | None, *, word: str = "", allow: Sequence[str] = ()
) -> FoundInversion:
    """The account of a file. `widths`: of the encoders at hand, by component, None to tell what
    can be told without; `word`: how it is to be called, else as the file says, else as the file is
    called. `allow`: names of tensors that may be of no use, and of encoders that may go without.

    Raises NotFound, Unreadable; problems stand in the report, whose `check` raises them.
    """
    header = header_of(path)
    if not is_inversion(header):
        some = ", ".join(sorted(header)[:3])
        raise Unreadable(f"{str(path)!r} holds no word for prompts: {some}, ...")
    tensors: dict[str, str] = {}
    problems: list[Problem] = []
    named = ""
    ignored = tuple(name for name in header if name in _IGNORABLE)
    for name in (name for name in header if name not in _IGNORABLE):
        if name not in _PLAIN and name not in _ENCODERS:
            named = named or name
        if widths is None:
            continue
        component, said = _component(name, header[name], widths)
        if component in tensors:
            component, said = "", f"{name!r} is another word for the {component}"
        if component:
            tensors[component] = name
        else:
            problems.append(Problem("misshaped" if "wide" in said else "unused", name, said))
    for component, width in (widths or {}).items():
        if component not in tensors:
            said = f"{component!r} has no rows of width {width} in the file"
            problems.append(Problem("missing", component, said))
    check_allowed(allow, problems)
    said_rows = [header[name].shape for name in header if name not in ignored]
    report = LoadReport(
        component="word",
        family="any",
        layout=", ".join(sorted(name for name in header if name not in ignored)),
        parameters=sum(torch.Size(shape).numel() for shape in said_rows),
        dtypes=tuple(sorted({one.dtype for one in header.values()})),
        applied=len(tensors),
        total=len(header) - len(ignored),
        ignored=ignored,
        problems=tuple(problems),
        allowed=tuple(allow),
    )
    return FoundInversion(word or named or path.stem, header, tensors, report)


def load_inversion(found: FoundInversion) -> Inversion:
    """The word with its rows. Raises Unreadable for problems and for what is not finite."""
    found.report.check()
    tensors = read_tensors(found.header, list(found.tensors.values()))
    rows = {
        component: tensors[name].reshape(-1, tensors[name].shape[-1])
        for component, name in found.tensors.items()
    }
    return Inversion(found.word, rows)


def _component(name: str, stored: Stored, widths: Mapping[str, int]) -> tuple[str, str]:
    """Whose rows a tensor holds, or nothing and why."""
    shape = stored.shape
    rows, width = (shape[0] if len(shape) == 2 else 1), shape[-1]
    if not stored.dtype.startswith(("F", "BF")) or not 1 <= rows <= LONGEST:
        return "", f"{name!r} is {list(shape)} {stored.dtype}, no wide rows of words"
    fits = [component for component, own in widths.items() if own == width]
    said = _ENCODERS.get(name)
    if said is None and len(fits) == 1:
        return fits[0], ""
    if said in fits:
        return str(said), ""
    if said is not None and said not in widths:
        return "", f"{name!r} is for a {said}, which this model has not"
    have = ", ".join(f"{component} {own}" for component, own in widths.items())
    return "", f"{name!r} is {width} wide, and the words here are: {have}"
