"""What the invisible mark outlives, what it costs, and how far it changes pictures.

python benchmarks/watermark.py            # a table in Markdown, about a minute on one core
"""

from __future__ import annotations

import io
from collections.abc import Callable
from time import process_time

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from diptych.imaging.watermark import find_mark, marked

PICTURES = 5
PAYLOAD = 0xC0FFEE


def clouds(side: int, seed: int) -> Image.Image:
    """Noise with the spectrum of photographs: busy everywhere."""
    rng = np.random.default_rng(seed)
    across = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.fftfreq(side)[None])
    noise = np.fft.fft2(rng.normal(size=(side, side, 3)), axes=(0, 1))
    values = np.fft.ifft2(noise / np.maximum(across, 1 / side)[..., None], axes=(0, 1)).real
    values = (values - values.mean()) / values.std() * 40 + 128
    return Image.fromarray(np.clip(values, 0, 255).astype(np.uint8))


def drawn(side: int, seed: int) -> Image.Image:
    """Flat shapes on white: the hardest ground, where a mark has nowhere to hide."""
    rng = np.random.default_rng(seed)
    picture = Image.new("RGB", (side, side), "white")
    draw = ImageDraw.Draw(picture)
    for _ in range(5):
        x, y = (int(n) for n in rng.integers(0, side * 2 // 3, 2))
        box = (x, y, x + side // 3, y + side // 4)
        draw.ellipse(box, fill=tuple(int(n) for n in rng.integers(0, 256, 3)))
    return picture


def coded(picture: Image.Image, kind: str, quality: int) -> Image.Image:
    content = io.BytesIO()
    picture.save(content, format=kind, quality=quality)
    return Image.open(content).convert("RGB")


def sized(picture: Image.Image, by: float) -> Image.Image:
    return picture.resize((round(picture.width * by), round(picture.height * by)))


def cropped(picture: Image.Image, share: float) -> Image.Image:
    """So much of each side is cut off, at no multiple of anything."""
    left, top = int(picture.width * share * 0.37), int(picture.height * share * 0.61)
    wide, high = int(picture.width * (1 - share)), int(picture.height * (1 - share))
    return picture.crop((left, top, left + wide, top + high))


CHANGES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "nothing": lambda p: p,
    "JPEG 90": lambda p: coded(p, "jpeg", 90),
    "JPEG 75": lambda p: coded(p, "jpeg", 75),
    "JPEG 50": lambda p: coded(p, "jpeg", 50),
    "WebP 80": lambda p: coded(p, "webp", 80),
    "resized to 0.75 and back": lambda p: sized(p, 0.75).resize(p.size),
    "resized to 0.5 and back": lambda p: sized(p, 0.5).resize(p.size),
    "cropped by 10 %": lambda p: cropped(p, 0.10),
    "cropped by 25 %": lambda p: cropped(p, 0.25),
    "brighter by 20 %": lambda p: p.point(lambda value: min(255, int(value * 1.2))),
    "darker by 20 %": lambda p: p.point(lambda value: int(value * 0.8)),
    "blurred, radius 1": lambda p: p.filter(ImageFilter.GaussianBlur(1)),
    "screenshot: x0.75, JPEG 80": lambda p: coded(sized(p, 0.75), "jpeg", 80),
    "screenshot: x1.5, JPEG 80": lambda p: coded(sized(p, 1.5), "jpeg", 80),
    "resized to 0.9": lambda p: sized(p, 0.9),
    "turned by 2 degrees": lambda p: p.rotate(2),
    "mirrored": lambda p: p.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
}


def main() -> None:
    cases = [(kind, side) for side in (256, 512, 1024) for kind in (clouds, drawn)]
    made = {case: [case[0](case[1], i) for i in range(PICTURES)] for case in cases}
    painted = {case: [marked(p, PAYLOAD) for p in made[case]] for case in cases}
    print(f"Found of {PICTURES} (with all its bits).\n")
    print("| change | " + " | ".join(f"{kind.__name__} {side}" for kind, side in cases) + " |")
    print("|---|" + "---|" * len(cases))
    for name, change in CHANGES.items():
        cells = []
        for case in cases:
            found = [find_mark(change(p)) for p in painted[case]]
            there = [one for one in found if one is not None]
            cells.append(f"{len(there)} ({sum(one.payload == PAYLOAD for one in there)})")
        print(f"| {name} | " + " | ".join(cells) + " |", flush=True)
    print("| PSNR, dB | " + " | ".join(_psnr(made[c], painted[c]) for c in cases) + " |")
    print("| to mark, ms | " + " | ".join(_ms(_mark, made[c]) for c in cases) + " |")
    print("| to find, ms | " + " | ".join(_ms(find_mark, painted[c]) for c in cases) + " |")
    print("| to find none, ms | " + " | ".join(_ms(find_mark, made[c]) for c in cases) + " |")


def _mark(picture: Image.Image) -> Image.Image:
    return marked(picture, PAYLOAD)


def _psnr(before: list[Image.Image], after: list[Image.Image]) -> str:
    pairs = zip(before, after, strict=True)
    errors = [np.mean((np.asarray(a, float) - np.asarray(b, float)) ** 2) for a, b in pairs]
    return f"{10 * np.log10(255**2 / max(errors)):.1f}"


def _ms(run: Callable[[Image.Image], object], pictures: list[Image.Image]) -> str:
    begin = process_time()
    for picture in pictures[:5]:
        run(picture)
    return f"{(process_time() - begin) / 5 * 1000:.0f}"


if __name__ == "__main__":
    main()
