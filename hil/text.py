"""Text that a board, a strip or a guest wrote, made fit for terminals, evidence, metrics and pages."""

from __future__ import annotations

import re

ESCAPES = re.compile(
    r"\x1b(?:\[[0-?]{0,24}[ -/]{0,4}[@-~]"  # colours, the cursor
    r"|[P\]X^_][^\x07\x1b]{0,4096}(?:\x07|\x1b\\)"  # the window's title, the clipboard
    r"|[ -/]{1,4}[0-~]|[@-OQ-WYZ\\])"
)
"""A whole control sequence of a terminal."""


def clean(text: str) -> str:
    """Return ``text`` with U+FFFD for every control character, lone surrogate and change of writing direction.

    Ends of lines and tabs stay; a carriage return becomes an end of line.
    """
    if text.isprintable():
        return text
    lines = text.replace("\r\n", "\n").replace("\r", "\n")
    return "".join(c if c.isprintable() or c in "\n\t" else "\ufffd" for c in lines)


def one_line(text: str, limit: int = 160) -> str:
    """Return ``text`` cleaned, on one line, each run of blanks as one, cut after ``limit`` characters."""
    shown = " ".join(clean(text[: 8 * limit]).split())
    return shown if len(shown) <= limit else f"{shown[:limit]}... ({len(text) - limit} more characters)"


def without_escapes(text: str) -> str:
    """Return ``text`` cleaned, without the control sequences with which a program colours it and moves the cursor."""
    return clean(ESCAPES.sub("", text))
