"""Text that a board, a strip or a guest wrote, made fit for terminals, evidence, metrics and pages."""

from __future__ import annotations


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
