"""What the keeper of a bench owns of a real Jetson."""

from __future__ import annotations

import os
import tty
from contextlib import ExitStack
from pathlib import Path
from typing import Any, cast

from hil.boards.kinds import Rack, Site, kind_of
from hil.boards.protocol import Via
from hil.core import netns
from hil.lab.model import load_lab
from tests.kits.real_board_lab import HOST_KEY

LAB = """
schema: 1
name: one
ground_station: {{name: gs-1}}
gateway: b1
spacecraft:
  - name: sc-a
    boards:
      - name: b1
        driver: jetson
        jetson:
          ssh: {{address: 127.88.1.2, port: 9, key_file: /nowhere/key, host_key: {host_key}}}
          console: {{url: {tty}}}
          supervisor:
            power:
              kind: command
              turn_on: [sh, -c, "echo on >{state}"]
              turn_off: [sh, -c, "echo off >{state}"]
              state: [cat, {state}]
              state_on: "on"
              state_off: "off"
links:
  - {{name: ground, kind: ground, between: [gs-1, sc-a], one_way_delay_us: 4000, rate_bps: 100000000}}
"""


def test_a_real_board_is_left_without_power_though_its_os_does_not_answer(tmp_path: Path) -> None:
    master, slave = os.openpty()
    tty.setraw(slave)
    state, lab = tmp_path / "state", tmp_path / "lab.yaml"
    state.write_text("on\n")
    lab.write_text(LAB.format(host_key=HOST_KEY, tty=os.ttyname(slave), state=state))
    (spec,) = load_lab(lab).boards
    site = Site(
        bench="one",
        spacecraft="sc-a",
        addresses={Via.MANAGEMENT: (netns.HOST, "127.88.1.2")},
        facts={},
        disks=tmp_path,
        management="",
        strip=("", 0),
        client=cast(Any, None),
        image_id="",
        plug=lambda pid: None,
        pki=cast(Any, None),
    )
    with ExitStack() as stack:
        equipment = kind_of(spec).equip(spec, site, Rack(tmp_path, cast(Any, None), stack))
        os.write(master, b"tegra login: ")
        equipment.board.console.wait_for("login: ", deadline_s=10.0)
        assert equipment.console.log == tmp_path / "consoles/b1.console.log"
        equipment.take_down()
    assert state.read_text() == "off\n"
    os.close(master)
    os.close(slave)
