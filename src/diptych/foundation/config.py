"""Frozen dataclasses to JSON and back, and changes such as `optimizer.rate=3e-4`.

Strict both ways: an unknown key, a missing field and a value of another type are errors that
name the field, and the nearest right name.
"""

# pyright: basic
# (Reflection over values of any type: the strict rules about unknown types say nothing here.)

from __future__ import annotations

import json
import types
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, fields, is_dataclass, replace
from difflib import get_close_matches
from functools import cache
from typing import Any, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from diptych.foundation.errors import InvalidValue

T = TypeVar("T")
_WORDS = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}


def to_json(config: object) -> dict[str, Any]:
    """A dataclass -> a dict of JSON values; tuples become lists, nested dataclasses dicts."""
    if not is_dataclass(config) or isinstance(config, type):
        raise TypeError(f"{config!r} is no dataclass instance")
    return {field.name: _plain(getattr(config, field.name)) for field in fields(config)}


def from_json(cls: type[T], data: Mapping[str, Any], *, at: str = "") -> T:
    """A dict as `to_json` made it -> the dataclass; raises InvalidValue.

    Every key must be a field, every field without a default must be there, every value must be
    of the annotated type (an int passes for a float). `at` is the place said in errors.
    """
    if not isinstance(data, Mapping):
        raise InvalidValue(f"{at or cls.__name__} must be an object, not {data!r}.")
    hints = _hints(cls)
    for key in data:
        if key not in hints:
            raise _unknown_key(f"{at}.{key}".lstrip("."), str(key), hints)
    required = [
        field.name
        for field in fields(cast(Any, cls))
        if field.default is MISSING and field.default_factory is MISSING
    ]
    missing = [name for name in required if name not in data]
    if missing:
        raise InvalidValue(f"{at or cls.__name__} lacks {', '.join(missing)}.")
    values = {
        key: _typed(hints[key], value, f"{at}.{key}".lstrip(".")) for key, value in data.items()
    }
    return _built(lambda: cls(**values), at or cls.__name__)


def with_changes(config: T, changes: Iterable[str]) -> T:
    """The config with `key=value` changes; dots reach into nested configs. Raises InvalidValue.

    The value is read by the field's annotation: `8`, `3e-4`, `true`, `none`, `1,2,4`, a word.
    All changes of one config are made at once, so that two that need each other pass.
    """
    tree: dict[str, Any] = {}
    for change in changes:
        key, equals, value = change.partition("=")
        if not equals or not key:
            raise InvalidValue(f"{change!r} is no change.", do="Write key=value.")
        _plant(tree, key.strip().split("."), value.strip(), key.strip())
    return _changed(config, tree, "")


def _plant(tree: dict[str, Any], path: list[str], value: str, key: str) -> None:
    for part in path[:-1]:
        tree = tree.setdefault(part, {})
        if not isinstance(tree, dict):
            raise InvalidValue(f"{key} reaches into {part!r}, which is set as a whole.")
    if isinstance(tree.get(path[-1]), dict):
        raise InvalidValue(f"{key} is set as a whole and in part.", do="Keep one of the two.")
    tree[path[-1]] = value


def _changed(config: T, tree: dict[str, Any], at: str) -> T:
    hints = _hints(type(config))
    values: dict[str, Any] = {}
    for key, value in tree.items():
        place = f"{at}.{key}".lstrip(".")
        if key not in hints:
            raise _unknown_key(place, key, hints)
        now = getattr(config, key)
        nested = is_dataclass(now) and not isinstance(now, type)
        if isinstance(value, dict):
            if not nested:
                inside = ".".join([place, next(iter(value))])
                raise InvalidValue(f"{inside}: {place} has no parts.", do=f"Write {place}=value.")
            values[key] = _changed(now, value, place)
        elif nested and not value.startswith("{"):
            parts = ", ".join(f"{place}.{name}" for name in _hints(type(now)))
            raise InvalidValue(f"{place} has parts.", do=f"Set one of {parts}.")
        else:
            values[key] = _typed(hints[key], _read(hints[key], value, place), place)
    return _built(
        lambda: cast(T, replace(cast(Any, config), **values)), at or type(config).__name__
    )


def _built(build: Any, at: str) -> Any:
    """Run a constructor; what its own checks say becomes an error for the user."""
    try:
        return build()
    except (ValueError, TypeError) as error:
        raise InvalidValue(f"{at}: {error}.") from error


def _plain(value: object) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return to_json(value)
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if value is None or isinstance(value, str | int | float | bool):
        return value
    raise TypeError(f"{value!r} has no place in a config")


def _typed(hint: Any, value: Any, at: str) -> Any:
    """The value as the annotation wants it; raises InvalidValue when it cannot be."""
    origin, inner = get_origin(hint), get_args(hint)
    if hint is Any:
        return value
    if origin is Literal:
        if value in inner:
            return value
        near = get_close_matches(str(value), [str(item) for item in inner], n=1, cutoff=0.4)
        do = f"Did you mean {near[0]!r}?" if near else f"Offered: {', '.join(map(str, inner))}."
        raise InvalidValue(f"{at} cannot be {value!r}.", do=do)
    if origin in (Union, types.UnionType):
        return _one_of(hint, inner, value, at)
    if origin in (tuple, list) and isinstance(value, list | tuple):
        return _sequence(hint, origin, inner, value, at)
    if origin is dict and isinstance(value, Mapping):
        return {key: _typed(inner[1], item, f"{at}.{key}") for key, item in value.items()}
    if isinstance(hint, type):
        if isinstance(value, hint) and isinstance(value, bool) == (hint is bool):
            return value
        if hint is float and isinstance(value, int) and not isinstance(value, bool):
            return float(value)
        if is_dataclass(hint) and isinstance(value, Mapping):
            return from_json(hint, value, at=at)
    raise InvalidValue(f"{at} must be {_say(hint)}, not {value!r}.")


def _one_of(hint: Any, inner: tuple[Any, ...], value: Any, at: str) -> Any:
    choices = [item for item in inner if item is not type(None)]
    if value is None and len(choices) < len(inner):
        return None
    if len(choices) == 1:  # X | None: the error of X says more
        return _typed(choices[0], value, at)
    for item in choices:
        try:
            return _typed(item, value, at)
        except InvalidValue:
            continue
    raise InvalidValue(f"{at} must be {_say(hint)}, not {value!r}.")


def _sequence(hint: Any, origin: Any, inner: tuple[Any, ...], value: Any, at: str) -> Any:
    endless = origin is list or (len(inner) == 2 and inner[1] is Ellipsis)
    if not endless and len(value) != len(inner):
        raise InvalidValue(f"{at} must be {_say(hint)}, not {value!r}.")
    kinds = [inner[0]] * len(value) if endless else inner
    return origin(
        _typed(kind, item, f"{at}[{i}]")
        for i, (kind, item) in enumerate(zip(kinds, value, strict=True))
    )


def _read(hint: Any, text: str, at: str) -> Any:
    """The words of a command line -> the JSON value the annotation asks for."""
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return _read_one_of(hint, inner, text, at)
    if origin is Literal:
        return {str(item): item for item in inner}.get(text, text)
    if hint is str:
        return text
    try:
        if hint is bool:
            return _WORDS[text.lower()]
        if hint in (int, float):
            return hint(text)
        if origin in (tuple, list) and not text.startswith("["):
            words = [word.strip() for word in text.split(",") if word.strip()]
            kinds = [inner[0]] * len(words) if Ellipsis in inner or origin is list else inner
            pairs = enumerate(zip(kinds, words, strict=True))
            return [_read(kind, word, f"{at}[{i}]") for i, (kind, word) in pairs]
        return json.loads(text)
    except (ValueError, KeyError) as error:
        raise InvalidValue(f"{at} must be {_say(hint)}, not {text!r}.") from error


def _read_one_of(hint: Any, inner: tuple[Any, ...], text: str, at: str) -> Any:
    if type(None) in inner and text.lower() in ("none", "null"):
        return None
    choices = [item for item in inner if item is not type(None)]
    for item in choices:
        try:
            return _typed(item, _read(item, text, at), at)
        except InvalidValue:
            if len(choices) == 1:
                raise
    raise InvalidValue(f"{at} must be {_say(hint)}, not {text!r}.")


_NAMES = {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}


def _say(hint: Any) -> str:
    if hint in _NAMES:
        return _NAMES[hint]
    if hint is type(None):
        return "none"
    origin, inner = get_origin(hint), get_args(hint)
    if origin is Literal:
        return " or ".join(map(str, inner))
    if origin in (Union, types.UnionType):
        return " or ".join(_say(item) for item in inner)
    if origin in (tuple, list):
        if origin is list or Ellipsis in inner:
            return f"a list, each {_say(inner[0])}"
        return f"a list of {len(inner)}: " + ", ".join(_say(item) for item in inner)
    if origin is dict:
        return "an object"
    return f"an object ({hint.__name__})" if isinstance(hint, type) else str(hint)


def _unknown_key(place: str, key: str, known: Iterable[str]) -> InvalidValue:
    names = list(known)
    near = get_close_matches(key, names, n=1, cutoff=0.4)
    do = f"Did you mean {near[0]!r}?" if near else f"Known: {', '.join(names)}."
    return InvalidValue(f"There is no setting {place!r}.", do=do)


@cache
def _hints(cls: type) -> dict[str, Any]:
    resolved = get_type_hints(cls)
    return {field.name: resolved[field.name] for field in fields(cls) if field.init}
