"""YAML files that people write, read as they are written: a tree with the lines, and plain Python values.

Of YAML 1.2 the core schema: ``true`` and ``false`` only are booleans (``yes``, ``no``, ``on``, ``off`` are text), and a
number is decimal, or hexadecimal with 0x.  What is no plain number (``010000``, ``3:59:46``, ``1_000``, ``.nan``, more
than 18 digits) and every date is text, so a key that wants a number refuses it.  Keys are text.  Tags (``!!int``),
merge keys (``<<``), keys given twice and files without end are refused.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from yaml._yaml import CParser
from yaml.composer import Composer
from yaml.resolver import BaseResolver

from hil.core.files import read_text
from hil.errors import ConfigurationError
from hil.text import one_line

MAX_BYTES = 1_000_000
MAX_DEPTH = 100
"""Levels of lists and sections in a file; a lab file has eight."""
MAX_VALUES = 20_000
"""Keys and values in a file, each alias (``*name``) counted with all that it stands for; forty boards need 2,000."""

_TAG = "tag:yaml.org,2002:"
_INT = re.compile(r"[-+]?(?:0|[1-9][0-9]{0,17})|0x[0-9a-fA-F]{1,15}")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|(?:0|[1-9][0-9]*)(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]{1,3})?")
_WORDS = {**dict.fromkeys(("", "~", "null", "Null", "NULL"))}
_WORDS |= {**dict.fromkeys(("true", "True", "TRUE"), True), **dict.fromkeys(("false", "False", "FALSE"), False)}


class _Wrong(Exception):
    """What is wrong with a file, and in which line (0-based)."""

    def __init__(self, line: int, message: str, remedy: str = "") -> None:
        super().__init__(message)
        self.line, self.message, self.remedy = line, message, remedy


class _Loader(Composer, CParser, BaseResolver):
    """Composes nodes of text only, and no more of them than a file of a person has."""

    def __init__(self, text: str) -> None:
        CParser.__init__(self, text)
        Composer.__init__(self)
        BaseResolver.__init__(self)
        self._depth = self._values = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        event: Any = self.peek_event()
        line = event.start_mark.line
        if tag := getattr(event, "tag", None):
            raise _Wrong(line, f"the tag {one_line(tag.replace(_TAG, '!!'), 80)} is not read", "write the value alone")
        self._depth, self._values = self._depth + 1, self._values + 1
        _bounded(line, self._depth, self._values)
        try:
            return super().compose_node(parent, index)
        finally:
            self._depth -= 1


def read_tree(path: Path, *, remedy: str = "check the path") -> tuple[yaml.Node, Any]:
    """Return the nodes of a file, and its value: dicts, lists, text, numbers, booleans and None.

    Raises ConfigurationError with file, line and what is wrong.
    """
    text = read_text(path, remedy=remedy, most_bytes=MAX_BYTES)
    try:
        root = _Loader(text).get_single_node()
        if root is None:
            raise _Wrong(0, "the file is empty")
        return root, _Values().of(root, 0)
    except _Wrong as exc:
        line, message, hint = exc.line, exc.message, exc.remedy
    except yaml.reader.ReaderError as exc:
        line, hint = text.encode()[: exc.position].count(b"\n"), ""
        message = f"the character U+{exc.character:04X} has no place in a text file"
    except yaml.MarkedYAMLError as exc:
        mark = exc.problem_mark or exc.context_mark
        line, message, hint = mark.line if mark else 0, f"not valid YAML: {exc.problem or exc}", ""
    raise ConfigurationError(f"{path}:{line + 1}: {one_line(message, 300)}", remedy=hint or "correct this line")


class _Values:
    """The value of a node; counts what it has seen, so that aliases of aliases come to an end."""

    def __init__(self) -> None:
        self._seen = 0

    def of(self, node: yaml.Node, depth: int) -> Any:
        self._seen += 1
        _bounded(node.start_mark.line, depth, self._seen)
        if isinstance(node, yaml.MappingNode):
            return {name: self.of(value, depth + 1) for name, value in _keys(node)}
        if isinstance(node, yaml.SequenceNode):
            return [self.of(item, depth + 1) for item in node.value]
        assert isinstance(node, yaml.ScalarNode)
        return _scalar(node)


def _keys(node: yaml.MappingNode) -> Iterator[tuple[str, yaml.Node]]:
    """Yield (key, node of its value) of a section."""
    first: dict[str, int] = {}
    for key, value in node.value:
        line = key.start_mark.line
        if not isinstance(key, yaml.ScalarNode):
            raise _Wrong(line, "a key is a word, and no list and no section")
        name = str(_text(key))
        if name == "<<":
            raise _Wrong(line, "merge keys (<<) are not read", "write the keys out")
        if name in first:
            raise _Wrong(
                line, f"{one_line(name, 80)}: given twice (first in line {first[name] + 1})", "keep one of them"
            )
        first[name] = line
        yield name, value


def _scalar(node: yaml.ScalarNode) -> Any:
    text = _text(node)
    if node.style:  # in quotes, or a block of lines
        return text
    if text in _WORDS:
        return _WORDS[text]
    if _INT.fullmatch(text):
        return int(text, 16 if text[:2] == "0x" else 10)
    if _FLOAT.fullmatch(text):
        number = float(text)
        if math.isfinite(number) and (number or not re.search(r"[1-9]", text.lower().partition("e")[0])):
            return number
    return text


def _text(node: yaml.ScalarNode) -> str:
    """Return a scalar's text; nothing in it is invisible or changes how a terminal shows the rest."""
    text: str = node.value
    if not text.isascii() or not text.isprintable():
        for char in text:
            if unicodedata.category(char) in ("Cc", "Cs", "Cf") and char not in "\n\t":
                raise _Wrong(node.start_mark.line, f"the character U+{ord(char):04X} has no place in a text")
    return text


def _bounded(line: int, depth: int, values: int) -> None:
    """Raise _Wrong at the line (0-based) where a file is found to have no end, or one too far away."""
    if depth > MAX_DEPTH:
        wrong = f"nested too deeply (more than {MAX_DEPTH} levels), or an alias that stands inside its own anchor"
        raise _Wrong(line, wrong, "write the section out, without anchors (&name, *name)")
    if values > MAX_VALUES:
        raise _Wrong(
            line, f"more than {MAX_VALUES:,} values, with what aliases (*name) stand for", "is it the right file?"
        )
