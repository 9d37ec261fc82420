"""The plugin costs a pytest run that does not use it next to nothing."""

from __future__ import annotations

import subprocess
import sys

HEAVY = (
    "docker",
    "paramiko",
    "pyroute2",
    "pydantic",
    "numpy",
    "onnx",
    "onnxruntime",
    "jinja2",
    "yaml",
    "sqlite3",
    "rich",
)


def _modules(code: str) -> set[str]:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_importing_the_plugin_imports_nothing_heavy() -> None:
    code = "import pytest, sys; old = set(sys.modules); import hil.campaign.plugin; print(*(set(sys.modules) - old))"
    added = _modules(code)
    assert "hil.campaign.plugin" in added
    # Nothing of the standard library either that pytest has not already: only the packages and the module.
    assert added == {"hil", "hil.campaign", "hil.campaign.options", "hil.campaign.plugin", "hil.campaign.short_errors"}


PLUGIN = {
    "hil.campaign",
    *(
        f"hil.campaign.{name}"
        for name in ("plugin", "options", "short_errors", "fixtures", "fixtures.bench", "fixtures.rollout")
    ),
}
"""The plugin and the fixtures that come with it; they import nothing else before a test asks for one."""


ORDINARY_RUN = """
import os, pathlib, sys, tempfile

os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"  # other plug-ins import what they like
import pytest

with tempfile.TemporaryDirectory() as folder:
    (pathlib.Path(folder) / "test_x.py").write_text("def test_x(): pass")
    plugins = ["-p", "no:cacheprovider", "-p", "hil.campaign.plugin"]
    code = pytest.main(["-q", *plugins, "--rootdir", folder, folder])
sys.exit(int(code)) if code else print("modules", *sys.modules)
"""


def test_a_run_that_is_no_campaign_imports_nothing_of_the_testbed() -> None:
    loaded = _modules(ORDINARY_RUN)
    assert "hil.campaign.plugin" in loaded
    assert {m for m in loaded if m.startswith("hil.")} == PLUGIN
    assert not loaded & set(HEAVY)
