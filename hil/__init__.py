"""The public face of the testbed: what a test or a script imports.

    from hil import Bench, at_most, DeviceError, wait_until

Names are imported when they are used, so that ``import hil`` costs nothing; on a board, which has the standard library
only, nothing of this is used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hil.bench.bench import Bench
    from hil.boards.protocol import Board, PowerState, Via
    from hil.core.wait import poll_until, wait_until
    from hil.errors import BenchError, Blame, ConfigurationError, DeviceError, HarnessError, HilError
    from hil.evidence.model import at_least, at_most, between, equals, within
    from hil.faults.fault import injected
    from hil.lab.model import Lab, load_lab
    from hil.leases.leases import Leases
    from hil.links.state import LinkState
    from hil.rollout.rollout import Rollout

_HOME = {
    "hil.bench.bench": ("Bench",),
    "hil.boards.protocol": ("Board", "PowerState", "Via"),
    "hil.core.wait": ("poll_until", "wait_until"),
    "hil.errors": ("BenchError", "Blame", "ConfigurationError", "DeviceError", "HarnessError", "HilError"),
    "hil.evidence.model": ("at_least", "at_most", "between", "equals", "within"),
    "hil.faults.fault": ("injected",),
    "hil.lab.model": ("Lab", "load_lab"),
    "hil.leases.leases": ("Leases",),
    "hil.links.state": ("LinkState",),
    "hil.rollout.rollout": ("Rollout",),
}
_MODULE_OF = {name: module for module, names in _HOME.items() for name in names}

__all__ = [
    "Bench",
    "BenchError",
    "Blame",
    "Board",
    "ConfigurationError",
    "DeviceError",
    "HarnessError",
    "HilError",
    "Lab",
    "Leases",
    "LinkState",
    "PowerState",
    "Rollout",
    "Via",
    "at_least",
    "at_most",
    "between",
    "equals",
    "injected",
    "load_lab",
    "poll_until",
    "wait_until",
    "within",
]


def __getattr__(name: str) -> object:
    """Import a public name when it is first used (PEP 562)."""
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'hil' has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(_MODULE_OF[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
