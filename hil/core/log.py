"""The program's own log: levels, line format, and a file of bounded size.

Every module logs under its own name (``logging.getLogger(__name__)``), so that ``hil.links`` is all of a room.  Verbs
(power, boot, link, install, lease, fault) are INFO; commands, requests, console lines and netlink batches are DEBUG.
What a board or a strip says is logged with ``%r`` and a length, e.g. ``%.300r``: no escape sequence reaches a terminal.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from difflib import get_close_matches
from importlib.util import find_spec
from pathlib import Path
from typing import TextIO

from hil.core.paths import PACKAGE
from hil.errors import ConfigurationError
from hil.text import one_line

ROOT = "hil"
LINE_CHARACTERS = 2000
"""Longest text of one record; the rest is replaced by its length."""
FILE_BYTES = 20 * 2**20
LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")


class LineFormatter(logging.Formatter):
    """Time, level, module and message on one line; a traceback follows on lines of its own."""

    default_msec_format = "%s.%03d"
    default_time_format = "%H:%M:%S"

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)-7s %(name)s: %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:
        record.message = one_line(record.message, LINE_CHARACTERS)
        return super().formatMessage(record)


def parse_levels(text: str) -> dict[str, int]:
    """Return logger name to level from ``INFO`` or ``hil.links=DEBUG,paramiko=INFO``; a level alone is for all of hil.

    ConfigurationError when a level is unknown, or there is no such part of this program and no such module.
    """
    levels: dict[str, int] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, separator, level = part.rpartition("=")
        if level.upper() not in LEVELS or (separator and not name.strip()):
            raise ConfigurationError(
                f"HIL_LOG: {part!r} is not a level",
                remedy=f"use one of {', '.join(LEVELS)}, or room=level, e.g. HIL_LOG=hil.links=DEBUG,hil.boards=INFO",
            )
        levels[_known(name.strip() or ROOT)] = logging.getLevelNamesMapping()[level.upper()]
    return levels


def _known(name: str) -> str:
    """Return the name of a logger. ConfigurationError when nobody has it; of others' modules the first word counts."""
    module = name if name.split(".")[0] == ROOT else name.split(".")[0]
    try:
        if find_spec(module) is not None:
            return name
    except (ImportError, ValueError):
        pass  # a part of what is not there, or no name at all
    rooms = [f"{ROOT}.{room.parent.name}" for room in sorted(PACKAGE.glob("*/__init__.py"))]
    close = get_close_matches(name if module == name else f"{ROOT}.{name}", rooms, n=1)
    raise ConfigurationError(
        f"HIL_LOG: nothing logs as {name!r}" + (f"; did you mean {close[0]}?" if close else ""),
        remedy=f"use one of {', '.join(rooms)}, a module in one of them, or another package",
    )


@contextmanager
def log_to(stream: TextIO, levels: Mapping[str, int]) -> Iterator[None]:
    """Write records of the named loggers to ``stream`` while the block runs."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(LineFormatter())
    loggers = {logging.getLogger(name): level for name, level in levels.items()}
    before = {logger: logger.level for logger in loggers}
    logging.getLogger().addHandler(handler)
    for logger, level in loggers.items():
        logger.setLevel(level)
    try:
        yield
    finally:
        for logger, level in before.items():
            logger.setLevel(level)
        logging.getLogger().removeHandler(handler)


class BoundedFileHandler(logging.FileHandler):
    """A log file that stops growing at ``limit_bytes`` and says so in its last line."""

    def __init__(self, path: Path, *, limit_bytes: int = FILE_BYTES) -> None:
        super().__init__(path, encoding="utf-8", errors="backslashreplace")
        self.setFormatter(LineFormatter())
        self._left_bytes = limit_bytes
        self._limit_bytes = limit_bytes

    def emit(self, record: logging.LogRecord) -> None:
        if self._left_bytes <= 0:
            return
        try:
            self._left_bytes -= len(self.format(record).encode("utf-8", "backslashreplace")) + 1
        except Exception:  # as in logging's own handlers: a record that cannot be written must not end what is logged
            self.handleError(record)
            return
        super().emit(record)
        if self._left_bytes <= 0 and self.stream is not None:
            self.stream.write(f"... cut here: a log holds at most {self._limit_bytes:,} bytes\n")
            self.flush()


class _HandOn(logging.Handler):
    """Hands records to the root logger's handlers as if ``hil`` still had the level that it had before."""

    def __init__(self, level: int) -> None:
        super().__init__()
        self._level_before = level

    def emit(self, record: logging.LogRecord) -> None:
        root = logging.getLogger()
        if record.levelno >= (self._level_before or root.getEffectiveLevel()):
            root.handle(record)


@contextmanager
def log_file(path: Path, *, limit_bytes: int = FILE_BYTES) -> Iterator[None]:
    """Write every record of ``hil``, DEBUG included, to ``path`` while the block runs.

    Other handlers (pytest's, a terminal's) go on seeing only what the levels set for them let through.
    """
    logger = logging.getLogger(ROOT)
    level, parent = logger.level, logger.parent
    # Between hil and the root, and not by propagate=False: pytest adds its handlers to every logger that has that.
    gate = logging.Logger(f"{ROOT} gate")
    gate.addHandler(_HandOn(level))
    handler = BoundedFileHandler(path, limit_bytes=limit_bytes)
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    logger.parent = gate
    try:
        yield
    finally:
        logger.parent = parent
        logger.setLevel(level)
        logger.removeHandler(handler)
        handler.close()
