"""What Prometheus reads: documented names, base units, and no series that outlives what it is about."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
import urllib.request
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from hil.bench.state import Step
from hil.core import paths
from hil.errors import ConfigurationError
from hil.monitor import run_metrics
from hil.monitor.bench_health import Health, LeaseHealth, Sensors
from hil.monitor.exporter import BenchCollector, host_and_port, is_loopback, serving
from hil.monitor.metrics import METRICS, table
from tests.kits.fake_bench import board_health, health, link_health

NOT_BASE = {"ms", "us", "ns", "milliseconds", "minutes", "hours", "kb", "mb", "bits", "percent", "mw", "kelvin"}


def page(found: Health | None, *, up: bool = True) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """What a scrape reads: (name, labels) to value."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(BenchCollector("six", lambda: found, is_up=lambda name: up))
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(generate_latest(registry).decode())
        for sample in family.samples
    }


def value(found: Health, name: str, **labels: str) -> float | None:
    return page(found).get((name, tuple(sorted({"bench": "six", **labels}.items()))))


def test_the_documentation_lists_exactly_what_is_exported() -> None:
    text = (paths.ROOT / "docs/monitoring.md").read_text("utf-8")
    rows = re.findall(r"^\| `(hil_\w+)` \| (\w+) \| ([\w, ]*) \| (.*) \|$", text, re.MULTILINE)
    assert rows == [*table(), *run_metrics.table()]


def test_names_follow_the_conventions_of_prometheus() -> None:
    names = [metric.name for metric in METRICS]
    assert len(set(names)) == len(names)
    for metric in METRICS:
        assert re.fullmatch(r"hil_(bench|board|link|lease|campaign)_[a-z_]+", metric.name)
        assert metric.name.endswith("_total") == (metric.kind == "counter")
        assert NOT_BASE.isdisjoint(metric.name.split("_")), metric.name
        assert metric.help.endswith("."), metric.name
        assert "bench" not in metric.labels


def test_a_bench_that_is_well_is_told_in_base_units() -> None:
    found = health()
    board, link = {"board": "a1"}, {"link": "isl-ab", "direction": "a_to_b"}
    assert value(found, "hil_bench_up") == 1
    assert value(found, "hil_bench_attention") == 0
    assert value(found, "hil_bench_start_timestamp_seconds") == 1_699_999_200
    assert value(found, "hil_board_powered", **board) == 1
    assert value(found, "hil_board_temperature_celsius", zone="tj", **board) == 41.5
    assert value(found, "hil_board_power_watts", rail="vdd_cpu_cv", **board) == 0.5
    assert value(found, "hil_board_input_power_watts", **board) == 5.2
    assert value(found, "hil_board_gpu_load_ratio", **board) == 0.25
    assert value(found, "hil_board_claimed_epoch", **board) == 7
    assert value(found, "hil_board_slot_running", slot="B", **board) == 0
    assert value(found, "hil_link_delay_seconds", source="commanded", **link) == 0.014386
    assert value(found, "hil_link_rate_bytes_per_second", **link) == 25_000_000
    assert value(found, "hil_link_sent_bytes_total", **link) == 1000


def test_what_nobody_knows_has_no_series() -> None:
    silent = board_health("a1", power=None, reachable=False, slots={}, os_version=None, node=None, sensors=None)
    gated = board_health("a2", sensors=Sensors.of({"cpu_c": 40.0}, 1.0))
    found = page(health(boards=(silent, gated), links=(link_health("x", both={"rate_bps": 0}),)))
    of_silent = {name for name, labels in found if ("board", "a1") in labels}
    assert of_silent == {"hil_board_info", "hil_board_up", "hil_board_attention", "hil_lease_waiting"}
    names = {name for name, labels in found if ("board", "a2") in labels}
    assert "hil_board_temperature_celsius" in names and "hil_board_gpu_load_ratio" not in names
    assert "hil_link_rate_bytes_per_second" not in {name for name, _ in found}
    assert not any(("source", "measured") in labels for _, labels in found)


def test_names_that_are_the_same_once_they_are_cleaned_make_one_series() -> None:
    board = board_health("a1", sensors=Sensors.of({"a b_c": 40.0, "a  b_c": 50.0}, 1.0))
    registry = CollectorRegistry(auto_describe=False)
    registry.register(BenchCollector("six", lambda: health(boards=(board,)), is_up=lambda name: True))
    lines = generate_latest(registry).decode().splitlines()
    assert [line[-4:] for line in lines if line.startswith("hil_board_temperature_celsius{")] == ["40.0"]


def test_a_board_that_went_away_takes_its_series_with_it() -> None:
    both = health()
    registry = CollectorRegistry(auto_describe=False)
    now = [both]
    registry.register(BenchCollector("six", lambda: now[0], is_up=lambda name: True))
    assert 'board="b1"' in generate_latest(registry).decode()
    now[0] = replace(both, boards=both.boards[:1])
    after = generate_latest(registry).decode()
    assert 'board="b1"' not in after and 'board="a1"' in after


@pytest.mark.parametrize(("found", "up"), [(None, True), (None, False), (health(), False)])
def test_without_a_fresh_look_only_whether_the_bench_is_up_is_told(found: Health | None, up: bool) -> None:
    assert page(found, up=up) == {("hil_bench_up", (("bench", "six"),)): float(up)}


def test_phases_of_a_link_are_all_there_and_one_is_set() -> None:
    found = page(health(links=(link_health("x", phase="acquire", phase_left_s=12.5),)))
    phases = {dict(labels)["phase"]: v for (name, labels), v in found.items() if name == "hil_link_phase"}
    assert phases.pop("acquire") == 1
    assert set(phases.values()) == {0} and "track" in phases
    assert value(health(links=(link_health("x", phase_left_s=12.5),)), "hil_link_phase_left_seconds", link="x")


def test_leases_the_queue_and_the_campaign_are_told_per_board_and_step() -> None:
    until = datetime(2026, 3, 1, 12, tzinfo=UTC)
    held = LeaseHealth(3, ("a1",), "anna", "lab", "thermal", 0, until, True)
    waits = LeaseHealth(4, ("a1", "b1"), "bob", "lab", "", 1, until, False)
    step = Step("r1", "six-gpu", "upload", 'the "upload" arrives', started_utc="2026-03-01T11:00:00+00:00")
    found = health(leases=(held, waits), step=step)
    labels = {"board": "a1", "lease": "3", "holder": "anna", "purpose": "thermal"}
    assert value(found, "hil_lease_expires_timestamp_seconds", **labels) == until.timestamp()
    assert value(found, "hil_lease_waiting", board="a1") == value(found, "hil_lease_waiting", board="b1") == 1
    of_step = {"run": "r1", "plan": "six-gpu", "step": "upload", "title": 'the "upload" arrives'}
    assert value(found, "hil_campaign_step_info", **of_step) == 1
    assert value(found, "hil_campaign_step_start_timestamp_seconds", **of_step) == until.timestamp() - 3600


def test_the_page_is_served_on_loopback_and_its_port_is_free_afterwards() -> None:
    collector, host = BenchCollector("six", health, is_up=lambda name: True), "127.0.0.1"
    with serving(collector, port=0) as port:
        with urllib.request.urlopen(f"http://{host}:{port}/metrics", timeout=10) as answer:
            assert 'hil_board_up{bench="six",board="a1"} 1.0' in answer.read().decode()
        with pytest.raises(ConfigurationError, match="cannot listen"), serving(collector, port=port):
            pass
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((host, port), timeout=5)


@pytest.mark.parametrize(
    ("text", "expected"), [("127.0.0.1:9435", ("127.0.0.1", 9435)), ("[::1]:1", ("::1", 1)), (":0", ("127.0.0.1", 0))]
)
def test_addresses_to_listen_on(text: str, expected: tuple[str, int]) -> None:
    assert host_and_port(text) == expected
    assert is_loopback(expected[0])


@pytest.mark.parametrize("text", ["9435", "host:", "host:http", "127.0.0.1:65536", "127.0.0.1:-1", ""])
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError, match="HOST:PORT"):
        host_and_port(text)


def test_only_loopback_is_loopback() -> None:
    assert is_loopback("localhost")
    assert not any(map(is_loopback, ("0.0.0.0", "::", "198.18.0.1", "lab")))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_command_waits_for_a_bench_that_is_not_up_yet_and_ends_cleanly(
    tmp_path: Path, number: signal.Signals
) -> None:
    argv = [sys.executable, "-m", "hil.cli", "bench", "export", "six", "--listen", "127.0.0.1:0"]
    environment = {"HIL_RUN": str(tmp_path), "HIL_HOME": str(tmp_path), "PATH": "/usr/bin:/bin"}
    with subprocess.Popen(
        argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, cwd=paths.ROOT
    ) as command:
        assert command.stdout and command.stderr
        told = command.stdout.readline()
        address = told.split()[-1]
        assert told.startswith("bench six: http://127.0.0.1:"), told or command.stderr.read()
        with urllib.request.urlopen(address, timeout=10) as answer:
            assert 'hil_bench_up{bench="six"} 0.0' in answer.read().decode()
        command.send_signal(number)
        try:
            assert command.wait(30) == 0
        finally:
            command.kill()  # else a failure would wait for ever
        assert command.stderr.read() == ""
