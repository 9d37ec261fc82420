"""No test uses the store of a lab.

Programs that tests start take Ctrl-C, also where the tests run in the background of a script, which ignores it.
"""

from __future__ import annotations

import os
import signal

import pytest


def pytest_configure() -> None:
    os.environ.pop("HIL_STORE", None)  # no test writes into the store of whoever runs it
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def without_plugins_of_others() -> None:
    """Let the campaigns that tests start in processes of their own load no plugins of others: a second each."""
    from tests.kits.campaign_folder import WITHOUT_OTHERS

    os.environ["PYTEST_ADDOPTS"] = " ".join(WITHOUT_OTHERS)
