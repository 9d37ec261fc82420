"""The spinner between `hil campaign run` and the first word of pytest, which takes this process's place."""

from __future__ import annotations

import os
import pty
import subprocess
import sys

BECOMES = """
import os, sys, time
time.sleep(0.7)
os.close(int(os.environ["HIL_STARTING"]))
time.sleep(0.3)
print("here", flush=True)
time.sleep(0.7)
"""
BEGINS = f"""
import os, sys
from hil.cli.campaign.starting import show_until_started
show_until_started(1)
show_until_started(1)
os.execv(sys.executable, [sys.executable, "-c", {BECOMES!r}])
"""


def test_it_turns_until_the_next_program_shows_something_and_leaves_nothing() -> None:
    ours, theirs = pty.openpty()
    process = subprocess.Popen([sys.executable, "-c", BEGINS], stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    text = ""
    while True:
        try:
            text += os.read(ours, 4096).decode()
        except OSError:  # all that had the terminal are gone, the spinner, too
            break
    os.close(ours)
    assert process.wait() == 0
    before, _, after = text.partition("here")
    assert before.count("\x1b7") >= 3 and before.endswith("\x1b7 \x1b8")
    assert after.strip() == ""
