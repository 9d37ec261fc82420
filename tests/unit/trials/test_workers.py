"""Keys of workers: whoever has them can run programs as root, so nobody else may read them."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from hil.cli.app import cli
from hil.errors import ConfigurationError
from hil.trials.workers import CERTIFICATE, KEY, security_of


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o602])
def test_a_key_that_others_can_read_is_refused(tmp_path: Path, mode: int) -> None:
    for name in (CERTIFICATE, KEY):
        (tmp_path / name).touch()
    (tmp_path / KEY).chmod(mode)
    with pytest.raises(ConfigurationError, match="read by others") as raised:
        security_of(tmp_path)
    assert "chmod 600" in raised.value.remedy


@pytest.mark.parametrize("content", ["", "nonsense"])
def test_files_that_are_no_keys_are_named(tmp_path: Path, content: str) -> None:
    for name in (CERTIFICATE, KEY):
        (tmp_path / name).write_text(content, "utf-8")
        (tmp_path / name).chmod(0o600)
    with pytest.raises(ConfigurationError, match="no certificate with its key"):
        security_of(tmp_path)


@pytest.mark.parametrize(
    "address", ["", "bench-1", "bench-1:8786", "tcp://bench-1:8786", "tls://bench-1", "tls://b:99999"]
)
def test_an_address_of_another_form_is_refused_at_once(tmp_path: Path, address: str) -> None:
    done = CliRunner().invoke(cli, ["worker", address, "--keys", str(tmp_path)])
    assert isinstance(done.exception, ConfigurationError) and "waiting" not in done.output


@pytest.mark.parametrize("listen", ["bench-1", "127.0.0.1:99999", "127.0.0.1:\u00b2"])
def test_a_place_to_listen_is_checked_before_a_series_begins(tmp_path: Path, listen: str) -> None:
    words = ["trials", "run", "--lab", "virtual", "--trials", "1", "--benches", "0", "--out", str(tmp_path / "out")]
    done = CliRunner().invoke(cli, [*words, "--listen", listen, "--keys", str(tmp_path)])
    assert isinstance(done.exception, ConfigurationError) and not (tmp_path / "out").exists()
