"""Sensors of a Jetson, read by a real shell from a real tree of files."""

from __future__ import annotations

import shutil
import socket
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hil.boards.jetson.modules import SKUS, sku_of
from hil.boards.jetson.remote_files import BoardFiles
from hil.boards.jetson.sensors import Reading, SysfsSensors, _memory_mb, _power, _temperatures
from hil.errors import ConfigurationError, DeviceError
from hil.lab.model import MODULE_MODEL
from tests.kits.jetson_files import AGX_JP6, COMMON, INA, NX_JP5, PMC, LocalRemote, cooling, plant, zones

SHELLS = [("sh",), *([("bash", "--posix")] if shutil.which("bash") else [])]
SHELLS += [("busybox", "sh")] if shutil.which("busybox") else []


def look(root: Path, part: str = "p3701-0004") -> Reading:
    return SysfsSensors(BoardFiles(LocalRemote(), str(root)), sku_of(part), board="a1").read()


@pytest.mark.parametrize("shell", SHELLS, ids=" ".join)
def test_one_command_reads_everything_and_tells_absent_from_unreadable(tmp_path: Path, shell: tuple[str, ...]) -> None:
    (tmp_path / "proc").mkdir()
    with socket.socket(socket.AF_UNIX) as closed:
        closed.bind(str(tmp_path / "proc/socket"))  # a file whose open fails, for root too
    plant(tmp_path, {"/a/x": "1\n", "/a/y": "no newline", "/a/z": "", "/a/w": None, "/b c/x": "p\tq\n\nr\\n*\n"})
    remote = LocalRemote(shell)
    found = BoardFiles(remote, str(tmp_path)).read_all(["/a/[xyzw]", "/b c/x", "/none*", "/proc/socket", "/a/v"])
    assert found == {
        "/a/w": None,
        "/a/x": "1",
        "/a/y": "no newline",
        "/a/z": None,
        "/b c/x": "p\tq\n\nr\\n*",
        "/proc/socket": None,
    }
    assert remote.calls == 1


def test_a_kernel_that_refuses_a_read_is_told_from_a_file_that_is_not_there() -> None:
    refused = "/sys/class/net/lo/speed"  # EINVAL on every kernel, as a zone without power gives
    with pytest.raises(OSError, match="Invalid argument"):
        Path(refused).read_text()
    wanted = ["/sys/class/net/lo/[sm]*", "/sys/class/net/lo/none"]
    found = BoardFiles(LocalRemote()).read_all(wanted)
    assert found[refused] is None
    assert found["/sys/class/net/lo/mtu"] == Path("/sys/class/net/lo/mtu").read_text().strip()
    assert "/sys/class/net/lo/none" not in found


def test_an_agx_of_jetpack_6_is_read(tmp_path: Path) -> None:
    reading = look(plant(tmp_path, AGX_JP6))
    assert reading.gpu_load_percent == 84.3
    assert reading.gpu_mhz == 1300.5
    assert reading.zones_c == {"cpu": 53.062, "gpu": 47.812, "tj": 53.062}
    assert reading.gated == ("cv0",)
    assert reading.rails_mw == {
        "vdd_gpu_soc": 3200.0,
        "vdd_cpu_cv": 4400.0,
        "vin_sys_5v0": 4765.0,
        "vddq_vdd2_1v8ao": 600.0,
    }
    assert (reading.reset_reason, reading.reset_level) == ("MAINSWRST", "L1")
    assert (reading.ram_total_mb, reading.ram_used_mb) == (30697.0, 10217.0)


def test_the_power_of_an_agx_is_the_sum_of_three_rails_and_no_more(tmp_path: Path) -> None:
    assert look(plant(tmp_path, AGX_JP6)).board_mw == 3200 + 4400 + 4765


def test_the_power_of_an_nx_is_its_total_rail_alone(tmp_path: Path) -> None:
    reading = look(plant(tmp_path, NX_JP5), "p3767-0000")
    assert reading.board_mw == pytest.approx(5040 * 1051 / 1000)
    assert len(reading.rails_mw) == 3


def test_no_power_is_named_when_one_of_its_rails_did_not_answer(tmp_path: Path) -> None:
    rail = f"{INA}/1-0040/hwmon/hwmon3/curr2_input"
    reading = look(plant(tmp_path, {**AGX_JP6, rail: None}))
    assert "vdd_cpu_cv" not in reading.rails_mw
    assert reading.board_mw is None
    assert "board_mw" not in reading.sensors()


def test_jetpack_5_has_other_paths_and_names_and_prints_minus_256_for_a_zone_without_power(tmp_path: Path) -> None:
    reading = look(plant(tmp_path, NX_JP5), "p3767-0000")
    assert reading.zones_c == {"cpu": 47.937, "tj": 48.875}
    assert reading.gated == ("cv0", "gpu")
    assert (reading.gpu_load_percent, reading.gpu_mhz) == (0.0, 611.0)
    assert reading.reset_reason == "BCCPLEXWDT"


def test_flat_readings_carry_their_units_and_have_nothing_for_what_is_gated(tmp_path: Path) -> None:
    sensors = look(plant(tmp_path, NX_JP5), "p3767-0000").sensors()
    assert set(sensors) == {
        "ram_used_mb",
        "ram_total_mb",
        "gpu_load_percent",
        "gpu_mhz",
        "board_mw",
        "cpu_c",
        "tj_c",
        "vdd_in_mw",
        "vdd_cpu_gpu_cv_mw",
        "vdd_soc_mw",
        "throttle_state",
    }


def test_the_deepest_state_of_what_slows_the_module_down_is_a_reading(tmp_path: Path) -> None:
    hot = {"hot-surface-alert": 1, "pwm-fan": 3, "gpu-throttle-alert": 1, "cpufreq-cpu0": 4}
    assert look(plant(tmp_path / "hot", {**AGX_JP6, **cooling(hot)})).sensors()["throttle_state"] == 4.0
    warm = {"hot-surface-alert": 1, "cpufreq-cpu0": 0}
    assert look(plant(tmp_path / "warm", {**AGX_JP6, **cooling(warm)})).sensors()["throttle_state"] == 0.0


def test_a_warm_surface_and_a_turning_fan_are_no_throttling(tmp_path: Path) -> None:
    quiet = {"hot-surface-alert": 1, "pwm-fan": 3, "gpu-throttle-alert": 0, "cpufreq-cpu0": 0}
    assert not look(plant(tmp_path, {**AGX_JP6, **cooling(quiet)})).throttled_by


def test_a_cooling_device_that_acts_is_throttling_and_is_named(tmp_path: Path) -> None:
    reading = look(plant(tmp_path, {**AGX_JP6, **cooling({"pwm-fan": 1, "devfreq-17000000.gpu": 2, "x": 0})}))
    assert reading.throttled_by == ("devfreq-17000000.gpu",)


def test_over_current_is_what_was_added_since_then_or_since_a_reboot_in_between(tmp_path: Path) -> None:
    before = look(plant(tmp_path, AGX_JP6))
    plant(tmp_path, {"/sys/class/hwmon/hwmon5/oc3_event_cnt": "27420\n"})
    after = look(tmp_path)
    assert after.over_current_since(before) == {"oc1": 0, "oc2": 0, "oc3": 27390}
    plant(tmp_path, {"/proc/sys/kernel/random/boot_id": "other\n", "/sys/class/hwmon/hwmon5/oc3_event_cnt": "7\n"})
    assert look(tmp_path).over_current_since(before)["oc3"] == 7


def test_an_alarm_that_is_up_is_named_after_its_rail(tmp_path: Path) -> None:
    alarm = f"{INA}/1-0040/hwmon/hwmon3/curr1_crit_alarm"
    assert look(plant(tmp_path, {**AGX_JP6, alarm: "1\n"})).alarms == ("vdd_gpu_soc_crit",)


def test_provisioning_reads_trip_points_limits_and_what_may_throttle(tmp_path: Path) -> None:
    files = BoardFiles(LocalRemote(), str(plant(tmp_path, AGX_JP6)))
    provision = SysfsSensors(files, sku_of("p3701-0004")).provision()
    assert provision.zones == ("cpu", "cv0", "gpu", "tj")
    assert provision.critical_c() == 104.5
    assert provision.passive_c("cv0") == (70.0, 99.0)
    assert provision.cooling["gpu-throttle-alert"] == 3
    assert provision.rails == ("vdd_cpu_cv", "vdd_gpu_soc", "vddq_vdd2_1v8ao", "vin_sys_5v0")
    assert provision.limits_ma["vdd_gpu_soc_crit"] == 32760
    assert provision.over_current_throttles == {"oc1": True, "oc2": True, "oc3": True}
    with pytest.raises(DeviceError, match="zone pll has no critical trip point; zones: cpu"):
        provision.critical_c("pll")


def test_a_machine_that_is_no_jetson_gives_an_error_that_names_the_board(tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match="a1: sysfs shows no boot id"):
        look(tmp_path)
    with pytest.raises(DeviceError, match="a1: sysfs shows no thermal zone"):
        look(plant(tmp_path, COMMON))
    with pytest.raises(DeviceError, match="a1: no thermal zone shows a trip point"):
        SysfsSensors(BoardFiles(LocalRemote(), str(tmp_path)), sku_of("p3701-0004"), board="a1").provision()


def test_all_zones_gated_is_a_reading_without_temperatures(tmp_path: Path) -> None:
    reading = look(plant(tmp_path, {**COMMON, **zones({"cpu-thermal": None, "tj-thermal": "err\n"})}))
    assert (reading.zones_c, reading.gated) == ({}, ("cpu", "tj"))
    assert (reading.gpu_load_percent, reading.board_mw, reading.reset_reason) == (None, None, "")


def test_the_newer_path_wins_where_both_answer_and_the_older_where_only_it_does(tmp_path: Path) -> None:
    older = {"/sys/devices/platform/c360000.pmc/reset_reason": "SENSOR\n"}
    assert look(plant(tmp_path, {**AGX_JP6, **older})).reset_reason == "MAINSWRST"
    (tmp_path / PMC.lstrip("/") / "reset_reason").unlink()
    assert look(tmp_path).reset_reason == "SENSOR"


def test_every_module_a_lab_file_may_name_has_a_profile() -> None:
    assert set(SKUS) == set(MODULE_MODEL)
    with pytest.raises(ConfigurationError, match="p3448") as caught:
        sku_of("p3448-0000")
    assert "p3701-0005" in caught.value.remedy


LINES = st.one_of(st.none(), st.text(max_size=12), st.sampled_from(["9" * 5000, "-256000", "VDD_IN", "nc", "1"]))


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(st.sampled_from([p for p in {**AGX_JP6, **NX_JP5}]), LINES, max_size=40))
def test_mangled_files_never_break_a_reading(texts: dict[str, str | None]) -> None:
    found, gated = _temperatures(texts)
    assert all(value > -256 for value in found.values())
    assert all(isinstance(name, str) for name in gated)
    rails, _ = _power(texts)
    assert not {"nc", ""} & rails.keys()
    _memory_mb(texts.get("/proc/meminfo") or "")
