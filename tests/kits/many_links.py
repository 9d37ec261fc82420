"""Many links between two namespaces, and a schedule on which their delays move."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from hil.links.link_box import End, LinkBox, Wire
from hil.links.schedule.windows import ScheduleRow
from hil.links.state import LinkState
from tests.kits.link_namespaces import namespaces

STEP_NS = 100_000_000


@dataclass(frozen=True)
class Slope:
    """A source: every delay moves by ``slope_us_s``, sampled at 10 Hz; a link is down from and to these seconds."""

    links: tuple[str, ...]
    delay_us: int = 5_000
    slope_us_s: int = 31
    outages_s: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    spread: bool = False  # every link has moments of its own

    def window(self, from_ns: int, to_ns: int) -> list[ScheduleRow]:
        rows = [self.row(link, from_ns) for link in self.links]
        for number, link in enumerate(self.links):
            phase_ns = number * STEP_NS // len(self.links) if self.spread else 0
            first_ns = (from_ns - phase_ns) // STEP_NS * STEP_NS + STEP_NS + phase_ns
            rows += [self.row(link, at_ns) for at_ns in range(first_ns, to_ns, STEP_NS)]
        for link, edges_s in self.outages_s.items():
            edges_ns = [round(edge_s * 1e9) for edge_s in edges_s]
            rows += [self.row(link, at_ns) for at_ns in edges_ns if from_ns < at_ns < to_ns]
        return sorted(set(rows))

    def row(self, link: str, at_ns: int) -> ScheduleRow:
        begin_s, end_s = self.outages_s.get(link, (0.0, 0.0))
        up = not round(begin_s * 1e9) <= at_ns < round(end_s * 1e9)
        return ScheduleRow(at_ns, link, up, self.delay_us + round(self.slope_us_s * at_ns / 1e9), 0)


def many_wires(prefix: str, count: int, state: LinkState) -> list[Wire]:
    """``count`` links from namespace ``a`` to ``b``."""
    return [Wire(f"l{i}", End(prefix + "a", f"x{i}"), End(prefix + "b", f"x{i}"), state, state) for i in range(count)]


@contextmanager
def many_links(test: str, count: int, state: LinkState, socket_path: Path) -> Iterator[LinkBox]:
    """A link box in User-Mode Linux with ``count`` links whose ends have addresses."""
    with namespaces(test) as prefix, ExitStack() as stack:
        wires = many_wires(prefix, count, state)
        box = stack.enter_context(LinkBox.up(prefix + "box", wires, socket_path=socket_path, engine="uml"))
        for end, last in (("a", 1), ("b", 2)):
            script = "".join(f"addr add 198.19.{i // 64}.{4 * (i % 64) + last}/30 dev x{i}\n" for i in range(count))
            argv = ["ip", "-n", prefix + end, "-batch", "-"]
            subprocess.run(argv, input=script, text=True, check=True, timeout=30)
        yield box


def process_tree(pid: int) -> list[int]:
    """A process and all that it started."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *(each for child in children for each in process_tree(int(child)))]


def cpu_s(pids: Sequence[int]) -> float:
    """User and system time that these processes have had."""
    ticks = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def pss_mb(pids: Sequence[int]) -> float:
    """Memory of these processes, shared pages divided among those that share them."""
    total = 0
    for pid in pids:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                total += int(line.split()[1])
    return total / 1024


def cpu_percent(pids: Sequence[int], seconds: float) -> float:
    """Share of one core over the next ``seconds``."""
    before, begin = cpu_s(pids), time.monotonic()
    time.sleep(seconds)
    return 100 * (cpu_s(pids) - before) / (time.monotonic() - begin)
