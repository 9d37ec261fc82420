"""CPU time of whole commands: user + system of the child, so a busy machine changes it little."""

from __future__ import annotations

import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

REPEATS = 11


def cli_help_ms() -> float:
    """CPU milliseconds of ``hil --help``."""
    return _median_ms([str(Path(sys.executable).parent / "hil"), "--help"])


def plugin_cost_ms() -> float:
    """CPU milliseconds that the plugin adds to a pytest run of one empty test that does not use it."""
    with tempfile.TemporaryDirectory() as directory:
        (Path(directory) / "test_nothing.py").write_text("def test_nothing():\n    pass\n")
        pytest = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
        with_plugin = _median_ms(pytest, cwd=directory)
        without = _median_ms([*pytest, "-p", "no:hil"], cwd=directory)
    return with_plugin - without


def _median_ms(argv: list[str], cwd: str | None = None) -> float:
    took = []
    for _ in range(REPEATS):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(argv, cwd=cwd, check=True, capture_output=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        took.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return 1000 * statistics.median(took)
