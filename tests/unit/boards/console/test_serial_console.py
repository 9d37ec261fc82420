"""The serial console on real pseudo-terminals, a loopback socket, an RFC 2217 server and pyserial's loop."""

from __future__ import annotations

import gc
import hashlib
import os
import select
import threading
import time
import tty
from collections.abc import Iterator
from pathlib import Path

import pytest
import serial
import serial.rfc2217

from hil.boards.console.boot_stages import Stage
from hil.boards.console.log_console import LogConsole
from hil.boards.console.mute import why_muted
from hil.boards.console.serial_console import SerialConsole
from hil.core.wait import wait_until
from hil.errors import BenchError, DeviceError
from hil.evidence.events import ConsolePort, ConsoleStage, Event
from hil.testing.fakes import ListSink
from tests.kits import checkout

DATA = checkout.DATA / "jetson"
BOOT = (DATA / "console_agx_orin_boot.log").read_bytes().rstrip(b"\n")


class Adapter:
    """A USB serial adapter with a board behind it: a pty under a name that stays the same."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.master = -1
        self.plug()

    def plug(self) -> None:
        self.master, slave = os.openpty()
        tty.setraw(slave)
        self.path.unlink(missing_ok=True)
        self.path.symlink_to(os.ttyname(slave))
        self._slave = slave  # held, so that the master can be read before anybody opened the port

    def pull(self) -> None:
        if self.master >= 0:
            self.path.unlink()
            os.close(self.master)
            os.close(self._slave)
            self.master = -1

    def say(self, data: bytes) -> None:
        while data:
            data = data[os.write(self.master, data) :]

    def heard(self, wait_s: float = 0.0) -> bytes:
        ready, _, _ = select.select([self.master], [], [], wait_s)
        return os.read(self.master, 65536) if ready else b""


@pytest.fixture
def adapter(tmp_path: Path) -> Iterator[Adapter]:
    adapter = Adapter(tmp_path / "usb-0:1.2:1.0-port0")
    yield adapter
    adapter.pull()


@pytest.fixture
def sink() -> ListSink:
    return ListSink()


@pytest.fixture
def console(adapter: Adapter, tmp_path: Path, sink: ListSink) -> Iterator[SerialConsole]:
    with SerialConsole("a1", str(adapter.path), tmp_path / "logs", sink=sink) as console:
        yield console


def booted(console: SerialConsole, adapter: Adapter) -> None:
    adapter.say(BOOT)
    console.wait_for_stage(Stage.LOGIN, deadline_s=10.0)


def test_every_byte_is_logged_in_the_format_of_container_boards(adapter: Adapter, console: SerialConsole) -> None:
    content = os.urandom(100_000)
    before = time.time()
    adapter.say(content)
    wait_until(lambda: console.size() >= len(content), what="the log", deadline_s=20.0)
    assert console.log.read_bytes() == content
    assert console.log.name == "a1.console.log"
    rows = [row.split() for row in console.log.with_suffix(".idx").read_text().splitlines()]
    offsets = [int(offset) for offset, _ in rows]
    assert offsets[0] == 0
    assert offsets == sorted(set(offsets))
    assert all(before - 1 <= float(stamp) <= time.time() + 1 for _, stamp in rows)
    with LogConsole("", console.log).log.open("rb") as file:  # any process can follow it
        assert file.read(10) == content[:10]


def test_a_flood_loses_no_byte_while_two_people_watch_and_a_wait_runs(adapter: Adapter, console: SerialConsole) -> None:
    """3 MB as fast as the pty takes them, which is more than a line at 3,000,000 baud brings."""
    content = b"".join(b"%07d %s\n" % (n, b"flood" * 10) for n in range(50_000)) + b"the end\n"
    heard: dict[str, bytes] = {}

    def watch(url: str) -> None:
        with serial.serial_for_url(url, timeout=30.0) as port:
            ready.release()
            said = b""  # not read_until(), which asks the kernel for every single byte
            while not said.endswith(b"the end\n"):
                ready_now, _, _ = select.select([port.fileno()], [], [], 30.0)
                assert ready_now
                said += os.read(port.fileno(), 65536)
            heard[url] = said

    ready = threading.Semaphore(0)
    people = [threading.Thread(target=watch, args=(url,), daemon=True) for url in console.urls]
    for person in people:
        person.start()
        assert ready.acquire(timeout=10.0)
    wait_until(lambda: len(console._taken) == 2, what="both seats to be taken", deadline_s=10.0)
    feeder = threading.Thread(target=adapter.say, args=(content,), daemon=True)
    feeder.start()
    assert console.wait_for("the end", deadline_s=60.0) == "the end"
    for thread in (feeder, *people):
        thread.join(timeout=30.0)
    assert hashlib.sha256(console.log.read_bytes()).digest() == hashlib.sha256(content).digest()
    for url in console.urls:
        said = heard[url]
        # A slow reader may lose the oldest, and is then told so; what it has is in order and complete to the end.
        assert said.endswith(content[-1000:])
        assert said == content or b"bytes left out here" in said


def test_a_listener_that_does_not_read_holds_nothing_up(adapter: Adapter, console: SerialConsole) -> None:
    with serial.serial_for_url(console.url, timeout=0.1):
        wait_until(lambda: console._taken, what="the seat to be taken", deadline_s=10.0)
        adapter.say(b"x" * 2_500_000)
        wait_until(lambda: console.size() == 2_500_000, what="the log", deadline_s=30.0)
        assert all(len(seat._backlog) <= 1 << 20 for seat in console._terminals)


def test_nothing_is_sent_before_login_and_the_refusal_says_why(adapter: Adapter, console: SerialConsole) -> None:
    with pytest.raises(BenchError, match="console of a1: nothing is sent before `login:`") as caught:
        console.write(b"\n")
    assert "force" in caught.value.remedy
    assert adapter.heard() == b""
    booted(console, adapter)
    assert console.listening
    console.write(b"root\n")
    assert adapter.heard(5.0) == b"root\n"


def test_a_reset_silences_the_console_again_and_force_does_not_care(adapter: Adapter, console: SerialConsole) -> None:
    booted(console, adapter)
    adapter.say(b"[   99.0] reboot: Restarting system\r\n")
    console.wait_for_stage(Stage.RESTART, deadline_s=10.0)
    with pytest.raises(BenchError, match="nothing is sent"):
        console.write(b"x")
    console.write(b"\x1b", force=True)
    assert adapter.heard(5.0) == b"\x1b"


def test_what_dmesg_prints_on_the_console_does_not_silence_it(adapter: Adapter, console: SerialConsole) -> None:
    booted(console, adapter)
    since = console.size()
    adapter.say(b"[    0.000000] Booting Linux on physical CPU 0x0000000000 [0x410fd421]\r\n")
    console.wait_for_stage(Stage.KERNEL, deadline_s=10.0, since=since)
    assert console.listening


def test_the_driver_can_open_and_close_the_way(adapter: Adapter, console: SerialConsole) -> None:
    console.release()
    console.write(b"a")
    assert adapter.heard(5.0) == b"a"
    console.silence()
    with pytest.raises(BenchError):
        console.write(b"b")


def test_keys_typed_too_early_go_nowhere_and_the_typist_is_told_once(adapter: Adapter, console: SerialConsole) -> None:
    with serial.serial_for_url(console.url, timeout=10.0) as port:
        port.write(b"\x1b")
        assert port.read_until(b"seen]\r\n") == b"\r\n[a1 gets no keys before login: was seen]\r\n"
        port.write(b"more")
        adapter.say(BOOT)
        assert port.read_until(b"login: ").replace(b"\r\n", b"\n") == BOOT
        port.write(b"root\n")
        assert adapter.heard(10.0) == b"root\n"
    assert b"gets no keys" not in console.log.read_bytes()


def test_a_process_that_only_follows_the_log_types_through_the_owners_terminal(
    adapter: Adapter, console: SerialConsole
) -> None:
    follower = LogConsole(console.url, console.log)
    wait_until(lambda: why_muted(console.log), what="the reason", deadline_s=10.0)
    with pytest.raises(BenchError, match="a1 gets no keys before login"):
        follower.sendline("root")
    booted(console, adapter)
    wait_until(lambda: not why_muted(console.log), what="the console to open", deadline_s=10.0)
    for each in (follower, console):
        each.sendline("root")
        assert adapter.heard(10.0) == b"root\n"
        adapter.say(b"Password: ")
        assert each.expect("assword: $", deadline_s=10.0) == "assword: "


def test_two_people_see_the_same_and_both_can_type(adapter: Adapter, console: SerialConsole) -> None:
    booted(console, adapter)
    first, second = (serial.serial_for_url(url, timeout=10.0) for url in console.urls)
    with first, second:
        wait_until(lambda: len(console._taken) == 2, what="both seats to be taken", deadline_s=10.0)
        adapter.say(b"hello both\n")
        assert first.read_until(b"\n") == second.read_until(b"\n") == b"hello both\n"
        for port in (first, second):
            port.write(b"ls\n")
            assert adapter.heard(10.0) == b"ls\n"


def test_a_new_listener_does_not_get_what_came_before(adapter: Adapter, console: SerialConsole) -> None:
    adapter.say(b"old\n")
    console.wait_for("old", deadline_s=10.0)
    with serial.serial_for_url(console.url, timeout=10.0) as port:
        wait_until(lambda: console._taken, what="the seat to be taken", deadline_s=10.0)
        adapter.say(b"new\n")
        assert port.read_until(b"\n") == b"new\n"


def test_an_adapter_that_vanishes_comes_back_and_the_console_goes_on(
    adapter: Adapter, console: SerialConsole, sink: ListSink
) -> None:
    booted(console, adapter)
    adapter.pull()
    wait_until(lambda: not console.connected, what="the loss to be noticed", deadline_s=10.0)
    with pytest.raises(BenchError, match="is gone"):
        console.write(b"x", force=True)
    assert not console.listening
    since = console.size()
    adapter.plug()
    wait_until(lambda: console.connected, what="the way back", deadline_s=10.0)
    adapter.say(BOOT)
    console.wait_for_stage(Stage.LOGIN, deadline_s=10.0, since=since)
    assert console.log.read_bytes() == BOOT + BOOT
    states = [event.state for event in sink.of(ConsolePort)]
    assert states == ["gone", "back"]


def test_silence_is_the_benchs_fault_when_the_adapter_is_gone_and_the_boards_when_it_is_there(
    adapter: Adapter, console: SerialConsole
) -> None:
    adapter.say(b"last words\n")
    with pytest.raises(DeviceError, match=r"waited 0\.3 s for 'login' on the console") as device:
        console.wait_for("login", deadline_s=0.3)
    assert "last words" in device.value.message
    adapter.pull()
    wait_until(lambda: not console.connected, what="the loss to be noticed", deadline_s=10.0)
    with pytest.raises(BenchError, match="is gone") as bench:
        console.wait_for("login", deadline_s=0.1)
    assert "plug the adapter of a1 in again" in bench.value.remedy
    with pytest.raises(BenchError, match=r"waited 0\.1 s for a1 to show login"):
        console.wait_for_stage(Stage.LOGIN, deadline_s=0.1)


def test_a_panic_ends_a_wait_for_the_login_at_once(adapter: Adapter, console: SerialConsole) -> None:
    adapter.say(b"[    3.1] Kernel panic - not syncing: VFS\r\n")
    with pytest.raises(DeviceError, match="a1 showed panic instead of login"):
        console.wait_for_stage(Stage.LOGIN, deadline_s=3600.0)
    assert console.wait_for_stage(Stage.PANIC, deadline_s=1.0).bad


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_reader_that_dies_is_not_taken_for_a_silent_board(adapter: Adapter, tmp_path: Path) -> None:
    class Broken:
        def emit(self, event: Event) -> None:
            raise RuntimeError("the sink is full")

    with SerialConsole("a1", str(adapter.path), tmp_path, sink=Broken()) as console:
        adapter.say(b"tegra login: ")
        wait_until(lambda: not console.connected, what="the end of the reader", deadline_s=10.0)
        with pytest.raises(BenchError, match="its reader has died"):
            console.wait_for("anything", deadline_s=0.1)


def test_stages_are_evidence(adapter: Adapter, console: SerialConsole, sink: ListSink) -> None:
    booted(console, adapter)
    stages = [event.stage for event in sink.of(ConsoleStage)]
    assert stages[0] == "mb1"
    assert stages[-1] == "login"
    assert [s.stage.value for s in console.seen()] == stages
    assert console.seen(since=console.size()) == []


def test_a_wait_finds_text_across_chunks_escapes_and_line_beginnings(adapter: Adapter, console: SerialConsole) -> None:
    for piece in (b"x" * 9000 + b"\r\nBoot", b"ing \x1b[01;", b"32mLinux\x1b[0m\r\n", "ü".encode()):
        adapter.say(piece)
        time.sleep(0.05)
    assert console.wait_for(r"^Booting Linux$", deadline_s=10.0) == "Booting Linux"
    with pytest.raises(DeviceError):
        console.wait_for(r"^ing", deadline_s=0.2)


def test_a_port_that_is_not_there_is_a_bench_error_that_says_where_to_look(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match="none does not open") as caught, SerialConsole("a1", "/dev/none", tmp_path):
        pass
    assert "/dev/serial/by-path has" in caught.value.remedy


def test_a_port_that_somebody_holds_is_refused(adapter: Adapter, console: SerialConsole, tmp_path: Path) -> None:
    with pytest.raises(BenchError, match="does not open"):
        SerialConsole("b1", str(adapter.path), tmp_path).start()


def test_closing_twice_and_without_a_start_leaves_no_descriptor(adapter: Adapter, tmp_path: Path) -> None:
    gc.collect()  # what other tests left to it
    before = list(Path("/proc/self/fd").iterdir())
    console = SerialConsole("c1", str(adapter.path), tmp_path)
    console.close()
    console.close()
    with SerialConsole("d1", str(adapter.path), tmp_path):
        pass
    assert len(list(Path("/proc/self/fd").iterdir())) == len(before)
