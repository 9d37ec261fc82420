"""One thing that ``hil doctor`` looked at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Status = Literal["ok", "warn", "fail"]
Scope = Literal["file", "lab", "all"]


@dataclass(frozen=True)
class Check:
    """One thing looked at.  ``scope`` says what a failure stops: one lab file's bench, any bench, or everything."""

    id: str
    status: Status
    found: str
    why: str
    remedy: str = ""
    without: str = ""
    scope: Scope = "lab"
