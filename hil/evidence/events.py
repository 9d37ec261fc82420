"""Events: what evidence is made of, one class per kind.

An event is emitted (``sink.emit(LinkCut("isl-ab"))``), written as one line of ``evidence.jsonl`` and read back as the
same class (``run.of(LinkCut)``).  A class's fields are the keys of its line.  A field that is blank (None, "" or empty)
is not written.  Old lines may lack fields, and new ones may have others: a missing field gets its default, an unknown
one is kept in ``extra``, and a line of an unknown kind becomes an :class:`Unknown`.

To add a kind: a class here (values and figures of links are in :mod:`hil.evidence.measurement`), where it is emitted,
and what the report says of it; ``tools/event_table.py --write`` brings the table in docs/evidence.md up to date.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from hil.evidence.event import Event as Event
from hil.evidence.event import Unknown as Unknown
from hil.evidence.json_fields import read_fields
from hil.evidence.measurement import LinkFigure as LinkFigure
from hil.evidence.measurement import Measurement as Measurement
from hil.evidence.twin import BoardHeat as BoardHeat
from hil.evidence.twin import StreamSample as StreamSample
from hil.evidence.twin import TwinChange as TwinChange
from hil.evidence.twin import TwinSample as TwinSample
from hil.evidence.twin import TwinStarted as TwinStarted
from hil.evidence.twin import WeightsChanged as WeightsChanged

# The run and its tests.


@dataclass(frozen=True)
class CollectedTest:
    """One test of the campaign as it was collected; ``absent`` says why this lab cannot show it."""

    test: str
    title: str = ""
    description: str = ""
    step: str = ""
    requirements: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    selected: bool = True
    absent: str = ""


@dataclass(frozen=True)
class RunCollected(Event, kind="run.collected"):
    """The tests of the campaign, in the order in which they are to run."""

    tests: tuple[CollectedTest, ...]


@dataclass(frozen=True)
class RunEnded(Event, kind="run.end"):
    """The run ended; ``interrupted`` and ``configuration_error`` say why it was not complete.

    ``files`` has the sha256 of the run's other files (run.json, plan.json, history.json, lab.yaml), by name.
    """

    interrupted: str = ""
    configuration_error: str = ""
    files: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class RunJudged(Event, kind="run.judged"):
    """The report was made: the campaign's verdict, and the digest of ``result.json``."""

    verdict: str
    result_sha256: str = ""


@dataclass(frozen=True)
class TestStarted(Event, kind="test.start"):
    """An attempt at a test began."""

    attempt: int = 1
    title: str = ""


@dataclass(frozen=True)
class TestEnded(Event, kind="test.end"):
    """An attempt at a test ended; ``retried`` when another one follows because the bench was at fault."""

    verdict: str
    attempt: int = 1
    blame: str = ""
    message: str = ""
    remedy: str = ""
    detail: str = ""
    duration_s: float = 0.0
    retried: bool = False
    taken_over: str = ""
    """The earlier run in which it passed, on the same bench; it did not run in this one."""


# Files.


@dataclass(frozen=True)
class ArtefactStored(Event, kind="artefact"):
    """A file was copied into the run; ``path`` is relative to its directory, ``size`` in bytes."""

    path: str
    artefact_kind: str = ""
    sha256: str = ""
    size: int = 0
    board: str = ""
    from_source: str = ""


@dataclass(frozen=True)
class ArtefactFollowed(Event, kind="artefact.follow"):
    """A file that still grows is to be copied at the end."""

    source: str
    artefact_kind: str = ""
    name: str = ""
    board: str = ""


@dataclass(frozen=True)
class ArtefactLost(Event, kind="artefact.lost"):
    """A file that was to be copied at the end could not be."""

    source: str
    error: str = ""


# The bench.


@dataclass(frozen=True)
class BenchUp(Event, kind="bench.up"):
    """The bench came up: its link engine, seconds per phase of bring-up, and power mode per board."""

    engine: Mapping[str, Any]
    phases_s: Mapping[str, float] = field(default_factory=dict)
    power_modes: Mapping[str, str] = field(default_factory=dict)
    bench: str = ""


@dataclass(frozen=True)
class BenchRetried(Event, kind="bench.retry"):
    """A test or the bring-up is repeated because the bench was at fault."""

    what: str
    error: str = ""
    attempt: int = 1


@dataclass(frozen=True)
class LeftoverFound(Event, kind="bench.leftover"):
    """Something that a killed run had left was removed, or with ``error`` could not be."""

    what: str
    error: str = ""


@dataclass(frozen=True)
class BenchPulse(Event, kind="bench.pulse"):
    """Signs of life of what carries the campaign (keeper, link box, container engine), and the load of this host.

    Of the last ``window_s`` seconds: ``late_s`` is each part's longest time without a sign of life, ``clock_late_s``
    how late this process woke, the rest shares of time from 0 to 1.  ``silent`` says why a part does not answer now.
    """

    window_s: float
    late_s: Mapping[str, float] = field(default_factory=dict)
    silent: Mapping[str, str] = field(default_factory=dict)
    clock_late_s: float = 0.0
    cpu_busy: float = 0.0
    cpu_steal: float = 0.0
    cpu_pressure: float | None = None
    """Share of time in which something that could run waited for a processor (/proc/pressure/cpu)."""
    runnable_per_core: float | None = None
    """Mean number of programs for each core that ran or could run: with 4, a program gets a fourth of a core."""


@dataclass(frozen=True)
class BenchDiffers(Event, kind="bench.differs"):
    """A part of the bench (a link, a board's container) is not as this run commanded it; ``what`` says in which way."""

    part: str
    what: str


@dataclass(frozen=True)
class BenchPutBack(Event, kind="bench.put_back"):
    """A link or a board was put back: as before the test that had changed it, or as the lab file has it."""

    part: str
    was: str = ""
    """In what it differed."""


@dataclass(frozen=True)
class BenchLost(Event, kind="bench.lost"):
    """A part that carries the campaign was given up, and the run with it."""

    part: str
    what: str


@dataclass(frozen=True)
class ThreadDied(Event, kind="harness.thread"):
    """A thread of the harness ended with an error, and whatever it would have recorded is missing."""

    thread: str
    error: str = ""


# Boards.


@dataclass(frozen=True)
class BoardPower(Event, kind="board.power"):
    """A board's power was switched: ``action`` is on, off, cut or reset."""

    board: str
    action: str


@dataclass(frozen=True)
class BoardBooted(Event, kind="board.boot"):
    """A board's OS answered."""

    board: str
    slot: str = ""
    os_version: str = ""
    boot_id: str = ""
    reset_reason: str = ""


@dataclass(frozen=True)
class RestartOrdered(Event, kind="board.order"):
    """The run is about to do what makes a board boot anew: switch its power, or activate another slot."""

    board: str
    what: str = ""


@dataclass(frozen=True)
class BoardSeen(Event, kind="board.seen"):
    """A board answered under another boot id than before, or whether its slot is confirmed has changed.

    ``uptime_s``: how long it had run when it answered, seconds; None when it does not say.  ``slot``: the one it runs.
    ``epoch_at_start``: the highest epoch that its node service found on disk; None when it does not say.
    """

    board: str
    boot_id: str
    confirmed: bool = False
    uptime_s: float | None = None
    slot: str = ""
    epoch_at_start: int | None = None


@dataclass(frozen=True)
class ConsolePort(Event, kind="console.port"):
    """A board's serial port went (``state`` gone, with ``why``) or is there again (back)."""

    board: str
    port: str = ""
    state: str = ""
    why: str = ""


@dataclass(frozen=True)
class ConsoleStage(Event, kind="console.stage"):
    """A board's console showed a boot stage; ``bad``: not one of a good boot; ``mended``: read from a torn line."""

    board: str
    stage: str
    groups: tuple[str, ...] = ()
    bad: bool = False
    mended: bool = False


@dataclass(frozen=True)
class PowerAnswerLost(Event, kind="power.answer_lost"):
    """A power outlet did not answer a command; its state was read back instead."""

    outlet: str
    wanted: str = ""
    error: str = ""


# Links.


@dataclass(frozen=True)
class LinkCommanded(Event, kind="link.set"):
    """A link's state was commanded by hand, in one direction or both (``hil.links.state.LinkState`` as JSON)."""

    link: str
    a_to_b: Mapping[str, Any] = field(default_factory=dict)
    b_to_a: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class LinkCut(Event, kind="link.cut"):
    """Both directions of a link were commanded down."""

    link: str
    why: str = ""


@dataclass(frozen=True)
class LinkRestored(Event, kind="link.restore"):
    """A link that was cut was commanded up again."""

    link: str
    why: str = ""


@dataclass(frozen=True)
class PhaseInterval:
    """A link was in one phase of its plan, from ``start_s`` to ``end_s`` (seconds since the run started)."""

    phase: str
    start_s: float
    end_s: float
    why: str = ""


@dataclass(frozen=True)
class LinkTimeline(Event, kind="link.timeline"):
    """The phases of a link over the run; ``link_kind`` is crosslink, ground or guest."""

    link: str
    link_kind: str = ""
    between: tuple[str, ...] = ()
    intervals: tuple[PhaseInterval, ...] = ()


@dataclass(frozen=True)
class LinkSchedule(Event, kind="link.schedule"):
    """How the link box applied its schedule: rows, how late they were, how many were refused, held or lost.

    ``file`` is the log of every row, relative to the run's directory.
    """

    rows: int | None = None
    late_p50_us: float | None = None
    late_p99_us: float | None = None
    late_max_us: float | None = None
    errors: int = 0
    held: int = 0
    lost: int = 0
    file: str = ""


@dataclass(frozen=True)
class RoutesChanged(Event, kind="route.change"):
    """Routes of the boards were changed; ``changed`` says how many."""

    changed: int | None = None
    why: str = ""


# The orbit.


@dataclass(frozen=True)
class OrbitEpoch(Event, kind="orbit.epoch"):
    """The orbit that the links follow: mission time ``epoch`` (ISO 8601) was at ``zero_mono_s`` (CLOCK_MONOTONIC).

    ``time_factor``: seconds of the mission in a second of the bench.
    """

    name: str
    file: str = ""
    epoch: str = ""
    zero_mono_s: float | None = None
    time_factor: float = 1.0
    seed: int | None = None
    assumed: tuple[str, ...] = ()


@dataclass(frozen=True)
class OrbitPicture(Event, kind="orbit.picture"):
    """A picture of the constellation (SVG), relative to the run's directory."""

    file: str


@dataclass(frozen=True)
class TenantAttempt:
    """What one tenant could do to another."""

    by: str
    on: str
    what: tuple[str, ...] = ()


@dataclass(frozen=True)
class IsolationTried(Event, kind="tenants.isolation"):
    """Every tenant tried every other: what was tried (``tries``), and what succeeded between which."""

    tenants: tuple[str, ...]
    tries: tuple[str, ...] = ()
    succeeded: tuple[TenantAttempt, ...] = ()


@dataclass(frozen=True)
class ContactGap(Event, kind="contact.gap"):
    """A transfer across a planned end of contact; times in seconds since the plan's start."""

    links: tuple[str, ...]
    closes_s: float
    flowed_again_s: float
    ended_s: float
    what: str = ""
    begun_s: float | None = None
    opens_s: float | None = None
    bytes_at_close: int | None = None
    bytes_held: int | None = None


# The rollout and the cluster.


@dataclass(frozen=True)
class FaultInjected(Event, kind="fault"):
    """Something went wrong on purpose, or by plan (``planned``), at ``progress`` of what it interrupts.

    ``proof`` says whether the effect was confirmed (else mismatch or unknown), ``seen`` what was read.
    """

    what: str
    progress: int | None = None
    planned: bool = False
    target: str = ""
    proof: str = ""
    seen: str = ""


@dataclass(frozen=True)
class FaultHealed(Event, kind="fault.healed"):
    """A fault was ended, and its target brought back."""

    what: str
    target: str = ""


@dataclass(frozen=True)
class OlderBundle(Event, kind="fault.older_bundle"):
    """A board that runs ``running`` was given the older bundle ``version`` to install; ``refused`` says why it was not.

    Empty ``refused``: the board has installed it.
    """

    board: str
    running: str
    version: str
    refused: str = ""


@dataclass(frozen=True)
class BundleUsed(Event, kind="rollout.bundle"):
    """A rollout is about to use this bundle: its digest and size in bytes, and who signed it by its own signature.

    ``signer`` is the certificate's subject, ``signer_sha256`` its fingerprint; empty where there is none to read.
    """

    name: str
    version: str = ""
    sha256: str = ""
    size: int | None = None
    image_sha256: str = ""
    signer: str = ""
    signer_sha256: str = ""


@dataclass(frozen=True)
class RolloutStep(Event, kind="rollout.step"):
    """A step of the rollout on a board began or ended (``phase`` start or end); the facts are those of its end.

    ``detail`` has the facts, or the error, in words.  ``bytes`` are those that the transfer moved, ``resumed_at`` the
    offsets in bytes at which it went on, ``source`` the board that it came from.
    """

    board: str
    step: str
    phase: str
    seconds: float | None = None
    ok: bool | None = None
    detail: str = ""
    epoch: int | None = None
    artefact: str = ""
    source: str = ""
    bytes: int | None = None
    connections: int | None = None
    resumed_at: tuple[int, ...] = ()
    slot: str = ""
    version: str = ""
    os_version: str = ""


@dataclass(frozen=True)
class WatchClaim(Event, kind="watch.claim"):
    """A board began to claim that it serves under ``epoch``, or claims no longer (None)."""

    board: str
    epoch: int | None = None
    answers: bool = True


@dataclass(frozen=True)
class WatchViolation(Event, kind="watch.violation"):
    """Two boards claimed different epochs at the same time, or a board gave an answer that it may not give."""

    what: str
    detail: str = ""


@dataclass(frozen=True)
class WatchSummary(Event, kind="watch.summary"):
    """What the watcher of the epoch invariant saw: ``claims`` has (start, end, epoch) per board.

    Times are seconds since the watcher started, which was at ``started_mono_s`` (CLOCK_MONOTONIC).
    """

    duration_s: float | None = None
    samples: int = 0
    answers: int = 0
    max_gap_s: float | None = None
    max_gap_board: str = ""
    conclusive: bool = True
    ended_early: tuple[str, ...] = ()
    """Boards that were not watched until the end, each with the error that ended it."""
    violations: tuple[str, ...] = ()
    claims: Mapping[str, tuple[tuple[float, float, int], ...]] = field(default_factory=dict)
    started_mono_s: float | None = None


@dataclass(frozen=True)
class BoardWork:
    """One board's part of a job; bytes are tiles in and masks out, seconds include the way there and back.

    ``provider`` is what the network ran on: ``TensorRT``, ``CUDA`` or ``CPU``; empty when the board does not say.
    """

    tiles: int = 0
    tiles_per_s: float = 0.0
    bytes_in: int = 0
    bytes_out: int = 0
    seconds: float = 0.0
    failures: int = 0
    provider: str = ""
    last_error: str = ""
    """Why its last failed tile failed."""


@dataclass(frozen=True)
class InferenceFinished(Event, kind="inference.result"):
    """The cluster computed a scene: the work of each board, and how its mask compares with the reference."""

    per_board: Mapping[str, BoardWork] = field(default_factory=dict)
    job: str = ""
    epoch: int | None = None
    seconds: float | None = None
    tiles: int | None = None
    retried_tiles: int | None = None
    tiles_per_s: float | None = None
    mismatched_pixels: int | None = None
    pixels: int | None = None
    iou: float | None = None
    digest: str = ""
    golden_digest: str = ""
    mismatched_pixels_committed: int | None = None


KINDS: Mapping[str, type[Event]] = {
    cls.kind: cls for cls in Event.__subclasses__() if cls.__module__.startswith("hil.evidence.") and cls is not Unknown
}
"""Every class of event by the kind that its lines have."""

_ENVELOPE = frozenset({"t_utc", "mono_s", "kind", "test", "prev"})


def from_record(record: Mapping[str, Any], mono_start_s: float, line: int = 0) -> Event:
    """Return the event of one line of evidence, the first of which is line 1.

    KeyError, TypeError or ValueError when the line has no time or kind; its other fields never raise.
    """
    kind = str(record["kind"])
    t_s = float(record["mono_s"]) - mono_start_s
    if t_s - t_s != 0:
        raise ValueError(f"mono_s is {record['mono_s']}")
    cls = KINDS.get(kind)
    event = Unknown(kind) if cls is None else read_fields(cls, record)
    known = _ENVELOPE if cls is None else _ENVELOPE.union(each.name for each in fields(cls) if each.init)
    filled = {
        "t_s": t_s,
        "t_utc": str(record["t_utc"]),
        "test": str(record.get("test") or ""),
        "line": line,
        "extra": {key: value for key, value in record.items() if key not in known},
    }
    for name, value in filled.items():
        object.__setattr__(event, name, value)
    return event
