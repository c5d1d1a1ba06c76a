"""Turns of a conversation as the text that a model was trained on: by the template that came with
it, run in a sandbox, or by a named one."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from diptych.foundation.errors import InvalidValue, Unreadable

_LONGEST = 100_000  # characters of a template, and of what it makes, per turn
_TRACKED = re.compile(r"\{%-?\s*(end)?generation\s*-?%\}")


@dataclass(frozen=True)
class Turn:
    """What one side says; `pictures` are shown before the words."""

    role: Literal["user", "assistant", "system"]
    text: str
    pictures: int = 0


def written(
    template: str, turns: Sequence[Turn], *, words: Mapping[str, str], special: Iterable[str] = ()
) -> str:
    """The conversation as text, up to where the model goes on.

    `words`: what a template calls by name (`bos_token`). `special`: tokens that mean something to
    the model; where a person typed one it is broken by an invisible mark, so that it is text.
    Raises InvalidValue for an order of turns that the template refuses, Unreadable for a template
    that is broken.
    """
    from jinja2 import TemplateError
    from jinja2.exceptions import SecurityError
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    def refused(message: str) -> None:
        raise InvalidValue(f"The chat template refuses this: {message}")

    if len(template) > _LONGEST:
        raise Unreadable(f"The chat template has {len(template)} characters.")
    known = list(special)
    messages = [_message(turn, known) for turn in turns]
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
    )
    given: dict[str, Any] = {**words, "messages": messages, "add_generation_prompt": True}
    given["raise_exception"] = refused
    try:
        made = environment.from_string(_TRACKED.sub("", template))
        return _limited(made.generate(**given), _LONGEST * (1 + len(turns)))
    except SecurityError as error:
        raise Unreadable(
            f"The chat template does what a template may not: {_told(error)}."
        ) from error
    except (TemplateError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise Unreadable(f"The chat template is broken: {_told(error)}.") from error


def _told(error: Exception) -> str:
    return str(error).rstrip(".")


def escaped(text: str, special: Iterable[str]) -> str:
    """Text in which no special token stands: each is broken behind its first character."""
    for token in special:
        if len(token) > 1 and token in text:
            text = text.replace(token, f"{token[0]}\u200b{token[1:]}")
    return text


def _message(turn: Turn, special: Sequence[str]) -> dict[str, Any]:
    shown = [{"type": "image"} for _ in range(turn.pictures)]
    said = [{"type": "text", "text": escaped(turn.text, special)}]
    return {"role": turn.role, "content": [*shown, *said]}


def _limited(pieces: Iterable[str], most: int) -> str:
    whole, length = list[str](), 0
    for piece in pieces:
        length += len(piece)
        if length > most:
            raise Unreadable(f"The chat template made more than {most} characters.")
        whole.append(piece)
    return "".join(whole)


def _template(user: str, assistant: str, following: str, picture: str) -> str:
    """A template of two roles; each string holds `TEXT`, and pictures come before it."""
    shown = "{% for c in m.content if c.type == 'image' %}" + picture + "{% endfor %}"
    text = "{% for c in m.content if c.type == 'text' %}{{ c.text }}{% endfor %}"

    def part(frame: str) -> str:
        before, after = frame.split("TEXT")
        return f"{before}{shown}{text}{after}"

    return (
        "{% for m in messages %}{% if m.role == 'assistant' %}" + part(assistant)
        + "{% else %}" + part(user) + "{% endif %}{% endfor %}" + following
    )  # fmt: skip


_LINE = "{{ '\n' }}"
_SHOWN = "{{ picture }}" + _LINE
# By name; `picture` is the model's word for a picture.
TEMPLATES: dict[str, str] = {
    "vicuna": _template("USER: TEXT ", "ASSISTANT: TEXT</s>", "ASSISTANT:", _SHOWN),
    "mistral": _template("[INST] TEXT [/INST]", " TEXT</s>", "", _SHOWN),
    "chatml": _template(
        f"<|im_start|>{{{{ m.role }}}}{_LINE}TEXT<|im_end|>{_LINE}",
        f"<|im_start|>assistant{_LINE}TEXT<|im_end|>{_LINE}",
        f"<|im_start|>assistant{_LINE}",
        _SHOWN,
    ),
    "qwen": _template(
        f"<|im_start|>{{{{ m.role }}}}{_LINE}TEXT<|im_end|>{_LINE}",
        f"<|im_start|>assistant{_LINE}TEXT<|im_end|>{_LINE}",
        f"<|im_start|>assistant{_LINE}",
        "<|vision_start|>{{ picture }}<|vision_end|>",
    ),
    "smolvlm": _template(
        f"<|im_start|>User:TEXT<end_of_utterance>{_LINE}",
        f"Assistant: TEXT<end_of_utterance>{_LINE}",
        "Assistant:",
        "{{ picture }}",
    ),
    "paligemma": (
        "{% for m in messages %}{% for c in m.content if c.type == 'image' %}{{ picture }}"
        "{% endfor %}{% endfor %}{{ bos_token }}{% for m in messages %}{% for c in m.content "
        "if c.type == 'text' %}{{ c.text }}{% endfor %}{% endfor %}" + _LINE
    ),
}
