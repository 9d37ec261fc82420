"""The progress of a campaign: on a terminal, in a pipe, and where others write too."""

from __future__ import annotations

import os
import pty
import re
import select
import subprocess
import sys
import time

from tests.kits.campaign_folder import HEAD, PASSES, PLAIN, Campaign

pytest_plugins = ["pytester"]

WAITS = (
    HEAD
    + """
import time
from hil.core.wait import wait_until

def test_quick(tell):
    tell("a line that stays")

def test_long():
    print("printed by the test")
    end = time.monotonic() + 3.5
    wait_until(lambda: time.monotonic() > end, what="the end of time", deadline_s=60)
"""
)
ARGV = (sys.executable, "-m", "pytest", "-v", "demo", *PLAIN)


def _on_a_terminal(campaign: Campaign, *arguments: str) -> tuple[str, float]:
    """Return what a terminal got, and the longest silence in it once the tests run."""
    ours, theirs = pty.openpty()
    environment = {**os.environ, "HIL_REPORTS": str(campaign.out), "TERM": "xterm", "COLUMNS": "100"}
    with subprocess.Popen(
        [*ARGV, *arguments], cwd=campaign.pytester.path, env=environment, stdin=theirs, stdout=theirs, stderr=theirs
    ):
        os.close(theirs)
        text, silence_s, last_s = "", 0.0, time.monotonic()
        while select.select([ours], [], [], 60)[0]:
            try:
                text += os.read(ours, 65536).decode("utf-8", "replace")
            except OSError:  # the last writer has closed it
                break
            if "1 of 2" in text and "campaign demo" not in text:
                silence_s = max(silence_s, time.monotonic() - last_s)
            last_s = time.monotonic()
    os.close(ours)
    return text, silence_s


def test_a_terminal_is_never_silent_and_pytests_lines_stay_whole(campaign: Campaign) -> None:
    campaign.write(WAITS)
    text, silence_s = _on_a_terminal(campaign)
    assert silence_s < 2.0
    assert re.search(r"2 of 2  Long  0:03.*\n.*waits for the end of time, 3 of 60 s", text)
    plain = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", text)
    for line in (
        "  a line that stays",
        "demo/test_1.py::test_quick PASSED .* 50%]",
        "demo/test_1.py::test_long PASSED",
    ):
        assert re.search(rf"^{line}", plain.replace("\r", ""), re.MULTILINE), plain


def test_what_tests_print_is_left_alone(campaign: Campaign) -> None:
    campaign.write(WAITS)
    text, _ = _on_a_terminal(campaign, "-s")
    assert "printed by the test" in text and "waits for" not in text


def test_in_a_pipe_a_line_comes_now_and_then(campaign: Campaign) -> None:
    campaign.write(WAITS)
    (campaign.folder / "conftest.py").write_text("from hil.campaign import live\nlive.SILENCE_S = 2\n", "utf-8")
    done = subprocess.run(
        ARGV,
        cwd=campaign.pytester.path,
        env={**os.environ, "HIL_REPORTS": str(campaign.out)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "\x1b" not in done.stdout
    assert re.search(r"^  0:0\d  2 of 2  Long  0:02: waits for the end of time, \d of 60 s$", done.stdout, re.MULTILINE)
    assert "demo/test_1.py::test_long PASSED" in done.stdout


def test_quiet_is_quiet(campaign: Campaign) -> None:
    campaign.write(WAITS)
    text, _ = _on_a_terminal(campaign, "-k", "quick", "-qqq")
    assert "1 of 1  Quick" not in text


def test_a_reader_that_goes_away_does_not_change_the_run(campaign: Campaign) -> None:
    campaign.write(PASSES)
    environment = {**os.environ, "HIL_REPORTS": str(campaign.out)}
    words = ["-s", "--log-cli-level=DEBUG"]
    with subprocess.Popen(
        [*ARGV, *words], cwd=campaign.pytester.path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as run:
        assert run.stdout is not None and run.stderr is not None
        run.stdout.readline()
        run.stdout.close()
        said = run.stderr.read()
    assert (run.returncode, campaign.result["verdict"]) == (0, "PASS"), said
    assert b"Error" not in said
