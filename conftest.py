"""Adds the short options of the testbed (``--lab``, ``--bench``, ...) for this checkout, where nobody else has them."""

from __future__ import annotations

import pytest

from hil.campaign.options import add_options


def pytest_addoption(parser: pytest.Parser) -> None:
    add_options(parser)
