"""The board tools inside the OS: boot control backend, nvbootctrl, tegrastats, nvpmodel."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from hil.boards.tegrastats import parse
from hil.core.paths import ROOT
from hil.images.rootfs import on_board_sources
from hil.onboard.boot_control import BootControl, Slot, Variables
from hil.onboard.tegrastats_figures import rails
from hil.onboard.tools import bootctl, nvbootctrl, nvpmodel, tegrastats

NVPMODEL_CONF = (ROOT / "hil/images/os/reference/rootfs/etc/nvpmodel.conf").read_text()


@pytest.fixture
def control(tmp_path: Path) -> BootControl:
    directory = tmp_path / "vars"
    directory.mkdir()
    control = BootControl(Variables(directory))
    control.initialise()
    return control


def test_raucs_calls_during_an_install_and_an_activation_end_with_an_armed_unconfirmed_slot(
    control: BootControl, tmp_path: Path
) -> None:
    shown = tmp_path / "slot-confirmed"

    def call(*argv: str) -> str:
        return bootctl.run(argv, control, shown)

    control.choose()
    assert call("get-primary") == "A"
    assert call("get-state", "B") == "good"
    assert call("get-state", "A") == "good"
    call("set-state", "B", "bad")
    assert call("get-state", "B") == "bad"
    call("set-primary", "B")
    assert (call("get-primary"), call("get-state", "B"), call("get-current")) == ("B", "good", "A")
    assert shown.read_text() == "1\n", "the running slot is still the confirmed one"
    control.choose()
    call("set-state", "A", "bad")
    assert shown.read_text() == "0\n"
    call("set-state", "B", "good")
    assert shown.read_text() == "1\n"
    assert control.slot("B").confirmed


@pytest.mark.parametrize("argv", [[], ["get-state"], ["get-state", "C"], ["set-state", "A", "maybe"], ["explode"]])
def test_an_unknown_request_is_refused(control: BootControl, tmp_path: Path, argv: list[str]) -> None:
    with pytest.raises(ValueError, match=r"usage|no slot"):
        bootctl.run(argv, control, tmp_path / "shown")


def test_a_slot_that_rauc_is_about_to_write_holds_nothing_complete_any_more(
    control: BootControl, tmp_path: Path
) -> None:
    """RAUC 1.8 saves its own note only after the write: a power cut would leave the old one."""
    notes, shown = tmp_path / "rauc.status", tmp_path / "slot-confirmed"
    first, second = "[slot.rootfs.0]\nstatus=ok\nsha256=aa\n\n", "[slot.rootfs.1]\nstatus=ok\nsha256=bb\n"
    notes.write_text(first + second)
    bootctl.run(["set-state", "B", "bad"], control, shown, notes)
    assert notes.read_text() == first
    bootctl.run(["set-state", "A", "good"], control, shown, notes)
    assert notes.read_text() == first
    notes.unlink()
    bootctl.run(["set-state", "B", "bad"], control, shown, notes)
    assert [path.name for path in tmp_path.iterdir() if "rauc.status" in path.name] == []


def test_nvbootctrl_prints_both_dumps_in_the_real_layout(control: BootControl) -> None:
    control.mark_bad("B")
    assert nvbootctrl.run(["dump-slots-info"], control) == (
        "Current version: 36.4.7\n"
        "Capsule update status: 0\n"
        "Current bootloader slot: A\n"
        "Active bootloader slot: A\n"
        "num_slots: 2\n"
        "slot: 0,             status: normal\n"
        "slot: 1,             status: unbootable"
    )
    assert nvbootctrl.run(["-t", "rootfs", "dump-slots-info"], control) == (
        "Current rootfs slot: A\n"
        "Active rootfs slot: A\n"
        "num_slots: 2\n"
        "slot: 0,             retry_count: 3,             status: normal\n"
        "slot: 1,             retry_count: 0,             status: unbootable"
    )


@pytest.mark.parametrize(("slot", "status"), [("A", 1), ("B", 2)])
def test_nvbootctrl_tells_two_root_file_systems_by_its_exit_status_alone(
    control: BootControl, slot: Slot, status: int, capsys: pytest.CaptureFixture[str]
) -> None:
    control.set_active(slot)
    assert control.choose() == slot
    with pytest.raises(SystemExit) as ended:
        nvbootctrl.run(["is-rootfs-ab-enabled"], control)
    assert ended.value.code == status and capsys.readouterr().out == ""


def test_nvbootctrl_answers_with_numbers_and_sets_the_active_slot(control: BootControl) -> None:
    assert nvbootctrl.run(["get-current-slot"], control) == "0"
    assert nvbootctrl.run(["set-active-boot-slot", "1"], control) == ""
    assert nvbootctrl.run(["-t", "rootfs", "get-active-boot-slot"], control) == "1"
    with pytest.raises(ValueError, match="Usage"):
        nvbootctrl.run(["set-active-boot-slot", "2"], control)


def test_a_tegrastats_line_says_what_the_sample_says(tmp_path: Path) -> None:
    (tmp_path / "cgroup/cpuacct").mkdir(parents=True)
    usage = tmp_path / "cgroup/cpuacct/cpuacct.usage"
    clock = [100.0]

    def look() -> tegrastats.Sample:
        return tegrastats.sample(tmp_path / "state.json", tmp_path / "cgroup", lambda: clock[0])

    usage.write_text("0\n")
    look()
    clock[0] += 10.0
    usage.write_text(f"{int(6e9)}\n")  # six CPU seconds in ten
    view = look()
    assert view.load == pytest.approx(0.6)
    line = tegrastats.line(view, view.rails, "11-23-2026 02:49:33")
    reading = parse(line)
    assert reading.gpu_load_percent == 60
    assert len(reading.cores) == 12
    assert reading.cores[0] == (60, 2201)
    assert reading.rails_mw["vdd_gpu_soc"] == rails(0.05, 0.6).vdd_gpu_soc_mw
    assert reading.zones_c["tj"] == pytest.approx(view.zones.tj_c, abs=0.001)


def test_a_board_under_load_warms_up_and_cools_down_again(tmp_path: Path) -> None:
    (tmp_path / "cgroup/cpuacct").mkdir(parents=True)
    usage = tmp_path / "cgroup/cpuacct/cpuacct.usage"
    clock, used = [0.0], 0.0
    temperatures = []
    for load in [0.0, *[1.0] * 6, *[0.0] * 12]:
        used += 600 * load
        usage.write_text(f"{int(used * 1e9)}\n")
        view = tegrastats.sample(tmp_path / "state.json", tmp_path / "cgroup", lambda: clock[0])
        temperatures.append(view.zones.tj_c)
        clock[0] += 600.0
    assert max(temperatures) == temperatures[6]
    assert temperatures[6] > temperatures[0] + 10
    assert temperatures[-1] < temperatures[6] - 10


def test_cgroup_v2_is_read_too_and_a_missing_one_reads_as_idle(tmp_path: Path) -> None:
    (tmp_path / "cpu.stat").write_text("usage_usec 2500000\nuser_usec 1\n")
    (tmp_path / "memory.current").write_text(str(300 << 20))
    assert tegrastats.cpu_seconds(tmp_path) == 2.5
    assert tegrastats.memory_mb(tmp_path) == 300
    assert tegrastats.cpu_seconds(tmp_path / "nothing") == 0.0


def test_a_broken_thermal_state_starts_over(tmp_path: Path) -> None:
    state = tmp_path / "state.json"
    state.write_text("{")
    tegrastats.sample(state, tmp_path, lambda: 5.0)
    clock = 6.0
    assert tegrastats.sample(state, tmp_path, lambda: clock).zones.tj_c > 15
    assert json.loads(state.read_text())["t"] in (5.0, 6.0)


def test_nvpmodel_prints_two_lines_and_remembers_a_mode(tmp_path: Path) -> None:
    state = tmp_path / "nvpmodel"
    assert nvpmodel.run(["-q"], NVPMODEL_CONF, state) == "NV Power Mode: MODE_30W\n2"
    asked: list[str] = []
    assert nvpmodel.run(["-m", "0"], NVPMODEL_CONF, state) == ""  # other parts of the GPU, and nobody to ask
    assert nvpmodel.run(["-q"], NVPMODEL_CONF, state) == "NV Power Mode: MODE_30W\n2"

    def agree(question: str) -> bool:
        asked.append(question)
        return True

    assert nvpmodel.run(["-m", "0"], NVPMODEL_CONF, state, agree) == ""
    assert "Reboot required" in asked.pop()
    assert nvpmodel.run(["-q"], NVPMODEL_CONF, state) == "NV Power Mode: MAXN\n0"
    assert nvpmodel.run(["-m", "3"], NVPMODEL_CONF, state) == ""  # the same parts: no reboot
    assert nvpmodel.run(["-q"], NVPMODEL_CONF, state) == "NV Power Mode: MODE_50W\n3"
    with pytest.raises(ValueError, match="NVPM ERROR"):
        nvpmodel.run(["-m", "9"], NVPMODEL_CONF, state)


def test_what_runs_on_a_board_needs_nothing_but_the_standard_library() -> None:
    script = (
        "import sys, importlib;"
        "[importlib.import_module(m) for m in sys.argv[1:]];"
        "bad = sorted(n for n in sys.modules if n.split('.')[0] in "
        "{'pydantic','docker','paramiko','numpy','yaml','click','rich','cryptography'});"
        "sys.exit(f'imports {bad}' if bad else 0)"
    )
    modules = [
        path.relative_to(ROOT).with_suffix("").as_posix().replace("/", ".")
        for path in on_board_sources()
        if "onboard" in path.parts and path.name != "__init__.py"
    ]
    assert len(modules) >= 4
    modules += ["hil.onboard.firmware.__main__"]
    argv = [sys.executable, "-c", script, *modules]
    done = subprocess.run(argv, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
