"""No service starts while packages are installed: Debian's ``policy-rc.d``, put in place and taken away.

``invoke-rc.d`` and ``deb-systemd-invoke`` ask ``/usr/sbin/policy-rc.d`` before they start anything; exit
status 101 means "forbidden" (Debian's policy layer for invoke-rc.d).  A file that is already there is moved
aside, not copied, so that it comes back with its very inode, mode and times.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path

POLICY = Path("/usr/sbin/policy-rc.d")
MARK = "# orbital-hil: no service starts while its packages are installed"
TEXT = f"#!/bin/sh\n{MARK}\nexit 101\n"


class ServiceGuard(AbstractContextManager["ServiceGuard"]):
    """While it is entered, package scripts may start no service.  Entering again after a kill is sound."""

    def __init__(self, policy: Path = POLICY) -> None:
        self.policy = policy
        self._aside = policy.with_name(policy.name + ".before-hil")
        self._fresh = policy.with_name(policy.name + ".hil")

    def __enter__(self) -> ServiceGuard:
        self.recover()
        if self.policy.exists() or self.policy.is_symlink():
            self.policy.rename(self._aside)
        self._fresh.write_text(TEXT, encoding="utf-8")
        self._fresh.chmod(0o755)
        self._fresh.rename(self.policy)
        return self

    def __exit__(self, *exc: object) -> None:
        self.recover()

    def recover(self) -> bool:
        """Put everything back as it was; True when there was something to put back."""
        ours = self.left_behind()
        self._fresh.unlink(missing_ok=True)
        if ours:
            self.policy.unlink()
        if self._aside.exists() or self._aside.is_symlink():
            # Only when nobody else has put a file of their own there meanwhile.
            if not self.policy.exists():
                self._aside.rename(self.policy)
            return True
        return ours

    def needed(self) -> bool:
        """Return True when :meth:`recover` has something to put back."""
        return self.left_behind() or self._aside.exists() or self._aside.is_symlink()

    def left_behind(self) -> bool:
        """Return True when the file that forbids is in place now and is ours."""
        try:
            return MARK in self.policy.read_text(encoding="utf-8", errors="replace")
        except OSError:
            return False
