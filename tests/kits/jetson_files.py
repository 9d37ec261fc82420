"""A Jetson that is a tree of files, and a shell that answers from a script."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Self

from hil.boards.protocol import Completed
from hil.errors import DeviceError

Answer = Completed | Callable[[Sequence[str], bytes], Completed]


class LocalRemote:
    """``hil.boards.jetson.remote_files.Remote`` on this machine, read only by what it is given."""

    def __init__(self, shell: Sequence[str] = ("sh",)) -> None:
        self._shell = tuple(shell)
        self.calls = 0

    def run(self, argv: Sequence[str], *, timeout_s: float = 30.0, stdin: bytes = b"", check: bool = True) -> Completed:
        assert argv[0] == "sh"
        self.calls += 1
        done = subprocess.run([*self._shell, *argv[1:]], input=stdin, capture_output=True, timeout=timeout_s)
        if check and done.returncode:
            raise DeviceError(f"{argv[0]} ended with {done.returncode}: {done.stderr!r}")
        out, err = (stream.decode("utf-8", "replace") for stream in (done.stdout, done.stderr))
        return Completed(tuple(argv), done.returncode, out, err)

    def read(self, remote: str) -> bytes:
        try:
            return Path(remote).read_bytes()
        except OSError as exc:
            raise DeviceError(f"cannot read {remote}: {exc.strerror}") from exc

    def write(self, remote: str, content: bytes) -> None:
        raise NotImplementedError

    def push(self, local: Path, remote: str) -> None:
        raise NotImplementedError

    def pull(self, remote: str, local: Path) -> None:
        raise NotImplementedError

    def close(self) -> None: ...

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None: ...


class ScriptedRemote(LocalRemote):
    """Answers commands from ``answers`` by their command line; everything else as :class:`LocalRemote`."""

    def __init__(self, answers: Mapping[str, Answer], files: Mapping[str, bytes] | None = None) -> None:
        super().__init__()
        self.answers = dict(answers)
        self.files = dict(files or {})
        self.said: list[tuple[str, bytes]] = []

    def run(self, argv: Sequence[str], *, timeout_s: float = 30.0, stdin: bytes = b"", check: bool = True) -> Completed:
        line = " ".join(argv)
        self.said.append((line, stdin))
        if line not in self.answers:
            return super().run(argv, timeout_s=timeout_s, stdin=stdin, check=check)
        answer = self.answers[line]
        done = answer if isinstance(answer, Completed) else answer(argv, stdin)
        if check and done.returncode:
            raise DeviceError(f"`{line}` ended with {done.returncode}")
        return done

    def read(self, remote: str) -> bytes:
        return self.files[remote] if remote in self.files else super().read(remote)


def said(stdout: str, returncode: int = 0, stderr: str = "") -> Completed:
    """A finished command."""
    return Completed((), returncode, stdout, stderr)


def plant(root: Path, files: Mapping[str, str | bytes | None]) -> Path:
    """Write files under ``root``. None makes one that exists and cannot be read, as a sensor without power."""
    for path, content in files.items():
        target = root / path.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        if content is None:
            target.mkdir()  # read(2) of a directory fails; that of a zone without power fails with EAGAIN
        else:
            target.write_bytes(content.encode() if isinstance(content, str) else content)
    return root


INA = "/sys/bus/i2c/drivers/ina3221"
PMC = "/sys/devices/platform/bus@0/c360000.pmc"


def ina3221(at: str, channels: Sequence[tuple[str, int, int]], hwmon: int = 3) -> dict[str, str | bytes | None]:
    """One INA3221 with (label, mV, mA) per channel, and the sum channel that the kernel adds."""
    base = f"{INA}/{at}/hwmon/hwmon{hwmon}"
    files: dict[str, str | bytes | None] = {f"{base}/name": "ina3221\n"}
    for n, (label, millivolt, milliampere) in enumerate(channels, 1):
        files[f"{base}/in{n}_label"] = label + "\n"
        files[f"{base}/in{n}_input"] = f"{millivolt}\n"
        files[f"{base}/curr{n}_input"] = f"{milliampere}\n"
        files[f"{base}/curr{n}_crit"] = "32760\n"
        files[f"{base}/curr{n}_crit_alarm"] = "0\n"
        files[f"{base}/curr{n}_max_alarm"] = "0\n"
    files[f"{base}/in7_label"] = "sum of shunt voltages\n"
    files[f"{base}/in7_input"] = "1\n"
    files[f"{base}/curr4_input"] = "9999\n"
    return files


def zones(readings: Mapping[str, int | str | None]) -> dict[str, str | bytes | None]:
    """Thermal zones with an Orin's three trip points; None or a text where the temperature should be."""
    files: dict[str, str | bytes | None] = {}
    for number, (kind, value) in enumerate(readings.items()):
        base = f"/sys/class/thermal/thermal_zone{number}"
        files[f"{base}/type"] = kind + "\n"
        files[f"{base}/temp"] = f"{value}\n" if isinstance(value, int) else value
        trips = (("passive", 70000), ("passive", 99000), ("critical", 104500))
        for n, (trip, temp) in enumerate(trips):
            files[f"{base}/trip_point_{n}_type"] = trip + "\n"
            files[f"{base}/trip_point_{n}_temp"] = f"{temp}\n"
    return files


def cooling(states: Mapping[str, int]) -> dict[str, str | bytes | None]:
    files: dict[str, str | bytes | None] = {}
    for number, (kind, state) in enumerate(states.items()):
        base = f"/sys/class/thermal/cooling_device{number}"
        files |= {f"{base}/type": kind + "\n", f"{base}/cur_state": f"{state}\n", f"{base}/max_state": "3\n"}
    return files


COMMON: dict[str, str | bytes | None] = {
    "/proc/sys/kernel/random/boot_id": "8f4ef6a4-5ea9-4ea7-a7ee-b4d1c3c9fa11\n",
    "/proc/meminfo": "MemTotal:       31433728 kB\nMemFree:         1024 kB\nMemAvailable:   20971520 kB\n",
    "/sys/class/hwmon/hwmon5/name": "soctherm_oc\n",
    **{f"/sys/class/hwmon/hwmon5/oc{n}_event_cnt": f"{n * 10}\n" for n in (1, 2, 3)},
    **{f"/sys/class/hwmon/hwmon5/oc{n}_throt_en": "1\n" for n in (1, 2, 3)},
    **cooling({"cpufreq-cpu0": 0, "devfreq-17000000.gpu": 0, "gpu-throttle-alert": 0, "pwm-fan": 2}),
}

AGX_JP6: dict[str, str | bytes | None] = {
    **COMMON,
    **zones({"cpu-thermal": 53062, "gpu-thermal": 47812, "cv0-thermal": None, "tj-thermal": 53062}),
    **ina3221("1-0040", [("VDD_GPU_SOC", 20000, 160), ("VDD_CPU_CV", 20000, 220), ("VIN_SYS_5V0", 5000, 953)]),
    **ina3221("1-0041", [("NC", 0, 0), ("VDDQ_VDD2_1V8AO", 5000, 120), ("NC", 0, 0)], hwmon=4),
    "/sys/devices/platform/bus@0/17000000.gpu/load": "843\n",
    "/sys/class/devfreq/17000000.gpu/cur_freq": "1300500000\n",
    f"{PMC}/reset_reason": "MAINSWRST\n",
    f"{PMC}/reset_level": "L1\n",
}

NX_JP5: dict[str, str | bytes | None] = {
    **COMMON,
    **zones({"CPU-therm": 47937, "GPU-therm": -256000, "CV0-therm": "", "tj-therm": 48875}),
    **ina3221("1-0040", [("VDD_IN", 5040, 1051), ("VDD_CPU_GPU_CV", 5032, 153), ("VDD_SOC", 5032, 283)]),
    "/sys/devices/platform/17000000.ga10b/load": "0\n",
    "/sys/class/devfreq/17000000.ga10b/cur_freq": "611000000\n",
    "/sys/devices/platform/c360000.pmc/reset_reason": "BCCPLEXWDT\n",
    "/sys/devices/platform/c360000.pmc/reset_level": "L1\n",
}
