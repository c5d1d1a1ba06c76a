"""The set as shards: download, match, render, write."""

from __future__ import annotations

import io
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from PIL import Image

from diptych.data.emoji.captions import caption
from diptych.data.emoji.drawings import SPLITS, Drawing, Pack, drawings_of, names_of, svg_of
from diptych.data.emoji.packs import NAMES, STYLES, download, read_member
from diptych.data.shards import write_shards
from diptych.foundation.errors import InvalidValue
from diptych.foundation.extras import need
from diptych.foundation.files import write_whole
from diptych.foundation.progress import Progress, Report, silent
from diptych.foundation.randomness import stream


def build(folder: Path, *, size: int = 96, report: Report = silent) -> dict[str, Any]:
    """Write `train`, `tune` and `heldout` shards and `index.json`, which comes last and is
    returned. Packages are kept in `folder/npm`; with them there, no network is needed.

    Pictures are WebP without loss, size x size with transparency. The same packages and size
    give the same shards. Raises InvalidValue, NotFound, Unreadable, MissingExtra, NotWritten.
    """
    if not 16 <= size <= 1024:
        raise InvalidValue(f"Size {size} is not offered.", do="Choose 16 to 1024 pixels.")
    need("resvg_py", "data")
    report(Progress(0, 0, "fetching packages"))
    archives = {style: download(package, folder / "npm") for style, package in STYLES.items()}
    names = names_of(read_member(download(NAMES, folder / "npm"), "en/data.json"))
    packs = {
        style: Pack(read_member(archive, "icons.json"), read_member(archive, "chars.json"))
        for style, archive in archives.items()
    }
    infos = {style: read_member(archive, "info.json") for style, archive in archives.items()}
    drawings = drawings_of(names, packs)
    failed: list[str] = []
    rendered = _rendered(drawings, packs, infos, size, failed, report)
    # Each split is written from one pass over the drawings, so that memory holds one of them.
    by_split: dict[str, list[dict[str, bytes]]] = {split: [] for split in SPLITS}
    for split, sample in rendered:
        by_split[split].append(sample)
    written = [
        path for split, samples in by_split.items() for path in write_shards(folder, split, samples)
    ]
    for left_over in set(folder.glob("*-[0-9]*.tar")) - set(written):
        left_over.unlink()
    index = {
        "set": "emoji",
        "size": size,
        "names": len({drawing.name.text for drawing in drawings}),
        "pictures": {split: len(samples) for split, samples in by_split.items()},
        "styles": dict(Counter(drawing.style for drawing in drawings)),
        "licenses": {style: info["license"]["spdx"] for style, info in infos.items()},
        "packages": {p.name: p.version for p in (NAMES, *STYLES.values())},
        "failed": failed,
    }
    write_whole(folder / "index.json", json.dumps(index, indent=2) + "\n")
    return index


def _rendered(
    drawings: list[Drawing],
    packs: Mapping[str, Pack],
    infos: Mapping[str, Any],
    size: int,
    failed: list[str],
    report: Report,
) -> Iterator[tuple[str, dict[str, bytes]]]:
    """(split, members of the sample); an icon that cannot be drawn is named in `failed`."""
    for number, drawing in enumerate(drawings):
        name, style = drawing.name, drawing.style
        try:
            picture = render_svg(svg_of(packs[style], drawing.icon), size)
        except ValueError as error:
            failed.append(f"{style}/{drawing.icon}: {error}")
            continue
        words = caption(name, style, stream(3, number))
        facts = {
            "name": name.text,
            "label": name.label,
            "hexcode": name.hexcode,
            "keywords": name.keywords,
            "style": style,
            "caption": words,
            "license": infos[style]["license"]["spdx"],
            "author": infos[style]["author"]["name"],
            "source": f"{STYLES[style].name}@{STYLES[style].version}/{drawing.icon}",
        }
        yield (
            drawing.split,
            {
                "webp": _webp(picture),
                "json": json.dumps(facts, ensure_ascii=False).encode(),
                "txt": words.encode(),
            },
        )
        report(Progress(number + 1, len(drawings), style))


def render_svg(svg: str, size: int) -> Image.Image:
    """RGBA of size x size; what is not square is centered. Raises ValueError."""
    import resvg_py

    # Fonts of the machine would make the set another on another machine.
    content = resvg_py.svg_to_bytes(svg_string=svg, width=size, height=size, skip_system_fonts=True)
    with Image.open(io.BytesIO(content)) as picture:
        drawn = picture.convert("RGBA")
    if drawn.size == (size, size):
        return drawn
    whole = Image.new("RGBA", (size, size))
    drawn.thumbnail((size, size))
    whole.paste(drawn, ((size - drawn.width) // 2, (size - drawn.height) // 2))
    return whole


def _webp(picture: Image.Image) -> bytes:
    content = io.BytesIO()
    picture.save(content, "WEBP", lossless=True, quality=50, method=2)
    return content.getvalue()
