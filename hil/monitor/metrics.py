"""Every figure that `hil bench export` gives to Prometheus: name, kind, labels, meaning, and where it comes from.

Names and units follow the Prometheus conventions: base units, ``_total`` for counters, ``_info`` for facts that are
text.  A figure that is unknown has no series; a board or link that went away takes its series with it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from hil.monitor.health import BoardHealth, DirectionHealth, Health, LinkHealth, Node, Sensors, SlotHealth
from hil.orbit.phases import Phase

Series = Iterable[tuple[tuple[str, ...], float | None]]
Kind = Literal["gauge", "counter"]


@dataclass(frozen=True)
class Metric:
    """One metric family.  ``labels`` come after ``bench``, which all have."""

    name: str
    kind: Kind
    labels: tuple[str, ...]
    help: str
    read: Callable[[Health], Series]

    def series(self, health: Health) -> Iterator[tuple[tuple[str, ...], float]]:
        """Yield (label values, ``bench`` first; value) of each known figure."""
        for labels, value in self.read(health):
            if value is not None:
                yield (health.bench, *labels), float(value)


def _bench(name: str, help_: str, read: Callable[[Health], float | None]) -> Metric:
    return Metric(name, "gauge", (), help_, lambda health: [((), read(health))])


def _board(name: str, help_: str, read: Callable[[BoardHealth], float | None]) -> Metric:
    return Metric(name, "gauge", ("board",), help_, lambda h: (((b.name,), read(b)) for b in h.boards))


def _node(name: str, help_: str, read: Callable[[Node], float | None]) -> Metric:
    return _board(name, help_, lambda board: read(board.node) if board.node else None)


def _slot(name: str, help_: str, read: Callable[[SlotHealth], float]) -> Metric:
    def series(health: Health) -> Series:
        return (((b.name, slot), read(facts)) for b in health.boards for slot, facts in b.slots.items())

    return Metric(name, "gauge", ("board", "slot"), help_, series)


def _sensor(name: str, help_: str, read: Callable[[Sensors], float | None]) -> Metric:
    return _board(name, help_, lambda board: read(board.sensors) if board.sensors else None)


def _sensors(name: str, label: str, help_: str, read: Callable[[Sensors], Mapping[str, float]]) -> Metric:
    def series(health: Health) -> Series:
        for board in health.boards:
            for part, value in read(board.sensors).items() if board.sensors else ():
                yield (board.name, part), value

    return Metric(name, "gauge", ("board", label), help_, series)


def _link(name: str, help_: str, read: Callable[[LinkHealth], float | None]) -> Metric:
    return Metric(name, "gauge", ("link",), help_, lambda h: (((x.name,), read(x)) for x in h.links))


def _way(name: str, help_: str, read: Callable[[DirectionHealth], float | None]) -> Metric:
    def series(health: Health) -> Series:
        return (((x.name, way), read(facts)) for x in health.links for way, facts in x.directions.items())

    kind: Kind = "counter" if name.endswith("_total") else "gauge"
    return Metric(name, kind, ("link", "direction"), help_, series)


def _family(name: str, *labels: str) -> Callable[[Callable[[Health], Series]], Metric]:
    """Make a gauge of a function that yields its series; the help is the function's docstring."""
    return lambda read: Metric(name, "gauge", labels, str(read.__doc__), read)


@_family("hil_bench_info", "lab", "links_by", "kernel", "profile")
def _bench_info(health: Health) -> Series:
    """Lab file's name, and the link engine."""
    yield (health.lab, *(health.engine.get(k, "") for k in ("kind", "kernel_release", "profile"))), 1


@_family("hil_board_info", "board", "spacecraft", "fidelity", "os_version", "image_sha256")
def _board_info(health: Health) -> Series:
    """Kind of board, and the OS that answers; os_version and image_sha256 are empty while none does."""
    for b in health.boards:
        image = b.node.image_sha256 if b.node else None
        yield (b.name, b.spacecraft, b.fidelity, b.os_version or "", image or ""), 1


@_family("hil_link_info", "link", "kind", "a", "b")
def _link_info(health: Health) -> Series:
    """Kind of link, and its ends: direction a_to_b goes from a to b."""
    for link in health.links:
        there = link.directions["a_to_b"]
        yield (link.name, link.kind, there.source, there.target), 1


@_family("hil_link_delay_seconds", "link", "direction", "source")
def _link_delay(health: Health) -> Series:
    """One-way delay: commanded; as the kernel reads back; measured on packets (export --probe)."""
    for link in health.links:
        for way, facts in link.directions.items():
            yield (link.name, way, "commanded"), facts.delay_s
            yield (link.name, way, "kernel"), facts.kernel_delay_s
            yield (link.name, way, "measured"), facts.measured_delay_s


@_family("hil_link_phase", "link", "phase")
def _link_phase(health: Health) -> Series:
    """1 for the phase in which a link that follows the orbit is, 0 for the other phases."""
    for link in health.links:
        if link.phase is not None:
            for phase in Phase:
                yield (link.name, phase.value), phase.value == link.phase


@_family("hil_lease_expires_timestamp_seconds", "board", "lease", "holder", "purpose")
def _lease_expires(health: Health) -> Series:
    """End of the lease on a board, Unix time; its holder renews it. No series: the board is free."""
    for lease in health.leases:
        if lease.position == 0 and lease.expires is not None:
            for board in lease.boards:
                yield (board, str(lease.id), lease.holder, lease.purpose), lease.expires.timestamp()


@_family("hil_lease_waiting", "board")
def _lease_waiting(health: Health) -> Series:
    """Places in the queue for the board."""
    for board in health.boards:
        waits = [lease for lease in health.leases if lease.position > 0 and board.name in lease.boards]
        yield (board.name,), len(waits)


@_family("hil_campaign_step_info", "run", "plan", "step", "title")
def _step_info(health: Health) -> Series:
    """Step of the campaign that runs on the bench; no series while none does."""
    if step := health.step:
        yield (step.run_id, step.plan, step.step, step.title), 1


@_family("hil_campaign_step_start_timestamp_seconds", "run", "plan", "step", "title")
def _step_start(health: Health) -> Series:
    """Begin of that step, Unix time."""
    if step := health.step:
        yield (step.run_id, step.plan, step.step, step.title), _moment(step.started_utc)


def _moment(text: str) -> float | None:
    return datetime.fromisoformat(text).timestamp() if text else None


def _powered(board: BoardHealth) -> bool | None:
    return None if board.power is None else board.power == "on"


def _attention(health: Health) -> int:
    return sum(board.wants_attention for board in health.boards) + len(health.problems)


def _mission(health: Health) -> float | None:
    return health.mission_time.timestamp() if health.mission_time else None


METRICS: tuple[Metric, ...] = (
    _bench_info,
    _bench(
        "hil_bench_start_timestamp_seconds", "Begin of bring-up, Unix time.", lambda h: _moment(h.started_utc)
    ),
    _bench("hil_bench_look_timestamp_seconds", "Time of all other figures, Unix time.", lambda h: h.taken_at),
    _bench("hil_bench_look_duration_seconds", "Time that reading them took.", lambda h: h.took_s),
    _bench(
        "hil_bench_attention",
        "Boards that need attention, and parts of the bench without an answer.",
        _attention,
    ),
    _bench(
        "hil_bench_mission_timestamp_seconds",
        "Mission time, Unix time; only of a lab with an orbit.",
        _mission,
    ),
    _board_info,
    _board("hil_board_powered", "1: the supervisor says that power is on.", _powered),
    _board("hil_board_up", "1: the OS answers, its node service or a shell.", lambda b: b.reachable),
    _node("hil_board_healthy", "1: the node service's own health check passes.", lambda n: n.healthy),
    _board(
        "hil_board_attention",
        "1: it is on and not healthy, on and silent, or its power state is unknown.",
        lambda b: b.wants_attention,
    ),
    _slot("hil_board_slot_running", "1: this slot runs now.", lambda s: s.running),
    _slot("hil_board_slot_next", "1: this slot is tried first at the next boot.", lambda s: s.next),
    _slot("hil_board_slot_confirmed", "1: marked good after a health check.", lambda s: s.confirmed),
    _slot("hil_board_slot_bootable", "1: the firmware would start this slot.", lambda s: s.bootable),
    _slot("hil_board_slot_retries", "Attempts that the firmware has left for it.", lambda s: s.retries),
    _sensors(
        "hil_board_temperature_celsius",
        "zone",
        "A zone whose rail is off has no series.",
        lambda s: s.temperatures_c,
    ),
    _sensors(
        "hil_board_power_watts",
        "rail",
        "Rails overlap on some modules: do not add them up.",
        lambda s: s.rails_w,
    ),
    _sensor("hil_board_input_power_watts", "Power of the whole module.", lambda s: s.board_w),
    _sensor("hil_board_gpu_load_ratio", "Load of the GPU, 0 to 1.", lambda s: s.gpu_load),
    _sensor("hil_board_cpu_load_ratio", "Mean load of the cores that are on, 0 to 1.", lambda s: s.cpu_load),
    _sensor("hil_board_memory_used_bytes", "Memory in use.", lambda s: s.memory_used_b),
    _sensor("hil_board_memory_size_bytes", "Memory there is.", lambda s: s.memory_total_b),
    _sensor(
        "hil_board_sensors_timestamp_seconds", "Time of the sensors' reading, Unix time.", lambda s: s.read_at
    ),
    _node("hil_board_claimed_epoch", "Epoch under which it serves now, if any.", lambda n: n.claimed_epoch),
    _node("hil_board_committed_epoch", "Epoch that it has committed.", lambda n: n.committed_epoch),
    _link_info,
    _link("hil_link_up", "1: commanded up in both directions, by hand and by the schedule.", lambda x: x.up),
    _link("hil_link_cut", "1: cut by hand.", lambda x: x.cut),
    _link_phase,
    _link("hil_link_phase_left_seconds", "Time that is left of that phase.", lambda x: x.phase_left_s),
    _link_delay,
    _way(
        "hil_link_rate_bytes_per_second",
        "Commanded rate, whole Ethernet frames; no series where there is no limit.",
        lambda d: d.rate_bps / 8 if d.rate_bps else None,
    ),
    _way("hil_link_loss_ratio", "Commanded long-run share of lost packets, 0 to 1.", lambda d: d.loss),
    _way("hil_link_kernel_agrees", "1: the kernel does what is commanded.", lambda d: d.agrees),
    _way(
        "hil_link_sent_bytes_total",
        "Sent into the link since bring-up, with headers.",
        lambda d: d.sent_bytes,
    ),
    _way("hil_link_sent_packets_total", "Packets sent into the link.", lambda d: d.sent_packets),
    _way(
        "hil_link_dropped_packets_total",
        "Lost by loss model, cut or full queue.",
        lambda d: d.dropped_packets,
    ),
    _way("hil_link_queued_packets", "Packets in flight and waiting.", lambda d: d.queued_packets),
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
