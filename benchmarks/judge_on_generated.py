"""How often the judge agrees with a person on 200 generated pictures, and where it does not.

python -m benchmarks.judge_on_generated
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image

from diptych.data.scenes.judge import check

GENERATED = Path(__file__).parents[1] / "tests" / "data" / "generated"


def verdicts() -> list[tuple[str, bool, bool]]:
    """Prompt, what the person says and what the judge says, in the order of the pictures."""
    labels = json.loads((GENERATED / "labels.json").read_text())
    with Image.open(GENERATED / "pictures.png") as atlas:
        rows = np.asarray(atlas).reshape(10, 64, 20, 64, 3).transpose(0, 2, 1, 3, 4)
    pictures = rows.reshape(200, 64, 64, 3)
    return [
        (one["prompt"], one["right"], check(picture, one["prompt"]).right)
        for picture, one in zip(pictures, labels, strict=True)
    ]


def main() -> None:
    found = verdicts()
    agreed = sum(person == judge for _, person, judge in found)
    print(f"The judge agrees on {agreed} of {len(found)}, {100 * agreed / len(found):.1f} %.")
    for number, (prompt, person, judge) in enumerate(found):
        if person != judge:
            print(f"  {number:3} {'accepted' if judge else 'refused'} wrongly: {prompt}")


if __name__ == "__main__":
    main()
