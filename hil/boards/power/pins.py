"""Pins of a board's header: force-recovery and reset.

Wiring: FC_REC and SYS_RESET of an Orin are pulled up on the module; pull them low, never drive them high.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Protocol


class ResetPin(Protocol):
    """SYS_RESET of a module."""

    @property
    def name(self) -> str: ...

    def pulse(self) -> None:
        """Press and release. BenchError."""
        ...


class RecoveryPin(Protocol):
    """FC_REC of a module."""

    @property
    def name(self) -> str: ...

    def held(self) -> AbstractContextManager[None]:
        """Hold it; released on the way out, however that is. BenchError."""
        ...
