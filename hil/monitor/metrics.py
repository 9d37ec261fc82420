"""Every figure that `hil bench export` gives to Prometheus: name, kind, labels, meaning, and where it comes from.

Names and units follow the Prometheus conventions: base units, ``_total`` for counters, ``_info`` for facts that are
text.  A figure that is unknown has no series; a board or link that went away takes its series with it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from hil.monitor.health import BoardHealth, DirectionHealth, Health, LinkHealth, Sensors, SlotHealth
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
        """(label values, ``bench`` first; value) of what is known."""
        for labels, value in self.read(health):
            if value is not None:
                yield (health.bench, *labels), float(value)


def _bench(name: str, help_: str, read: Callable[[Health], float | None]) -> Metric:
    return Metric(name, "gauge", (), help_, lambda health: [((), read(health))])


def _board(name: str, help_: str, read: Callable[[BoardHealth], float | None]) -> Metric:
    return Metric(name, "gauge", ("board",), help_, lambda h: (((b.name,), read(b)) for b in h.boards))


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


def _way(
    name: str, help_: str, read: Callable[[DirectionHealth], float | None], *, kind: Kind = "gauge"
) -> Metric:
    def series(health: Health) -> Series:
        return (((x.name, way), read(facts)) for x in health.links for way, facts in x.directions.items())

    return Metric(name, kind, ("link", "direction"), help_, series)


def _bench_info(health: Health) -> Series:
    yield (health.lab, *(health.engine.get(k, "") for k in ("kind", "kernel_release", "profile"))), 1


def _board_info(health: Health) -> Series:
    for b in health.boards:
        image = b.node.image_sha256 if b.node else None
        yield (b.name, b.spacecraft, b.fidelity, b.os_version or "", image or ""), 1


def _link_info(health: Health) -> Series:
    for link in health.links:
        there = link.directions["a_to_b"]
        yield (link.name, link.kind, there.source, there.target), 1


def _delays(health: Health) -> Series:
    for link in health.links:
        for way, facts in link.directions.items():
            yield (link.name, way, "commanded"), facts.delay_s
            yield (link.name, way, "kernel"), facts.kernel_delay_s
            yield (link.name, way, "measured"), facts.measured_delay_s


def _phases(health: Health) -> Series:
    for link in health.links:
        if link.phase is not None:
            for phase in Phase:
                yield (link.name, phase.value), phase.value == link.phase


def _leases(health: Health) -> Series:
    for lease in health.leases:
        if lease.position == 0 and lease.expires is not None:
            for board in lease.boards:
                yield (board, str(lease.id), lease.holder, lease.purpose), lease.expires.timestamp()


def _waiting(health: Health) -> Series:
    for board in health.boards:
        waits = [lease for lease in health.leases if lease.position > 0 and board.name in lease.boards]
        yield (board.name,), len(waits)


def _step(health: Health) -> Series:
    if step := health.step:
        yield (step.run_id, step.plan, step.step, step.title), 1


def _step_start(health: Health) -> Series:
    if step := health.step:
        yield (step.run_id, step.plan, step.step, step.title), _moment(step.started_utc)


def _moment(text: str) -> float | None:
    return datetime.fromisoformat(text).timestamp() if text else None


STEP = ("run", "plan", "step", "title")

METRICS: tuple[Metric, ...] = (
    Metric(
        "hil_bench_info",
        "gauge",
        ("lab", "links_by", "kernel", "profile"),
        "Lab file's name, and what shapes the links.",
        _bench_info,
    ),
    _bench(
        "hil_bench_start_timestamp_seconds",
        "When the bench was brought up, Unix time.",
        lambda h: _moment(h.started_utc),
    ),
    _bench(
        "hil_bench_look_timestamp_seconds",
        "When the bench was last looked at, Unix time; all other figures are of that moment.",
        lambda h: h.taken_at,
    ),
    _bench("hil_bench_look_duration_seconds", "How long that look took.", lambda h: h.took_s),
    _bench(
        "hil_bench_attention",
        "Boards that need attention (see hil_board_attention), and parts of the bench that did not answer.",
        lambda h: sum(b.wants_attention for b in h.boards) + len(h.problems),
    ),
    _bench(
        "hil_bench_mission_timestamp_seconds",
        "Where in the mission the bench is, Unix time; only of a lab with an orbit.",
        lambda h: h.mission_time.timestamp() if h.mission_time else None,
    ),
    Metric(
        "hil_board_info",
        "gauge",
        ("board", "spacecraft", "fidelity", "os_version", "image_sha256"),
        "What the board is and which OS answers; os_version and image_sha256 are empty while none does.",
        _board_info,
    ),
    _board(
        "hil_board_powered",
        "1: the supervisor says that power is on.",
        lambda b: None if b.power is None else b.power == "on",
    ),
    _board("hil_board_up", "1: the OS answers, its node service or a shell.", lambda b: b.reachable),
    _board(
        "hil_board_healthy",
        "1: the node service's own health check passes.",
        lambda b: b.node.healthy if b.node else None,
    ),
    _board(
        "hil_board_attention",
        "1: it is on and not healthy, on and silent, or its power state is unknown.",
        lambda b: b.wants_attention,
    ),
    _slot("hil_board_slot_running", "1: this slot runs now.", lambda s: s.running),
    _slot("hil_board_slot_next", "1: this slot is tried first at the next boot.", lambda s: s.next),
    _slot(
        "hil_board_slot_confirmed",
        "1: this slot was marked good after a health check.",
        lambda s: s.confirmed,
    ),
    _slot("hil_board_slot_bootable", "1: the firmware would start this slot.", lambda s: s.bootable),
    _slot(
        "hil_board_slot_retries",
        "Attempts that the firmware has left to start this slot.",
        lambda s: s.retries,
    ),
    _sensors(
        "hil_board_temperature_celsius",
        "zone",
        "Temperature of a zone; a zone whose rail is off has no series.",
        lambda s: s.temperatures_c,
    ),
    _sensors(
        "hil_board_power_watts",
        "rail",
        "Power on a rail; rails overlap on some modules, so do not add them up.",
        lambda s: s.rails_w,
    ),
    _sensor("hil_board_input_power_watts", "Power of the whole module.", lambda s: s.board_w),
    _sensor("hil_board_gpu_load_ratio", "Load of the GPU, 0 to 1.", lambda s: s.gpu_load),
    _sensor("hil_board_cpu_load_ratio", "Mean load of the cores that are on, 0 to 1.", lambda s: s.cpu_load),
    _sensor("hil_board_memory_used_bytes", "Memory in use.", lambda s: s.memory_used_b),
    _sensor("hil_board_memory_size_bytes", "Memory there is.", lambda s: s.memory_total_b),
    _sensor(
        "hil_board_sensors_timestamp_seconds",
        "When the board's sensors were read, Unix time.",
        lambda s: s.read_at,
    ),
    _board(
        "hil_board_claimed_epoch",
        "Configuration epoch under which the board serves now; no series while it serves under none.",
        lambda b: b.node.claimed_epoch if b.node else None,
    ),
    _board(
        "hil_board_committed_epoch",
        "Configuration epoch that the board has committed.",
        lambda b: b.node.committed_epoch if b.node else None,
    ),
    Metric(
        "hil_link_info",
        "gauge",
        ("link", "kind", "a", "b"),
        "Kind of link, and its ends: direction a_to_b goes from a to b.",
        _link_info,
    ),
    _link("hil_link_up", "1: commanded up in both directions, by hand and by the schedule.", lambda x: x.up),
    _link("hil_link_cut", "1: cut by hand.", lambda x: x.cut),
    Metric(
        "hil_link_phase",
        "gauge",
        ("link", "phase"),
        "1 for the phase in which a link that follows the orbit is, 0 for the other phases.",
        _phases,
    ),
    _link("hil_link_phase_left_seconds", "How long that phase still lasts.", lambda x: x.phase_left_s),
    Metric(
        "hil_link_delay_seconds",
        "gauge",
        ("link", "direction", "source"),
        "One-way delay: commanded; as the kernel reads back; measured on packets (export --probe).",
        _delays,
    ),
    _way(
        "hil_link_rate_bytes_per_second",
        "Commanded rate, whole Ethernet frames; no series where there is no limit.",
        lambda d: d.rate_bps / 8 if d.rate_bps else None,
    ),
    _way(
        "hil_link_loss_ratio", "Commanded long-run share of lost packets while up, 0 to 1.", lambda d: d.loss
    ),
    _way("hil_link_kernel_agrees", "1: the kernel does what is commanded.", lambda d: d.agrees),
    _way(
        "hil_link_sent_bytes_total",
        "What went into the link, Ethernet headers included; from zero when the bench comes up.",
        lambda d: d.sent_bytes,
        kind="counter",
    ),
    _way(
        "hil_link_sent_packets_total",
        "Packets that went into the link.",
        lambda d: d.sent_packets,
        kind="counter",
    ),
    _way(
        "hil_link_dropped_packets_total",
        "Packets lost: by the loss model, by a cut, or for want of queue.",
        lambda d: d.dropped_packets,
        kind="counter",
    ),
    _way("hil_link_queued_packets", "Packets in flight and waiting.", lambda d: d.queued_packets),
    Metric(
        "hil_lease_expires_timestamp_seconds",
        "gauge",
        ("board", "lease", "holder", "purpose"),
        "End of the lease on a board, Unix time; its holder renews it. No series: the board is free.",
        _leases,
    ),
    Metric("hil_lease_waiting", "gauge", ("board",), "How many wait in the queue for the board.", _waiting),
    Metric(
        "hil_campaign_step_info",
        "gauge",
        STEP,
        "The step of the campaign that runs on the bench; no series while none does.",
        _step,
    ),
    Metric(
        "hil_campaign_step_start_timestamp_seconds",
        "gauge",
        STEP,
        "When that step began, Unix time.",
        _step_start,
    ),
)

BENCH_UP = "hil_bench_up"
BENCH_UP_HELP = "1: the bench is up; 0: it is not, and there are no other series. Checked on every scrape."


def table() -> list[tuple[str, str, str, str]]:
    """(name, kind, labels, meaning) of everything, as the documentation has it."""
    rows = [(BENCH_UP, "gauge", "bench", BENCH_UP_HELP)]
    rows += [(m.name, m.kind, ", ".join(("bench", *m.labels)), m.help) for m in METRICS]
    return rows
