"""Sparse copies and what a power cut may touch."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hil.boards.container import power_cut
from hil.errors import BenchError

MIB = 1 << 20


def test_a_copy_has_the_same_bytes_and_keeps_the_holes(tmp_path: Path) -> None:
    source, target = tmp_path / "a", tmp_path / "b"
    with source.open("wb") as file:
        file.write(os.urandom(70_000))
        file.seek(40 * MIB)
        file.write(os.urandom(5_000))
        file.truncate(64 * MIB)
    power_cut.copy_sparse(source, target)
    assert target.stat().st_size == 64 * MIB
    assert target.read_bytes() == source.read_bytes()
    assert target.stat().st_blocks * 512 < MIB


def test_a_copy_can_be_padded_to_the_size_of_a_slot(tmp_path: Path) -> None:
    source, target = tmp_path / "a", tmp_path / "b"
    source.write_bytes(b"image")
    power_cut.copy_sparse(source, target, size_bytes=8192)
    assert target.read_bytes() == b"image" + bytes(8187)


def test_a_file_of_nothing_but_a_hole_is_copied(tmp_path: Path) -> None:
    source, target = tmp_path / "a", tmp_path / "b"
    with source.open("wb") as file:
        file.truncate(3 * MIB)
    power_cut.copy_sparse(source, target)
    assert (target.stat().st_size, target.stat().st_blocks) == (3 * MIB, 0)


def test_a_snapshot_is_taken_again_while_the_image_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image = tmp_path / "slot_b.img"
    image.write_bytes(b"old")
    real, copies = power_cut.copy_sparse, []

    def copy_while_written(source: Path, target: Path) -> None:
        real(source, target)
        copies.append(target)
        if len(copies) == 1:
            source.write_bytes(b"new")
            os.utime(source, ns=(0, 12345))

    monkeypatch.setattr(power_cut, "copy_sparse", copy_while_written)
    assert power_cut.snapshot(image).read_bytes() == b"new"
    assert len(copies) == 2


def test_an_image_that_never_stands_still_is_a_bench_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image = tmp_path / "slot_b.img"
    image.write_bytes(b"x")
    moment = [0]

    def restless(source: Path, target: Path) -> None:
        moment[0] += 1
        os.utime(source, ns=(0, moment[0]))
        target.touch()

    monkeypatch.setattr(power_cut, "copy_sparse", restless)
    with pytest.raises(BenchError, match="kept changing"):
        power_cut.snapshot(image)
    assert [path.name for path in tmp_path.iterdir()] == ["slot_b.img"]


def test_only_a_file_system_on_a_loop_device_is_ever_crashed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object) -> None:
        raise AssertionError("the host's own file system was about to be shut down")

    monkeypatch.setattr("fcntl.ioctl", never)
    assert power_cut.crash_file_system(tmp_path) is False
    assert power_cut.crash_file_system(Path("/")) is False
    assert power_cut.crash_file_system(tmp_path / "none") is False
    (tmp_path / "link").symlink_to("/")
    monkeypatch.setattr(os, "major", lambda _device: power_cut.LOOP_MAJOR)
    assert power_cut.crash_file_system(tmp_path / "link") is False
