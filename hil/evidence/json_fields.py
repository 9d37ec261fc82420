"""Dataclasses from JSON objects of any age or damage: a field of the wrong type gets its default, nothing raises."""

from __future__ import annotations

import math
import types
from collections.abc import Callable, Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from functools import cache
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

T = TypeVar("T")
Reader = Callable[[Any], Any]
"""Returns a JSON value as the type of a field; raises TypeError when it is of another type."""

_WRONG = (TypeError, ValueError, OverflowError)


def read_fields(cls: type[T], value: Mapping[str, Any]) -> T:
    """Return an instance of the dataclass ``cls`` from a JSON object.

    A field that is missing or has the wrong type gets its default; one without a default becomes blank ("", NaN, 0,
    False, None, or empty).  Keys that ``cls`` does not have are ignored.
    """
    arguments = {}
    for name, reader, blank in _plan(cls):  # type: ignore[arg-type]
        try:
            arguments[name] = reader(value[name]) if name in value else blank()
        except _WRONG:
            arguments[name] = blank()
    return cls(**arguments)


@cache
def _plan(cls: type[Any]) -> tuple[tuple[str, Reader, Callable[[], Any]], ...]:
    """Return for each argument of ``cls`` its name, its reader, and what gives its default."""
    hints = get_type_hints(cls)
    return tuple(
        (each.name, reader_of(hints[each.name]), _default(each, hints[each.name]))
        for each in fields(cls)
        if each.init
    )


def _default(of: Field[Any], annotation: Any) -> Callable[[], Any]:
    if of.default is not MISSING:
        return lambda: of.default
    if of.default_factory is not MISSING:
        return of.default_factory
    return _blank_of(annotation)


def _blank_of(annotation: Any) -> Callable[[], Any]:
    if _is_optional(annotation):
        return lambda: None
    if annotation is float:
        return lambda: math.nan
    if is_dataclass(annotation) and isinstance(annotation, type):
        return lambda: read_fields(annotation, {})
    kind = get_origin(annotation) or annotation
    return dict if kind is Mapping or kind.__module__ == "collections.abc" else lambda: kind()


def reader_of(annotation: Any) -> Reader:
    """Return what reads a JSON value as ``annotation``; see ``_READERS`` for the plain types."""
    if annotation in _READERS:
        return _READERS[annotation]
    if is_dataclass(annotation) and isinstance(annotation, type):
        return lambda value: read_fields(annotation, _mapping(value))
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin in (Union, types.UnionType):
        return _first_of([reader_of(each) for each in arguments])
    if origin is tuple and arguments[-1] is Ellipsis:
        return lambda value: tuple(_readable(_list(value), reader_of(arguments[0])))
    if origin is tuple:
        readers = [reader_of(each) for each in arguments]
        return lambda value: tuple(read(v) for read, v in zip(readers, _list(value), strict=True))
    if origin is not None and issubclass(origin, Mapping):
        return lambda value: _readable_items(_mapping(value), reader_of(arguments[1]))
    raise TypeError(f"events cannot have fields of type {annotation}")


def _is_optional(annotation: Any) -> bool:
    return annotation is None or type(None) in get_args(annotation)


def _first_of(readers: list[Reader]) -> Reader:
    def read(value: Any) -> Any:
        for reader in readers:
            try:
                return reader(value)
            except _WRONG:
                continue
        raise TypeError(value)

    return read


def _readable(values: list[Any], reader: Reader) -> list[Any]:
    """Return those of ``values`` that can be read."""
    read = []
    for value in values:
        try:
            read.append(reader(value))
        except _WRONG:
            continue
    return read


def _readable_items(value: Mapping[str, Any], reader: Reader) -> dict[str, Any]:
    return {key: read[0] for key, each in value.items() if (read := _readable([each], reader))}


def _text(value: Any) -> str:
    """Return text; a number or a truth becomes text, as a name such as 12 may have been written without quotes."""
    if not isinstance(value, str | int | float):
        raise TypeError(value)
    return str(value)


def _float(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise TypeError(value)
    return value


def _int(value: Any) -> int:
    return int(_float(value))


def _bool(value: Any) -> bool:
    if not isinstance(value, bool):
        raise TypeError(value)
    return value


def _none(value: Any) -> None:
    if value is not None:
        raise TypeError(value)


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list | tuple):
        raise TypeError(value)
    return list(value)


def _mapping(value: Any) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise TypeError(value)
    return value


_READERS: dict[Any, Reader] = {
    Any: lambda value: value,
    str: _text,
    float: _float,
    int: _int,
    bool: _bool,
    type(None): _none,
}
