"""Which drawing gets which name, and what is kept back."""

from __future__ import annotations

from collections import defaultdict

import pytest

from diptych.data.emoji.build import render_svg
from diptych.data.emoji.captions import caption
from diptych.data.emoji.drawings import Name, Pack, drawings_of, names_of, plain, svg_of
from diptych.foundation.randomness import stream

WORDS = ("nut", "pear", "plum", "fig", "lime", "kiwi", "melon", "grape", "lemon", "mango")


def names() -> list[Name]:
    fruits = [
        {"label": f"{a} {b}", "hexcode": f"{0x1F000 + 16 * i + j:X}", "group": 4, "tags": [a]}
        for i, a in enumerate(WORDS)
        for j, b in enumerate(WORDS)
    ]
    return names_of([*fruits, {"label": "flag: Chad", "hexcode": "1F1F9", "group": 9}])


def packs(styles: int) -> dict[str, Pack]:
    spelled = {name.label.replace(" ", "-"): {"body": "<g/>"} for name in names()}
    coded = Pack({"icons": spelled}, {n.hexcode: n.label.replace(" ", "-") for n in names()})
    squeezed = {key.replace("-", ""): value for key, value in spelled.items()}
    return {"coded": coded, **{f"s{i}": Pack({"icons": squeezed}, {}) for i in range(styles - 1)}}


@pytest.mark.parametrize(
    ("label", "text"),
    [
        ("1st place medal", "first place medal"),
        ("Japanese “here” button", "japanese here button"),
        ("piñata", "pinata"),
        ("keycap: 10", "keycap one zero"),
        ("OK hand", "ok hand"),
        ("rock-and-roll & more", "rock and roll and more"),
    ],
)
def test_names_are_lower_case_words(label: str, text: str):
    assert plain(label) == text


def test_flags_are_left_out():
    assert not any("chad" in name.text for name in names())


def test_styles_match_by_code_point_or_spelling():
    found = defaultdict(set)
    for drawing in drawings_of(names(), packs(4)):
        assert plain(drawing.icon).replace(" ", "") == drawing.name.text.replace(" ", "")
        found[drawing.name.text].add(drawing.style)
    assert len(found) == len(names()) and all(len(styles) == 4 for styles in found.values())


def test_half_of_the_names_keep_one_style_back():
    kept = defaultdict(list)
    for drawing in drawings_of(names(), packs(5)):
        if drawing.split != "train":
            kept[drawing.name.text].append((drawing.split, drawing.style))
    assert all(len(some) == 1 for some in kept.values())
    shares = [split for ((split, _),) in kept.values()]
    assert shares.count("heldout") == len(names()) // 2
    assert shares.count("tune") == len(names()) // 8
    assert {style for ((_, style),) in kept.values()} == set(packs(5))


def test_names_in_few_styles_are_trained_on_or_left_out():
    assert {drawing.split for drawing in drawings_of(names(), packs(3))} == {"train"}
    assert not drawings_of(names(), packs(2))


def test_an_alias_counts_unless_it_is_turned():
    icons = {"icons": {"a": {"body": ""}}, "aliases": {"fig-fig": {"parent": "a"}}}
    turned = {"icons": {"a": {"body": ""}}, "aliases": {"fig-fig": {"parent": "a", "hFlip": True}}}

    def matched(pack: dict) -> set[str]:
        drawings = drawings_of(names(), {**packs(3), "more": Pack(pack, {})})
        return {drawing.name.text for drawing in drawings if drawing.style == "more"}

    assert matched(icons) == {"fig fig"} and not matched(turned)


def test_a_caption_names_what_is_drawn():
    name = names()[0]
    said = {caption(name, "fluent-flat", stream(seed)) for seed in range(40)}
    assert len(said) >= 5 and all("nut nut" in text for text in said)


def test_an_icon_is_drawn_whole_on_nothing():
    body = '<rect x="2" y="0" width="4" height="4" fill="#f00"/>'
    pack = Pack({"icons": {"box": {"body": body}}, "width": 8, "height": 4}, {})
    picture = render_svg(svg_of(pack, "box"), 16)
    assert picture.size == (16, 16)
    assert picture.getpixel((8, 8)) == (255, 0, 0, 255)
    assert [picture.getpixel(at)[3] for at in ((0, 8), (15, 8), (8, 0), (8, 15))] == [0, 0, 0, 0]
    with pytest.raises(ValueError):
        render_svg("<svg", 16)
