"""What may be said of a drawing."""

from __future__ import annotations

from random import Random

from diptych.data.emoji.drawings import Name

_FORMS = (
    "{a} {name}",
    "an emoji of {a} {name}",
    "a drawing of {a} {name}",
    "{a} {name} in the {style} style",
    "the {style} emoji for {name}",
    "{name}: {keywords}",
)


def caption(name: Name, style: str, draw: Random) -> str:
    """A sentence in varied wording."""
    words = list(name.keywords)
    draw.shuffle(words)
    form = _FORMS[int(draw.random() * (len(_FORMS) if words else len(_FORMS) - 1))]
    return form.format(
        name=name.text,
        a="an" if name.text[0] in "aeiou" else "a",
        style=style.replace("-", " "),
        keywords=", ".join(words[:3]),
    )
