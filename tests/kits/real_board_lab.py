"""A lab file with one real board among stand-ins."""

from __future__ import annotations

from pathlib import Path

from hil.core import paths
from hil.lab.model import Lab, load_lab

MIXED = (paths.ROOT / "lab/mixed.yaml").read_text()
STAND_IN = "{name: b1, driver: jetson, module: p3701-0005, jetson: {stand_in: container}}"
HOST_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ4R5vKfJ0iFIEXjzV0jW9sZsV0s8Zt8xj3W0kz2Xh1J"
REAL = f"""
        name: b1
        driver: jetson
        module: p3701-0005
        serial: "1421623012345"
        jetson:
          ssh: {{address: 192.0.2.11, user: nvidia, key_file: ~/.ssh/lab, host_key: {HOST_KEY}}}
          console: {{url: /dev/serial/by-path/pci-0000:00:14.0-usb-0:3:1.0}}
          supervisor:
            power: {{kind: shelly-gen2, address: 192.0.2.20, outlet: 0}}
"""


def lab_of(tmp_path: Path, board: str) -> Lab:
    assert f"- {STAND_IN}" in MIXED
    file = tmp_path / "lab.yaml"
    file.write_text(MIXED.replace(f"- {STAND_IN}", f"-{board}"))
    return load_lab(file)
