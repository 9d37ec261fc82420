"""A sign of life on the terminal while another program starts in this process's place."""

from __future__ import annotations

import os
import select
import signal

from hil.core.activity import STARTING

EVERY_S = 0.25
FRAMES = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"


def show_until_started(terminal: int) -> None:
    """Turn a spinner at the cursor until the descriptor that ``HIL_STARTING`` names is closed, or this process ends.

    Nothing when one turns already.  The cursor stays where it is, so that whatever is printed meanwhile overwrites it.
    """
    if STARTING in os.environ:
        return
    reader, writer = os.pipe()
    os.set_inheritable(writer, True)  # by this process's next program; those that it starts get none
    child = os.fork()
    if child == 0:
        if os.fork() == 0:  # a grandchild: nobody has to wait for it
            _turn(reader, writer, terminal)
        os._exit(0)
    os.waitpid(child, 0)
    os.close(reader)
    os.environ[STARTING] = str(writer)


def stop() -> None:
    """End the spinner, if there is one."""
    if descriptor := os.environ.pop(STARTING, ""):
        os.close(int(descriptor))


def _turn(reader: int, writer: int, terminal: int) -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    os.close(writer)
    turn = 0
    try:
        while not select.select([reader], [], [], EVERY_S)[0]:
            os.write(terminal, f"\x1b7{FRAMES[turn % len(FRAMES)]}\x1b8".encode())
            turn += 1
        os.write(terminal, b"\x1b7 \x1b8")
    except OSError:
        pass  # the terminal was closed
    os._exit(0)
