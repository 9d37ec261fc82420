"""The package of `examples/`, installed beside this one: its strip, board and fault are known to every command."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.kits import checkout

PACKAGE = checkout.ROOT / "examples/orbital_hil_examples"
HOST_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ4R5vKfJ0iFIEXjzV0jW9sZsV0s8Zt8xj3W0kz2Xh1J"
LAB = f"""\
schema: 1
name: outside
ground_station: {{name: gs-1}}
gateway: h1
spacecraft:
  - name: sc-a
    boards:
      - name: h1
        driver: sshhost
        sshhost:
          ssh: {{address: 127.88.1.1, key_file: /nowhere/key, host_key: {HOST_KEY}}}
          supervisor: {{power: {{kind: acme, address: "127.88.1.1:9", outlet: 3}}}}
links:
  - {{name: ground, kind: ground, between: [gs-1, sc-a], one_way_delay_us: 4000, rate_bps: 100000000}}
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory for PYTHONPATH with the package as `pip install --target` leaves it."""
    directory = tmp_path_factory.mktemp("site")
    (directory / "orbital_hil_examples").symlink_to(PACKAGE / "orbital_hil_examples")
    project = tomllib.loads((PACKAGE / "pyproject.toml").read_text())["project"]
    metadata = directory / f"orbital_hil_examples-{project['version']}.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
    )
    lines = [
        f"[{group}]\n" + "".join(f"{name} = {value}\n" for name, value in points.items())
        for group, points in project["entry-points"].items()
    ]
    (metadata / "entry_points.txt").write_text("\n".join(lines))
    return directory


def hil(site: Path | None, *argv: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, **({"PYTHONPATH": str(site)} if site else {})}
    return subprocess.run([sys.executable, "-m", "hil.cli", *argv], capture_output=True, text=True, env=environment)


def test_a_lab_file_may_name_them_only_where_they_are_installed(site: Path, tmp_path: Path) -> None:
    file = tmp_path / "lab.yaml"
    file.write_text(LAB)
    there = hil(site, "lab", "validate", str(file))
    assert (there.returncode, "1 boards" in there.stdout) == (0, True), there.stderr
    assert "p3701" not in hil(site, "lab", "show", str(file)).stdout  # no module was written, and it is no Orin
    absent = hil(None, "lab", "validate", str(file))
    assert absent.returncode == 2
    assert "driver: unknown driver 'sshhost'. Allowed: container, jetson" in absent.stderr
    file.write_text(LAB.replace("kind: acme", "kind: acmee"))
    assert "did you mean acme?" in hil(site, "lab", "validate", str(file)).stderr


def test_the_reference_has_their_sections_and_examples(site: Path) -> None:
    text = hil(site, "lab", "reference").stdout
    assert "### boards: sshhost" in text and "### power: acme" in text
    assert "kind: acme\n  address: 192.0.2.23" in text


def test_doctor_checks_them(site: Path, tmp_path: Path) -> None:
    file = tmp_path / "lab.yaml"
    file.write_text(LAB)
    checks = json.loads(hil(site, "doctor", "--lab", str(file), "--json").stdout)["checks"]
    found = {check["id"]: check for check in checks if check["id"].startswith("h1 ")}
    assert "Acme 127.88.1.1:9: cannot connect" in found["h1 power"]["found"]
    assert "there is no key /nowhere/key" in found["h1 management"]["found"]


def test_the_fault_is_listed(site: Path) -> None:
    assert "disk-full" in hil(site, "fault", "list").stdout


def test_a_broken_package_stops_only_the_lab_files_that_name_its_kinds(site: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken-1.0.dist-info"
    broken.mkdir()
    (broken / "METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 1.0\n")
    (broken / "entry_points.txt").write_text("[hil.outlets]\ncracked = no_such_module:KIND\n")
    file = tmp_path / "lab.yaml"
    both = Path(f"{site}{os.pathsep}{tmp_path}")
    file.write_text(LAB)
    assert hil(both, "lab", "validate", str(file)).returncode == 0
    file.write_text(LAB.replace("kind: acme", "kind: cracked"))
    done = hil(both, "lab", "validate", str(file))
    assert done.returncode == 2
    assert "'cracked' of hil.outlets cannot be loaded from broken (no_such_module:KIND)" in done.stderr
