"""Flashing a Jetson Orin with NVIDIA's ``l4t_initrd_flash.sh``.

Before anything is written three things must say the same module: the lab file, the USB identity of its boot ROM, and
its EEPROM.  The boot ROM cannot tell every pair of modules apart, the EEPROM can: the tool reads and prints it while it
generates images, before it boots the module; where nothing is generated (``step="flash"``) the caller brings what was
read earlier (``JetsonIdentity.tnspec_part``).
"""

from __future__ import annotations

import os
import re
import select
import signal
import subprocess
import time
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Literal

from hil.boards.jetson.flash.recovery import UsbPort
from hil.boards.jetson.modules import SKUS
from hil.core.command import Progress, run, silent
from hil.errors import BenchError, ConfigurationError
from hil.lab.yaml_tree import read_tree

TOOL = "tools/kernel_flash/l4t_initrd_flash.sh"
NVME_LAYOUTS = (
    "tools/kernel_flash/flash_l4t_t234_nvme.xml",
    "tools/kernel_flash/flash_l4t_external.xml",  # L4T 35.1, and storage that is no NVMe
)
NVME_AB_LAYOUTS = (
    "tools/kernel_flash/flash_l4t_t234_nvme_rootfs_ab.xml",
    "tools/kernel_flash/flash_l4t_nvme_rootfs_ab.xml",  # L4T 35, 36.3
)
QSPI_LAYOUTS = (
    "bootloader/generic/cfg/flash_t234_qspi.xml",
    "bootloader/t186ref/cfg/flash_t234_qspi.xml",  # L4T 35
)
"""Partition layouts, the newest name first: which of them a tree has depends on its release."""
DEADLINE_S = 45 * 60.0
"""A flash takes 2 to 30 minutes."""
SILENCE_S = 10 * 60.0
"""The longest quiet stretch is the writing of a root file system over USB 2."""
END_S = 10.0
"""The tool gets so long to end when it is asked to, and again when it is killed."""

_STEP = re.compile(r"Step (\d+): (.+?)\s*\*?\s*$")
_BOARD = re.compile(r"Board ID\((\d*)\) version\(([^)]*)\) sku\((\d*)\) revision\(([^)]*)\)")
_WRITING = "Start the flashing process"
_BOOTING = "Boot the device with flash initrd image"
_NOTABLE = ("Waiting for target to boot-up", "SSH ready", "Starting to flash", "Formatting ", "Successfully flash")


@dataclass(frozen=True)
class FlashPlan:
    """What is flashed how. Paths of layouts are relative to ``tree``.

    Source: NVIDIA's ``tools/kernel_flash/README_initrd_flash.txt``; workflow 5 is A/B on an external device.
    """

    tree: Path  # Linux_for_Tegra
    config: str  # "jetson-orin-nano-devkit": <config>.conf in the tree
    part: str  # the module in the lab file, "p3767-0005"
    step: Literal["all", "generate", "flash"] = "all"  # generate: images only; flash: those made before
    external_device: str = "nvme0n1p1"  # empty: the module's own eMMC only
    external_layout: str = ""  # default: the one of NVME_LAYOUTS (with ab: NVME_AB_LAYOUTS) that the tree has
    external_size: str = ""  # of one root file system, "8GiB"; an A/B layout needs it
    internal_layout: str = ""  # default: the one of QSPI_LAYOUTS that the tree has
    root_device: str = ""  # the last argument; default: internal, or external with ab
    ab: bool = False  # root file systems A and B
    massflash: int = 1  # modules at once
    network: str = "usb0"
    environment: Mapping[str, str] = field(default_factory=dict)  # BOARDID, BOARDSKU, FAB: generate offline

    @property
    def layouts(self) -> tuple[str, str]:
        """Layout of the external storage, and of the module's QSPI flash."""
        external = NVME_AB_LAYOUTS if self.ab else NVME_LAYOUTS[not self.external_device.startswith("nvme") :]
        return self.external_layout or self._in_tree(external), self.internal_layout or self._in_tree(QSPI_LAYOUTS)

    def _in_tree(self, names: Sequence[str]) -> str:
        return next((name for name in names if (self.tree / name).is_file()), names[0])

    def argv(self, ports: Sequence[UsbPort] = ()) -> list[str]:
        """Return the tool's command line, run in ``tree``. One port is handed over by its path."""
        argv = [f"./{TOOL}"]
        if self.external_device:
            external, internal = self.layouts
            argv += ["--external-device", self.external_device, "-c", external]
            if self.external_size:
                argv += ["-S", self.external_size]
            argv += ["-p", f"-c {internal}"]
        argv += ["--showlogs"] if self.massflash == 1 else []  # it opens a terminal window per module
        argv += ["--network", self.network]
        if self.step != "all":
            argv.append("--no-flash" if self.step == "generate" else "--flash-only")
        if self.massflash > 1:
            argv += ["--massflash", str(self.massflash)]
        elif len(ports) == 1:
            argv += ["--usb-instance", ports[0].path]
        return [*argv, self.config, self.root_device or ("external" if self.ab else "internal")]

    def env(self) -> dict[str, str]:
        """Return what is added to the environment."""
        return {**({"ROOTFS_AB": "1"} if self.ab else {}), **self.environment, "LC_ALL": "C.UTF-8"}

    def check(self) -> None:
        """Raise ConfigurationError when the tree lacks something, or the parts do not fit together."""
        if self.part not in SKUS:
            raise ConfigurationError(f"no Orin module is called {self.part}", remedy=", ".join(sorted(SKUS)))
        if self.massflash > 1 and self.step == "all":
            raise ConfigurationError(
                f"{self.massflash} modules cannot be flashed and have images generated in one go",
                remedy='first step="generate" for one kind of module, then step="flash"',
            )
        needed = [TOOL, f"{self.config}.conf"]
        if self.external_device:
            needed += self.layouts
        if missing := [name for name in needed if not (self.tree / name).is_file()]:
            there = sorted(path.name for path in self.tree.glob("tools/kernel_flash/*.xml"))
            raise ConfigurationError(
                f"{self.tree}: lacks {', '.join(missing)}",
                remedy="give the Linux_for_Tegra folder of the BSP, after apply_binaries.sh"
                + (f"; layouts there: {', '.join(there)}" if there else ""),
            )


@dataclass(frozen=True)
class FlashReport:
    """What a flash did."""

    seconds: float
    eeprom_part: str  # empty when the tool did not read it
    complaints: tuple[str, ...]  # known error lines of a flash that succeeded all the same


def flash(
    plan: FlashPlan,
    ports: Sequence[UsbPort],
    *,
    log: Path,
    eeprom_part: str = "",
    progress: Progress = silent,
    deadline_s: float = DEADLINE_S,
    silence_s: float = SILENCE_S,
    prefix: Sequence[str] = (),
) -> FlashReport:
    """Flash the modules in recovery on ``ports``; every line goes to ``log``.

    ``eeprom_part`` is what the module's EEPROM said earlier; needed for ``step="flash"``.  ``prefix`` goes before the
    command line, e.g. ``("sudo", "-n", "-E")``.  ConfigurationError when anything says another module: nothing was
    written then.  BenchError when the tool fails, stalls, runs past ``deadline_s`` or cannot be ended; it says whether
    the module may be half written.
    """
    plan.check()
    _agree(plan, ports, eeprom_part)
    return _Tool(plan, log, eeprom_part, progress).run(prefix, plan.argv(ports), deadline_s, silence_s)


def _agree(plan: FlashPlan, ports: Sequence[UsbPort], eeprom_part: str) -> None:
    """Check that lab file, boot ROM and EEPROM name one module, before the tool is started."""
    if eeprom_part and eeprom_part != plan.part:
        raise _other_module(plan, eeprom_part)
    if plan.step == "generate":
        return
    if len(ports) != plan.massflash:
        raise ConfigurationError(
            f"{plan.massflash} modules are to be flashed, on {len(ports)} USB ports", remedy="name one port for each"
        )
    for port in ports:
        port.check(plan.part)
    if plan.step == "flash" and not eeprom_part:
        raise ConfigurationError(
            f"flashing prepared images reads no EEPROM, and nothing else tells {plan.part} from its like",
            remedy="read the identity while its Linux runs (TNSPEC), or let the tool generate the images",
        )
    if plan.massflash == 1:
        ports[0].alone_in_recovery()


def _other_module(plan: FlashPlan, eeprom_part: str) -> ConfigurationError:
    name = f" ({SKUS[eeprom_part].name})" if eeprom_part in SKUS else ""
    return ConfigurationError(
        f"the lab file says {plan.part} ({SKUS[plan.part].name}), but the module's EEPROM says {eeprom_part}{name}; "
        "nothing was written",
        remedy="correct the lab file's module or USB port, or look which board is plugged there",
    )


@dataclass(frozen=True)
class Complaint:
    """A line that is known, and what to do about it, if that is known."""

    line: str
    remedy: str = ""
    often: bool = False  # good flashes print it, too
    unwritten: bool = False  # the tool ends there, and has written nothing
    step: str = ""


@cache
def _known() -> list[tuple[re.Pattern[str], Complaint]]:
    rows = read_tree(Path(__file__).with_name("complaints.yaml"))[1]
    return [(re.compile(row["line"]), Complaint(**row)) for row in rows]


class FlashOutput:
    """Takes the tool's lines and knows how far it is.

    Complaints are remembered, not acted upon: the tool prints ``ERROR: might be timeout in USB write`` and ``failed to
    read rcm_state`` in flashes that succeed.  They explain a failure once the tool has failed.
    """

    def __init__(self) -> None:
        self.step = ""  # e.g. "step 4: Boot the device with flash initrd image"
        self.eeprom_part = ""  # the module in recovery, by its own EEPROM: "p3701-0005"
        self.booting = False  # the module is being booted from RAM; what is written comes after this
        self.writing = False
        self.succeeded = False
        self.complaints: list[Complaint] = []
        self.tail: deque[str] = deque(maxlen=12)
        self._noted: set[str] = set()

    def line(self, text: str) -> str | None:
        """Take one line; what is worth telling a person about it, if anything."""
        text = text.strip()
        if not text or set(text) <= {"*", " "}:
            return None
        self.tail.append(text)
        for pattern, known in _known():
            if pattern.search(text):
                self.complaints.append(replace(known, line=text[:300], step=self.step))
                return None
        if match := _STEP.search(text):
            self.step = f"step {match[1]}: {match[2]}"
            self.booting |= match[2].startswith(_BOOTING)
            self.writing |= match[2].startswith(_WRITING)
            return self.step
        if match := _BOARD.search(text):
            self.eeprom_part = f"p{match[1]}-{match[3]}"
            return f"the EEPROM says {self.eeprom_part}, version {match[2]}, revision {match[4]}"
        if text == "Success" or "Flash is successful" in text:
            self.succeeded = True
            return None
        for word in _NOTABLE:
            if text.startswith(word) and word not in self._noted:
                self._noted.add(word)
                return text
        return None

    @property
    def complaint(self) -> Complaint | None:
        """What most likely broke it: the first known line of the step it is in; None when that has none."""
        here = [complaint for complaint in self.complaints if complaint.step == self.step]
        return next((complaint for complaint in here if not complaint.often), here[0] if here else None)


@dataclass
class _Tool:
    """One run of NVIDIA's tool."""

    plan: FlashPlan
    log: Path
    eeprom_part: str
    progress: Progress
    output: FlashOutput = field(default_factory=FlashOutput)

    def run(self, prefix: Sequence[str], argv: list[str], deadline_s: float, silence_s: float) -> FlashReport:
        """Run the tool to its end; raises what :func:`flash` raises."""
        plan, output, began = self.plan, self.output, time.monotonic()
        command = [*prefix, *argv]
        try:
            child = subprocess.Popen(
                command,
                cwd=plan.tree,
                env={**os.environ, **plan.env()},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # the tool starts many programs: they are ended together
            )
        except OSError as exc:
            raise BenchError(f"cannot start {command[0]}: {exc}", remedy=f"is {plan.tree / TOOL} executable?") from exc
        try:
            self._follow(child, began + deadline_s, silence_s)
            code = child.wait(timeout=30)
        except subprocess.TimeoutExpired:
            raise self._broken("closed its output and does not end") from None
        finally:
            _end(child, prefix)
        if code != 0:
            raise self._broken(f"exited {code}")
        if plan.step != "generate" and plan.massflash == 1 and not output.succeeded:
            raise self._broken("ended without saying that the flash was successful")
        complaints = tuple(complaint.line for complaint in output.complaints)
        return FlashReport(time.monotonic() - began, output.eeprom_part, complaints)

    def _follow(self, child: subprocess.Popen[bytes], end: float, silence_s: float) -> None:
        """Read until the tool closes its output."""
        assert child.stdout is not None
        self.log.parent.mkdir(parents=True, exist_ok=True)
        rest, data = b"", b"\n"
        with self.log.open("ab", buffering=0) as file:
            while data:
                patience_s = max(0.0, min(silence_s, end - time.monotonic()))
                ready = select.select([child.stdout], [], [], patience_s)[0]
                if time.monotonic() >= end:
                    raise self._broken("did not end within its time")
                if not ready:
                    raise self._broken(f"has said nothing for {silence_s:g} s")
                data = os.read(child.stdout.fileno(), 65536)
                file.write(data)
                *lines, rest = (rest + data).replace(b"\r", b"\n").split(b"\n")
                for line in lines if data else [rest]:
                    self._take(line.decode("utf-8", "replace"))

    def _take(self, line: str) -> None:
        """Take one line; raise when the tool is about to write to the wrong module, or to one not proven."""
        if note := self.output.line(line):
            self.progress(note)
        part = self.output.eeprom_part
        if part and part != self.plan.part:
            raise _other_module(self.plan, part)
        if self.output.booting and not part and not self.eeprom_part:
            raise BenchError(
                f"the flash tool was about to boot the module without having told its EEPROM, so that it is "
                f"{self.plan.part} is not proven; nothing was written",
                remedy="read the identity while its Linux runs (TNSPEC) and hand it over",
            )

    def _broken(self, what: str) -> BenchError:
        output, known = self.output, self.output.complaint
        written = "the module may be half written: flash it again before use"
        begun = output.writing and not (known and known.unwritten)
        state = written if begun else "nothing was written"
        where = f" in {output.step}" if output.step else ""
        said = repr(known.line) if known else "".join(f"\n    {line}" for line in output.tail)
        remedy = f"{known.remedy}; the whole log is" if known and known.remedy else "see the whole log,"
        return BenchError(f"the flash tool {what}{where}; {state}; it said: {said}", remedy=f"{remedy} {self.log}")


def _end(child: subprocess.Popen[bytes], prefix: Sequence[str]) -> None:
    """End the tool and what it started; it cleans up after itself when asked politely. BenchError when it lives on."""
    for number in (signal.SIGTERM, signal.SIGKILL) if child.poll() is None else ():
        try:
            os.killpg(child.pid, number)  # the second time: what did not listen
        except ProcessLookupError:
            pass
        except PermissionError:  # with ``sudo`` before it, it is root's
            with suppress(BenchError):
                run([*prefix, "kill", f"-{int(number)}", "--", f"-{child.pid}"], timeout_s=10)
        with suppress(subprocess.TimeoutExpired):
            child.wait(timeout=END_S)
    if child.stdout:
        child.stdout.close()
    if child.poll() is None:
        raise BenchError(
            "the flash tool could not be ended: it goes on, and may write to the module",
            remedy=f"end it as root (kill -9 -- -{child.pid}); then flash the module again before use",
        )
