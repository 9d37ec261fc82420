"""How far a measured link figure may be from the commanded one; docs/links.md explains the figures."""

DELAY_P50_TOLERANCE_US, DELAY_P95_TOLERANCE_US = 150, 500
SPARSE_TOLERANCE_US = 500
RATE_TOLERANCE_PERCENT = 3
SHARE_TOLERANCE_PERCENT = 2
"""Percentage points of what two tenants get together."""
UDP_CEILING_BPS = 300_000_000
"""Above it profile bulk is measured with TCP, whose packets may be large."""
LOSS_CONFIDENCE = 0.99
"""A measured loss may be anywhere in this central part of what the commanded one gives:
:mod:`hil.links.calibration.loss` works the interval out from the number of packets."""
CONSTANT_LIMIT_US = 1_000
STRAY_LOSS_PPM = 1_000
"""One packet in a thousand lost without a command is noise of a busy host; more is a broken bench."""
OUTAGE_TOLERANCE_US, EFFECT_TOLERANCE_US = 20_000, 50_000
