"""Adds the short options (``--lab``, ``--bench``, ...) beside ``--hil-lab`` and so on.

Delete this file when your own conftest.py has options of these names: the long ones always work.
"""

from hil.campaign.options import add_options


def pytest_addoption(parser):
    add_options(parser)
