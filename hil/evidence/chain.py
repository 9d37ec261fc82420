"""The chain of digests over the lines of evidence: each line carries the sha256 of the line before it.

It shows that a line was changed, taken out or put in after it was written.  That lines are missing at the end is seen
by those who kept the head of the chain: ``result.json``, the run store and the page do.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path

from hil.core.files import plain_bytes

MOST_EVIDENCE = 1_000_000_000
"""Bytes of an evidence file that are read."""
_LINK = re.compile(rb'"prev":"([0-9a-f]{64})?"\}$')


def digest_of(line: bytes) -> str:
    """Return the digest that the next line carries, of a line without its end."""
    return hashlib.sha256(line).hexdigest()


@dataclass(frozen=True)
class Chain:
    """What the digests of an evidence file show."""

    lines: tuple[str, ...] = ()
    """Digest of each line."""
    linked: bool = False
    """False: its lines carry no digests (a version before they did), so that nothing is shown."""
    broken: str = ""
    """The first line that does not follow from the one before, in words; empty when there is none."""

    @property
    def first(self) -> str:
        """Digest of the first line: two runs that have the same are one run, copied."""
        return self.lines[0] if self.lines else ""


NO_CHAIN = Chain()


def read_chain(path: Path) -> Chain:
    """Return the chain of an evidence file; an empty one when there is no file.  OSError: it cannot be read."""
    try:
        lines = [line for line in plain_bytes(path, most_bytes=MOST_EVIDENCE).split(b"\n") if line.strip()]
    except FileNotFoundError:
        return NO_CHAIN
    links = [_LINK.search(line) for line in lines]
    digests = tuple(map(digest_of, lines))
    if not any(links):
        return Chain(digests)
    broken = ""
    for number, (line, link) in enumerate(zip(lines, links, strict=True), start=1):
        before = digests[number - 2] if number > 1 else ""
        # a killed writer leaves half a line, and the next one carries its digest
        follows = _is_torn(line) if link is None else (link[1] or b"").decode() == before
        if not follows:
            broken = f"line {number} does not follow from the one before it"
            break
    return Chain(digests, True, broken)


def _is_torn(line: bytes) -> bool:
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return True
    return False
