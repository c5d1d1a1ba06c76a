"""What exists in the scenes world: shapes, colors, sizes, fills, backgrounds, relations."""

from __future__ import annotations

from diptych.foundation.randomness import mix

UNITS = 64
GAP = 3  # least distance between two silhouettes in a judged split, in units

SHAPES = ("circle", "square", "triangle", "diamond", "star", "heart", "cross", "moon")

COLORS: dict[str, tuple[int, int, int]] = {
    "red": (214, 39, 40),
    "orange": (255, 127, 14),
    "yellow": (240, 205, 0),
    "green": (30, 150, 50),
    "cyan": (0, 190, 210),
    "blue": (40, 70, 210),
    "purple": (130, 50, 170),
    "pink": (245, 120, 190),
    "brown": (120, 72, 36),
    "black": (25, 25, 25),
}

BACKGROUNDS: dict[str, tuple[int, int, int]] = {
    "white": (255, 255, 255),
    "gray": (224, 224, 224),
    "sky": (214, 230, 250),
    "mint": (214, 242, 220),
    "sand": (244, 232, 208),
}

# Radii in units. Between two sizes lie 2 units of radius, that is 4 pixels of width at 64 px.
SIZES: dict[str, tuple[float, ...]] = {
    "small": (6.5, 7.0, 7.5),
    "medium": (9.5, 10.0, 10.5),
    "large": (12.5, 13.25, 14.0),
}

FILLS: tuple[str, ...] = ("solid", "striped", "dotted", "outlined")
# What a small thing may be filled with besides solid, from 128 px on. No dot and no stroke fits
# into a small moon, and a small star has room for hardly one stripe: they would look solid.
SMALL_FILLS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(SHAPES, FILLS[1:]),
    "star": ("dotted", "outlined"),
    "moon": ("striped",),
}
PITCH = 7.0  # of stripes and dots
STROKE = 2.5  # of outlines

# relation -> (dx, dy) sign of the subject as seen from the object; y grows downwards
RELATIONS: dict[str, tuple[int, int]] = {
    "above": (0, -1),
    "below": (0, 1),
    "left of": (-1, 0),
    "right of": (1, 0),
}
OPPOSITE = {"above": "below", "below": "above", "left of": "right of", "right of": "left of"}
CLEAR = 6  # by how many units the main axis of a stated relation must win

# No I, O, 0 or 1: at 9 pixels of height they are each other.
LETTERS = "ABCDEFGHJKLMNPQRSTUVWXYZ23456789"
CAP_HEIGHT = 9.5
ADVANCE = 8

SPLITS = ("train", "tune", "heldout", "occluded")

# Every color and every shape loses as many (color, shape) to the judged splits as its like.
HELDOUT_PAIRS = frozenset((color, SHAPES[(3 * i + 1) % 8]) for i, color in enumerate(COLORS))
TUNE_PAIRS = frozenset(
    (color, SHAPES[(3 * i + 6) % 8]) for i, color in enumerate(COLORS) if i in (0, 3, 4, 5, 6, 7)
)


def relation_split(subject: str, relation: str, other: str) -> str:
    """Which split a (shape, relation, shape) belongs to: the same for both ways to say it.

    20 of 128 are `heldout`, 14 `tune`, the rest `train`. Only pairs of things keep out of each
    other's held-out places in training; of three or more the sentence is kept out.
    """
    if relation in ("below", "right of"):
        subject, relation, other = other, OPPOSITE[relation], subject
    number = mix(11, SHAPES.index(subject), len(relation), SHAPES.index(other)) % 16
    return {0: "heldout", 1: "heldout", 2: "tune"}.get(number, "train")


def word_split(word: str) -> str:
    """Which split a written word belongs to: about one in eight is `heldout`."""
    number = mix(13, *(ord(letter) for letter in word)) % 16
    return {0: "heldout", 1: "heldout", 2: "tune"}.get(number, "train")


def pair_split(color: str, shape: str) -> str:
    """Which split a (color, shape) belongs to."""
    if (color, shape) in HELDOUT_PAIRS:
        return "heldout"
    return "tune" if (color, shape) in TUNE_PAIRS else "train"
