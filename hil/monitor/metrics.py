"""Every figure that `hil bench export` gives to Prometheus: name, kind, labels, meaning, and where it comes from.

Names and units follow the Prometheus conventions: base units, ``_total`` for counters, ``_info`` for facts that are
text.  A figure that is unknown has no series; a board or link that went away takes its series with it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar

from hil.monitor.bench_health import Health
from hil.orbit.phases import Phase
from hil.text import one_line

if TYPE_CHECKING:
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

Source = TypeVar("Source")
Series = Iterable[tuple[tuple[str, ...], float | None]]
Kind = Literal["gauge", "counter"]


@dataclass(frozen=True)
class Metric(Generic[Source]):
    """One metric family: of a bench, whose name is a label before ``labels``, or of a reports folder."""

    name: str
    kind: Kind
    labels: tuple[str, ...]
    help: str
    read: Callable[[Source], Series]

    def family(self, *before: str) -> CounterMetricFamily | GaugeMetricFamily:
        """Return Prometheus's family, still without a series; ``before``: names of the labels before its own."""
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        kind = CounterMetricFamily if self.kind == "counter" else GaugeMetricFamily
        return kind(self.name, self.help, labels=[*before, *self.labels])

    def known(self, source: Source) -> Iterator[tuple[tuple[str, ...], float]]:
        """Yield (label values, value) of each known figure; what a board or a person wrote is cleaned and cut.

        Of those whose labels are then the same only the first: Prometheus takes no series twice.
        """
        told = set[tuple[str, ...]]()
        for labels, value in self.read(source):
            cleaned = tuple(map(one_line, labels))
            if value is not None and cleaned not in told:
                told.add(cleaned)
                yield cleaned, float(value)


def described(name: str, *labels: str) -> Callable[[Callable[[Source], Series]], Metric[Source]]:
    """Make a metric of a function that yields its series; the help is the function's docstring."""
    kind: Kind = "counter" if name.endswith("_total") else "gauge"
    return lambda read: Metric(name, kind, labels, str(read.__doc__), read)


_PARTS: Mapping[str, tuple[tuple[str, ...], Callable[[Health], Iterable[tuple[tuple[str, ...], Any]]]]] = {
    "bench": ((), lambda h: [((), h)]),
    "board": (("board",), lambda h: [((b.name,), b) for b in h.boards]),
    "node": (("board",), lambda h: [((b.name,), b.node) for b in h.boards if b.node]),
    "slot": (("board", "slot"), lambda h: [((b.name, n), s) for b in h.boards for n, s in b.slots.items()]),
    "sensors": (("board",), lambda h: [((b.name,), b.sensors) for b in h.boards if b.sensors]),
    "link": (("link",), lambda h: [((x.name,), x) for x in h.links]),
    "way": (
        ("link", "direction"),
        lambda h: [((x.name, way), facts) for x in h.links for way, facts in x.directions.items()],
    ),
    "zone": (("board", "zone"), lambda h: _readings(h, "temperatures_c")),
    "rail": (("board", "rail"), lambda h: _readings(h, "rails_w")),
}
"""Parts of a bench: labels of a figure of each, and (values of these labels, part) of all."""


def _of(part: str, name: str, help_: str, read: str | Callable[[Any], float | None]) -> Metric[Health]:
    """Make a metric of an attribute of a part, or of what ``read`` returns of it."""
    labels, parts = _PARTS[part]
    value = attrgetter(read) if isinstance(read, str) else read
    kind: Kind = "counter" if name.endswith("_total") else "gauge"
    return Metric(name, kind, labels, help_, lambda h: ((where, value(each)) for where, each in parts(h)))


def _readings(health: Health, name: str) -> Iterator[tuple[tuple[str, ...], float]]:
    for board in health.boards:
        for place, value in getattr(board.sensors, name).items() if board.sensors else ():
            yield (board.name, place), value


@described("hil_bench_info", "lab", "links_by", "kernel", "profile")
def _bench_info(health: Health) -> Series:
    """Lab file's name, and the link engine."""
    yield (health.lab, *(health.engine.get(k, "") for k in ("kind", "kernel_release", "profile"))), 1


@described("hil_board_info", "board", "spacecraft", "fidelity", "os_version", "image_sha256")
def _board_info(health: Health) -> Series:
    """Kind of board, and the OS that answers; os_version and image_sha256 are empty while none does."""
    for b in health.boards:
        image = b.node.image_sha256 if b.node else None
        yield (b.name, b.spacecraft, b.fidelity, b.os_version or "", image or ""), 1


@described("hil_link_info", "link", "kind", "a", "b")
def _link_info(health: Health) -> Series:
    """Kind of link, and its ends: direction a_to_b goes from a to b."""
    for link in health.links:
        there = link.directions["a_to_b"]
        yield (link.name, link.kind, there.source, there.target), 1


@described("hil_link_delay_seconds", "link", "direction", "source")
def _link_delay(health: Health) -> Series:
    """One-way delay: commanded; as the kernel reads back; measured on packets (export --probe)."""
    for link in health.links:
        for way, facts in link.directions.items():
            yield (link.name, way, "commanded"), facts.delay_s
            yield (link.name, way, "kernel"), facts.kernel_delay_s
            yield (link.name, way, "measured"), facts.measured_delay_s


@described("hil_link_phase", "link", "phase")
def _link_phase(health: Health) -> Series:
    """1 for the phase in which a link that follows the orbit is, 0 for the other phases."""
    for link in health.links:
        if link.phase is not None:
            for phase in Phase:
                yield (link.name, phase.value), phase.value == link.phase


@described("hil_lease_expires_timestamp_seconds", "board", "lease", "holder", "purpose")
def _lease_expires(health: Health) -> Series:
    """End of the lease on a board, Unix time; its holder renews it. No series: the board is free."""
    for lease in health.leases:
        if lease.position == 0 and lease.expires is not None:
            for board in lease.boards:
                yield (board, str(lease.id), lease.holder, lease.purpose), lease.expires.timestamp()


@described("hil_lease_waiting", "board")
def _lease_waiting(health: Health) -> Series:
    """Places in the queue for the board."""
    for board in health.boards:
        waits = [lease for lease in health.leases if lease.position > 0 and board.name in lease.boards]
        yield (board.name,), len(waits)


@described("hil_campaign_step_info", "run", "plan", "step", "title")
def _step_info(health: Health) -> Series:
    """Step of the campaign that runs on the bench; no series while none does."""
    if step := health.step:
        yield (step.run_id, step.plan, step.step, step.title), 1


@described("hil_campaign_step_start_timestamp_seconds", "run", "plan", "step", "title")
def _step_start(health: Health) -> Series:
    """Begin of that step, Unix time."""
    if step := health.step:
        yield (step.run_id, step.plan, step.step, step.title), moment(step.started_utc)


def moment(text: str) -> float | None:
    """Return an ISO 8601 moment as Unix time; None where there is none, or it is damaged."""
    with suppress(ValueError):
        return datetime.fromisoformat(text).timestamp() if text else None
    return None


METRICS: tuple[Metric[Health], ...] = (
    _bench_info,
    _of("bench", "hil_bench_start_timestamp_seconds", "Begin of bring-up, Unix time.", lambda h: moment(h.started_utc)),
    _of("bench", "hil_bench_look_timestamp_seconds", "Time of all other figures, Unix time.", "taken_at"),
    _of("bench", "hil_bench_look_duration_seconds", "Time that reading them took.", "took_s"),
    _of(
        "bench",
        "hil_bench_attention",
        "Boards that need attention, and parts of the bench without an answer.",
        "attention",
    ),
    _of(
        "bench",
        "hil_bench_mission_timestamp_seconds",
        "Mission time, Unix time; only of a lab with an orbit.",
        lambda h: h.mission_time.timestamp() if h.mission_time else None,
    ),
    _board_info,
    _of("board", "hil_board_powered", "1: the supervisor says that power is on.", "powered"),
    _of("board", "hil_board_up", "1: the OS answers, its node service or a shell.", "reachable"),
    _of("node", "hil_board_healthy", "1: the node service's own health check passes.", "healthy"),
    _of(
        "board",
        "hil_board_attention",
        "1: it is on and not healthy, on and silent, or its power state is unknown.",
        "wants_attention",
    ),
    _of("slot", "hil_board_slot_running", "1: this slot runs now.", "running"),
    _of("slot", "hil_board_slot_next", "1: this slot is tried first at the next boot.", "next"),
    _of("slot", "hil_board_slot_confirmed", "1: marked good after a health check.", "confirmed"),
    _of("slot", "hil_board_slot_bootable", "1: the firmware would start this slot.", "bootable"),
    _of("slot", "hil_board_slot_retries", "Attempts that the firmware has left for it.", "retries"),
    _of("zone", "hil_board_temperature_celsius", "A zone whose rail is off has no series.", float),
    _of("rail", "hil_board_power_watts", "Rails overlap on some modules: do not add them up.", float),
    _of("sensors", "hil_board_input_power_watts", "Power of the whole module.", "board_w"),
    _of("sensors", "hil_board_gpu_load_ratio", "Load of the GPU, 0 to 1.", "gpu_load"),
    _of("sensors", "hil_board_cpu_load_ratio", "Mean load of the cores that are on, 0 to 1.", "cpu_load"),
    _of("sensors", "hil_board_memory_used_bytes", "Memory in use.", "memory_used_b"),
    _of("sensors", "hil_board_memory_size_bytes", "Memory there is.", "memory_total_b"),
    _of("sensors", "hil_board_sensors_timestamp_seconds", "Time of the sensors' reading, Unix time.", "read_at"),
    _of("node", "hil_board_claimed_epoch", "Epoch under which it serves now, if any.", "claimed_epoch"),
    _of("node", "hil_board_committed_epoch", "Epoch that it has committed.", "committed_epoch"),
    _link_info,
    _of("link", "hil_link_up", "1: commanded up in both directions, by hand and by the schedule.", "up"),
    _of("link", "hil_link_cut", "1: cut by hand.", "cut"),
    _link_phase,
    _of("link", "hil_link_phase_left_seconds", "Time that is left of that phase.", "phase_left_s"),
    _link_delay,
    _of(
        "way",
        "hil_link_rate_bytes_per_second",
        "Commanded rate, whole Ethernet frames; no series where there is no limit.",
        lambda d: d.rate_bps / 8 if d.rate_bps else None,
    ),
    _of("way", "hil_link_loss_ratio", "Commanded long-run share of lost packets, 0 to 1.", "loss"),
    _of("way", "hil_link_kernel_agrees", "1: the kernel does what is commanded.", "agrees"),
    _of("way", "hil_link_sent_bytes_total", "Sent into the link since bring-up, with headers.", "sent_bytes"),
    _of("way", "hil_link_sent_packets_total", "Packets sent into the link.", "sent_packets"),
    _of("way", "hil_link_dropped_packets_total", "Lost by loss model, cut or full queue.", "dropped_packets"),
    _of("way", "hil_link_queued_packets", "Packets in flight and waiting.", "queued_packets"),
    _lease_expires,
    _lease_waiting,
    _step_info,
    _step_start,
)

BENCH_UP = "hil_bench_up"
BENCH_UP_HELP = "1: the bench is up; 0: it is not, and there are no other series. Checked on every scrape."


def table() -> list[tuple[str, str, str, str]]:
    """Return (name, kind, labels, meaning) of every metric, as the documentation lists it."""
    rows = [(BENCH_UP, "gauge", "bench", BENCH_UP_HELP)]
    rows += [(m.name, m.kind, ", ".join(("bench", *m.labels)), m.help) for m in METRICS]
    return rows
