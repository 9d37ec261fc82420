"""Terminals in an orbit file."""

from __future__ import annotations

from pathlib import Path

import pytest

from hil.errors import ConfigurationError
from hil.orbit.model import load_orbit_file


def orbit_file(folder: Path, *terminals: str) -> Path:
    shell = "shell: {planes: 1, slots_per_plane: 2, altitude_km: 600.0, ltan: '18:00'}"
    file = folder / "o.yaml"
    file.write_text("\n".join(["schema: 1", "name: o", "epoch: '2026-03-21'", shell, *terminals]) + "\n")
    return file


def test_a_bit_error_rate_may_be_written_without_a_point(tmp_path: Path) -> None:
    found = load_orbit_file(orbit_file(tmp_path, "terminals: {bit_error_rate: 1e-7}"))
    assert found.terminals.bit_error_rate == 1e-7
    assert found.terminals.per_spacecraft == 4 and found.terminals.fades.per_hour == 0


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("terminals: {acquire: {median_s: 20.0, p99_s: 10.0}}", r"o\.yaml:5: .*below the median \(20 s\)"),
        ("terminals: {fades: {shortest_ms: 5.0, longest_ms: 2.0}}", r"o\.yaml:5: .*below shortest_ms"),
        ("terminals: {slew_rate: 5.0}", r"o\.yaml:5: terminals\.slew_rate: unknown key"),
        ("terminals: {bit_error_rate: often}", r"o\.yaml:5: terminals\.bit_error_rate: .*valid number"),
        ("terminals: {per_spacecraft: 0}", r"o\.yaml:5: terminals\.per_spacecraft"),
    ],
)
def test_terminals_that_make_no_sense_are_refused_with_their_line(tmp_path: Path, line: str, words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        load_orbit_file(orbit_file(tmp_path, line))
