"""The tutorial's own test, taken from the page and run as a reader would run it."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from hil import paths

pytestmark = pytest.mark.integration


@pytest.fixture
def first() -> Iterator[Path]:
    directory = paths.ROOT / "testplans/first"
    assert not directory.exists(), "testplans/first is what the tutorial makes; move yours away"
    directory.mkdir()
    yield directory
    shutil.rmtree(directory)


@pytest.mark.parametrize("page", ["README.md", "docs/tutorial.md"])
def test_the_ten_line_test_of_the_page_passes(page: str, first: Path) -> None:
    text = (paths.ROOT / page).read_text()
    block = re.search(r"```python\n# testplans/first/test_first.py\n(.*?)```", text, re.S)
    assert block, f"{page} has no test for testplans/first/test_first.py"
    assert len(block[1].strip().splitlines()) <= 10
    (first / "test_first.py").write_text(block[1])
    command = re.search(r"^\.venv/bin/pytest (testplans/first --lab \S+)$", text, re.M)
    assert command, f"{page} does not say how to run it"
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", *command[1].split()],
        cwd=paths.ROOT,
        capture_output=True,
        text=True,
        timeout=180,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 passed" in done.stdout
