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
from hil.boards.kinds import kind_of
from hil.boards.power.build import kind_of as outlet_kind_of
from hil.boards.power.build import supervisor_of
from hil.boards.protocol import PowerState
from hil.boards.ssh.shell import SshShell, Target
from hil.boards.wiring import way_in, wiring_of
from hil.core.check import Check, Status
from hil.core.sysfs import names_in, text_of
from hil.errors import ConfigurationError, HilError
from hil.lab.model import BoardSpec, Lab
from hil.lab.power import SupervisorSpec
from hil.lab.real_board import ConsoleSpec, RealBoard, SshSpec

ROOT = Path("/")
WITHOUT = "benches of other lab files work; this one does not come up"
NUISANCES = {"ModemManager": "sends AT to serial ports", "brltty": "takes serial adapters for braille displays"}
"""Programs that write to a board's console by themselves."""
_WHY = {
    "power": "what cannot be asked cannot be switched, and nothing is done to a board that cannot be cut off",
    "management": "every test works through it",
    "console": "without it nobody sees why a board does not boot",
    "supervisor": "it switches power or pins",
    "flight": "emulated links lead to it",
    "recovery USB": "`hil board flash` and `hil board recovery` find the module there",
}
"""Why each check of a board matters."""
_AUTOSUSPEND = "sys/module/usbcore/parameters/autosuspend"
_KEEPER = "hil.bench.keeper"


def diagnose(lab: Lab, root: Path = ROOT) -> list[Check]:
    """Look at every real board of the lab, and at what on this host would disturb them; nothing for a virtual lab.

    ``root`` stands for this host's ``/``.
    """
    real = [(board, section) for board in lab.boards if (section := board.real)]
    if not real:
        return []
    with ThreadPoolExecutor(len(real)) as pool:
        checks = list(pool.map(lambda pair: _of_board(pair[0], pair[1], root), real))
    return [*_of_host([section for _, section in real], root), *(check for each in checks for check in each)]


def _of_board(board: BoardSpec, section: RealBoard, root: Path) -> list[Check]:
    """Check what the section of the board names, and what its kind checks besides."""
    checks: list[Check] = []
    has_power, on_a_bench = True, False
    if section.supervisor:
        power, has_power = _power(board, section.supervisor)
        checks.append(power)
    if section.ssh:
        checks.append(_management(board, section.ssh, has_power=has_power))
    if section.console:
        console, on_a_bench = _console(board, section.console, root)
        checks.append(console)
    if section.supervisor:
        checks += _supervisor_ports(board, section.supervisor, root)
    return [
        *checks,
        _flight(board, section, root, on_a_bench=on_a_bench),
        *_recovery(board, section, root, has_power=has_power),
        *kind_of(board).checks(board, root),
    ]


def _power(board: BoardSpec, supervisor: SupervisorSpec) -> tuple[Check, bool]:
    """Return the check, and whether it is worth asking the board."""
    where = wiring_of(board)["power"]
    try:
        state = supervisor_of(board.name, supervisor).state()
    except HilError as exc:
        return _fault(board, "power", exc), True
    return _check(board, "power", "ok", f"{where}: {state}"), state is PowerState.ON


def _management(board: BoardSpec, ssh: SshSpec, *, has_power: bool) -> Check:
    there = way_in(ssh)
    key = Path(ssh.key_file).expanduser() if ssh.key_file else None
    if key is not None and not key.is_file():
        error = ConfigurationError(
            f"there is no key {key}", remedy=f"{board.driver}.ssh.key_file in the lab file, or `ssh-keygen`"
        )
        return _fault(board, "management", error)
    if not has_power:
        remedy = f"switch it on by hand and look again, or `hil bench up` and `hil board show {board.name}`"
        return _check(board, "management", "warn", f"{there}: not asked, it has no power", remedy)
    try:
        with SshShell(Target.of(board.name, ssh)) as shell:
            who = kind_of(board).identify(board, shell)
    except HilError as exc:
        return _fault(board, "management", exc)
    return _check(board, "management", "ok", f"{there}: {who}")


def _console(board: BoardSpec, console: ConsoleSpec, root: Path) -> tuple[Check, bool]:
    """Return the check, and whether a bench that is up has this board."""
    url = console.url
    if "://" in url:
        found = f"{url}: not asked, a console server gives a line to one at a time"
        return _check(board, "console", "ok", found), False
    if absent := _absent(board, "console", url, root):
        return absent, False
    holders = _holders((root / url[1:]).resolve(), root)
    if foreign := [name for name, is_keeper in holders if not is_keeper]:
        remedy = "end that program: two readers each get half of the bytes"
        said = f"{url}: in use by {', '.join(foreign)}"
        return _check(board, "console", "fail", said, remedy), False
    found = f"{url}: {'in use by a bench that is up' if holders else 'there, and free'}"
    if url.startswith(("/dev/ttyUSB", "/dev/ttyACM")):
        remedy = "name it by /dev/serial/by-path/...: this number is another adapter's after the next plug"
        return _check(board, "console", "warn", found, remedy), bool(holders)
    return _check(board, "console", "ok", found), bool(holders)


def _supervisor_ports(board: BoardSpec, supervisor: SupervisorSpec, root: Path) -> Iterator[Check]:
    parts = (part for part in (supervisor.power, supervisor.recovery_pin, supervisor.reset_pin) if part)
    for port in sorted({device for part in parts for device in outlet_kind_of(part).devices(part)}):
        there = _check(board, "supervisor", "ok", f"{port}: there")
        yield _absent(board, "supervisor", port, root) or there


def _absent(board: BoardSpec, name: str, url: str, root: Path) -> Check | None:
    if (root / url[1:]).exists():
        return None
    there = ", ".join(names_in(root / "dev/serial/by-path")) or "no serial adapter"
    remedy = f"plug its adapter in; what is there: {there}"
    return _check(board, name, "fail", f"there is no {url}", remedy)


def _holders(device: Path, root: Path) -> list[tuple[str, bool]]:
    """Return who has a device open, ``name (pid)``, and whether that is a bench's keeper."""
    found = []
    for pid in filter(str.isdigit, names_in(root / "proc")):
        place = root / "proc" / pid
        for descriptor in names_in(place / "fd"):
            with suppress(OSError):
                if (place / "fd" / descriptor).readlink() == device:
                    found.append((f"{text_of(place / 'comm')} ({pid})", _KEEPER in text_of(place / "cmdline")))
                    break
    return found


def _flight(board: BoardSpec, section: RealBoard, root: Path, *, on_a_bench: bool) -> Check:
    if section.flight is None:
        remedy = "flight: {nic: ...} in the lab file, once its flight port is cabled to this machine"
        return _check(board, "flight", "warn", "not cabled: no emulated link reaches it", remedy)
    nic = section.flight.nic
    if nic not in names_in(root / "sys/class/net"):
        if on_a_bench:
            return _check(board, "flight", "ok", f"{nic}: a bench that is up has taken it")
        return _check(
            board,
            "flight",
            "fail",
            f"this machine has no NIC {nic} now",
            "a bench that is up has taken it (`hil bench status`); else see `ip link`, and make its VLAN again",
        )
    carrier = text_of(root / "sys/class/net" / nic / "carrier")
    state = {"1": "its cable has a signal", "0": "up, but its cable has no signal"}.get(carrier, "down")
    remedy = "look at the cable and whether the board has power" if carrier == "0" else ""
    return _check(board, "flight", "warn" if carrier == "0" else "ok", f"{nic}: {state}", remedy)


def _recovery(board: BoardSpec, section: RealBoard, root: Path, *, has_power: bool) -> Iterator[Check]:
    if section.recovery is None:
        return
    port = UsbPort(section.recovery.usb_path, root / "sys/bus/usb/devices")
    found = port.device()
    if found is None:
        said = f"port {port.path}: nothing is there" + ("" if has_power else ", it has no power")
        remedy = "the cable goes into the module's USB device port; `lsusb -t` shows the ports"
        yield _check(board, "recovery USB", "warn", said, remedy)
        return
    try:
        if found.in_recovery:
            port.check(board.module)
        status: Status = "ok" if found.is_module else "warn"
        remedy = "" if found.is_module else "correct recovery.usb_path in the lab file, or the cable"
        yield _check(board, "recovery USB", status, f"port {port.path}: {found.describe()}", remedy)
    except HilError as exc:
        yield _fault(board, "recovery USB", exc)


def _of_host(real: Sequence[RealBoard], root: Path) -> Iterator[Check]:
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
    if not any(section.recovery for section in real):
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


def _check(board: BoardSpec, name: str, status: Status, found: str, remedy: str = "") -> Check:
    without = WITHOUT if status == "fail" else ""
    return Check(f"{board.name} {name}", status, found, _WHY[name], remedy, without, scope="file")


def _fault(board: BoardSpec, name: str, exc: HilError) -> Check:
    return _check(board, name, "fail", exc.message, exc.remedy)
