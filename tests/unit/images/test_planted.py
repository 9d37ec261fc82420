"""Planted bugs: each still fits the OS of this checkout, and changes one file."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from hil.core import paths
from hil.errors import HarnessError
from hil.images import planted, rootfs
from hil.images.bundles import BundleKind

ROOTFS = paths.ROOT / "hil/images/os/reference/rootfs"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    shutil.copytree(ROOTFS, tmp_path, dirs_exist_ok=True)
    shutil.copytree(paths.ROOT / "hil/onboard/node", tmp_path / "usr/lib/hil/hil/onboard/node")
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


@pytest.mark.parametrize(
    ("runs", "offered", "taken"),
    [
        *[("2.0.0", "1.0.0", False), ("2.0.0", "0.9.0", False), ("1.10.0", "1.9.9", False), ("2.0.1", "v2.0", False)],
        *[("1.0.0", "2.0.0", True), ("2.0.0", "2.0.0", True), ("2", "2.0.0", True), ("2.0.1", "2.0.1+x", True)],
        *[("1.9", "1.10", True), ("2.0.0", "nightly", True), ("", "1.0.0", True)],
    ],
)
def test_the_reference_os_refuses_a_bundle_older_than_itself_unless_that_is_allowed(
    runs: str, offered: str, taken: bool, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def install(bundle: str) -> int:
        (tree / "manifest.raucm").write_text(f"[update]\ncompatible=x\nversion={bundle}\n")
        places = {"RELEASE": str(tree / "release"), "ALLOWED": str(tree / "allowed"), "RAUC_UPDATE_SOURCE": str(tree)}
        return subprocess.run(["sh", tree / "usr/lib/rauc/pre-install"], env={**os.environ, **places}).returncode

    (tree / "release").write_text(f'NAME=x\nVERSION_ID="{runs}"\n')
    assert install(offered) == (0 if taken else 10)
    (tree / "allowed").touch()
    assert install(offered) == 0
    (tree / "allowed").unlink()
    monkeypatch.setattr(rootfs, "compile_python", lambda *args, **options: None)
    planted.plant("takes-older", tree)
    assert install(offered) == 0
