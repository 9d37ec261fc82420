"""The program's own log: levels, clean lines, files of bounded size, and what rooms write into it."""

from __future__ import annotations

import io
import logging
import sys
from pathlib import Path

import pytest

from hil.boards.console.log_file import LineLog
from hil.boards.power.build import outlet_of
from hil.boards.power.command import CommandSpec
from hil.boards.power.http_client import Credentials, HttpStrip
from hil.boards.power.shelly import ShellyGen2
from hil.boards.power.supervisor import PoweredSupervisor
from hil.boards.power.switch import ConfirmedSwitch
from hil.boards.power.tasmota import Tasmota
from hil.boards.protocol import PowerState
from hil.boards.ssh.login import LOG_CHANNEL
from hil.core.command import run
from hil.core.log import LineFormatter, log_file, log_to, parse_levels
from hil.errors import ConfigurationError
from hil.text import one_line
from tests.kits.power_strips import ShellyGen2Strip, TasmotaStrip


def _address(text: str) -> tuple[str, int]:
    host, port = text.rsplit(":", 1)
    return host, int(port)


def test_levels_are_for_all_of_hil_or_for_one_room() -> None:
    assert parse_levels("debug") == {"hil": logging.DEBUG}
    assert parse_levels("hil.links=DEBUG, paramiko=INFO") == {"hil.links": logging.DEBUG, "paramiko": logging.INFO}
    assert parse_levels("") == {}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("hil.nosuch=DEBUG", r"nothing logs as 'hil\.nosuch'"),
        ("hil.link=DEBUG", r"did you mean hil\.links\?"),
        ("links=DEBUG", r"did you mean hil\.links\?"),
        ("hil.boards.nosuch.x=DEBUG", "nothing logs as"),
        ("..=DEBUG", "nothing logs as"),
    ],
)
def test_a_part_that_is_not_there_is_a_configuration_error(text: str, words: str) -> None:
    with pytest.raises(ConfigurationError, match=words) as caught:
        parse_levels(text)
    assert "hil.boards, " in caught.value.remedy


@pytest.mark.parametrize("text", ["loud", "hil.links=loud", "=DEBUG"])
def test_an_unknown_level_is_a_configuration_error(text: str) -> None:
    with pytest.raises(ConfigurationError, match="HIL_LOG"):
        parse_levels(text)


def test_hostile_text_becomes_one_bounded_line_without_control_characters() -> None:
    shown = one_line("\x1b]52;c;ZXZpbA==\x07a\nb\u202ec" + "x" * 5000, limit=100)
    assert shown.isprintable() and len(shown) < 150 and shown.endswith("more characters)")
    record = logging.LogRecord("hil.boards", logging.INFO, "", 0, "board said %s", ("\x1b[2J\r\nhil: error",), None)
    line = LineFormatter().format(record)
    assert line.isprintable() and line.endswith("hil: error")


def test_every_step_of_a_power_cut_is_logged_and_the_verb_alone_at_info(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "hil")
    with ShellyGen2Strip() as strip:
        strip.outlets.switch(0, True)
        outlet = ShellyGen2(HttpStrip("Shelly", _address(strip.address)), 0)
        PoweredSupervisor("a1", ConfirmedSwitch(outlet)).cut()
    steps = [record.getMessage() for record in caplog.records]
    wanted = [
        "Shelly: GET /rpc/Switch.GetStatus?id=0",  # is it on?
        "board a1: take its power away",
        "Shelly, switch 0: turn off",
        "Shelly: GET /rpc/Switch.Set?id=0&on=false",
        "Shelly: GET /rpc/Switch.GetStatus?id=0",
        "Shelly, switch 0: reads back 'off'",
        "board a1: power cut",
    ]
    rest = iter(steps)
    assert all(step in rest for step in wanted), steps
    assert sum("HTTP 200" in step for step in steps) == 3
    assert [r.getMessage() for r in caplog.records if r.levelno == logging.INFO] == ["board a1: power cut"]


def test_no_secret_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "hil")
    with TasmotaStrip(password="s3cret pass") as strip:
        login = Credentials("admin", "s3cret pass", "query")
        Tasmota(HttpStrip("Tasmota", _address(strip.address), credentials=login), 1).read()
    script = "import sys; print('on' if len(sys.argv) > 1 else 'off')"
    argv = (sys.executable, "-c", script, "admin:s3cret")
    outlet = outlet_of(
        CommandSpec(kind="command", turn_on=argv, turn_off=argv, state=argv, state_on="^on", state_off="^off")
    )
    outlet.command(PowerState.ON)
    assert outlet.read().state is PowerState.ON
    assert "GET /cm?cmnd=Power1" in caplog.text and f"run {sys.executable} (3 arguments" in caplog.text
    assert "s3cret" not in caplog.text


def test_a_command_is_logged_with_its_end(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "hil")
    run([sys.executable, "-c", "import sys; print('no such hub'); sys.exit(3)"])
    assert "exit code 3: 'no such hub'" in caplog.text


def test_console_lines_are_logged_whole_and_clean(caplog: pytest.LogCaptureFixture) -> None:
    line_log = LineLog("a1")
    line_log.feed(b"not logged: the level is off\n")
    caplog.set_level(logging.DEBUG, "hil")
    line_log.feed(b"\x1b[1mlog")
    line_log.feed(b"in:\x07 \r\nhalf")
    assert [record.getMessage() for record in caplog.records] == [r"board a1: console: 'login:\x07 '"]


def test_a_log_file_has_debug_while_other_handlers_keep_their_level(tmp_path: Path) -> None:
    seen = io.StringIO()
    logger = logging.getLogger("hil.test")
    with log_to(seen, {"hil": logging.WARNING}), log_file(tmp_path / "harness.log"):
        logger.debug("a request")
        logger.warning("a strip is slow")
    assert "DEBUG   hil.test: a request" in (tmp_path / "harness.log").read_text()
    assert "a request" not in seen.getvalue()
    logger.error("later")
    assert "later" not in (tmp_path / "harness.log").read_text() + seen.getvalue()


def test_pytests_handlers_see_debug_of_hil_only_at_the_level_that_was_asked_for(tmp_path: Path) -> None:
    seen = io.StringIO()
    root, handler = logging.getLogger(), logging.StreamHandler(seen)
    root.addHandler(handler)
    level = root.level
    try:
        with log_file(tmp_path / "harness.log"):
            logging.getLogger("hil.test").debug("hidden")
            root.setLevel(logging.DEBUG)  # as --log-cli-level=DEBUG does
            logging.getLogger("hil.test").debug("shown")
    finally:
        root.setLevel(level)
        root.removeHandler(handler)
    assert seen.getvalue() == "shown\n"


def test_a_record_that_cannot_be_written_does_not_end_what_is_logged(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log, path = logging.getLogger("hil.boards"), tmp_path / "keeper.log"
    with log_file(path):
        log.debug("for %g s at most", None)
        log.debug("take its power away")
    assert path.read_text().endswith("take its power away\n")
    assert "for %g s at most" in capsys.readouterr().err


def test_a_log_file_stops_at_its_limit_and_says_so(tmp_path: Path) -> None:
    path = tmp_path / "harness.log"
    with log_file(path, limit_bytes=10_000):
        for number in range(1000):
            logging.getLogger("hil.test").info("line %d", number)
    *_, before, last = path.read_text().splitlines()
    assert last == "... cut here: a log holds at most 10,000 bytes" and "line" in before
    assert path.stat().st_size < 10_200


def test_paramikos_own_log_is_no_part_of_hils() -> None:
    assert not LOG_CHANNEL.startswith("hil")
