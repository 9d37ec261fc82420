"""One worked example for every section of a lab file: model class to what stands below its key.

For ``hil lab reference``; the unit tests read each with its model. Addresses are of the documentation range.
"""

from __future__ import annotations

_HOST_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ4R5vKfJ0iFIEXjzV0jW9sZsV0s8Zt8xj3W0kz2Xh1J"

EXAMPLES: dict[str, str] = {
    "Lab": """\
schema: 1
name: smallest
ground_station: {name: gs-1}
gateway: a1
spacecraft:
  - name: sc-a
    boards: [{name: a1}]
  - name: sc-b
    boards: [{name: b1}]
links:
  - {name: ground, kind: ground, between: [gs-1, sc-a], one_way_delay_us: 4000, rate_bps: 100000000}
  - {name: isl-ab, kind: crosslink, between: [sc-a, sc-b], one_way_delay_us: 14386, rate_bps: 200000000}
""",
    "BenchSpec": """\
engine: auto
link_profile: exact
seed: 1
""",
    "GroundStation": """\
name: gs-1
""",
    "Spacecraft": """\
name: sc-a
boards:
  - {name: a1, driver: container, module: p3701-0005}
  - {name: a2, driver: jetson, module: p3701-0005, jetson: {stand_in: container}}
""",
    "SshSpec": f"""\
address: 192.0.2.11
user: nvidia
key_file: ~/.ssh/lab
host_key: {_HOST_KEY}
jump: {{address: 192.0.2.1, user: lab, host_key: {_HOST_KEY}}}
""",
    "JumpSpec": f"""\
address: 192.0.2.1
user: lab
host_key: {_HOST_KEY}
""",
    "ConsoleSpec": """\
url: /dev/serial/by-path/pci-0000:00:14.0-usb-0:3:1.0-port0
baudrate: 115200
""",
    "SupervisorSpec": """\
power: {kind: shelly-gen2, address: 192.0.2.20, outlet: 0, password: env:STRIP_PASSWORD}
recovery_pin: {kind: gpio, chip: gpiochip0, line: 5}
reset_pin: {kind: gpio, chip: gpiochip0, line: 6}
min_off_s: 3
confirm_within_s: 10
""",
    "ShaperHostSpec": f"""\
ssh: {{address: 192.0.2.40, key_file: ~/.ssh/lab, host_key: {_HOST_KEY}}}
links:
  ground:
    a: {{port: enp3s0, vlan: 110, near: enp4s0.110}}
    b: {{port: enp3s0, vlan: 111, near: enp4s0.111}}
  isl-ab:
    a: {{port: enp3s0, vlan: 120, near: enp4s0.120}}
    b: {{port: enp3s0, vlan: 121, near: enp4s0.121}}
""",
    "ShapedLinkSpec": """\
a: {port: enp3s0, vlan: 120, near: enp4s0.120}
b: {port: enp5s0, near: enp6s0}      # a port of its own, without VLAN
""",
    "PortSpec": """\
port: enp3s0
vlan: 120
near: enp4s0.120
""",
    "FlightSpec": """\
nic: enp3s0.101
""",
    "RecoverySpec": """\
usb_path: 1-4.2
""",
    "BudgetSpec": """\
boot_s: 240
shutdown_s: 60
answer_s: 10
""",
    "OrbitSpec": """\
file: orbits/ring-of-ten.yaml
epoch: "2026-03-21T00:50:00Z"
span_h: 12
""",
    "LinkSpec": """\
name: isl-ab
kind: crosslink
between: [sc-a, sc-b]
one_way_delay_us: 14386        # left out where the link follows the orbit
rate_bps: 200000000
nominal_rate_bps: 2500000000   # what the flight terminal has: results are marked rate-scaled
loss_ppm: 0
source: "assumed: neighbours in a ring of ten at 600 km"
""",
    "Direction": """\
rate_bps: 50000000
loss_ppm: 100
""",
}
