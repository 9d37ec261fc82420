"""Planted bugs: each still fits the OS of this checkout, and changes one file."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from hil.core import paths
from hil.errors import HarnessError
from hil.images import planted, rootfs
from hil.images.bundles import BundleKind

INIT = paths.ROOT / "hil/images/os/reference/rootfs/usr/sbin/init"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for source, place in (
        (INIT, "usr/sbin/init"),
        (paths.ROOT / "hil/onboard/node/epoch.py", "usr/lib/hil/hil/onboard/node/epoch.py"),
    ):
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source, tmp_path / place)
    return tmp_path


@pytest.mark.parametrize("name", planted.BUGS)
def test_a_bug_fits_the_os_as_it_is_and_is_one_change(name: str, tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rootfs, "compile_python", lambda *args, **options: None)
    bug = planted.BUGS[name]
    before = (tree / bug.file).read_text("utf-8")
    planted.plant(name, tree)
    assert (tree / bug.file).read_text("utf-8") == before.replace(bug.before, bug.after) != before
    assert BundleKind(name)
    with pytest.raises(HarnessError, match="has changed"):
        planted.plant(name, tree)
