"""``hil doctor --lab``: whether the real boards of a lab file can be reached by every way that it names.

It only looks: strips are asked for their state, boards for who they are, all else is read from files.  No power is
switched, no serial port opened (that alone can reset an adapter's other end), no NIC touched, so it may run beside a
bench.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from hil.boards.jetson.flash.recovery import UsbPort
from hil.boards.jetson.identity import check_identity
from hil.boards.jetson.inspection import look
from hil.boards.power.build import supervisor_of
from hil.boards.protocol import PowerState
from hil.boards.ssh.shell import SshShell, Target
from hil.boards.wiring import way_in, wiring_of
from hil.core.sysfs import names_in, text_of
from hil.errors import ConfigurationError, HilError
from hil.host.doctor.this_host import Check, Status
from hil.lab.model import BoardSpec, Lab
from hil.lab.power import MicrocontrollerSpec
from hil.lab.real_board import BudgetSpec, JetsonSpec

ROOT = Path("/")
WITHOUT = "benches of other lab files work; this one does not come up"
NUISANCES = {
    "ModemManager": "sends AT to serial ports",
    "brltty": "takes serial adapters for braille displays",
}
"""Programs that write to a board's console by themselves."""
_AUTOSUSPEND = "sys/module/usbcore/parameters/autosuspend"
_KEEPER = "hil.bench.keeper"


def diagnose(lab: Lab, root: Path = ROOT) -> list[Check]:
    """Look at every real board of the lab, and at what on this host would disturb them; nothing for a virtual lab.

    ``root`` stands for this host's ``/``.
    """
    real = [board for board in lab.boards if board.jetson and not board.contained]
    if not real:
        return []
    with ThreadPoolExecutor(len(real)) as pool:
        found = list(pool.map(lambda board: _of_board(board, root), real))
    return [*_of_host(real, root), *(check for checks in found for check in checks)]


def _of_board(board: BoardSpec, root: Path) -> list[Check]:
    section = board.jetson
    assert section is not None  # real boards have one
    assert section.console is not None  # the lab file's own rule for a real board
    power, has_power = _power(board, section)
    console, on_a_bench = _console(board, section.console.url, root)
    return [
        power,
        _management(board, section, has_power=has_power),
        console,
        *_supervisor_ports(board, section, root),
        _flight(board, section, root, on_a_bench=on_a_bench),
        *_recovery(board, section, root, has_power=has_power),
    ]


def _power(board: BoardSpec, section: JetsonSpec) -> tuple[Check, bool]:
    """The check, and whether it is worth asking the board."""
    why = "what cannot be asked cannot be switched, and nothing is done to a board that cannot be cut off"
    assert section.supervisor is not None  # the lab file's own rule for a real board
    where = wiring_of(board)["power"]
    try:
        state = supervisor_of(board.name, section.supervisor).state()
    except HilError as exc:
        return _fault(board, "power", exc, why), True
    return _check(board, "power", "ok", f"{where}: {state}", why), state is PowerState.ON


def _management(board: BoardSpec, section: JetsonSpec, *, has_power: bool) -> Check:
    why = "every test works through it"
    assert section.ssh is not None  # the lab file's own rule for a real board
    there = way_in(section.ssh)
    key = Path(section.ssh.key_file).expanduser() if section.ssh.key_file else None
    if key is not None and not key.is_file():
        error = ConfigurationError(
            f"there is no key {key}", remedy="jetson.ssh.key_file in the lab file, or `ssh-keygen`"
        )
        return _fault(board, "management", error, why)
    if not has_power:
        remedy = f"switch it on by hand and look again, or `hil bench up` and `hil board show {board.name}`"
        return _check(board, "management", "warn", f"{there}: not asked, it has no power", why, remedy)
    budget_s = (section.budgets or BudgetSpec()).answer_s
    try:
        with SshShell(Target.of(board.name, section.ssh)) as shell:
            seen = look(shell, board=board.name, timeout_s=budget_s)
        check_identity(seen.who, board=board.name, module=board.module, serial=board.serial)
    except HilError as exc:
        return _fault(board, "management", exc, why)
    serial = "" if board.serial else "; pin it: a swapped board would go unnoticed"
    return _check(
        board,
        "management",
        "ok",
        f"{there}: {seen.who.model}, serial {seen.who.serial}{serial}, slot {seen.proof.slot}",
        why,
    )


def _console(board: BoardSpec, url: str, root: Path) -> tuple[Check, bool]:
    """The check, and whether a bench that is up has this board."""
    why = "without it nobody sees why a board does not boot"
    if "://" in url:
        found = f"{url}: not asked, a console server gives a line to one at a time"
        return _check(board, "console", "ok", found, why), False
    if absent := _absent(board, "console", url, why, root):
        return absent, False
    holders = _holders((root / url[1:]).resolve(), root)
    if foreign := [name for name, is_keeper in holders if not is_keeper]:
        remedy = "end that program: two readers each get half of the bytes"
        said = f"{url}: in use by {', '.join(foreign)}"
        return _check(board, "console", "fail", said, why, remedy), False
    found = f"{url}: {'in use by a bench that is up' if holders else 'there, and free'}"
    if url.startswith(("/dev/ttyUSB", "/dev/ttyACM")):
        remedy = "name it by /dev/serial/by-path/...: this number is another adapter's after the next plug"
        return _check(board, "console", "warn", found, why, remedy), bool(holders)
    return _check(board, "console", "ok", found, why), bool(holders)


def _supervisor_ports(board: BoardSpec, section: JetsonSpec, root: Path) -> Iterator[Check]:
    assert section.supervisor is not None  # the lab file's own rule for a real board
    parts = section.supervisor
    ports = {
        part.port
        for part in (parts.power, parts.recovery_pin, parts.reset_pin)
        if isinstance(part, MicrocontrollerSpec)
    }
    for port in sorted(ports):
        why = "it switches power or pins"
        there = _check(board, "supervisor", "ok", f"{port}: there", why)
        yield _absent(board, "supervisor", port, why, root) or there


def _absent(board: BoardSpec, name: str, url: str, why: str, root: Path) -> Check | None:
    if (root / url[1:]).exists():
        return None
    there = ", ".join(names_in(root / "dev/serial/by-path")) or "no serial adapter"
    remedy = f"plug its adapter in; what is there: {there}"
    return _check(board, name, "fail", f"there is no {url}", why, remedy)


def _holders(device: Path, root: Path) -> list[tuple[str, bool]]:
    """Who has a device open, ``name (pid)``, and whether that is a bench's keeper."""
    found = []
    for pid in filter(str.isdigit, names_in(root / "proc")):
        place = root / "proc" / pid
        for descriptor in names_in(place / "fd"):
            with suppress(OSError):
                if (place / "fd" / descriptor).readlink() == device:
                    found.append(
                        (f"{text_of(place / 'comm')} ({pid})", _KEEPER in text_of(place / "cmdline"))
                    )
                    break
    return found


def _flight(board: BoardSpec, section: JetsonSpec, root: Path, *, on_a_bench: bool) -> Check:
    why = "emulated links lead to it"
    if section.flight is None:
        remedy = "flight: {nic: ...} in the lab file, once its flight port is cabled to this machine"
        return _check(board, "flight", "warn", "not cabled: no emulated link reaches it", why, remedy)
    nic = section.flight.nic
    if nic not in names_in(root / "sys/class/net"):
        if on_a_bench:
            return _check(board, "flight", "ok", f"{nic}: a bench that is up has taken it", why)
        return _check(
            board,
            "flight",
            "fail",
            f"this machine has no NIC {nic} now",
            why,
            "a bench that is up has taken it (`hil bench status`); else see `ip link`, and make its VLAN again",
        )
    carrier = text_of(root / "sys/class/net" / nic / "carrier")
    state = {"1": "its cable has a signal", "0": "up, but its cable has no signal"}.get(carrier, "down")
    remedy = "look at the cable and whether the board has power" if carrier == "0" else ""
    return _check(board, "flight", "warn" if carrier == "0" else "ok", f"{nic}: {state}", why, remedy)


def _recovery(board: BoardSpec, section: JetsonSpec, root: Path, *, has_power: bool) -> Iterator[Check]:
    if section.recovery is None:
        return
    why = "`hil board flash` and `hil board recovery` find the module there"
    port = UsbPort(section.recovery.usb_path, root / "sys/bus/usb/devices")
    found = port.device()
    if found is None:
        said = f"port {port.path}: nothing is there" + ("" if has_power else ", it has no power")
        remedy = "the cable goes into the module's USB device port; `lsusb -t` shows the ports"
        yield _check(board, "recovery USB", "warn", said, why, remedy)
        return
    try:
        if found.in_recovery:
            port.check(board.module)
        status: Status = "ok" if found.is_module else "warn"
        remedy = "" if found.is_module else "correct recovery.usb_path in the lab file, or the cable"
        yield _check(board, "recovery USB", status, f"port {port.path}: {found.describe()}", why, remedy)
    except HilError as exc:
        yield _fault(board, "recovery USB", exc, why)


def _of_host(real: Sequence[BoardSpec], root: Path) -> Iterator[Check]:
    running = {text_of(root / "proc" / pid / "comm") for pid in names_in(root / "proc") if pid.isdigit()}
    for program, does in NUISANCES.items():
        if program in running:
            yield Check(
                program,
                "warn",
                "runs here",
                f"it {does}: a byte while UEFI runs opens its set-up menu, and the board does not boot",
                f"remove {program}, or tell udev to keep it away from these ports (docs/wiring.md)",
            )
    if not any(board.jetson and board.jetson.recovery for board in real):
        return
    setting = text_of(root / _AUTOSUSPEND)
    if setting and not setting.startswith("-"):
        yield Check(
            "usb-autosuspend",
            "warn",
            f"on, after {setting} s",
            "flashing stops with `might be timeout in USB write`",
            "boot with usbcore.autosuspend=-1; until then: "
            f"echo -1 | sudo tee /{_AUTOSUSPEND}, then plug the modules in again",
        )


def _check(board: BoardSpec, name: str, status: Status, found: str, why: str, remedy: str = "") -> Check:
    without = WITHOUT if status == "fail" else ""
    return Check(f"{board.name} {name}", status, found, why, remedy, without, scope="file")


def _fault(board: BoardSpec, name: str, exc: HilError, why: str) -> Check:
    return _check(board, name, "fail", exc.message, why, exc.remedy)
