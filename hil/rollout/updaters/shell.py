"""What every adapter does over a shell of the board: run, reconnect, wait for a busy updater, restart."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from hil.boards.jetson.slots import RESET_DIRS, in_words
from hil.boards.protocol import Completed, Shell
from hil.core.wait import SYSTEM_CLOCK, Clock
from hil.errors import DeviceError, HilError
from hil.rollout.updaters.protocol import HealthReport, InstalledSlot, OsStatus, RefusedBundle

RECONNECT_S = 3.0
BUSY_S = 20.0
BOOT_ID = ("cat", "/proc/sys/kernel/random/boot_id")


def never_busy(_done: Completed) -> bool:
    """Return an updater that says at once what it has to say."""
    return False


class UpdaterShell:
    """A shell that is opened when needed, kept, and opened again when the board has restarted.

    ``busy`` says of a finished command whether the updater only asks to be asked again.
    """

    def __init__(
        self,
        board: str,
        shell: Callable[[], Shell],
        *,
        busy: Callable[[Completed], bool] = never_busy,
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

    def check_digest(self, path: str, sha256: str, *, timeout_s: float) -> None:
        """RefusedBundle unless the file on the board has that SHA-256 (lower-case hex)."""
        found = self.run(["openssl", "dgst", "-sha256", "-r", path], timeout_s=timeout_s)
        digest = found.stdout.split(" ", 1)[0].strip()
        if digest != sha256:
            raise wrong_digest(self.board, path, digest, sha256)

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


def wrong_digest(board: str, path: str, found: str, expected: str) -> RefusedBundle:
    """Return what to raise when a bundle on a board is not the one that was sent."""
    return RefusedBundle(
        f"{board}: bundle {path} has digest {found[:16]}…, expected {expected[:16]}…",
        reason="digest mismatch",
        remedy="distribute the bundle again",
    )


class ShellAdapter(ABC):
    """What OS adapters over a shell of the board have in common, whichever updater is behind it.

    ``shell`` opens a shell; it is opened when needed, kept, and opened again when the board has restarted.
    """

    def __init__(
        self,
        board: str,
        shell: Callable[[], Shell],
        *,
        busy: Callable[[Completed], bool],
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self._board = board
        self._shell = UpdaterShell(board, shell, busy=busy, clock=clock)

    @abstractmethod
    def status(self) -> OsStatus:
        """Return what the updater says of the two slots."""

    def prepare(self) -> None:
        self._shell.connected()

    def configure(self, document: dict[str, Any]) -> None:  # noqa: B027  # an OS with settings overrides it
        """The reference OS has no settings of its own: the cluster configuration goes through its node service."""

    def health(self) -> HealthReport:
        """Whether the updater answers, boot id and last reset, over SSH: works when the node service does not."""
        try:
            boot_id = self._shell.boot_id()
            status = self.status()
        except HilError as exc:
            return HealthReport(False, (exc.message,), {})
        facts = {"boot_id": boot_id, "slot": status.booted, "primary": status.primary}
        return HealthReport(True, (), {**facts, "last_reset": self._shell.last_reset()})

    def close(self) -> None:
        self._shell.close()

    def _slot_to_go_back_to(self) -> InstalledSlot:
        """Return the slot that is not running; DeviceError when it cannot be booted."""
        other = self.status().other
        if not other.bootable:
            raise DeviceError(
                f"{self._board}: slot {other.slot} is not bootable, there is nothing to go back to",
                remedy="install an OS into it",
            )
        return other
