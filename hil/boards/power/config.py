"""The secrets that a lab file (:mod:`hil.lab.power`) names, read when they are needed."""

from __future__ import annotations

import os
from pathlib import Path

from hil.errors import ConfigurationError


def resolve_secret(reference: str) -> str:
    """Return what ``env:NAME`` or ``file:PATH`` stands for. ConfigurationError names the place, never a value."""
    scheme, _, place = reference.partition(":")
    if scheme == "env":
        if value := os.environ.get(place):
            return value
        raise ConfigurationError(
            f"environment variable {place} is not set, and the lab file takes a password from it",
            remedy=f"set it for this program: {place}=... hil ...",
        )
    try:
        value = Path(place).read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as exc:
        raise ConfigurationError(
            f"{place}: cannot be read, and the lab file takes a password from it: {exc}",
            remedy="put the password into it, readable by you alone (chmod 600)",
        ) from exc
    if not value:
        raise ConfigurationError(f"{place}: is empty, and the lab file takes a password from it")
    return value
