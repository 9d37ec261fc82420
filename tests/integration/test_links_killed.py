"""Link boxes in User-Mode Linux that are killed, or cannot come up: nothing of them stays, the next one comes up."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from hil.core import netns, paths
from hil.core.wait import wait_until
from hil.errors import BenchError
from hil.links.commanded import RecordFile
from hil.links.link_box import End, LinkBox, Wire
from tests.kits.link_namespaces import CROSS, namespaces, nics_in, wires

pytestmark = [pytest.mark.integration, pytest.mark.side_by_side]


def processes_with(text: str) -> list[str]:
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if text.encode() in entry.read_bytes():
                found.append(entry.parent.name)
        except OSError:
            continue  # it ended while we looked
    return found


@pytest.mark.parametrize("victim", ["owner", "launcher"])
def test_a_killed_owner_or_engine_leaves_no_process_and_the_next_bench_comes_up(tmp_path: Path, victim: str) -> None:
    program = (
        "import sys, time; from pathlib import Path\n"
        "from hil.links.link_box import LinkBox; from tests.kits.link_namespaces import wires\n"
        "box = LinkBox.up(sys.argv[1] + 'box', wires(sys.argv[1]), socket_path=Path(sys.argv[2]), engine='uml')\n"
        "print(*(f'{agent.pid} {agent.directory}' for agent in box.agents), sep=',', flush=True)\n"
        "time.sleep(60)\n"
    )
    with namespaces("kill") as prefix:
        argv = [sys.executable, "-c", program, prefix, str(tmp_path / "s")]
        with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, cwd=paths.ROOT) as owner:
            assert owner.stdout is not None
            kernels = [each.split() for each in owner.stdout.readline().split(",")]
            directories = [directory for _, directory in kernels]
            for directory in directories:
                assert len(processes_with(directory)) >= 3  # launcher, minder, User-Mode Linux
            os.kill(owner.pid if victim == "owner" else int(kernels[-1][0]), signal.SIGKILL)

            def gone(directory: str) -> None:
                wait_until(lambda: not processes_with(directory), what=f"{directory} to end", deadline_s=30)

            gone(directories[-1])
            if victim == "launcher":
                with pytest.raises(BenchError, match="gone"), LinkBox.attach(tmp_path / "s") as client:
                    client.show()
            owner.kill()
            for directory in directories:
                gone(directory)
                shutil.rmtree(directory, ignore_errors=True)  # `hil clean` does this too
        with pytest.raises(BenchError, match="no link box answers"):
            LinkBox.attach(tmp_path / "s")
        for name in ("gs", "a", "b", "box"):  # what `hil clean` does; the NICs go with their namespaces
            netns.delete(prefix + name)
            netns.create(prefix + name)
        with LinkBox.up(prefix + "box", wires(prefix), socket_path=tmp_path / "s", engine="uml") as again:
            assert all(status.up for status in again.show())


def test_a_box_that_cannot_come_up_leaves_nothing_behind(tmp_path: Path) -> None:
    with namespaces("fail") as prefix:
        broken = [*wires(prefix), Wire("nowhere", End(prefix + "none", "x0"), End(prefix + "b", "x0"), CROSS, CROSS)]
        with pytest.raises(BenchError, match="x0 in "):
            LinkBox.up(prefix + "box", broken, socket_path=tmp_path / "s", engine="uml")
        assert nics_in(prefix + "box") == ["lo"]
        assert nics_in(prefix + "a") == ["lo"]
        with LinkBox.up(prefix + "box", wires(prefix), socket_path=tmp_path / "s", engine="uml") as box:
            # the second box's namespaces are taken: its failure does not harm the first
            with pytest.raises(BenchError, match="cannot make the link NICs"):
                LinkBox.up(prefix + "box", wires(prefix), socket_path=tmp_path / "t", engine="uml")
            assert all(status.up for status in box.show())
    assert not RecordFile.beside(tmp_path / "s").path.exists()
