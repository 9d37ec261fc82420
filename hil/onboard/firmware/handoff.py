"""From firmware to OS: the child that builds the OS's world and becomes its init.

The OS gets what a kernel would give it on a Jetson: a root file system from its slot (squashfs under a memory
overlay), device nodes, its own proc with the kernel command line and boot id of *this* board, the device tree, the
firmware variables and a watchdog.  What it cannot get is listed in docs/boards.md.
"""

from __future__ import annotations

import json
import os
import signal
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hil.onboard.files import write_durably
from hil.onboard.firmware import gpu, kernel

NV = Path("/nv")
MACHINE = Path("/os")
HARDWARE = Path("/dev/hardware")  # in memory
WATCHDOG = HARDWARE / "watchdog"
CONSOLE = "/dev/ttyTCU0"
TWIN = NV / "twin"
"""Sensors that the bench's twin shows to the OS; not there on a bench without one."""
KEPT_CLASSES = ("net", "block", "tty", "misc")
"""Classes of devices that stay visible where the twin's stand beside them."""
PARTITIONS = {"mmcblk0p1": "slot_a.img", "mmcblk0p2": "slot_b.img", "mmcblk0p3": "data.img"}
LOOP_NODES = 256
RESET_LEVEL = {"SYS_RESET_N": "L0", "MAINSWRST": "L1", "BCCPLEXWDT": "L1"}
CARRIERS = {"p3701": "p3737-0000", "p3767": "p3768-0000"}
"""Developer kit carrier of each module family."""


@dataclass(frozen=True)
class Boot:
    """What this boot is: goes into the OS as ``/run/boot.json``."""

    slot: str
    image_sha256: str
    image_size: int
    boot_id: str
    boot_count: int
    reset_reason: str
    loops: dict[str, str]  # partition name -> loop device on the hardware side
    facts: dict[str, Any] = field(default_factory=dict)  # board.json; every field is optional

    def public(self) -> dict[str, object]:
        return {name: value for name, value in vars(self).items() if name not in ("loops", "facts")}

    @property
    def partition(self) -> str:
        """The partition of the slot."""
        return "mmcblk0p1" if self.slot == "A" else "mmcblk0p2"


def enter(boot: Boot) -> None:
    """Runs in the cloned child: build the OS's world, then exec its init. Never returns; exits 1 on failure."""
    try:
        root = _root_file_system(boot)
        _devices(root, boot)
        given = gpu.told()
        gpu.hand_on(given, root, kernel.bind)
        _proc(root, boot)
        _sysfs(root, boot)
        _run(root, boot)
        _identity(root, boot)
        kernel.set_hostname(_text(boot.facts, "name", "jetson"))
        os.chdir(root)
        kernel.mount(".", "/", flags=kernel.MS_MOVE)
        os.chroot(".")
        os.chdir("/")
        for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGPIPE, signal.SIGPWR):
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        path = "/usr/sbin:/usr/bin:/sbin:/bin"
        environment = {**given.get("env", {}), "PATH": path, "HOME": "/root", "TERM": "dumb", "LANG": "C.UTF-8"}
        os.execve("/sbin/init", ["/sbin/init"], environment)
    except BaseException as exc:
        os.write(1, f"VFS: cannot start {boot.slot}: {exc}\r\n".encode())
    os._exit(1)


def compatible(module: str) -> tuple[str, ...]:
    """Return the device tree's ``compatible`` of a module on its developer kit, most special first."""
    carrier = CARRIERS.get(module.partition("-")[0], CARRIERS["p3701"])
    return (f"nvidia,{carrier}+{module}", f"nvidia,{module}", "nvidia,tegra234")


def _text(facts: dict[str, Any], key: str, default: str) -> str:
    value = facts.get(key)
    return value if isinstance(value, str) and value else default


def _root_file_system(boot: Boot) -> Path:
    kernel.mount("none", "/", flags=kernel.MS_REC | kernel.MS_PRIVATE)
    MACHINE.mkdir(exist_ok=True)
    kernel.mount("os", MACHINE, "tmpfs", 0, "mode=755")
    lower, upper, work, root = (MACHINE / name for name in ("lower", "upper", "work", "root"))
    for directory in (lower, upper, work, root):
        directory.mkdir()
    kernel.mount(boot.loops[boot.partition], lower, "squashfs", kernel.MS_RDONLY)
    kernel.mount("rootfs", root, "overlay", 0, f"lowerdir={lower},upperdir={upper},workdir={work}")
    return root


def _devices(root: Path, boot: Boot) -> None:
    dev = root / "dev"
    dev.mkdir(exist_ok=True)
    kernel.mount("devtmpfs", dev, "tmpfs", kernel.MS_NOSUID, "mode=755")
    old = os.umask(0)
    try:
        for name, minor in (("null", 3), ("zero", 5), ("full", 7), ("random", 8), ("urandom", 9)):
            os.mknod(dev / name, 0o020666, os.makedev(1, minor))
        os.mknod(dev / "tty", 0o020666, os.makedev(5, 0))
        os.mknod(dev / "loop-control", 0o020600, os.makedev(10, 237))
        for number in range(LOOP_NODES):  # the updater takes any free one; there is no devtmpfs to make them
            os.mknod(dev / f"loop{number}", 0o060600, os.makedev(7, number))
        for partition, device in boot.loops.items():
            os.mknod(dev / partition, 0o060600, Path(device).stat().st_rdev)
    finally:
        os.umask(old)
    for name in ("pts", "shm"):
        (dev / name).mkdir()
    kernel.mount("devpts", dev / "pts", "devpts", kernel.MS_NOSUID, "newinstance,ptmxmode=0666,mode=0620")
    (dev / "ptmx").symlink_to("pts/ptmx")
    kernel.mount("shm", dev / "shm", "tmpfs", kernel.MS_NOSUID | kernel.MS_NODEV, "mode=1777")
    (dev / "fd").symlink_to("/proc/self/fd")
    for name, number in (("stdin", 0), ("stdout", 1), ("stderr", 2)):
        (dev / name).symlink_to(f"/proc/self/fd/{number}")
    for name, source in (("ttyTCU0", CONSOLE), ("console", CONSOLE), ("watchdog", str(WATCHDOG))):
        (dev / name).touch()
        if Path(source).exists():
            kernel.bind(source, dev / name)


def _proc(root: Path, boot: Boot) -> None:
    proc = root / "proc"
    proc.mkdir(exist_ok=True)
    kernel.mount("proc", proc, "proc", kernel.MS_NOSUID | kernel.MS_NODEV | kernel.MS_NOEXEC)
    command_line = (
        f"root=/dev/{boot.partition} ro rootwait rootfstype=squashfs console=ttyTCU0,115200 "
        f"firmware_class.path=/etc/firmware boot.slot_suffix={'' if boot.slot == 'A' else '_b'} "
        f"rauc.slot={boot.slot}\n"
    )
    _serve(proc / "cmdline", command_line)
    _serve(proc / "sys/kernel/random/boot_id", boot.boot_id + "\n")


def _serve(target: Path, content: str) -> None:
    """Show ``content`` at an existing file that belongs to the kernel."""
    source = MACHINE / ("served-" + target.name)
    source.write_text(content)
    source.chmod(0o444)
    kernel.bind(source, target, read_only=True)


def _sysfs(root: Path, boot: Boot) -> None:
    sysfs = root / "sys"
    sysfs.mkdir(exist_ok=True)
    flags = kernel.MS_NOSUID | kernel.MS_NODEV | kernel.MS_NOEXEC
    kernel.mount("sysfs", sysfs, "sysfs", flags | kernel.MS_RDONLY)
    # The host's own firmware tables and platform devices are none of the board's business: its own stand here.
    firmware = sysfs / "firmware"
    kernel.mount("firmware", firmware, "tmpfs", flags, "mode=755")
    tree = firmware / "devicetree/base"
    tree.mkdir(parents=True)
    properties = {
        "model": [_text(boot.facts, "model", "Jetson (virtual)")],
        "serial-number": [_text(boot.facts, "serial", "0000000000000")],
        "compatible": compatible(_text(boot.facts, "module", "p3701-0005")),
    }
    for name, texts in properties.items():
        (tree / name).write_bytes(b"".join(text.encode() + b"\0" for text in texts))
    variables = firmware / "efi/efivars"
    variables.mkdir(parents=True)
    kernel.bind(NV / "vars", variables)
    platform = sysfs / "devices/platform"
    if platform.is_dir():
        kernel.mount("platform", platform, "tmpfs", flags, "mode=755")
        pmc = platform / "bus@0/c360000.pmc"
        pmc.mkdir(parents=True)
        (pmc / "reset_reason").write_text(boot.reset_reason + "\n")
        (pmc / "reset_level").write_text(RESET_LEVEL.get(boot.reset_reason, "L0") + "\n")
        if TWIN.is_dir():
            _sensors(sysfs, platform)


def _sensors(sysfs: Path, platform: Path) -> None:
    """Show the twin's sensors where a Jetson's kernel has them; the clock's cap is the highest again, and writable.

    This host's own classes of devices are covered: a memory file system stands there, with a few of them in it.
    """
    flags = kernel.MS_NOSUID | kernel.MS_NODEV | kernel.MS_NOEXEC
    for part, kept in (("class", KEPT_CLASSES), ("bus", ())):
        before = MACHINE / f"host-{part}"
        before.mkdir()
        kernel.bind(sysfs / part, before)
        kernel.mount(part, sysfs / part, "tmpfs", flags, "mode=755")
        for name in kept:
            if (before / name).is_dir():
                (sysfs / part / name).mkdir()
                kernel.bind(before / name, sysfs / part / name)
    clock = TWIN / "class/devfreq/17000000.gpu"
    write_durably(clock / "max_freq", (clock / "available_frequencies").read_bytes(), durable=False)
    for place in ("class/thermal", "class/hwmon", "class/devfreq", "bus/i2c"):
        (sysfs / place).mkdir()
        kernel.bind(TWIN / place, sysfs / place, read_only=True)
    kernel.bind(clock / "max_freq", sysfs / "class/devfreq/17000000.gpu/max_freq")
    gpu = platform / "bus@0/17000000.gpu"
    gpu.mkdir()
    kernel.bind(TWIN / "gpu", gpu, read_only=True)


def _run(root: Path, boot: Boot) -> None:
    flags = kernel.MS_NOSUID | kernel.MS_NODEV
    for name, mode in (("run", "755"), ("tmp", "1777")):
        (root / name).mkdir(exist_ok=True)
        kernel.mount(name, root / name, "tmpfs", flags, f"mode={mode}")
    (root / "run/board.json").write_text(json.dumps(boot.facts, indent=1) + "\n")
    (root / "run/boot.json").write_text(json.dumps(boot.public(), indent=1) + "\n")
    cgroup = Path("/sys/fs/cgroup")
    if cgroup.is_dir():  # where the sensors read how busy the board is
        target = root / "run/cgroup"
        target.mkdir()
        kernel.bind(cgroup, target)


def _identity(root: Path, boot: Boot) -> None:
    etc = root / "etc"
    etc.mkdir(exist_ok=True)
    name = _text(boot.facts, "name", "jetson")
    (etc / "hostname").write_text(name + "\n")
    lines = ["127.0.0.1 localhost", f"127.0.1.1 {name}"]
    hosts = boot.facts.get("hosts")
    if isinstance(hosts, dict):
        lines += [f"{address} {host}" for host, address in sorted(hosts.items())]
    (etc / "hosts").write_text("\n".join(lines) + "\n")
