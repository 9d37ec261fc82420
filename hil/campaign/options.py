"""The command line options of the plugin, and the lab that they name."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from hil.errors import ConfigurationError, HilError
    from hil.lab.model import Lab

CAMPAIGN = "hil-campaign"
"""Name under which the plugin of a campaign run is registered."""


def _duration_s(text: str) -> float:
    from hil.core.wait import duration_s

    try:
        return duration_s(text)
    except ValueError as exc:
        raise argparse.ArgumentTypeError(str(exc)) from exc


OPTIONS: dict[str, dict[str, Any]] = {
    "lab": {"metavar": "FILE", "help": "lab file to bring up, or the name of one that is shipped (virtual)"},
    "bench": {"metavar": "NAME", "help": "use this bench, which `hil bench up` keeps up"},
    "tenant": {
        "metavar": "NAME",
        "help": "on a kept bench (--hil-bench): only this tenant's boards and shares, beside runs of others",
    },
    "on": {"metavar": "SC1,SC2", "help": "the two spacecraft of a larger lab to run on, the gateway's first"},
    "split": {"metavar": "N+M", "help": "boards that take part on each of the two, e.g. 4+2 (default: 3+3)"},
    "epoch": {"metavar": "TIME", "help": "moment of the mission at which the bench starts (ISO 8601, UTC)"},
    "lease-wait": {
        "metavar": "TIME",
        "type": _duration_s,
        "help": "queue so long (10m, 2h) for boards that somebody else has; default: end at once",
    },
    "no-clean": {"action": "store_true", "help": "do not look for what killed runs left"},
    "from": {"metavar": "STEP", "help": "begin with this step of the campaign; steps that it needs are run before it"},
    "resume": {
        "metavar": "RUN",
        "help": "take over what passed in that run, on a kept bench that is as the run left it",
    },
    "set": {
        "metavar": "NAME=VALUE",
        "action": "append",
        "default": [],
        "help": "another value for a parameter of the plan; such a run is not one of the whole plan",
    },
    "run-id": {"metavar": "ID", "help": "name of the run (default: time, plan and a random suffix)"},
}


def add_options(parser: pytest.Parser, prefix: str = "--") -> None:
    """Add the options under this prefix.

    The plugin adds them as ``--hil-lab`` and so on.  A conftest.py of a repository where nobody else has options of
    these names may call this once more for the short ones (``--lab``).  UsageError when somebody has one already, or
    adds one later.
    """
    group = parser.getgroup("hil", "orbital hardware-in-the-loop campaigns")
    for name, settings in OPTIONS.items():
        try:
            group.addoption(f"{prefix}{name}", dest=f"hil_{name.replace('-', '_')}", **settings)
        except (ValueError, argparse.ArgumentError) as exc:
            raise _taken_twice(prefix, name) from exc
    if prefix == "--":
        _name_who_comes_later(parser)


def _taken_twice(prefix: str, name: str) -> pytest.UsageError:
    return pytest.UsageError(
        f"hil: {prefix}{name} is somebody else's option, too, so add_options() cannot add it; leave that "
        f"call out of conftest.py, and use --hil-{name} and the other long names"
    )


def _name_who_comes_later(parser: pytest.Parser) -> None:
    """Make an option of another conftest.py that has one of the short names a UsageError; pytest's is a traceback."""

    def guarded(add: Callable[..., None]) -> Callable[..., None]:
        def addoption(*names: str, **settings: Any) -> None:
            try:
                add(*names, **settings)
            except (ValueError, argparse.ArgumentError) as exc:
                for name in OPTIONS:
                    if f"--{name}" in names:
                        raise _taken_twice("--", name) from exc
                raise

        return addoption

    get_group = parser.getgroup

    def getgroup(*words: Any, **named: Any) -> Any:
        group = get_group(*words, **named)
        vars(group).setdefault("addoption", guarded(group.addoption))
        return group

    vars(parser).update(addoption=guarded(parser.addoption), getgroup=getgroup)


def no_xdist() -> ConfigurationError:
    """Return the error of a campaign that pytest-xdist is to share out."""
    from hil.errors import ConfigurationError

    return ConfigurationError(
        "a campaign is one bench and one order of tests: pytest-xdist cannot share it out",
        remedy="leave -n and --dist away",
    )


def shares_out(arguments: Sequence[str]) -> bool:
    """Tell whether arguments of pytest ask pytest-xdist to share the tests out."""
    options = re.compile(r"-n(=?\d+|auto|logical)?|--(numprocesses|dist|tx|maxprocesses)(=.*)?")
    return any(options.fullmatch(word) for word in arguments)


def refused(error: HilError) -> BaseException:
    """Return the exception that ends pytest with a configuration error, before any test."""
    return pytest.exit.Exception(f"configuration error: {error}", returncode=2)


LAB: pytest.StashKey[Lab] = pytest.StashKey()


def chosen_lab(config: pytest.Config) -> Lab | None:
    """Return the lab of ``--hil-lab``: a file relative to where pytest was started, or the shipped one of that name.

    It is read once.  ConfigurationError when it is wrong.
    """
    from hil.core import paths
    from hil.lab.model import load_lab

    text = config.getoption("hil_lab")
    if text and LAB not in config.stash:
        config.stash[LAB] = load_lab(config.invocation_params.dir / paths.lab_file(text))
    return config.stash.get(LAB, None)


def asked_for_reruns(config: pytest.Config) -> bool:
    """Return whether pytest-rerunfailures is asked to repeat failures, by option or in an ini file."""
    try:
        return bool(config.getoption("reruns", None) or config.getini("reruns"))
    except ValueError:  # it is not installed
        return False


def uses_bench(item: pytest.Item) -> bool:
    """Return whether a test wants the bench of the plug-in, and not a fixture of its own of that name."""
    info = getattr(item, "_fixtureinfo", None)
    definitions: list[Any] = list(info.name2fixturedefs.get("bench", ())) if info else []
    return bool(definitions) and definitions[-1].func.__module__ == "hil.campaign.fixtures.bench"
