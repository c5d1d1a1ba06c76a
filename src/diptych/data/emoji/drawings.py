"""Which icon of which style draws which name."""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from diptych.foundation.randomness import mix

SPLITS = ("train", "tune", "heldout")
FEWEST_STYLES = 3
# Names in fewer styles are trained on in all of them.
_FEWEST_TO_HOLD_OUT = 4
_COMPONENTS, _FLAGS = 2, 9  # groups of emojibase that hold skin tones and hair, and flags
_ORDINALS = {"1st": "first", "2nd": "second", "3rd": "third"}
_DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


@dataclass(frozen=True)
class Name:
    """What a drawing shows. `text` is `label` in lower-case words alone."""

    text: str
    label: str
    hexcode: str
    keywords: tuple[str, ...]


@dataclass(frozen=True)
class Drawing:
    """A name in one style; `icon` is the pack's own name for it."""

    name: Name
    style: str
    icon: str
    split: str


@dataclass(frozen=True)
class Pack:
    """A package's JSON files: icons with their SVG bodies, and code points to icons."""

    icons: Mapping[str, Any]
    chars: Mapping[str, str]


def plain(text: str) -> str:
    """Lower-case words of letters alone: `1st place medal` is `first place medal`."""
    decomposed = unicodedata.normalize("NFKD", text.replace("&", " and "))
    letters = decomposed.encode("ascii", "ignore").decode().lower().replace("'", "")
    words: list[str] = re.findall(r"[a-z0-9]+", letters)
    spelled = " ".join(_ORDINALS.get(word, word) for word in words)
    return " ".join(re.sub(r"\d", lambda digit: f" {_DIGITS[int(digit[0])]} ", spelled).split())


def names_of(emojibase: Iterable[Mapping[str, Any]]) -> list[Name]:
    """The names of `emojibase-data`, in its order, without flags and parts of others."""
    return [
        Name(
            plain(entry["label"]),
            entry["label"],
            entry["hexcode"],
            tuple(dict.fromkeys(filter(None, map(plain, entry.get("tags", ()))))),
        )
        for entry in emojibase
        if entry.get("group") not in (None, _COMPONENTS, _FLAGS)
    ]


def drawings_of(names: Iterable[Name], packs: Mapping[str, Pack]) -> list[Drawing]:
    """All drawings of the names that at least three styles draw, by name, then style.

    Half of the names in four or more styles have one style, drawn by lot, in `heldout`, an
    eighth of them in `tune`. An icon belongs to a name by code point where the pack tells it, else
    by spelling; skin tones are code points of their own, and so left out.
    """
    names = list(names)
    by_code = {_code(name.hexcode): name for name in names}
    by_spelling = {_squeezed(name.label): name for name in names}
    for pack in packs.values():
        for code, icon in pack.chars.items():
            if _code(code) in by_code:
                by_spelling.setdefault(_squeezed(icon), by_code[_code(code)])
    found: dict[str, dict[str, str]] = defaultdict(dict)
    for style, pack in packs.items():
        for name, icon in _matched(pack, by_code, by_spelling):
            found[name.hexcode].setdefault(style, icon)
    drawn = [name for name in names if len(found[name.hexcode]) >= FEWEST_STYLES]
    kept_back = _kept_back({name.hexcode: list(found[name.hexcode]) for name in drawn})
    return [
        Drawing(name, style, icon, kept_back.get((name.hexcode, style), "train"))
        for name in drawn
        for style, icon in found[name.hexcode].items()
    ]


def _kept_back(styles: Mapping[str, list[str]]) -> dict[tuple[str, str], str]:
    """The split of each (name, style) that is not trained on."""
    enough = [code for code, some in styles.items() if len(some) >= _FEWEST_TO_HOLD_OUT]
    lots = {code: mix(*(int(part, 16) for part in code.split("-"))) for code in enough}
    shuffled = sorted(enough, key=lots.__getitem__)
    half, eighth = len(enough) // 2, len(enough) // 8
    split_of = dict.fromkeys(shuffled[:half], "heldout")
    split_of |= dict.fromkeys(shuffled[half : half + eighth], "tune")
    return {
        (code, styles[code][mix(lots[code]) % len(styles[code])]): split
        for code, split in split_of.items()
    }


def _matched(
    pack: Pack, by_code: Mapping[str, Name], by_spelling: Mapping[str, Name]
) -> Iterable[tuple[Name, str]]:
    icons = pack.icons["icons"]
    for code, icon in pack.chars.items():
        if _code(code) in by_code and icon in icons:
            yield by_code[_code(code)], icon
    for icon in icons:
        if _squeezed(icon) in by_spelling:
            yield by_spelling[_squeezed(icon)], icon
    for alias, entry in pack.icons.get("aliases", {}).items():
        # An alias with more than a parent is that icon turned or mirrored: another drawing.
        if (
            set(entry) == {"parent"}
            and entry["parent"] in icons
            and _squeezed(alias) in by_spelling
        ):
            yield by_spelling[_squeezed(alias)], entry["parent"]


def svg_of(pack: Pack, icon: str) -> str:
    """A whole SVG file of an icon."""
    whole, entry = pack.icons, pack.icons["icons"][icon]
    left, top = entry.get("left", 0), entry.get("top", 0)
    width = entry.get("width", whole.get("width", 16))
    height = entry.get("height", whole.get("height", 16))
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'viewBox="{left} {top} {width} {height}">{entry["body"]}</svg>'
    )


def _code(hexcode: str) -> str:
    """A code point sequence without the mark that only asks for color."""
    return "-".join(part for part in hexcode.lower().split("-") if part != "fe0f")


def _squeezed(text: str) -> str:
    return plain(text).replace(" ", "")
