"""The hand-over of a GPU from firmware to OS, on directories."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from hil.onboard.firmware import gpu


def test_files_and_links_come_to_the_same_paths_of_the_os(tmp_path: Path) -> None:
    hardware, root, bound = tmp_path / "hardware", tmp_path / "os", []
    (hardware / "gpu/usr/lib").mkdir(parents=True)
    (hardware / "gpu/usr/lib/libcuda.so.1").touch()
    (hardware / "gpu/opt/cuda").mkdir(parents=True)
    given = {"files": ["/usr/lib/libcuda.so.1", "/opt/cuda"], "links": {"/usr/lib/libcuda.so": "libcuda.so.1"}}
    for _ in range(2):  # the OS boots again
        gpu.hand_on(given, root, lambda *places, read_only: bound.append((*places, read_only)), hardware)
    assert (root / "usr/lib/libcuda.so").resolve() == root / "usr/lib/libcuda.so.1"
    assert (root / "opt/cuda").is_dir()
    assert bound[0] == (hardware / "gpu/usr/lib/libcuda.so.1", root / "usr/lib/libcuda.so.1", True)
    assert len(bound) == 4


def test_the_os_gets_the_same_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Any] = []
    monkeypatch.setattr(os, "mknod", lambda *node: made.append(node))
    gpu.hand_on({"devices": ["/dev/null"]}, tmp_path, print)
    state = Path("/dev/null").stat()
    assert made == [(tmp_path / "dev/null", state.st_mode | 0o666, state.st_rdev)]


def test_without_a_gpu_nothing_is_handed_on(tmp_path: Path) -> None:
    assert gpu.told({}) == {}
    gpu.hand_on({}, tmp_path, print)
    assert list(tmp_path.iterdir()) == []
