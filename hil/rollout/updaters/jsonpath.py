"""The few path expressions that a declared adapter needs to find a field in JSON.

``$`` is the document; ``.name`` and ``["any name"]`` go into an object, ``[0]`` into a list, ``[*]`` (or ``.*``) into
every element of a list or value of an object.  Nothing else.
"""

from __future__ import annotations

import json
import re
from typing import Any

_STEP = re.compile(r"""\.(?P<name>\w[\w-]*)|\[(?P<quoted>"[^"]*"|'[^']*')\]|\[(?P<index>\d+)\]|(?P<each>\[\*\]|\.\*)""")

Step = str | int | None
"""A name, an index, or None for every element."""


def parse_path(text: str) -> tuple[Step, ...]:
    """Return the steps of an expression; ValueError says what is wrong with it."""
    if not text.startswith("$"):
        raise ValueError(f"a path begins with $, the whole document: {text!r}")
    steps: list[Step] = []
    at = 1
    while at < len(text):
        found = _STEP.match(text, at)
        if found is None:
            raise ValueError(f'not a path from {text[at:]!r} on: .name, ["any name"], [0] and [*] are known')
        if found["name"]:
            steps.append(found["name"])
        elif found["quoted"]:
            steps.append(found["quoted"][1:-1])
        else:
            steps.append(int(found["index"]) if found["index"] else None)
        at = found.end()
    return tuple(steps)


def find(document: Any, steps: tuple[Step, ...]) -> list[Any]:
    """Return everything that the steps reach, in the document's order; empty when nothing is there."""
    here = [document]
    for step in steps:
        here = [value for item in here for value in _into(item, step)]
    return here


def _into(item: Any, step: Step) -> list[Any]:
    there = dict(enumerate(item)) if isinstance(item, list) else item if isinstance(item, dict) else {}
    if step is None:
        return list(there.values())
    return [there[step]] if step in there else []


def as_word(value: Any) -> str | None:
    """Return a found value as text: numbers and true/false as JSON writes them, None for null."""
    if value is None:
        return None
    return value if isinstance(value, str) else json.dumps(value)
