"""Small files of a board, many at a time, over a shell."""

from __future__ import annotations

from collections.abc import Iterable

from hil.boards.protocol import Shell

# One shell, no other process: a hundred sysfs files cost one round trip.  `read` reports a sensor that answers
# EAGAIN or EINVAL (a zone without power) by failing; with `cat` that would have to be told from an empty file.
_READ_ALL = r"""
root=$1; shift; IFS=
for pattern in "$@"; do
  for file in $root$pattern; do
    [ -e "$file" ] || continue
    any=
    while { line=; read -r line || [ -n "$line" ]; }; do
      any=1
      printf '=%s\t%s\n' "$file" "$line"
    done 2>/dev/null <"$file"
    [ "$any" ] || printf '!%s\t\n' "$file"
  done
done 2>/dev/null
"""


class BoardFiles:
    """Small text files of the board, many at a time."""

    def __init__(self, remote: Shell, root: str = "") -> None:
        """Put ``root`` before every path: for boards that are a tree of files in a test."""
        self._remote = remote
        self._root = root

    def read_all(self, patterns: Iterable[str], *, timeout_s: float = 15.0) -> dict[str, str | None]:
        """Return contents by path of every file that matches one of the shell ``patterns``, in one command.

        None: the file is there and gives nothing (empty, or its read fails, as a sensor without power does).
        A file that is not there is not in the answer.  DeviceError after ``timeout_s``.
        """
        argv = ["sh", "-c", _READ_ALL, "sh", self._root, *patterns]
        contents: dict[str, str | None] = {}
        for row in self._remote.run(argv, timeout_s=timeout_s).stdout.split("\n"):
            path, tab, text = row[1:].partition("\t")
            if not tab or row[0] not in "=!":
                continue
            path = path.removeprefix(self._root)
            before = contents.get(path)
            contents[path] = None if row[0] == "!" else text if before is None else f"{before}\n{text}"
        return contents
