"""The twin's files are a Jetson's: the parsers for real boards read them, and a hostile board leads nowhere."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hil.boards.jetson.modules import sku_of
from hil.boards.jetson.remote_files import BoardFiles
from hil.boards.jetson.sensors import SysfsSensors
from hil.boards.tegrastats import parse
from hil.core.paths import ROOT
from hil.onboard.tools import nvpmodel, sysfs_sensors
from hil.onboard.tools.tegrastats import SysfsLines
from hil.onboard.twin.jetson_files import DEVFREQ, GPU, SensorFiles, Shown, lay_out
from hil.onboard.twin.modules import MODULES, NX
from tests.kits.jetson_files import COMMON, LocalRemote, plant

HOT = Shown(junction_c=100.5, board_c=80.0, power_w=25.0, busy=0.9, clock=0.7, state=4, over_current=3)


def board(root: Path, part: str) -> SensorFiles:
    """Lay out a board's files where its OS sees them."""
    sysfs = root / "sys"
    lay_out(sysfs, MODULES[part])
    platform = sysfs / "devices/platform/bus@0"
    platform.mkdir(parents=True)
    (platform / "17000000.gpu").symlink_to(sysfs / GPU)
    plant(root, {path: text for path, text in COMMON.items() if path.startswith("/proc/")})
    return SensorFiles(sysfs, MODULES[part])


@pytest.mark.parametrize("part", ["p3701-0005", "p3767-0000", "p3767-0005"])
def test_the_parser_for_real_boards_reads_what_the_twin_shows(part: str, tmp_path: Path) -> None:
    files = board(tmp_path, part)
    files.show(HOT)
    sensors = SysfsSensors(BoardFiles(LocalRemote(), str(tmp_path)), sku_of(part), board="a1")
    reading = sensors.read()
    assert reading.zones_c["tj"] == 100.5
    assert reading.zones_c["soc1"] == pytest.approx(80 + 0.7 * 20.5)
    assert reading.board_mw == pytest.approx(25_000, rel=0.01)
    assert reading.gpu_load_percent == 90.0
    assert reading.gpu_mhz == pytest.approx(0.7 * MODULES[part].top_mhz)
    assert set(reading.throttled_by) >= {"cpufreq-cpu0", "devfreq-17000000.gpu"}
    assert reading.over_current_counts == {"oc1": 0, "oc2": 0, "oc3": 3}
    assert sensors.provision().critical_c() == 104.5
    assert sensors.provision().passive_c() == (70.0, 99.0)
    files.show(Shown(40.0, 39.0, 5.0, 0.0, 1.0, 0))
    cool = sensors.read()
    assert cool.throttled_by == ()
    assert cool.zones_c["tj"] == 40.0  # a shorter number leaves nothing of the longer one


@pytest.mark.parametrize("part", ["p3701-0005", "p3767-0000"])
def test_tegrastats_prints_what_sysfs_says(part: str, tmp_path: Path) -> None:
    board(tmp_path, part).show(HOT)
    assert sysfs_sensors.here(tmp_path / "sys")
    read = parse(SysfsLines(tmp_path / "sys", tmp_path).line("11-23-2026 02:49:33"))
    assert read.zones_c["tj"] == 100.5
    assert read.board_mw == pytest.approx(25_000, rel=0.01)
    assert read.gpu_load_percent == 90
    assert read.gpu_mhz == round(0.7 * MODULES[part].top_mhz)


def test_a_power_mode_caps_the_clock_and_is_there_again_after_a_boot(tmp_path: Path) -> None:
    files = board(tmp_path, "p3701-0005")
    conf = (ROOT / "hil/images/os/reference/rootfs/etc/nvpmodel.conf").read_text()
    state = tmp_path / "status"

    def run(*argv: str) -> None:
        nvpmodel.run(argv, conf, state, lambda asked: True, lambda hz: sysfs_sensors.set_gpu_cap(hz, tmp_path / "sys"))

    assert files.cap() == 1.0
    run("-m", "1")
    assert files.cap() == pytest.approx(420.75 / 1300.5)
    lay_out(tmp_path / "sys", MODULES["p3701-0005"])  # a power cycle: the highest clock again
    assert files.cap() == 1.0
    run("-f", "/etc/nvpmodel.conf")
    assert files.cap() == pytest.approx(420.75 / 1300.5)


def test_a_cap_that_is_no_clock_caps_nothing(tmp_path: Path) -> None:
    files = board(tmp_path, "p3767-0000")
    cap = tmp_path / "sys" / DEVFREQ / "max_freq"
    for text in ("", "fast", "-5", "٣", "9" * 400, "0"):
        cap.write_text(text)
        assert files.cap() == 1.0, text
    cap.unlink()
    assert files.cap() == 1.0
    os.mkfifo(cap)
    assert files.cap() == 1.0
    cap.unlink()
    (tmp_path / "secret").write_text("408000000")
    cap.symlink_to(tmp_path / "secret")
    assert files.cap() == 1.0


def test_a_board_that_moves_its_files_cannot_make_the_twin_write_elsewhere(tmp_path: Path) -> None:
    files = board(tmp_path, "p3767-0000")
    zone = tmp_path / "sys/class/thermal/thermal_zone0/temp"
    other = tmp_path / "other"
    other.write_text("untouched")
    zone.unlink()
    zone.symlink_to(other)
    files.show(HOT)
    assert other.read_text() == "untouched"
    with pytest.raises(OSError):
        SensorFiles(tmp_path / "sys", NX)
