"""One worked example for every section of an orbit file: model class to what stands below its key.

For ``hil lab reference``; the unit tests read each with its model.
"""

from __future__ import annotations

EXAMPLES: dict[str, str] = {
    "OrbitFile": """\
schema: 1
name: ring-of-ten
epoch: "2026-03-21T00:00:00Z"
shell: {planes: 1, slots_per_plane: 10, altitude_km: 600.0, ltan: "18:00"}
ground_stations:
  - {name: gs-1, latitude_deg: 78.23, longitude_deg: 15.41}
assumed:
  - "altitude 600 km, LTAN 18:00: the operator's elements are not public"
""",
    "Shell": """\
planes: 2
slots_per_plane: 5
altitude_km: 600.0
inclination_deg: 97.79     # or ltan: "18:00" for both angles
raan_deg: 0.0
raan_spread_deg: 180.0     # two planes: 90 degrees apart
""",
    "Station": """\
name: gs-1
latitude_deg: 78.23
longitude_deg: 15.41
height_km: 0.45
mask_deg: 10.0
rate_bps: 100000000
""",
    "Crosslinks": """\
grazing_floor_km: 80.0
max_range_km: 6500.0
rate_bps: 2500000000
""",
    "Terminals": """\
per_spacecraft: 4
slew_deg_per_s: 25.0
acquire: {median_s: 20.0, p99_s: 100.0}
bit_error_rate: 1.0e-12
fades: {per_hour: 6.0, longest_ms: 200.0}
""",
    "Duration": """\
median_s: 20.0
p99_s: 100.0
""",
    "Fades": """\
per_hour: 6.0
shortest_ms: 1.0
longest_ms: 200.0
lost_after_ms: 50.0
""",
}
