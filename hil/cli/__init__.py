"""The technician's commands.  Nothing is imported here, so that `hil --help` costs next to nothing."""

from __future__ import annotations


def main() -> int:
    """Entry point of the ``hil`` command; the process's exit code."""
    from hil.cli.app import run

    return run()
