"""YAML into strict pydantic models, with errors that name file, line, key and what is allowed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, TypeVar, get_args

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails, PydanticCustomError

from hil.core.wait import duration_s
from hil.errors import ConfigurationError
from hil.lab.unions import model_of_tag, owners_of_key
from hil.lab.yaml_tree import read_tree
from hil.text import one_line

MOST_ROWS = 30
"""Faults of a file that one message names."""
MOST_CHARACTERS = 1000
"""Length of the sentence about one fault; the longest lists what is allowed."""

_HINTS = {
    "string_type": "text; put it in quotes if it looks like a number",
    "bool_type": "true or false",
    "int_type": "a whole number, in plain digits: 4000",
    "float_type": "a number, in plain digits: 4000 or 0.5",
}


class Strict(BaseModel):
    """Base of every model read from a file: frozen, no unknown keys, no silent conversion of types.

    Its validator is built at first use: which kinds a section may have is known only then.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, defer_build=True)


M = TypeVar("M", bound=BaseModel)


def _duration(text: str) -> str:
    if not 1.0 <= duration_s(text) <= 7 * 86_400.0:
        raise ValueError(f"{text}: give 1s to 7d")
    return text


Duration = Annotated[str, AfterValidator(_duration), Field(description="1s to 7d: 90s, 10m, 1h30m")]
"""A length of time in a file; :func:`hil.core.wait.duration_s` has its seconds."""


def with_example(text: str) -> ConfigDict:
    """Return a model's configuration with one worked example for ``hil lab reference``: YAML below its key."""
    return ConfigDict(json_schema_extra={"x-example": text})


def fault(key: str, value: str, message: str) -> PydanticCustomError:
    """Return the error that a model's own validator raises.

    It names the line of ``value`` below the model's place in the file: below ``key`` where that leads somewhere, else
    where a ``name`` has that value, else the last place where it stands.
    """
    return PydanticCustomError("rule", "{text}", {"text": message, "key": key, "value": value})


def load_yaml(path: Path, model: type[M]) -> M:
    """Read ``path`` and validate it as ``model``.

    Raises ConfigurationError with one line per fault: ``file:line: key: what is wrong; what is allowed``.
    """
    root, data = read_tree(path, remedy="check the path; lab files are in lab/")
    if not isinstance(data, dict):
        raise ConfigurationError(f"{path}:1: expected keys and values, found {_shown(data)}")
    try:
        return model.model_validate(data)
    except ValidationError as exc:
        rows = [f"{path}:{row}" for row in _rows(root, _own(exc.errors(include_url=False)[: MOST_ROWS**2]), model)]
        more = [f"... and {len(rows) - MOST_ROWS} more"] if len(rows) > MOST_ROWS else []
        raise ConfigurationError("\n".join(rows[:MOST_ROWS] + more), remedy="correct the lines named above") from exc
    except ConfigurationError as exc:  # of a kind whose package is broken
        raise exc.with_context(f"{path}: {exc.message}") from exc


def _rows(root: yaml.Node, errors: Sequence[ErrorDetails], model: type[BaseModel]) -> Iterator[str]:
    """Yield ``line: key: what is wrong``, by line; a word that is wrong in several places is named once."""
    lines: dict[tuple[str, str], list[tuple[int, str]]] = {}
    for error in errors:
        line, key, message = _explain(root, error, model)
        same = key.rsplit(".", 1)[-1] if error.get("ctx", {}).get("value") else key
        lines.setdefault((same, message), []).append((line, key))
    for (_, message), places in sorted(lines.items(), key=lambda item: min(item[1])):
        (line, key), *others = sorted(places)
        also = ", ".join(dict.fromkeys(str(other) for other, _ in others if other != line))
        yield f"{line}: {key}: {message}" + (f" (also in line {also})" if also else "")


def _own(errors: Sequence[ErrorDetails]) -> list[ErrorDetails]:
    """Drop "too short" of a list whose items are there and wrong: pydantic counts only those that are right."""
    places = [error["loc"] for error in errors]
    return [
        error
        for error, here in zip(errors, places, strict=True)
        if error["type"] != "too_short"
        or not any(len(there) > len(here) and there[: len(here)] == here for there in places)
    ]


# --- where it is


def _follow(node: yaml.Node, steps: Sequence[int | str]) -> tuple[yaml.Node, int, int]:
    """Go down as far as ``steps`` lead: (node reached, its line (1-based), how many steps were taken)."""
    line, taken = node.start_mark.line, 0
    for step in steps:
        if isinstance(node, yaml.MappingNode):
            below = [(value, key) for key, value in node.value if key.value == step]
        elif isinstance(node, yaml.SequenceNode) and isinstance(step, int):
            below = [(item, item) for item in node.value[step : step + 1]]
        elif isinstance(node, yaml.SequenceNode):
            below = [(item, item) for item in node.value if _named(item, str(step))]
        else:
            break
        if not below:
            break
        node, line, taken = below[0][0], below[0][1].start_mark.line, taken + 1
    return node, line + 1, taken


def _named(node: yaml.Node, name: str) -> bool:
    """Tell whether a section has this ``name``."""
    return isinstance(node, yaml.MappingNode) and any(
        key.value == "name" and value.value == name for key, value in node.value
    )


def _line_of_rule(root: yaml.Node, location: Sequence[int | str], key: str, value: str) -> int:
    """Return the line of ``value`` below the place that ``location`` and then ``key`` lead to; else of that place."""
    here, line, _ = _follow(root, location)
    below, line_below, taken = _follow(here, key.split("."))
    if taken:
        here, line = below, line_below
    scalars = [(name, node) for name, node in _scalars(here, "") if node.value == value]
    named = [node for name, node in scalars if name == "name"]
    last = named[-1] if named else scalars[-1][1] if scalars else None
    return last.start_mark.line + 1 if last is not None else line


def _scalars(node: yaml.Node, name: str) -> Iterator[tuple[str, yaml.ScalarNode]]:
    """Yield (key, node) of every scalar at and below ``node``, in the order of the file."""
    if isinstance(node, yaml.ScalarNode):
        yield name, node
    elif isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield from _scalars(value, str(key.value))
    else:
        for item in node.value:
            yield from _scalars(item, name)


# --- what is wrong


def _explain(root: yaml.Node, error: ErrorDetails, model: type[BaseModel]) -> tuple[int, str, str]:
    """Return (line, key, what is wrong and what is allowed)."""
    location = [step for step in error["loc"] if not model_of_tag(step)]
    key = _place(location) or "(top level)"
    message = error["msg"].removeprefix("Value error, ")
    line = _follow(root, location)[1]
    if error["type"] == "extra_forbidden":
        message = f"unknown key{_suggest(model, error['loc'])}"
    elif error["type"] == "missing":
        kind = error["loc"][-2] if len(error["loc"]) > 1 and model_of_tag(error["loc"][-2]) else ""
        message = f"is required with {kind} and missing" if kind else "is required and missing"
        message += f": {meaning}" if kind and (meaning := _meaning(model, error["loc"])) else ""
    elif error["type"] == "rule":
        rule = error["ctx"]["key"]
        key = _place([*location, rule])
        line = _line_of_rule(root, location, rule, error["ctx"]["value"])
    elif error["type"] == "literal_error" and key == "schema" and isinstance(error["input"], int):
        message = f"{error['input']} is of a newer version of this program; this one reads {error['ctx']['expected']}"
    elif error["input"] in ("", None):
        wanted = f"one of {error['ctx']['expected']}" if error["type"] == "literal_error" else ""
        wanted = wanted or _meaning(model, error["loc"]) or message
        message = f"is empty; wanted: {wanted}"
    elif error["type"] != "value_error":
        message += f" (found {_shown(error['input'])})"
        wanted = _meaning(model, error["loc"]) if error["type"] == "string_pattern_mismatch" else ""
        if wanted := wanted or _HINTS.get(error["type"], ""):
            message += f"; wanted: {wanted}"
    return line, key, one_line(message, MOST_CHARACTERS)


def _shown(value: object) -> str:
    """Return a value of a file for a message."""
    return one_line(repr(value) if isinstance(value, str | list | dict) else str(value), 80)


def _place(location: Sequence[int | str]) -> str:
    """Return where something stands: ``links.0.rate_bps``."""
    return ".".join(one_line(str(step), 80) for step in location)


def _suggest(model: type[BaseModel], location: Sequence[int | str]) -> str:
    """Say what was probably meant, and what is allowed there."""
    here, wrong = _model_at(model, location[:-1]), str(location[-1])
    if here is None:
        return ""
    if owners := owners_of_key(wrong, location[:-1]):
        return f": it is only for {' or '.join(owners)}"
    allowed = sorted(field.alias or name for name, field in here.model_fields.items())
    close = get_close_matches(wrong, allowed, n=1, cutoff=0.5)
    return (f"; did you mean {close[0]}?" if close else ".") + f" Allowed: {', '.join(allowed)}"


def _meaning(model: type[BaseModel], location: Sequence[int | str]) -> str:
    """Return what the model says of a key, for people."""
    while location and (isinstance(location[-1], int) or model_of_tag(location[-1])):
        location = location[:-1]
    here = _model_at(model, location[:-1])
    if here is None or not location or not (field := _field(here, str(location[-1]))):
        return ""
    return field.description or _described(field.annotation)


def _described(annotation: object) -> str:
    """Return the description in an annotated type, also in one of several that are allowed."""
    for part in (*getattr(annotation, "__metadata__", ()), *get_args(annotation)):
        if isinstance(part, FieldInfo) and part.description:
            return part.description
        if text := _described(part):
            return text
    return ""


def _model_at(model: type[BaseModel], location: Sequence[int | str]) -> type[BaseModel] | None:
    """Return the model of the section at ``location``; None where there is none."""
    here: type[BaseModel] | None = model
    for step in location:
        if chosen := model_of_tag(step):
            here = chosen
        elif isinstance(step, str) and here is not None and (field := _field(here, step)):
            here = _model_in(field.annotation)
    return here


def _field(model: type[BaseModel], key: str) -> FieldInfo | None:
    return next((f for name, f in model.model_fields.items() if key == (f.alias or name)), None)


def _model_in(annotation: object) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((model for part in get_args(annotation) if (model := _model_in(part))), None)
