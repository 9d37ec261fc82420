"""Print which module emits and which reads each kind of event; ``--write`` brings docs/evidence.md up to date.

python -m tools.event_table
python -m tools.event_table --write
"""

from __future__ import annotations

import ast
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields
from functools import cache
from pathlib import Path

from hil.evidence.events import KINDS, Event

ROOT = Path(__file__).parents[1]
DOCUMENT = ROOT / "docs" / "evidence.md"
BEGIN, END = "<!-- events: made by tools/event_table.py -->\n", "<!-- end of events -->\n"

_CLASSES = {cls.__name__: cls for cls in KINDS.values()}
_DEFINED_IN = ("hil/evidence/events.py", "hil/evidence/measurement.py")
_READERS = frozenset({"of", "last", "isinstance"})
"""Functions whose argument is the class of event that is read."""


def document() -> str:
    """Return the table of docs/evidence.md."""
    rows = [
        f"| `{cls.kind}` | `{cls.__name__}` | {_first_line(cls)} | {', '.join(f'`{n}`' for n in _field_names(cls))} |"
        for cls in KINDS.values()
    ]
    return "\n".join(["| Kind | Class | Records | Fields |", "|---|---|---|---|", *rows, ""])


@cache
def emitted_by() -> Mapping[str, list[str]]:
    """Return the modules that make each class of event."""
    return _uses(_made)


@cache
def read_by() -> Mapping[str, list[str]]:
    """Return the modules that read each class of event back."""
    return _uses(_read)


def _first_line(cls: type[Event]) -> str:
    return (cls.__doc__ or "").strip().splitlines()[0].replace("``", "`")


def _field_names(cls: type[Event]) -> list[str]:
    return [each.name for each in fields(cls) if each.init]


def _uses(find: Callable[[ast.AST], Iterator[str]]) -> Mapping[str, list[str]]:
    modules: dict[str, list[str]] = defaultdict(list)
    for folder in ("hil", "testplans"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            name = path.relative_to(ROOT).as_posix()
            text = path.read_text("utf-8")
            if name not in _DEFINED_IN and any(cls in text for cls in _CLASSES):
                nodes = list(ast.walk(ast.parse(text)))
                imported = {name for node in nodes for name in _imported(node)}
                for cls in sorted(imported & {c for node in nodes for c in find(node)}):
                    modules[cls].append(name.removesuffix(".py"))
    return modules


def _imported(node: ast.AST) -> Iterator[str]:
    """Names of events: another room may have a class of the same name."""
    if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("hil.evidence."):
        yield from (alias.name for alias in node.names)


def _made(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in _CLASSES:
        yield node.func.id


def _read(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Call):
        called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        if called in _READERS:
            named = (name for each in node.args for name in ast.walk(each) if isinstance(name, ast.Name))
            yield from (name.id for name in named if name.id in _CLASSES)
    elif isinstance(node, ast.MatchClass) and isinstance(node.cls, ast.Name) and node.cls.id in _CLASSES:
        yield node.cls.id


def main(arguments: list[str]) -> None:
    """Print the table of uses, or write that of the document."""
    if arguments == ["--write"]:
        text = DOCUMENT.read_text("utf-8")
        before, rest = text.split(BEGIN)
        DOCUMENT.write_text(before + BEGIN + document() + END + rest.split(END)[1], "utf-8")
        return
    emitted, read = emitted_by(), read_by()
    print("kind | emitted by | read by")
    for cls in KINDS.values():
        name = cls.__name__
        print(f"{cls.kind} ({name}) | {', '.join(emitted.get(name, ['-']))} | {', '.join(read.get(name, ['-']))}")


if __name__ == "__main__":
    main(sys.argv[1:])
