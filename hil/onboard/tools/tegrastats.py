"""``tegrastats`` in the line format of JetPack 6 on an AGX Orin (as root), from the board's own state.

Load is what this board's cgroup really used of the host's CPU since the last look; one fully used core counts as a
GPU at 100 %, because on a container board the GPU's work is done by the CPU.  Power and temperatures follow from
load through :mod:`hil.onboard.tegrastats_figures`; the plate temperature lives in ``/run`` and is carried on between
calls.

On a bench with a twin, rails, temperatures and clocks are those that it shows in sysfs
(:mod:`hil.onboard.tools.sysfs_sensors`), as on a Jetson.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from hil.onboard.files import write_durably
from hil.onboard.tegrastats_figures import THROTTLE_C, Rails, Readings, ThermalModel, rails, zones
from hil.onboard.tools import sysfs_sensors

STATE = Path("/run/thermal.json")
CGROUP = Path("/run/cgroup")
START_K = 293.15  # a board that was off sits at 20 C
CORES = 12
CPU_MHZ = (729, 2201)
GPU_MHZ = (305, 930)
RAM_TOTAL_MB = 30697


def cpu_seconds(cgroup: Path = CGROUP) -> float:
    """CPU time this board used since power-on, s; cgroup v1 or v2. 0.0 where neither can be read."""
    for name in ("cpuacct/cpuacct.usage", "cpu,cpuacct/cpuacct.usage"):
        try:
            return int((cgroup / name).read_text()) / 1e9
        except (OSError, ValueError):
            continue
    try:
        for line in (cgroup / "cpu.stat").read_text().splitlines():
            if line.startswith("usage_usec "):
                return int(line.split()[1]) / 1e6
    except (OSError, ValueError):
        pass
    return 0.0


def memory_mb(cgroup: Path = CGROUP) -> int:
    """Return memory this board uses, MB."""
    for name in ("memory/memory.usage_in_bytes", "memory.current"):
        try:
            return int((cgroup / name).read_text()) >> 20
        except (OSError, ValueError):
            continue
    return 0


@dataclass(frozen=True)
class Sample:
    """One moment of the board."""

    load: float  # cores in use, averaged since the last look
    rails: Rails
    zones: Readings
    memory_mb: int

    @property
    def throttled(self) -> bool:
        return self.zones.tj_c >= THROTTLE_C


def sample(
    state: Path = STATE,
    cgroup: Path = CGROUP,
    now: Callable[[], float] = time.monotonic,
    model: ThermalModel | None = None,
) -> Sample:
    """Look at the board, carry its temperature on to now, and remember that."""
    model = model or ThermalModel()
    moment, used = now(), cpu_seconds(cgroup)
    try:
        last = json.loads(state.read_text())
        since, plate_k, before = float(last["t"]), float(last["plate_k"]), float(last["cpu_s"])
    except (OSError, ValueError, KeyError, TypeError):
        since, plate_k, before = -1.0, START_K, used
    fresh = not 0.0 <= since <= moment  # no state, or one of another boot
    span = 0.0 if fresh else moment - since
    load = max(0.0, (used - before) / span) if span > 0.05 else 0.0
    power = rails(load / CORES, load)
    plate_k = model.step(plate_k, power.total_w, span)
    if fresh or span > 0.05:
        document = {"t": moment, "plate_k": plate_k, "cpu_s": used}
        write_durably(state, json.dumps(document).encode(), durable=False)
    return Sample(load, power, zones(plate_k, power, model), memory_mb(cgroup))


def cores(load: float, mhz: int, count: int = CORES) -> str:
    """Return the list of cores: the first ones are busy, the others idle at the lowest clock."""
    texts = []
    for _ in range(count):
        busy = min(1.0, max(0.0, load))
        load -= busy
        texts.append(f"{round(100 * busy)}%@{mhz if busy > 0.3 else CPU_MHZ[0]}")
    return ",".join(texts)


def line(view: Sample, average: Rails, local_time: str) -> str:
    """Return one line as JetPack 6 prints it on an AGX Orin."""
    gpu = round(100 * min(1.0, view.load))
    gpu_mhz = GPU_MHZ[1] if gpu > 10 and not view.throttled else GPU_MHZ[0]
    z, p = view.zones, view.rails
    return formatted(
        f"{local_time} RAM {view.memory_mb}/{RAM_TOTAL_MB}MB",
        cores(view.load, CPU_MHZ[0] if view.throttled else CPU_MHZ[1]),
        f"{gpu}%@[{gpu_mhz},{gpu_mhz}]",
        {**{"cpu": z.cpu_c, "soc2": z.soc2_c, "soc0": z.soc0_c}, **{"gpu": z.gpu_c, "tj": z.tj_c, "soc1": z.soc1_c}},
        {
            "VDD_GPU_SOC": (p.vdd_gpu_soc_mw, average.vdd_gpu_soc_mw),
            "VDD_CPU_CV": (p.vdd_cpu_cv_mw, average.vdd_cpu_cv_mw),
            "VIN_SYS_5V0": (p.vin_sys_5v0_mw, average.vin_sys_5v0_mw),
        },
    )


def formatted(
    start: str, cpu: str, gpu: str, zones_c: Mapping[str, float], rails_mw: Mapping[str, tuple[int, int]]
) -> str:
    """Put a line together as JetPack 6 does; rails: now and on average."""
    return " ".join(
        (
            f"{start} (lfb 3x4MB) SWAP 0/15348MB (cached 0MB) CPU [{cpu}]",
            f"EMC_FREQ {int(gpu.partition('%')[0]) // 10}%@2133 GR3D_FREQ {gpu}",
            "NVENC off NVDEC off NVJPG off NVJPG1 off VIC off OFA off NVDLA0 off NVDLA1 off PVA0_FREQ off APE 174",
            *(f"{name}@{celsius:.3f}C" for name, celsius in zones_c.items()),
            *(f"{name} {now}mW/{average}mW" for name, (now, average) in rails_mw.items()),
        )
    )


class SysfsLines:
    """The same from sysfs: rails and temperatures that the twin shows, load of the board's cgroup."""

    def __init__(self, sysfs: Path = sysfs_sensors.SYSFS, cgroup: Path = CGROUP) -> None:
        self._sysfs, self._cgroup = sysfs, cgroup
        self._sums: dict[str, int] = {}
        self._count = 0
        self._before = time.monotonic(), cpu_seconds(cgroup)

    def line(self, local_time: str) -> str:
        """Return one line; its load is that since the line before."""
        seen = sysfs_sensors.read(self._sysfs)
        now, used = time.monotonic(), cpu_seconds(self._cgroup)
        load = (used - self._before[1]) / max(0.05, now - self._before[0])
        self._before = now, used
        self._count += 1
        for name, milliwatt in seen.rails_mw.items():
            self._sums[name] = self._sums.get(name, 0) + milliwatt
        total_mb = 30697 if len(seen.rails_mw) and "VDD_IN" not in seen.rails_mw else 15598
        mhz = CPU_MHZ[1] if not seen.throttled else round(CPU_MHZ[1] * seen.clock)
        return formatted(
            f"{local_time} RAM {memory_mb(self._cgroup)}/{total_mb}MB",
            cores(load, mhz, CORES if "VDD_IN" not in seen.rails_mw else 8),
            f"{round(seen.gpu_load / 10)}%@[{round(seen.gpu_mhz)}]",
            seen.zones_c,
            {name: (mw, self._sums[name] // self._count) for name, mw in seen.rails_mw.items()},
        )


def main() -> int:
    parser = argparse.ArgumentParser(prog="tegrastats")
    parser.add_argument("--interval", type=int, default=1000, help="milliseconds")
    parser.add_argument("--logfile", type=Path)
    parser.add_argument("--count", type=int, default=0, help="lines to print; not in the real tool")
    options = parser.parse_args()
    sums, count = [0, 0, 0], 0
    sysfs = SysfsLines() if sysfs_sensors.here() else None
    if sysfs is None:
        sample()  # so that the first line has a load
    while not options.count or count < options.count:
        time.sleep(max(0.06, options.interval / 1000))
        count += 1
        local_time = time.strftime("%m-%d-%Y %H:%M:%S")
        if sysfs is not None:
            text = sysfs.line(local_time)
        else:
            view = sample()
            values = (view.rails.vdd_gpu_soc_mw, view.rails.vdd_cpu_cv_mw, view.rails.vin_sys_5v0_mw)
            sums = [a + b for a, b in zip(sums, values, strict=True)]
            text = line(view, Rails(*(s // count for s in sums)), local_time)
        try:
            if options.logfile:
                with options.logfile.open("a") as file:
                    file.write(text + "\n")
            else:
                print(text, flush=True)
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            return 0
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
