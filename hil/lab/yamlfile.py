"""YAML into strict pydantic models, with errors that name file, line, key and what is allowed."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import TypeVar, get_args

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails, PydanticCustomError

from hil.errors import ConfigurationError


class Strict(BaseModel):
    """Base of every model read from a file: frozen, no unknown keys, no silent conversion of types."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


M = TypeVar("M", bound=BaseModel)


def fault(key: str, value: str, message: str) -> PydanticCustomError:
    """What a model's own validator raises: the file's line of ``value`` (last place it stands) is named."""
    return PydanticCustomError("rule", "{text}", {"text": message, "key": key, "value": value})


def load_yaml(path: Path, model: type[M]) -> M:
    """Read ``path`` and validate it as ``model``.

    Raises ConfigurationError with one line per fault: ``file:line: key: what is wrong; what is allowed``.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as exc:
        raise ConfigurationError(
            f"{path}: no such file", remedy="check the path; lab files are in lab/"
        ) from exc
    except (OSError, UnicodeDecodeError) as exc:
        raise ConfigurationError(f"{path}: cannot be read: {exc}") from exc
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        if root is None:
            raise ConfigurationError(f"{path}:1: the file is empty")
        faults = list(_duplicate_keys(path, root))
        if faults:
            raise ConfigurationError("\n".join(faults), remedy="keep one of them")
        data = yaml.safe_load(text)
    except yaml.YAMLError as exc:
        mark = getattr(exc, "problem_mark", None)
        where = f"{path}:{mark.line + 1}" if mark else str(path)
        raise ConfigurationError(f"{where}: not valid YAML: {getattr(exc, 'problem', None) or exc}") from exc
    if not isinstance(data, dict):
        raise ConfigurationError(f"{path}:1: expected keys and values, found {type(data).__name__}")
    try:
        return model.model_validate(data)
    except ValidationError as exc:
        found = sorted(
            (_explain(root, error, model) for error in _own(exc.errors())), key=lambda line_text: line_text[0]
        )
        raise ConfigurationError(
            "\n".join(f"{path}:{line}: {text}" for line, text in found),
            remedy="correct the lines named above",
        ) from exc


def _own(errors: Sequence[ErrorDetails]) -> list[ErrorDetails]:
    """Without "too short" of a list whose items are there and wrong: pydantic counts only those that are right."""
    places = [error["loc"] for error in errors]
    return [
        error
        for error, here in zip(errors, places, strict=True)
        if error["type"] != "too_short"
        or not any(len(there) > len(here) and there[: len(here)] == here for there in places)
    ]


def _duplicate_keys(path: Path, node: yaml.Node) -> list[str]:
    found: list[str] = []
    if isinstance(node, yaml.MappingNode):
        first: dict[str, int] = {}
        for key, value in node.value:
            line = key.start_mark.line + 1
            if key.value in first:
                found.append(f"{path}:{line}: {key.value}: given twice (first in line {first[key.value]})")
            first.setdefault(key.value, line)
            found += _duplicate_keys(path, value)
    elif isinstance(node, yaml.SequenceNode):
        for item in node.value:
            found += _duplicate_keys(path, item)
    return found


def _line(root: yaml.Node, location: Sequence[int | str]) -> int:
    """Line (1-based) of the deepest node that ``location`` reaches; tags of unions are passed over."""
    node, line = root, root.start_mark.line
    for step in location:
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                if key.value == step:
                    node, line = value, key.start_mark.line
                    break
        elif isinstance(node, yaml.SequenceNode) and isinstance(step, int) and step < len(node.value):
            node = node.value[step]
            line = node.start_mark.line
    return line + 1


def _explain(root: yaml.Node, error: ErrorDetails, model: type[BaseModel]) -> tuple[int, str]:
    """(line, ``key: what is wrong; what is allowed``)."""
    location = error["loc"]
    key = ".".join(str(step) for step in location) or "(top level)"
    message = error["msg"].removeprefix("Value error, ")
    line = _line(root, location)
    if error["type"] == "extra_forbidden":
        message = f"unknown key{_suggest(model, location)}"
    elif error["type"] == "missing":
        message = "is required and missing"
    elif error["type"] == "rule":
        key = ".".join([*map(str, location), error["ctx"]["key"]])
        line = _line_of_value(root, error["ctx"]["value"]) or line
    elif error["type"] == "union_tag_invalid":
        ctx = error["ctx"]
        key = f"{key}.{ctx['discriminator'].strip(chr(39))}"
        message = f"{'is empty' if not ctx['tag'] else repr(ctx['tag']) + ' is none'}; one of {ctx['expected_tags']}"
    elif error["input"] == "":
        wanted = f"one of {error['ctx']['expected']}" if error["type"] == "literal_error" else ""
        wanted = wanted or _meaning(model, location) or message
        message = f"is empty; wanted: {wanted}"
    elif error["type"] != "value_error":
        message += f" (found {error['input']!r})"
        if error["type"] == "string_pattern_mismatch" and (wanted := _meaning(model, location)):
            message += f"; wanted: {wanted}"
    return line, f"{key}: {message}"


def _meaning(model: type[BaseModel], location: Sequence[int | str]) -> str:
    """What the model says of a key, for people."""
    here: type[BaseModel] | None = model
    found = ""
    for step in location:
        if here is not None and isinstance(step, str) and (field := here.model_fields.get(step)):
            found = field.description or _described(field.annotation)
            here = _model_in(field.annotation)
    return found


def _described(annotation: object) -> str:
    """The description in an annotated type, also in one of several that are allowed."""
    for part in (*getattr(annotation, "__metadata__", ()), *get_args(annotation)):
        if isinstance(part, FieldInfo) and part.description:
            return part.description
        if text := _described(part):
            return text
    return ""


def _line_of_value(node: yaml.Node, value: str) -> int:
    """Line (1-based) of the last scalar that is ``value``; 0 when there is none."""
    if isinstance(node, yaml.ScalarNode):
        return node.start_mark.line + 1 if node.value == value else 0
    if isinstance(node, yaml.MappingNode):
        return max((_line_of_value(item, value) for _, item in node.value), default=0)
    return max((_line_of_value(item, value) for item in node.value), default=0)


def _suggest(model: type[BaseModel], location: Sequence[int | str]) -> str:
    """What was probably meant, and what is allowed there."""
    allowed = _allowed(model, location[:-1])
    if not allowed:
        return ""
    close = get_close_matches(str(location[-1]), allowed, n=1, cutoff=0.5)
    return (f"; did you mean {close[0]}?" if close else "") + f" Allowed: {', '.join(sorted(allowed))}"


def _allowed(model: type[BaseModel], location: Sequence[int | str]) -> list[str]:
    here: type[BaseModel] | None = model
    for step in location:
        if isinstance(step, int) or here is None:
            continue
        field = here.model_fields.get(step)
        here = _model_in(field.annotation) if field else here
    return list(here.model_fields) if here else []


def _model_in(annotation: object) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for part in getattr(annotation, "__args__", ()):
        if found := _model_in(part):
            return found
    return None
