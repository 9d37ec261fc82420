"""A container board's non-volatile storage on the host: slots, data partition, UEFI-like variables."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from hil.boards.container.power_cut import copy_sparse
from hil.core.files import write_atomic
from hil.core.paths import cache
from hil.errors import ConfigurationError
from hil.images.flight_pki import board_files, flight_pki
from hil.images.packages import run_tool
from hil.onboard.boot_control import BootControl, Variables
from hil.onboard.twin import jetson_files
from hil.onboard.twin.modules import MODULES

if TYPE_CHECKING:
    from hil.boards.container.board import BoardFacts
    from hil.images.bundles import OsImage
    from hil.images.pki import Pki

MIB = 1024 * 1024
DATA_SIZE_BYTES = 512 * MIB
LEAST_DATA_BYTES = 64 * MIB
"""The node service keeps some room free, and a file system has its own."""
SLOT_SIZE_BYTES = 96 * MIB


def prepare_nv_dir(
    nv_dir: Path,
    facts: BoardFacts,
    factory: OsImage,
    pki: Pki,
    *,
    slot_size_bytes: int = 0,
    data_size_bytes: int = DATA_SIZE_BYTES,
) -> None:
    """Make ``slot_a.img slot_b.img data.img vars/ board.json`` as a board leaves the factory.

    Files are sparse.  ``slot_size_bytes`` 0 means: the factory image and a half, at least 96 MiB.
    The board's SSH host key is ``pki.host_key(facts.name)``; ``pki.ssh_key`` may log in as root.  With flight
    security its certificate is of the PKI beside ``nv_dir``.
    ConfigurationError when the image does not fit into the slot, or the data partition is too small to work with.
    """
    if data_size_bytes < LEAST_DATA_BYTES:
        raise ConfigurationError(
            f"board {facts.name}: a data partition of {data_size_bytes} bytes is too small",
            remedy=f"in the lab file, give quotas.storage_bytes of its tenant at least {LEAST_DATA_BYTES}",
        )
    slot_size = slot_size_bytes or max(SLOT_SIZE_BYTES, factory.size_bytes * 3 // 2 // MIB * MIB)
    if factory.size_bytes > slot_size:
        raise ConfigurationError(
            f"board {facts.name}: a slot of {slot_size} bytes cannot hold {factory.path.name} "
            f"({factory.size_bytes} bytes)",
            remedy="raise the slot size in the lab file",
        )
    shutil.rmtree(nv_dir, ignore_errors=True)
    if facts.twin:
        jetson_files.lay_out(nv_dir / jetson_files.DIRECTORY, MODULES[facts.module])
    variables = nv_dir / "vars"
    variables.mkdir(parents=True)
    for name in ("slot_a.img", "slot_b.img"):
        copy_sparse(factory.path, nv_dir / name, size_bytes=slot_size)
        # The firmware's measurement of an image that nobody has touched since is known already.
        state = (nv_dir / name).stat()
        key = f"{state.st_mtime_ns}:{state.st_size}:{factory.size_bytes}"
        memory = {"key": key, "sha256": factory.sha256}
        (nv_dir / f"measured_{name[5]}.json").write_text(json.dumps(memory))
    # Not fsynced: nothing runs on it yet, and an interrupted preparation is done again from the start.
    BootControl(Variables(variables, durable=False)).initialise()
    document = {**asdict(facts), "hosts": dict(facts.hosts)}
    (nv_dir / "board.json").write_text(json.dumps(document, indent=1) + "\n")
    flight = board_files(flight_pki(nv_dir.parent), facts.name) if facts.flight_security != "none" else {}
    _make_data_partition(nv_dir / "data.img", facts.name, pki, data_size_bytes, flight)


def _make_data_partition(image: Path, board: str, pki: Pki, size_bytes: int, flight: Mapping[str, bytes]) -> None:
    """Make an ext4 image with the keys in ``/ssh``, and those of flight security in ``/flight``; 50 ms, sparse."""
    host_key = pki.host_key(board)
    cache().mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache(), prefix="data-") as scratch:
        tree = Path(scratch) / "tree"
        ssh = tree / "ssh"
        ssh.mkdir(parents=True)
        ssh.chmod(0o700)
        tree.chmod(0o755)
        write_atomic(ssh / "ssh_host_ed25519_key", host_key.private.read_bytes(), mode=0o600, durable=False)
        write_atomic(ssh / "authorized_keys", f"{pki.ssh_public_line} harness\n", mode=0o600, durable=False)
        for name, content in flight.items():
            (tree / "flight").mkdir(mode=0o700, exist_ok=True)
            write_atomic(tree / "flight" / name, content, mode=0o600, durable=False)
        with image.open("wb") as file:
            file.truncate(size_bytes)
        # No lazy initialisation: it would write to the partition behind a campaign's back. A small journal and
        # no reserved blocks leave the room to bundles.
        options = "lazy_itable_init=0,lazy_journal_init=0,root_owner=0:0,nodiscard"
        argv = ["mkfs.ext4", "-q", "-F", "-b", "4096", "-m", "0", "-N", "8192", "-J", "size=8", "-E", options]
        run_tool([*argv, "-L", "data", "-d", str(tree), str(image)])
