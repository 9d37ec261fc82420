"""A made-up but realistic run directory of a six-board campaign, on a clock of its own.

Used by the unit tests of evidence and report, and, run as a program, to look at the report's page::

    python -m tests.kits.synthetic_run /tmp/out [pass|fail|inconclusive|crash|gap|ring]
"""

from __future__ import annotations

import json
import sys
import zlib
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from hil.campaign.markers import title_of
from hil.core.files import sha256_of

BOARDS: dict[str, str] = {"a1": "sc-a", "a2": "sc-a", "a3": "sc-a", "b1": "sc-b", "b2": "sc-b", "b3": "sc-b"}
START = datetime(2026, 11, 21, 2, 14, 7, tzinfo=UTC)
MONO_START = 5000.0

REQUIREMENTS = (
    ("SIX-010", "The emulated links deliver the commanded delay, rate and outage within tolerance.", "virtual"),
    ("SIX-020", "The signed OS bundle arrives whole on the gateway board over the ground link.", "hardware"),
    ("SIX-030", "An upload cut by a link outage resumes; no byte that had arrived is sent again.", "hardware"),
    ("SIX-040", "The bundle crosses the crosslink once.", "hardware"),
    ("SIX-050", "Tampered, truncated and wrongly signed bundles are refused, the slot untouched.", "hardware"),
    ("SIX-060", "The bundle is installed in the inactive slot of all six boards.", "hardware"),
    ("SIX-070", "One canary passes its health checks before any other board is switched.", "hardware"),
    ("SIX-080", "All six boards run the new OS, each confirmed after its health checks.", "virtual"),
    ("SIX-120", "At no moment do two boards serve under different epochs while claiming health.", "hardware"),
    ("SIX-130", "The result of the inference workload over all six boards is the reference result.", "virtual"),
    ("SIX-150", "Six GPUs at full load stay below the throttle trip point with passive cooling.", "hardware"),
)

RISKS = (
    (
        "R-01",
        "The upload does not survive link outages and starts over on every pass",
        (4, 3),
        (2, 3),
        ("SIX-020", "SIX-030"),
    ),
    ("R-02", "A board does not come back after the update", (3, 5), (1, 5), ("SIX-050", "SIX-060")),
    ("R-03", "Part of the fleet is updated and the cluster works divided", (4, 4), (2, 4), ("SIX-070", "SIX-120")),
    ("R-04", "Plausible but wrong results after the update", (5, 4), (2, 4), ("SIX-130",)),
    ("R-06", "Thermal throttling under full load without air", (3, 4), (3, 4), ("SIX-150",)),
)

TESTS: tuple[tuple[str, str, tuple[str, ...], float, float], ...] = (
    ("test_1_readiness.py", "six_boards_run_the_factory_os_on_two_spacecraft", (), 4.3, 0.9),
    ("test_1_readiness.py", "links_deliver_what_was_commanded", ("SIX-010",), 5.2, 3.6),
    ("test_2_upload.py", "the_bundle_arrives_whole_on_the_gateway", ("SIX-020",), 8.8, 5.1),
    ("test_2_upload.py", "an_upload_resumes_after_the_ground_link_was_lost", ("SIX-030",), 13.9, 6.0),
    ("test_2_upload.py", "the_bundle_crosses_the_crosslink_once", ("SIX-030", "SIX-040"), 19.9, 5.6),
    ("test_3_safety_net.py", "a_bad_bundle_is_refused_and_the_slot_left_untouched[wrong-key]", ("SIX-050",), 25.5, 2.2),
    ("test_3_safety_net.py", "a_power_cut_during_installation_leaves_the_old_os", ("SIX-060",), 27.7, 4.8),
    ("test_4_install.py", "the_bundle_is_installed_on_all_six_while_the_old_os_runs", ("SIX-060",), 32.5, 3.3),
    ("test_4_install.py", "one_canary_runs_the_new_os_before_any_other_board", ("SIX-070",), 35.8, 2.9),
    ("test_4_install.py", "all_six_run_the_new_os_and_are_confirmed", ("SIX-080",), 38.7, 3.8),
    ("test_5_cluster.py", "all_six_boards_serve_under_one_epoch", ("SIX-120",), 42.5, 1.4),
    ("test_5_cluster.py", "no_mixed_epoch_when_the_crosslink_is_lost", ("SIX-120",), 43.9, 6.4),
    ("test_5_cluster.py", "inference_across_six_boards_matches_the_reference", ("SIX-130",), 50.3, 4.1),
)


@dataclass
class Writer:
    """Writes evidence with times of its own choosing."""

    directory: Path
    lines: list[tuple[float, str]] = field(default_factory=list)

    def event(self, t_s: float, kind: str, **fields: Any) -> None:
        stamp = (START + timedelta(seconds=t_s)).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        record = {"t_utc": stamp, "mono_s": round(MONO_START + t_s, 6), "kind": kind, **fields}
        self.lines.append((t_s, json.dumps(record, separators=(",", ":"))))

    def span(self, board: str, step: str, start: float, end: float, **detail: Any) -> None:
        self.event(start, "rollout.step", board=board, step=step, phase="start", detail=detail)
        self.event(end, "rollout.step", board=board, step=step, phase="end", ok=True, detail=detail)

    def write(self, until_s: float = 1e9, *, torn: bool = False) -> None:
        kept = [line for t, line in sorted(self.lines, key=lambda pair: pair[0]) if t <= until_s]
        text = "".join(line + "\n" for line in kept)
        if torn:
            text += kept[-1][: len(kept[-1]) // 2]
        (self.directory / "evidence.jsonl").write_text(text, encoding="utf-8")


def plan_document() -> dict[str, Any]:
    """The plan as ``plan.json`` has it."""
    return {
        "schema": 1,
        "id": "six-gpu",
        "title": "OS upload and configuration across six GPUs on two spacecraft",
        "purpose": "Can a customer's operating system be brought up on six Orins on two spacecraft?",
        "article": "reference OS 2.0.0 (RAUC bundle), node service, cloud-mask payload",
        "reliability_goal": 0.9,
        "confidence": 0.9,
        "risk_scale": "ecss",
        "requirements": [
            {"id": i, "text": t, "method": "T", "level": "system", "fidelity_needed": f} for i, t, f in REQUIREMENTS
        ]
        + [
            {
                "id": "SIX-900",
                "text": "The update mechanism keeps one bootable slot at every instant.",
                "method": "R",
                "level": "board",
                "fidelity_needed": "virtual",
                "evidence": "docs/boards.md",
            }
        ],
        "risks": [
            {
                "id": i,
                "title": t,
                "before": {"likelihood": b[0], "severity": b[1]},
                "after": {"likelihood": a[0], "severity": a[1]},
                "requirements": list(r),
            }
            for i, t, b, a, r in RISKS
        ],
        "criteria": [
            {
                "id": "C-UPLOAD",
                "text": "The OS reaches all six boards, through outages, without being sent twice",
                "requirements": ["SIX-010", "SIX-020", "SIX-030", "SIX-040"],
            },
            {
                "id": "C-CLUSTER",
                "text": "Six GPUs work as one cluster and never as two",
                "requirements": ["SIX-120", "SIX-130"],
            },
        ],
    }


def build(directory: Path, kind: str = "pass", *, past_runs: int = 3) -> Path:
    """Write the run directory; ``kind`` is pass, fail, inconclusive or crash (killed while it ran)."""
    (directory / "artefacts").mkdir(parents=True)
    dump(directory / "run.json", meta(directory.name))
    dump(directory / "plan.json", plan_document())
    dump(directory / "history.json", {"runs": [_past(n) for n in range(past_runs)]})
    (directory / "lab.yaml").write_text("schema: 1\nname: virtual\n", encoding="utf-8")
    writer = Writer(directory)
    fill(writer, kind)
    if kind == "crash":
        writer.write(until_s=36.9, torn=True)
    else:
        writer.event(55.2, "run.end", interrupted="", configuration_error="")
        writer.write()
    return directory


def used_bundle(directory: Path) -> Path:
    """Put the use of a bundle into a run: its long digests have to fit on the page."""
    path = directory / "evidence.jsonl"
    first, *others = path.read_text("utf-8").splitlines(keepends=True)
    facts = {"name": "os-2.0.0.raucb", "version": "2.0.0", "sha256": "ab" * 32, "size": 50_165_098}
    event = {"t_utc": "2026-11-21T02:15:01.000Z", "mono_s": MONO_START, "kind": "rollout.bundle", **facts}
    path.write_text("".join([first, json.dumps(event) + "\n", *others]), "utf-8")
    return directory


def many_measurements(directory: Path, count: int) -> Path:
    """Put so many measurements more into a run, spread over its tests."""
    path = directory / "evidence.jsonl"
    lines = path.read_text("utf-8").splitlines()
    tests = [line["test"] for line in map(json.loads, lines) if line["kind"] == "test.start"]
    stamp = {"t_utc": "2026-11-21T02:15:01.000Z", "mono_s": MONO_START + 54.0, "kind": "measurement"}
    more = [
        {
            **stamp,
            "test": tests[n % len(tests)],
            "name": f"figure {n}",
            "value": n / 7,
            "unit": "ms",
            "limit": "<= 2000 ms",
        }
        | {"ok": True, "board": "a1"}
        for n in range(count)
    ]
    path.write_text("\n".join([*lines[:-1], *map(json.dumps, more), lines[-1]]) + "\n", encoding="utf-8")
    return directory


def fill(writer: Writer, kind: str = "pass") -> None:
    """Everything that happens in the run, but for its end."""
    _tests(writer, kind)
    _operation(writer)
    _artefacts(writer)


def dump(path: Path, content: Any) -> None:
    """Write a JSON file."""
    path.write_text(json.dumps(content, indent=1), encoding="utf-8")


def meta(run_id: str) -> dict[str, Any]:
    """What ``run.json`` says."""
    return {
        "schema": 1,
        "run_id": run_id,
        "started_utc": "2026-11-21T02:14:07.000Z",
        "mono_start_s": MONO_START,
        "hil_version": "0.1.0",
        "git": {"commit": "9f1c2ab47d3e5f60718293a4b5c6d7e8f9012345", "dirty": False},
        "python": "3.11.7",
        "packages": {"docker": "7.2.0", "numpy": "2.4.6", "onnxruntime": "1.32.0", "pytest": "9.2.0"},
        "kernel": "6.18.0",
        "machine": "x86_64",
        "os": "Debian GNU/Linux 12 (bookworm)",
        "cpus": 2,
        "memory_mib": 7951,
        "argv": ["pytest", "testplans/six_gpu", "--lab", "lab/virtual.yaml"],
        "plan": "six-gpu",
        "plan_title": "OS upload and configuration across six GPUs on two spacecraft",
        "plan_sha256": "5b" * 32,
        "lab": "virtual",
        "lab_file": "lab/virtual.yaml",
        "lab_sha256": "c4" * 32,
        "lab_description": "Six container boards on two spacecraft (3+3)",
        "gateway": "a1",
        "bench": "virtual",
        "engine": {"kind": "uml", "kernel_release": "6.1.82", "reason": "this kernel has no netem"},
        "seed": 1,
        "fidelity": "virtual",
        "process": {"pid": 2**22 + 1, "start_ticks": 1, "boot_id": "another"},
        "boards": {
            name: {
                "spacecraft": craft,
                "driver": "container",
                "module": "p3701-0005",
                "model": "NVIDIA Jetson AGX Orin Developer Kit",
                "fidelity": "virtual",
            }
            for name, craft in BOARDS.items()
        },
        "links": {
            "ground": _link("ground", ["gs-1", "sc-a"], 4000, 100_000_000, None),
            "isl-ab": _link("crosslink", ["sc-a", "sc-b"], 14386, 200_000_000, 2_500_000_000),
        },
        "fidelity_gaps": [
            {
                "id": "GAP-KERNEL",
                "area": "os",
                "applies_to": "container",
                "differs": "All boards share the host's kernel.",
                "consequence": "Kernel, driver and device-tree faults of the uploaded OS are not shown.",
            },
            {
                "id": "GAP-GPU",
                "area": "board",
                "applies_to": "container",
                "differs": "There is no GPU: inference runs on the host's processors.",
                "consequence": "Speed, memory and numerical differences of CUDA are not shown.",
            },
            {
                "id": "GAP-UML-TIMING",
                "area": "links",
                "applies_to": "uml",
                "differs": "netem runs in a User-Mode Linux process.",
                "consequence": "Delay jitter of some 0.1 ms is the bench's, not the link's.",
            },
        ],
    }


def _link(kind: str, ends: list[str], delay: int, rate: int, nominal: int | None) -> dict[str, Any]:
    return {
        "kind": kind,
        "between": ends,
        "one_way_delay_us": delay,
        "rate_bps": rate,
        "nominal_rate_bps": nominal,
        "rate_scaled": nominal is not None,
        "loss_ppm": 0,
        "source": "assumed",
    }


def _past(number: int) -> dict[str, Any]:
    verdicts = {i: "PASS" for i, _, _ in REQUIREMENTS if i != "SIX-150"}
    return {
        "run_id": f"20261120T02000{number}Z-six-gpu-0{number}ab",
        "started_utc": f"2026-11-20T02:00:0{number}.000Z",
        "state": "finished",
        "verdict": "PASS" if number != 2 else "INCONCLUSIVE",
        "commit": "77aa00ffee1122334455",
        "engine": "uml 6.1.82",
        "same_inputs": True,
        "requirements": {**verdicts, "SIX-150": "NOT RUN"},
        "measurements": {
            "Inference across six boards matches the reference: tiles per second, all boards": {
                "value": 2.1,
                "unit": "1/s",
            }
        },
    }


def _tests(writer: Writer, kind: str) -> None:
    facts: list[dict[str, Any]] = []
    for file, name, requirements, _, _ in TESTS:
        facts.append(
            {
                "test": f"testplans/six_gpu/{file}::test_{name}",
                "title": title_of(name),
                "description": "What the operator would see from the ground.",
                "step": name.split("_")[1],
                "requirements": list(requirements),
                "needs": [],
                "selected": True,
            }
        )
    writer.event(0.0, "run.collected", tests=facts)
    for fact, (_, name, _, start, duration) in zip(facts, TESTS, strict=True):
        test = fact["test"]
        begin = start
        if name.startswith("links_deliver"):
            _end(writer, test, start, 1.2, "INCONCLUSIVE", 1, retried=True)
            writer.event(
                start + 1.2,
                "bench.retry",
                what=fact["title"],
                error="links are outside tolerance: isl-ab a_to_b rate 187.2 Mbit/s, commanded 200",
                attempt=1,
                test=test,
            )
            begin, duration = start + 1.2, duration - 1.2
        verdict = "PASS"
        if kind == "fail" and name.startswith("no_mixed_epoch"):
            verdict = "FAIL"
        if kind == "inconclusive" and name.startswith("inference"):
            verdict = "INCONCLUSIVE"
        _measurements(writer, test, name, begin + duration * 0.8, verdict)
        _end(writer, test, begin, duration, verdict, 1)


def _end(
    writer: Writer, test: str, start: float, duration: float, verdict: str, attempt: int, *, retried: bool = False
) -> None:
    message, blame = "", ""
    if verdict == "FAIL":
        message = "moments with two epochs = 1, limit <= 0: violated\nassert failed <here> & there"
        blame = "device under test"
    if verdict == "INCONCLUSIVE":
        message, blame = "board b2 cannot be reached: no route", "bench"
    writer.event(start, "test.start", test=test, attempt=attempt, title="")
    writer.event(
        start + duration,
        "test.end",
        test=test,
        attempt=attempt,
        verdict=verdict,
        blame=blame,
        message=message,
        remedy="is the bench up?" if verdict == "INCONCLUSIVE" else "",
        detail="Traceback (most recent call last): ..." if message else "",
        duration_s=round(duration, 3),
        retried=retried,
    )


def _measurements(writer: Writer, test: str, name: str, t_s: float, verdict: str) -> None:
    def measured(label: str, value: Any, unit: str = "", limit: str | None = None, ok: bool | None = None) -> None:
        writer.event(t_s, "measurement", test=test, name=label, value=value, unit=unit, limit=limit, ok=ok, blame="")

    if name.startswith("the_bundle_arrives"):
        measured("bytes received", 52_428_800, "B", "= 52,428,800 B", True)
    elif name.startswith("links"):
        measured("quantities outside tolerance", 0, "", "<= 0", True)
    elif name.startswith("no_mixed"):
        measured("time from the link's return to six boards in one epoch", 0.412, "s")
        measured("moments with two epochs", int(verdict == "FAIL"), "", "<= 0", verdict != "FAIL")
    elif name.startswith("inference") and verdict == "PASS":
        measured("pixels that differ from the reference", 0, "", "<= 0", True)
        measured("tiles per second, all boards", 3.2, "1/s")
    elif name.startswith("all_six_run"):
        for board in BOARDS:
            measured(f"OS version of {board}", "2.0.0", "", "= 2.0.0", True)


def _operation(writer: Writer) -> None:
    phases = {"engine": 0.4, "boards": 2.9, "links": 0.7}
    writer.event(4.2, "bench.up", seconds=4.2, engine={"kind": "uml"}, phases_s=phases, bench="virtual")
    for link, delay_us, rate_bps in (("ground", 4000, 100_000_000), ("isl-ab", 14386, 200_000_000)):
        for direction in ("a_to_b", "b_to_a"):
            _calibration(writer, link, direction, delay_us, rate_bps)
    for board in BOARDS:
        writer.event(1.2, "board.power", board=board, action="on")
        writer.event(2.9, "board.boot", board=board, slot="A", os_version="1.0.0")
    writer.span("a1", "upload", 8.9, 13.6, bytes=52428800)
    writer.span("a1", "upload", 14.0, 19.6)
    writer.event(16.0, "link.cut", link="ground")
    writer.event(18.0, "link.restore", link="ground")
    writer.event(16.0, "fault", what="ground link lost during the upload", progress=123)
    writer.span("b1", "relay", 20.0, 25.2)
    for number, board in enumerate(("a2", "a3", "b2", "b3")):
        writer.span(board, "fan-out", 20.0 + 0.1 * number, 22.0 if number < 2 else 25.3)
    writer.event(21.4, "link.cut", link="isl-ab")
    writer.event(23.4, "link.restore", link="isl-ab")
    writer.event(28.6, "rollout.step", board="b3", step="install", phase="start", detail={})
    writer.event(28.9, "board.power", board="b3", action="cut")
    writer.event(29.3, "board.power", board="b3", action="on")
    writer.event(30.7, "board.boot", board="b3", slot="A", os_version="1.0.0")
    for number, board in enumerate(BOARDS):
        writer.span(board, "install", 32.6 + 0.05 * number, 34.9 + 0.15 * number)
    writer.span("a2", "boot", 35.9, 37.2)
    writer.span("a2", "confirm", 37.2, 38.6)
    writer.event(37.1, "board.boot", board="a2", slot="B", os_version="2.0.0")
    for number, board in enumerate(b for b in BOARDS if b != "a2"):
        writer.span(board, "boot", 38.8, 40.3 + 0.1 * number)
        writer.event(40.2 + 0.1 * number, "board.boot", board=board, slot="B", os_version="2.0.0")
        writer.span(board, "confirm", 40.3 + 0.1 * number, 41.9 + 0.1 * number)
    for board in BOARDS:
        writer.span(board, "configure", 42.6, 43.4)
    writer.event(44.6, "link.cut", link="isl-ab")
    writer.event(48.9, "link.restore", link="isl-ab")
    claims = {
        board: [[43.5, 44.7, 1], [45.6, 54.8, 2]] if craft == "sc-a" else [[43.6, 45.4, 1], [49.3, 54.8, 2]]
        for board, craft in BOARDS.items()
    }
    writer.event(
        50.4,
        "inference.result",
        per_board={
            board: {"tiles": 2, "tiles_per_s": 0.5 + 0.02 * n, "bytes_in": 1_048_576, "bytes_out": 131_072}
            for n, board in enumerate(BOARDS)
        },
        mismatched_pixels=0,
        iou=1.0,
        digest="958749651d67b7f9",
    )
    writer.event(
        54.9, "watch.summary", duration_s=54.9, samples=3120, answers=3011, max_gap_s=0.34, violations=[], claims=claims
    )


def _calibration(writer: Writer, link: str, direction: str, delay_us: int, rate_bps: int) -> None:
    """The figures of one direction, as `hil.links.calibration.calibrate` records them."""
    spread = [delay_us - 40 + 0.9 * n + 0.8 * max(0, n - 90) ** 1.9 for n in range(101)]
    rows: tuple[tuple[str, float, float, str, float, str, list[float]], ...] = (
        ("engine_constant", 0, 212.4, "us", 1000, "", []),
        ("delay_p50", delay_us, delay_us + 31, "us", 150, "", spread),
        ("delay_p95", delay_us, delay_us + 214, "us", 500, "", []),
        ("delay_p99", delay_us, delay_us + 391, "us", 0, "for information", []),
        ("rate", rate_bps, rate_bps * 0.989, "bit/s", rate_bps * 0.03, "", []),
        ("loss", 0, 0, "ppm", 1000, "", []),
        ("outage_length", 100_000, 101_350, "us", 20_000, "", []),
        ("cut_effect_p99", 0, 3_200, "us", 50_000, "", []),
        ("restore_effect_p99", 0, 4_100, "us", 50_000, "", []),
    )
    for quantity, commanded, measured, unit, tolerance, note, quantiles in rows:
        writer.event(
            8.0,
            "link.calibration",
            link=link,
            direction=direction,
            quantity=quantity,
            commanded=commanded,
            measured=measured,
            unit=unit,
            tolerance=tolerance,
            ok=True,
            note=note,
            quantiles=quantiles,
            low=None,
            high=None,
        )


def _artefacts(writer: Writer) -> None:
    for number, board in enumerate(BOARDS):
        text = "".join(f"[{n:04d}.{number}62] I> MB1 (version: 1.4.0.4-t234-54845784-e89ea9bc)\r\n" for n in range(60))
        text += "\x1b[2JJetson UEFI firmware (version 36.4.4)\r\nDebian GNU/Linux 12 orin ttyTCU0\r\n\norin login: "
        path = writer.directory / "artefacts" / f"{board}.console.log"
        path.write_text(text, encoding="utf-8")
        _artefact(writer, path, "console", board=board)
    path = writer.directory / "artefacts" / "mask.png"
    path.write_bytes(_png(64, 48))
    _artefact(writer, path, "mask")


def _artefact(writer: Writer, path: Path, kind: str, **fields: Any) -> None:
    where = {"path": f"artefacts/{path.name}", "sha256": sha256_of(path), "size": path.stat().st_size}
    writer.event(54.95, "artefact", **where, artefact_kind=kind, **fields)


def _png(width: int, height: int) -> bytes:
    """A grey-scale picture with a round cloud in it."""

    def chunk(tag: bytes, body: bytes) -> bytes:
        return len(body).to_bytes(4, "big") + tag + body + zlib.crc32(tag + body).to_bytes(4, "big")

    rows = b"".join(
        b"\0" + bytes(230 if (x - 30) ** 2 + (y - 20) ** 2 < 150 else 60 for x in range(width)) for y in range(height)
    )
    header = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes([8, 0, 0, 0, 0])
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


if __name__ == "__main__":
    from hil.report.make import make_report
    from tests.kits.synthetic_sky import build_sky

    wanted = sys.argv[2] if len(sys.argv) > 2 else "pass"
    target = Path(sys.argv[1]) / f"synthetic-{wanted}"
    print(make_report(build_sky(target, wanted) if wanted in ("gap", "ring") else build(target, wanted)))
