"""The tutorial's own test, taken from the page and run as a reader would run it."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from hil.core import paths

pytestmark = [pytest.mark.integration, pytest.mark.side_by_side]


@pytest.fixture
def first() -> Iterator[Path]:
    directory = paths.ROOT / "testplans/first"
    assert not directory.exists(), "testplans/first is what the tutorial makes; move yours away"
    directory.mkdir()
    yield directory
    shutil.rmtree(directory)


def what_it_says(page: str) -> tuple[str, str]:
    """The test that a page shows, and the arguments with which it says to run it."""
    text = (paths.ROOT / page).read_text()
    block = re.search(r"```python\n# testplans/first/test_first.py\n(.*?)```", text, re.S)
    assert block, f"{page} has no test for testplans/first/test_first.py"
    command = re.search(r"^\.venv/bin/pytest (testplans/first --lab \S+)$", text, re.M)
    assert command, f"{page} does not say how to run it"
    return block[1], command[1]


def as_evidence() -> tuple[str, str]:
    """Plan and test of the tutorial's next chapter, which makes a campaign of it."""
    text = (paths.ROOT / "docs/tutorial.md").read_text().partition("## 4.")[2]
    plan = re.search(r"```yaml\n# testplans/first/plan.yaml\n(.*?)```", text, re.S)
    test = re.search(r"```python\n# testplans/first/test_first.py\n(.*?)```", text, re.S)
    assert plan and test, "docs/tutorial.md does not show a plan and its test"
    return plan[1], test[1]


def test_both_tests_of_the_tutorial_pass_and_the_readme_shows_the_first(first: Path, tmp_path: Path) -> None:
    test, arguments = what_it_says("docs/tutorial.md")
    assert what_it_says("README.md") == (test, arguments)
    assert len(test.strip().splitlines()) <= 10
    plan, second = as_evidence()
    for name, content in (("plan.yaml", plan), ("test_first.py", test), ("test_second.py", second)):
        (first / name).write_text(content)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", *arguments.split(), f"--hil-out={tmp_path}"],
        cwd=paths.ROOT,
        capture_output=True,
        text=True,
        timeout=180,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 passed" in done.stdout
    (result,) = tmp_path.glob("**/result.json")
    (requirement,) = json.loads(result.read_text())["requirements"]
    assert (requirement["id"], requirement["verdict"], requirement["closed"]) == ("LNK-010", "PASS", False)
