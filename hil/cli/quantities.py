"""Values with units on the command line: delays, rates and shares, within what a lab file may say."""

from __future__ import annotations

import re
from decimal import Decimal

import click

from hil.core.wait import duration_s

_RATE = re.compile(r"(?P<number>\d+(?:\.\d+)?)\s*(?P<size>[kKMG]?)(?:bit|bps)(?:/s|ps)?")
_SIZES = {"": 1, "k": 10**3, "K": 10**3, "M": 10**6, "G": 10**9}
_SHARE = re.compile(r"(?P<number>\d+(?:\.\d+)?)\s*(?P<unit>%|ppm)")
_UNITS_PPM = {"%": 10_000, "ppm": 1}


class _Quantity(click.ParamType[int]):
    """A number with its unit; the command's function gets whole small units."""

    written = ""

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        try:
            return self.read(str(value).strip())
        except ValueError as exc:
            self.fail(f"{exc}; write {self.written}", param, ctx)

    def read(self, text: str) -> int:
        """Return the value. ValueError says what is wrong."""
        raise NotImplementedError


class Delay(_Quantity):
    """A time, in microseconds."""

    name = "DURATION"
    written = "20ms or 14386us, with its unit"

    def __init__(self, *, most_us: int) -> None:
        self._most_us = most_us

    def read(self, text: str) -> int:
        if re.fullmatch(r"[\d.]+", text) and text.strip("0.") != "":
            raise ValueError(f"{text} has no unit")
        us = round(duration_s(text) * 1_000_000)
        if us > self._most_us:
            raise ValueError(f"{text} is more than a link can have, {self._most_us / 1_000_000:g}s")
        return us


class Rate(_Quantity):
    """A rate, in bit/s; 0 is no limit."""

    name = "RATE"
    written = "50Mbit, 2.5Gbit/s or 64kbit; none for no limit"

    def read(self, text: str) -> int:
        from hil.lab.link_spec import MAX_RATE_BPS, MIN_RATE_BPS

        if text in ("0", "none"):
            return 0
        found = _RATE.fullmatch(text)
        if found is None:
            raise ValueError(f"{text!r} is no rate")
        bps = int(Decimal(found["number"]) * _SIZES[found["size"]])
        if not MIN_RATE_BPS <= bps <= MAX_RATE_BPS:
            low, high = (f"{each / 10**3:g}kbit" for each in (MIN_RATE_BPS, MAX_RATE_BPS))
            raise ValueError(f"{text} is not between {low} and {high}, which a link can have")
        return bps


class Share(_Quantity):
    """A share of packets, per million."""

    name = "SHARE"
    written = "1%, 0.05% or 500ppm"

    def read(self, text: str) -> int:
        found = re.fullmatch(r"(?P<number>0)(?P<unit>)", text) or _SHARE.fullmatch(text)
        if found is None:
            raise ValueError(f"{text!r} is no share")
        ppm = int(Decimal(found["number"]) * _UNITS_PPM.get(found["unit"], 0))
        if ppm > 1_000_000:
            raise ValueError(f"{text} is more than all packets")
        return ppm
