"""No test uses the store of a lab.

Programs that tests start take Ctrl-C, also where the tests run in the background of a script, which ignores it.
"""

from __future__ import annotations

import os
import signal


def pytest_configure() -> None:
    os.environ.pop("HIL_STORE", None)  # no test writes into the store of whoever runs it
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
