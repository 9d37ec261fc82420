"""What an adapter does over a shell of the board: run, reconnect, wait for a busy updater, restart."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress

from hil.boards.jetson.slots import RESET_DIRS, in_words
from hil.boards.protocol import Completed, Shell
from hil.core.wait import SYSTEM_CLOCK, Clock
from hil.errors import DeviceError, HilError

RECONNECT_S = 3.0
BUSY_S = 20.0
BOOT_ID = ("cat", "/proc/sys/kernel/random/boot_id")


class UpdaterShell:
    """A shell that is opened when needed, kept, and opened again when the board has restarted.

    ``busy`` says of a finished command whether the updater only asks to be asked again.
    """

    def __init__(
        self,
        board: str,
        shell: Callable[[], Shell],
        *,
        busy: Callable[[Completed], bool] = lambda _done: False,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self.board = board
        self._open = shell
        self._busy = busy
        self._clock = clock
        self._shell: Shell | None = None

    def connected(self) -> Shell:
        """Return the shell, opened now if it is not."""
        if self._shell is None:
            self._shell = self._open()
        return self._shell

    def run(
        self,
        argv: Sequence[str],
        *,
        timeout_s: float = 30.0,
        check: bool = True,
        reconnect_s: float = RECONNECT_S,
        stdin: bytes = b"",
    ) -> Completed:
        """Run a command.

        A connection that breaks, or is not to be had, is tried again for ``reconnect_s``; an updater that is busy
        or only starting is waited for.  DeviceError (BenchError where there is no route) when that does not help.
        """
        start = self._clock.monotonic()
        broken: float | None = None
        while True:
            try:
                done = self.connected().run(argv, timeout_s=timeout_s, stdin=stdin, check=False)
            except (HilError, OSError, EOFError) as exc:
                self.close()
                now = self._clock.monotonic()
                broken = now if broken is None else broken
                if now - broken >= reconnect_s:
                    if isinstance(exc, HilError):
                        raise
                    raise DeviceError(f"{self.board}: `{' '.join(argv)}`: {exc!r}") from exc
            else:
                if not self._busy(done) or self._clock.monotonic() - start >= BUSY_S:
                    break
            self._clock.sleep(0.1)
        if check and done.returncode != 0:
            tail = (done.stderr or done.stdout).strip()[-400:]
            raise DeviceError(f"{self.board}: `{' '.join(argv)}` ended with {done.returncode}: {tail}")
        return done

    def boot_id(self) -> str:
        """Which boot this is; asked once, because the caller wants to know whether the board is there now."""
        return self.run(BOOT_ID, reconnect_s=0.0).stdout.strip()

    def last_reset(self) -> str:
        """Return why the board was last reset, in words; empty where its kernel does not say."""
        files = " ".join(f"{directory}/reset_reason" for directory in RESET_DIRS)
        with suppress(HilError):
            done = self.run(["sh", "-c", f"cat {files} 2>/dev/null"], reconnect_s=0.0, check=False)
            said = done.stdout.split()
            return in_words(said[0]) if said else ""
        return ""

    def restart(self, argv: Sequence[str] = ("reboot",), *, timeout_s: float = 5.0) -> None:
        """Restart the board.

        The answer may be lost with the connection: that the board restarted is proven by its boot id, not here.
        """
        with suppress(HilError, OSError, EOFError):
            self.connected().run(argv, timeout_s=timeout_s, check=False)
        self.close()

    def close(self) -> None:
        if self._shell is not None:
            with suppress(HilError, OSError, EOFError):
                self._shell.close()
            self._shell = None
