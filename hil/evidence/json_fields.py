"""Dataclasses from JSON objects of any age or damage: a field of the wrong type gets its default, nothing raises."""

from __future__ import annotations

import math
import types
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from hil.text import clean

T = TypeVar("T")
_WRONG = (TypeError, ValueError, OverflowError)


def read_fields(cls: type[T], value: Mapping[str, Any]) -> T:
    """Return an instance of the dataclass ``cls`` from a JSON object.

    A field that is missing or has the wrong type gets its default; one without a default becomes blank ("", NaN, 0,
    False, None, or empty).  Keys that ``cls`` does not have are ignored.
    """
    arguments = {}
    for name, annotation, default in _arguments(cls):  # type: ignore[arg-type]
        try:
            arguments[name] = read(annotation, value[name])
        except (KeyError, *_WRONG):
            arguments[name] = default()
    return cls(**arguments)


def fitting(kinds: Mapping[str, Any], value: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Return the keys of a JSON object whose values have the type that ``kinds`` names, and the names of the others.

    Keys that ``kinds`` does not have are left out.
    """
    good: dict[str, Any] = {}
    wrong = []
    for name, annotation in kinds.items():
        try:
            if name in value:
                good[name] = read(annotation, value[name])
        except _WRONG:
            wrong.append(name)
    return good, wrong


@cache
def _arguments(cls: type[Any]) -> list[tuple[str, Any, Callable[[], Any]]]:
    """Return for each argument of ``cls`` its name, its type, and what gives its default."""
    hints = get_type_hints(cls)
    return [(each.name, hints[each.name], _default(each, hints[each.name])) for each in fields(cls) if each.init]


def _default(of: Any, annotation: Any) -> Callable[[], Any]:
    if of.default is not MISSING:
        return lambda: of.default
    if of.default_factory is not MISSING:
        return of.default_factory  # type: ignore[no-any-return]
    if type(None) in get_args(annotation):
        return lambda: None
    if annotation is float:
        return lambda: math.nan
    kind = get_origin(annotation) or annotation
    return dict if kind is Mapping else kind


def read(annotation: Any, value: Any) -> Any:
    """Return a JSON value as the type of a field; TypeError or ValueError when it is of another type.

    Text may be a number, as a name such as 12 may have been written without quotes; numbers are finite.  Of a list and
    of a mapping those elements are left out that are of another type.
    """
    if annotation is Any or (annotation is bool and isinstance(value, bool)):
        return value
    if annotation is str and isinstance(value, str | int | float):
        return clean(str(value))
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if annotation in (int, float) and is_number:
        return int(value) if annotation is int else value
    if isinstance(annotation, type) and is_dataclass(annotation) and isinstance(value, Mapping):
        return read_fields(annotation, value)
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin in (Union, types.UnionType):
        for part in parts:
            with suppress(*_WRONG):
                return read(part, value)
    elif origin is Mapping and isinstance(value, Mapping):
        read_items = {}
        for key, each in value.items():
            with suppress(*_WRONG):
                read_items[key] = read(parts[1], each)
        return read_items
    elif origin is tuple and isinstance(value, list | tuple):
        if parts[-1] is not Ellipsis:
            return tuple(read(part, each) for part, each in zip(parts, value, strict=True))
        read_values = []
        for each in value:
            with suppress(*_WRONG):
                read_values.append(read(parts[0], each))
        return tuple(read_values)
    elif annotation is type(None) and value is None:
        return None
    raise TypeError(f"{value!r} is not {annotation}")
