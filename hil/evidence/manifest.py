"""The manifest of a run directory: the sha256 of every file, in the format of ``sha256sum``.

``cd RUN && sha256sum -c SHA256SUMS`` checks it without this software, but does not see files that were put in.
The digest of the manifest stands for the whole run: the run store keeps it, and the signed statement names it.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

from hil.core.files import plain_bytes, sha256_of, write_atomic
from hil.errors import ConfigurationError
from hil.evidence.record import EVIDENCE, RESULT

MANIFEST = "SHA256SUMS"
STATEMENT = "statement.dsse.json"
"""The signed statement names the manifest, so the manifest cannot name it."""
REPORT = "report.html"
JUNIT = "junit.xml"
REPORT_ERROR = "report-error.txt"
REMADE = frozenset({EVIDENCE, RESULT, REPORT, JUNIT, REPORT_ERROR})
"""Files that making a report writes; each other file keeps the digest that it got first."""
MOST_FILES = 100_000


def seal(directory: Path, *, grown: Collection[str] = ()) -> None:
    """Write the manifest.

    A file that was sealed before keeps its first digest, unless a report writes it or it has ``grown`` since: sealing
    again hides no change.
    """
    first = {name: digest for name, digest in _read(directory).items() if name not in {*REMADE, *grown}}
    write_atomic(directory / MANIFEST, _text({**_digests(directory), **first}), durable=False)


def differences(directory: Path) -> list[str]:
    """Return where the files of a run are not what its manifest says, a sentence each; empty when all is as it was."""
    if not (directory / MANIFEST).is_file():
        return [f"there is no {MANIFEST}: nothing shows what the run's files were"]
    written, now = _read(directory), _digests(directory)
    found = [
        *(f"{name} is missing" for name in written if name not in now),
        *(f"{name} is not in the manifest: it was put in" for name in now if name not in written),
        *(f"{name} was changed" for name in written if name in now and written[name] != now[name]),
        *(f"{name}: {what}, so nothing shows what it holds" for name, what in now.items() if " " in what),
    ]
    if not found and plain_bytes(directory / MANIFEST) != _text(now):
        found.append(f"{MANIFEST} was changed: it is not as it was written")
    return sorted(found)


def _digests(directory: Path) -> dict[str, str]:
    """Return the digest of every file by its name; of what is no plain file, what it is."""
    found: dict[str, str] = {}
    for path in _files(directory):
        name = path.relative_to(directory).as_posix()
        if name in (MANIFEST, STATEMENT):
            continue
        if len(found) >= MOST_FILES:
            raise ConfigurationError(
                f"{directory} has more than {MOST_FILES} files", remedy="is it a run? Name the directory of one run"
            )
        try:
            found[name] = sha256_of(path) if path.is_file() and not path.is_symlink() else "no plain file"
        except OSError as exc:
            found[name] = f"cannot be read: {exc.strerror}"
    return found


def _files(directory: Path) -> Iterator[Path]:
    for folder, folders, files in os.walk(directory):
        yield from (Path(folder, name) for name in files)
        yield from (Path(folder, name) for name in folders if Path(folder, name).is_symlink())


def _text(digests: dict[str, str]) -> bytes:
    lines = (_line(name, digests[name]) for name in sorted(digests))
    return "".join(lines).encode("utf-8", "surrogateescape")


def _line(name: str, digest: str) -> str:
    r"""Return a line as ``sha256sum`` writes it: a name with ``\`` or an end of line is escaped, and so marked."""
    escaped = name.replace("\\", "\\\\").replace("\n", "\\n").replace("\r", "\\r")
    mark = "\\" if escaped != name else ""
    return f"{mark}{digest}  {escaped}\n"


def _read(directory: Path) -> dict[str, str]:
    """Return what a manifest says; lines that are none are left out."""
    try:
        text = plain_bytes(directory / MANIFEST).decode("utf-8", "surrogateescape")
    except OSError:
        return {}
    return dict(_entries(text.split("\n")))


def _entries(lines: Iterable[str]) -> Iterator[tuple[str, str]]:
    for line in lines:
        digest, gap, name = line.partition("  ")
        if not gap:
            continue
        if digest.startswith("\\"):
            digest = digest[1:]
            name = name.replace("\\\\", "\0").replace("\\n", "\n").replace("\\r", "\r").replace("\0", "\\")
        yield name, digest
