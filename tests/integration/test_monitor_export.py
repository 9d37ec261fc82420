"""A real Prometheus reads a real bench; the live view in a real terminal; both notice what happens to the bench."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import threading
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from hil.bench.bench import Bench, down
from hil.bench.state import Step, is_up, write_step
from hil.boards.container.board import ContainerBoard
from hil.core import paths
from hil.core.wait import wait_until
from hil.errors import BenchError
from hil.leases.leases import Leases
from hil.report.make import make_report
from tests.kits.checkout import TWO_BOARDS
from tests.kits.container_boards import freeze_os
from tests.kits.hil_command import HIL, Terminal
from tests.kits.host_state import as_it_was
from tests.kits.nights import begin, job, said
from tests.kits.synthetic_run import build

pytestmark = [pytest.mark.integration, pytest.mark.side_by_side]

NAME = "hiltmonitor"
LAB = paths.ROOT / "lab/virtual.yaml"
BOARDS = {"a1", "a2", "a3", "b1", "b2", "b3"}
SOON_S = 30.0  # a look every half second, on a machine that may be busy

Labels = dict[str, str]


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Directory with ``prometheus`` and ``promtool``: this host's, else those of Debian's package, only unpacked.

    Unpacked and not installed, so that no service, user or configuration of Prometheus comes to this host.
    """
    if (found := shutil.which("prometheus")) and shutil.which("promtool"):
        return Path(found).parent
    scratch = tmp_path_factory.mktemp("prometheus")
    download = ["apt-get", "download", "-q", "prometheus"]
    for preparation in ([], ["apt-get", "update", "-q"]):
        if preparation:
            subprocess.run(preparation, capture_output=True, timeout=300)
        done = subprocess.run(download, cwd=scratch, capture_output=True, text=True, timeout=300)
        if packages := list(scratch.glob("prometheus_*.deb")):
            subprocess.run(["dpkg-deb", "-x", str(packages[0]), "unpacked"], cwd=scratch, check=True)
            return scratch / "unpacked/usr/bin"
    pytest.skip(f"no prometheus here, and apt cannot get it: {done.stderr.strip().splitlines()[-1:]}")


@pytest.fixture(scope="module")
def bench() -> Iterator[Bench]:
    with as_it_was(bench=NAME), Bench(LAB, name=NAME) as up:
        yield up


@dataclass(frozen=True)
class Page:
    """An exporter's page."""

    url: str

    def text(self) -> str:
        with urllib.request.urlopen(self.url, timeout=20) as answer:
            return str(answer.read().decode())

    def series(self, name: str, **labels: str) -> dict[str, float]:
        """Value by board, link or bench of the series that have these labels."""
        return {
            sample.labels.get("board") or sample.labels.get("link") or sample.labels["bench"]: sample.value
            for family in text_string_to_metric_families(self.text())
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        }


@contextmanager
def exporter(name: str, *options: str, reports: Path | None = None) -> Iterator[Page]:
    """``hil bench export`` on a free port; it must end cleanly when it is told to."""
    argv = [*HIL, "bench", "export", name, "--listen", "127.0.0.1:0", "--every", "0.5s", *options]
    environment = {**os.environ, **({"HIL_REPORTS": str(reports)} if reports else {})}
    with subprocess.Popen(
        argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=paths.ROOT, env=environment
    ) as command:
        assert command.stdout and command.stderr
        try:
            told = command.stdout.readline()
            assert told.startswith(f"bench {name}: http://127.0.0.1:"), told or command.stderr.read()
            yield Page(told.split()[-1])
            command.terminate()
            assert (command.wait(30), command.stderr.read()) == (0, "")
        finally:
            command.kill()


@pytest.fixture(scope="module")
def page(bench: Bench, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    """The exporter's page of the bench, and of a reports folder with a run that failed and a night."""
    folder = tmp_path_factory.mktemp("reports")
    make_report(build(folder / "out/runs/failed", "fail"))
    said(begin(folder, job("one", "1"), "- {name: faults, lab: virtual, trials: default, count: 1}\n"))
    with exporter(bench.name, "--probe", "--runs", reports=folder / "out") as served:
        wait_until(
            lambda: served.series("hil_board_temperature_celsius", zone="tj").keys() == BOARDS,
            what="all boards' temperatures",
            deadline_s=SOON_S,
        )
        yield served


@pytest.fixture(scope="module")
def prometheus(programs: Path, page: Page, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Query]:
    """A Prometheus server on loopback that reads the exporter every second."""
    scratch = tmp_path_factory.mktemp("server")
    target = urllib.parse.urlsplit(page.url).netloc
    (scratch / "prometheus.yml").write_text(
        "global: {scrape_interval: 1s}\n"
        f"scrape_configs: [{{job_name: hil, static_configs: [{{targets: ['{target}']}}]}}]\n"
    )
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    argv = [str(programs / "prometheus"), "--config.file=prometheus.yml", "--storage.tsdb.path=data"]
    with (
        (scratch / "log").open("wb") as log,
        subprocess.Popen([*argv, f"--web.listen-address={address}"], cwd=scratch, stdout=log, stderr=log) as server,
    ):
        try:
            query = Query(address)
            wait_until(
                lambda: query("up") and query("up")[0][1] == 1,
                what=f"Prometheus to read the exporter, see {scratch / 'log'}",
                deadline_s=60,
            )
            yield query
        finally:
            server.terminate()
            server.wait(30)


class Query:
    """Prometheus's HTTP API."""

    def __init__(self, address: str) -> None:
        self._base = f"http://{address}/api/v1/query?"

    def __call__(self, expression: str) -> list[tuple[Labels, float]]:
        """(labels, value) of the series that an expression gives now."""
        with urllib.request.urlopen(self._base + urllib.parse.urlencode({"query": expression}), timeout=20) as answer:
            document: dict[str, Any] = json.loads(answer.read())
        assert document["status"] == "success", document
        return [(each["metric"], float(each["value"][1])) for each in document["data"]["result"]]

    def value(self, expression: str) -> float | None:
        """The value of the only series; None when there is none."""
        found = self(expression)
        assert len(found) <= 1, found
        return found[0][1] if found else None

    def becomes(self, expression: str, wanted: float | None) -> None:
        wait_until(
            lambda: self.value(expression) == wanted,
            what=f"{expression} to be {wanted}",
            deadline_s=SOON_S,
            every_s=0.2,
        )


def test_the_page_passes_prometheuss_own_check(programs: Path, page: Page) -> None:
    done = subprocess.run(
        [str(programs / "promtool"), "check", "metrics"], input=page.text(), capture_output=True, text=True
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_prometheus_knows_the_boards_and_links_of_the_bench(prometheus: Query, bench: Bench) -> None:
    prometheus.becomes("sum(hil_board_up)", 6)
    prometheus.becomes("sum(hil_board_healthy)", 6)
    assert prometheus.value("count(hil_board_info{fidelity='virtual', os_version='1.0.0'})") == 6
    assert prometheus.value("sum(hil_board_slot_running{slot='A'})") == 6
    assert prometheus.value("min(hil_board_temperature_celsius{zone='tj'}) > 0") is not None
    assert prometheus.value("min(hil_board_input_power_watts) > 0") is not None
    assert prometheus.value("min(hil_link_kernel_agrees)") == 1
    assert prometheus.value("hil_link_up{link='isl-ab'}") == 1
    assert prometheus.value("hil_bench_attention") == 0
    assert prometheus("hil_bench_info")[0][0]["links_by"] == bench.links.engine


def test_rules_are_sound_and_every_expression_of_the_dashboards_finds_figures(
    programs: Path, prometheus: Query, bench: Bench
) -> None:
    folder = paths.ROOT / "lab/observability"
    for words in (["check", "rules", "rules.yml"], ["test", "rules", "rules.test.yml"]):
        done = subprocess.run([str(programs / "promtool"), *words], cwd=folder, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
    write_step(bench.name, Step.now(run_id="r1", plan="six-gpu", step="upload", title="the upload arrives"))
    prometheus.becomes("count(hil_campaign_step_info)", 1)
    prometheus.becomes('hil_run_last_verdict{plan="six-gpu", verdict="FAIL"}', 1)
    prometheus.becomes('hil_night_last_verdict{night="lab-a", verdict="FAIL"}', 1)
    for path in sorted((folder / "dashboards").glob("*.json")):
        for panel in json.loads(path.read_text("utf-8"))["panels"]:
            for target in panel["targets"]:
                expression = target["expr"].replace("$__rate_interval", "20s")
                for variable in ("bench", "plan", "lab"):
                    expression = expression.replace(f"${variable}", ".*")
                wait_until(partial(prometheus, expression), what=f"{panel['title']}: {expression}", deadline_s=SOON_S)
    write_step(bench.name, None)


def test_commanded_and_measured_delay_stand_side_by_side(prometheus: Query) -> None:
    of_one = "hil_link_delay_seconds{link='isl-ab', direction='a_to_b', source='%s'}"
    prometheus.becomes(of_one % "commanded", 0.014386)
    assert prometheus.value(of_one % "kernel") == 0.014386
    measured = wait_until(lambda: prometheus.value(of_one % "measured"), what="a measured delay", deadline_s=SOON_S)
    assert 0.0140 <= measured < 0.1  # never sooner than light; later only because this machine is busy


def test_what_goes_away_has_no_series_any_more(prometheus: Query, bench: Bench) -> None:
    board = bench.boards["b3"]
    board.supervisor.cut()
    bench.links.cut("isl-ab")
    try:
        prometheus.becomes("hil_board_powered{board='b3'}", 0)
        prometheus.becomes("hil_board_temperature_celsius{board='b3', zone='tj'}", None)
        prometheus.becomes("hil_board_slot_running{board='b3', slot='A'}", 0)
        prometheus.becomes("hil_link_cut{link='isl-ab'}", 1)
        prometheus.becomes("hil_link_up{link='isl-ab'}", 0)
        prometheus.becomes("hil_link_delay_seconds{link='isl-ab', direction='a_to_b', source='measured'}", None)
        assert prometheus.value("hil_board_attention{board='b3'}") == 0, "off on purpose is no trouble"
    finally:
        bench.links.restore("isl-ab")
        board.supervisor.on()
        board.wait_booted()
    prometheus.becomes("hil_board_up{board='b3'}", 1)
    prometheus.becomes("hil_link_up{link='isl-ab'}", 1)


def test_an_os_that_hangs_is_told_and_the_other_boards_are_still_looked_at(page: Page, bench: Bench) -> None:
    board = bench.boards["b2"]
    assert isinstance(board, ContainerBoard)
    pid = board.firmware_pid()
    assert pid
    freeze_os(pid, frozen=True)
    try:
        wait_until(
            lambda: page.series("hil_board_up", board="b2") == {"b2": 0},
            what="the board that hangs to be told",
            deadline_s=SOON_S,
        )
        assert page.series("hil_board_attention") == {**dict.fromkeys(BOARDS, 0.0), "b2": 1.0}
        seen = page.series("hil_board_sensors_timestamp_seconds")
        assert seen.keys() == BOARDS - {"b2"}
        wait_until(
            lambda: page.series("hil_board_sensors_timestamp_seconds").get("a1", 0) > seen["a1"],
            what="newer readings of a board that is well",
            deadline_s=SOON_S,
        )
    finally:
        # By now the watchdog may have reset it, and then there is nothing to wake.
        if board.firmware_pid() == pid and board.os_pid():
            freeze_os(pid, frozen=False)
    board.wait_booted(deadline_s=60)
    wait_until(lambda: page.series("hil_board_up", board="b2") == {"b2": 1}, what="b2 again", deadline_s=SOON_S)


def test_leases_and_the_step_of_a_campaign_are_told(prometheus: Query, bench: Bench) -> None:
    step = Step.now(run_id="r1", plan="six-gpu", step="upload", title="the upload arrives")
    write_step(bench.name, step)
    prometheus.becomes(f"count(hil_lease_expires_timestamp_seconds{{purpose='bench {bench.name}'}})", 6)
    with a_waiter(f"{bench.name}/a1"):
        prometheus.becomes("hil_lease_waiting{board='a1'}", 1)
        assert prometheus.value("hil_lease_waiting{board='a2'}") == 0
    prometheus.becomes("hil_lease_waiting{board='a1'}", 0)
    prometheus.becomes("count(hil_campaign_step_info{plan='six-gpu', step='upload'})", 1)
    write_step(bench.name, None)
    prometheus.becomes("count(hil_campaign_step_info)", None)


@contextmanager
def a_waiter(board: str) -> Iterator[None]:
    """Somebody who queues for a board, until the block ends."""
    leases = Leases()

    def wait() -> None:
        with suppress(BenchError):  # its wait is ended below
            leases.take([board], holder="anna", purpose="thermal run", wait_s=120)

    thread = threading.Thread(target=wait)
    thread.start()
    try:
        (claim,) = wait_until(leases.queue, what="somebody in the queue", deadline_s=SOON_S)
        yield
        leases.free(claim.id, force=True)
    finally:
        thread.join(150)


def watching(name: str) -> Terminal:
    return Terminal("bench", "watch", name, "--every", "0.5s")


@pytest.mark.parametrize("key", [b"q", b"\x03"])
def test_the_live_view_shows_the_bench_until_a_key_ends_it(bench: Bench, key: bytes) -> None:
    with watching(bench.name) as terminal:
        terminal.wait_for(rb"isl-ab")
        terminal.type(key)
        assert terminal.exit_code() == 0
        assert b"Traceback" not in terminal.said and terminal.said.endswith(b"\x1b[?1049l")


def test_a_bench_that_goes_down_ends_the_view_and_is_followed_by_the_exporter() -> None:
    name = "exportdown"
    kept = Bench(TWO_BOARDS, name=name)
    kept.up(keep=True)
    kept.close()
    try:
        with exporter(name) as page, watching(name) as terminal:
            terminal.wait_for(rb"isl-ab")
            wait_until(lambda: page.series("hil_board_up").keys() == {"a1", "b1"}, what="the bench", deadline_s=SOON_S)
            down(name)
            assert terminal.exit_code() == 0
            assert terminal.said.decode().rstrip().endswith(f"bench {name} is down")
            samples = [line for line in page.text().splitlines() if not line.startswith("#")]
            assert samples == [f'hil_bench_up{{bench="{name}"}} 0.0']
            again = Bench(TWO_BOARDS, name=name)
            again.up(keep=True)
            again.close()
            wait_until(
                lambda: sum(page.series("hil_board_up").values()) == 2,
                what="the bench that came up again",
                deadline_s=SOON_S,
            )
    finally:
        if is_up(name):
            down(name)
