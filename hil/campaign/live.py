"""The progress of a campaign while its tests run: two lines on a terminal that change in place, or a line at times.

pytest captures what tests print, so this writes to a copy of its stdout made before.  It shows nothing while pytest
itself writes: between the phases of a test.
"""

from __future__ import annotations

import io
import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import pytest

from hil.core import activity
from hil.text import clean

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.live import Live

REFRESH_S = 0.25
SILENCE_S = 28.0
"""Where no line can change in place, a line comes after so long without one."""
SHOWN = 4
"""Activities shown at once."""
LONGEST = 300
"""Characters of what is shown of the activities."""
FRAMES = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"


class LiveView:
    """Shows which test runs, for how long, and what it does at the moment."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._fd = -1
        self._live: Live | None = None
        self._lock = threading.RLock()
        self._headline = self._about = ""
        self._begun_s = self._since_s = self._last_sign_s = time.monotonic()
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None
        self._replaces_start = False
        """Whether pytest's own line at the start of a test is in the way: it comes whole at the test's end."""

    def open(self) -> None:
        """Begin, once pytest does not capture: nothing is shown with -qq, or where stdout is no file."""
        if descriptor := os.environ.pop(activity.STARTING, ""):
            with suppress(OSError, ValueError):
                os.close(int(descriptor))
        verbosity = self._config.get_verbosity()
        if verbosity < -1 or self._config.pluginmanager.get_plugin("terminalreporter") is None:
            return
        with suppress(OSError, ValueError, io.UnsupportedOperation):
            self._fd = os.dup(sys.stdout.fileno())
        if self._fd < 0:
            return
        if os.isatty(self._fd) and os.environ.get("TERM") != "dumb" and not self._others_write():
            self._live = _live(self._fd)
        self._replaces_start = self._live is not None or (verbosity > 0 and not os.isatty(self._fd))
        self._begun_s = self._last_sign_s = time.monotonic()
        self._thread = threading.Thread(target=self._run, name="progress", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End; calling it twice does nothing."""
        self._ended.set()
        if self._thread is not None:
            self._thread.join(2.0)
        with self._lock:
            self._erase()
            self._live = None
            if self._fd >= 0:
                os.close(self._fd)
                self._fd = -1

    def log_start(self, item: pytest.Item) -> None:
        """Tell all plug-ins that a test begins, but not the terminal where its line would be in the way."""
        start, manager = item.ihook.pytest_runtest_logstart, item.config.pluginmanager
        if self._replaces_start:
            terminal = manager.get_plugin("terminalreporter")
            start = manager.subset_hook_caller("pytest_runtest_logstart", remove_plugins=[terminal])
        start(nodeid=item.nodeid, location=item.location)

    def log_finish(self, item: pytest.Item) -> None:
        """Tell all plug-ins that a test ended; what comes next begins on a new line."""
        item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
        reporter = item.config.pluginmanager.get_plugin("terminalreporter")
        if self._replaces_start and reporter is not None:
            reporter.ensure_newline()

    @contextmanager
    def showing(self, headline: str, about: str = "") -> Iterator[None]:
        """Show this while the block runs, with ``about`` while nobody says what is done; pytest writes nothing then."""
        with self._lock:
            self._headline, self._about = headline, about
            self._since_s = self._last_sign_s = time.monotonic()
            self._draw()
        try:
            yield
        finally:
            with self._lock:
                self._headline = ""
                self._erase()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Show nothing while the block writes a line of its own."""
        with self._lock:
            self._erase()
            yield
            self._last_sign_s = time.monotonic()

    def keep(self, line: str) -> None:
        """Write a line that stays, from wherever: it is not captured."""
        with self._lock:
            self._erase()
            if self._fd >= 0:
                self._write(f"\n{line}\n")

    def _others_write(self) -> bool:
        """Return whether something besides pytest's reports comes to the terminal while a test runs."""
        option = self._config.option
        log = self._config.getoption("log_cli_level", None) or self._config.getini("log_cli")
        names = ("usepdb", "trace", "setupshow", "setuponly", "setupplan")
        return bool(log) or option.capture == "no" or any(getattr(option, name, False) for name in names)

    def _run(self) -> None:
        while not self._ended.wait(REFRESH_S):
            with self._lock:
                if self._headline:
                    self._draw()

    def _draw(self) -> None:
        if self._live is not None:
            if not self._live.is_started:
                self._live.start()
                self._live.console.show_cursor(True)
            self._live.update(self._lines(), refresh=True)
        elif self._fd >= 0 and time.monotonic() - self._last_sign_s >= SILENCE_S:
            self._last_sign_s = time.monotonic()
            start = "" if self._replaces_start else "\n"
            self._write(f"{start}  {self._first()}: {self._second()}\n")

    def _lines(self) -> RenderableType:
        from rich.console import Group
        from rich.text import Text

        frame = FRAMES[int(time.monotonic() / REFRESH_S) % len(FRAMES)]
        lines = (Text(f"{frame} {self._first()}", style="bold"), Text(f"  {self._second()}", style="dim"))
        for line in lines:
            line.no_wrap, line.overflow = True, "ellipsis"
        return Group(*lines)

    def _first(self) -> str:
        now_s = time.monotonic()
        return f"{_clock(now_s - self._begun_s)}  {self._headline}  {_clock(now_s - self._since_s)}"

    def _second(self) -> str:
        doing = activity.now() or [self._about]
        more = f"; {len(doing) - SHOWN} more" if len(doing) > SHOWN else ""
        return clean("; ".join(doing[:SHOWN]))[:LONGEST].replace("\n", " ") + more

    def _erase(self) -> None:
        if self._live is not None and self._live.is_started:
            self._live.stop()

    def _write(self, text: str) -> None:
        with suppress(OSError):  # the reader has gone
            os.write(self._fd, text.encode("utf-8", "backslashreplace"))


def _live(fd: int) -> Live:
    """Return lines at the end of a terminal; what else is printed is left alone."""
    from rich.console import Console
    from rich.live import Live

    console = Console(file=os.fdopen(os.dup(fd), "w", encoding="utf-8"), highlight=False)
    return Live(console=console, auto_refresh=False, transient=True, redirect_stdout=False, redirect_stderr=False)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes}:{rest:02}"
