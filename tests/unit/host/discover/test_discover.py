"""What `hil lab discover` sees in a made-up host, and the lab file it writes from that."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from hil.boards.jetson.flash.recovery import FLASH_GADGET, L4T_GADGET
from hil.cli.app import run
from hil.core.command import Result
from hil.errors import BenchError, ConfigurationError
from hil.host.discover.devices import discover
from hil.host.discover.lab_draft import drafts, lab_file
from hil.lab.model import load_lab
from hil.lab.yamlfile import MOST_ROWS
from tests.kits.host_tree import HOST_KEY, ROUTE_HEAD, HostTree


@pytest.fixture
def host(tmp_path: Path) -> HostTree:
    return HostTree(tmp_path / "host")


def test_a_serial_adapter_has_its_stable_name_its_usb_identity_and_its_port(host: HostTree) -> None:
    host.tty("ttyUSB0", host.usb("1-3", "0403:6001", "FT232R USB UART", "A50285BI"))
    (found,) = discover(host.root).serial
    assert found.url == "/dev/serial/by-path/pci-0000:00:14.0-usb-0:3:1.0-port0"
    assert found.by_id == "/dev/serial/by-id/usb-Maker_ttyUSB0-if00-port0"
    assert (found.device, found.usb_id, found.usb_port, found.interface) == ("/dev/ttyUSB0", "0403:6001", "1-3", 0)
    assert (found.serial, found.what) == ("A50285BI", "FTDI FT232R")


def test_of_a_debug_controllers_four_ports_the_first_is_the_console(host: HostTree) -> None:
    controller = host.usb("1-4", "0955:7045", "Tegra On-Platform Operator")
    for number, interface in enumerate((0, 2, 4, 6)):
        host.tty(f"ttyACM{number}", controller, interface)
    found = discover(host.root)
    assert [adapter.device for adapter in found.consoles] == ["/dev/ttyACM0"]
    assert "the console" in found.serial[0].what and "not the console" in found.serial[3].what
    assert found.modules == ()  # the controller is on the carrier: it says nothing of the module


def test_a_login_over_the_jetsons_own_cable_is_no_console(host: HostTree) -> None:
    host.tty("ttyACM0", host.usb("1-5", L4T_GADGET, "L4T"), 2)
    found = discover(host.root)
    assert found.consoles == () and "no boot log" in found.serial[0].what
    assert [module.port for module in found.modules] == ["1-5"]


def test_without_udev_an_adapter_is_found_all_the_same_and_the_note_says_what_that_means(host: HostTree) -> None:
    host.tty("ttyUSB10", host.usb("1-3", "1a86:7523"), udev=False)
    host.tty("ttyUSB9", host.usb("1-2", "1a86:7523"), udev=False)
    found = discover(host.root)
    assert [adapter.url for adapter in found.serial] == ["/dev/ttyUSB9", "/dev/ttyUSB10"]
    assert "change at every plug" in found.problems[0]


def test_only_neighbours_that_look_like_jetsons_are_listed_and_the_others_counted(host: HostTree) -> None:
    host.nic("eth0")
    host.nic("usb0", host.usb("1-5", L4T_GADGET))
    host.neighbour("192.0.2.11", "48:B0:2D:11:22:33")
    host.neighbour("192.0.2.9", "3c:6d:66:00:00:01")
    host.neighbour("192.0.2.12", "48:b0:2d:aa:bb:cc", flags="0x0")  # it never answered
    host.neighbour("192.0.2.1", "aa:bb:cc:dd:ee:ff")
    host.neighbour("192.168.55.1", "02:00:00:00:00:01", "usb0")
    found = discover(host.root)
    assert [(n.address, n.why) for n in found.neighbours] == [
        ("192.0.2.9", "MAC of NVIDIA"),
        ("192.0.2.11", "MAC of NVIDIA"),
        ("192.168.55.1", "at the other end of a Jetson's USB cable"),
    ]
    assert found.other_neighbours == 1


def test_lease_files_of_three_dhcp_servers_are_read(host: HostTree) -> None:
    host.file("var/lib/misc/dnsmasq.leases", "1763880000 48:b0:2d:00:00:01 192.0.2.21 * 01:48\n")
    host.file(
        "var/lib/dhcp/dhcpd.leases",
        "lease 192.0.2.22 {\n  starts 1 2026/11/23;\n  hardware ethernet 00:04:4b:00:00:02;\n"
        '  client-hostname "lab-pc";\n}\nlease 192.0.2.23 {\n  hardware ethernet 02:00:00:00:00:03;\n'
        '  client-hostname "tegra-ubuntu";\n}\n',
    )
    host.file(
        "var/lib/kea/kea-leases4.csv",
        "address,hwaddr,client_id,valid_lifetime,expire,subnet_id,fqdn_fwd,fqdn_rev,hostname,state\n"
        "192.0.2.24,02:00:00:00:00:04,,4000,1763880000,1,0,0,orin-4,0\nnonsense\n",
    )
    found = discover(host.root)
    assert [(n.address, n.name, n.why, n.interface) for n in found.neighbours] == [
        ("192.0.2.21", "", "MAC of NVIDIA", ""),
        ("192.0.2.22", "lab-pc", "MAC of NVIDIA", ""),
        ("192.0.2.23", "tegra-ubuntu", "calls itself so", ""),
        ("192.0.2.24", "orin-4", "calls itself so", ""),
    ]


def test_one_network_can_be_asked_for_and_one_that_is_not_there_is_named(host: HostTree) -> None:
    host.nic("eth0")
    host.nic("eth1")
    host.neighbour("192.0.2.11", "48:b0:2d:00:00:11", "eth0")
    host.neighbour("203.0.113.5", "48:b0:2d:00:00:12", "eth1")
    host.file(
        "var/lib/misc/dnsmasq.leases", "1 48:b0:2d:00:00:13 203.0.113.7 * *\n1 48:b0:2d:00:00:14 192.0.2.40 * *\n"
    )
    host.file(
        "proc/net/route",
        ROUTE_HEAD
        + "eth1\t00000000\t010071CB\t0003\t0\t0\t0\t00000000\t0\t0\t0\n"
        + "eth1\t007100CB\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n",
    )
    assert [n.address for n in discover(host.root, network="eth1").neighbours] == ["203.0.113.5", "203.0.113.7"]
    with pytest.raises(ConfigurationError, match="no network interface eth9") as error:
        discover(host.root, network="eth9")
    assert "eth0, eth1, lo" in error.value.remedy


def test_gpio_chips_are_listed_with_label_and_lines_where_the_kernel_tells(host: HostTree) -> None:
    host.file("sys/bus/gpio/devices/gpiochip0/gpio/gpiochip512/label", "cp2112_gpio\n")
    host.file("sys/bus/gpio/devices/gpiochip0/gpio/gpiochip512/ngpio", "8\n")
    host.file("sys/bus/gpio/devices/gpiochip10/dev", "254:10\n")
    found = discover(host.root).gpio
    assert [(c.name, c.label, c.lines) for c in found] == [("gpiochip0", "cp2112_gpio", 8), ("gpiochip10", "", None)]


def answers(returncode: int, stdout: str = "", stderr: str = "") -> object:
    def runner(argv: list[str], **_: object) -> Result:
        assert argv == ["uhubctl"]  # nothing is switched
        return Result(tuple(argv), returncode, stdout, stderr)

    return runner


def test_hubs_are_asked_only_when_told_to_and_why_they_cannot_be_is_a_note(host: HostTree) -> None:
    said = (
        "Current status for hub 1-1 [05e3:0608 USB2.1 Hub, USB 2.10, 4 ports, ppps]\n"
        "  Port 1: 0100 power\n  Port 2: 0503 power highspeed enable connect [0955:7323 NVIDIA Corp. APX]\n"
    )
    found = discover(host.root, hubs=True, runner=answers(0, said))  # type: ignore[arg-type]  # argv is a list here
    assert [(hub.place, hub.ports) for hub in found.hubs] == [("1-1", (1, 2))]
    absent = discover(host.root, hubs=True, runner=answers(127))  # type: ignore[arg-type]  # as above
    assert "apt-get install uhubctl" in absent.problems[0]
    none = discover(host.root, hubs=True, runner=answers(1, "", "No compatible devices detected!"))  # type: ignore[arg-type]  # as above
    assert none.hubs == () and none.problems == ()

    def never(*_: object, **__: object) -> Result:
        raise BenchError("asked")

    assert discover(host.root, runner=never).problems == ()


def left_to_fill_in(file: Path) -> set[str]:
    with pytest.raises(ConfigurationError) as error:
        load_lab(file)
    return set(re.findall(r":\d+: (\S+): ", error.value.message))


def test_a_single_board_is_written_down_whole_and_validation_names_exactly_what_is_left(
    host: HostTree, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    host.nic("eth0")
    host.tty("ttyUSB0", host.usb("1-3", "0403:6001"))
    host.usb("1-4.2", "0955:7423", "APX")
    host.neighbour("192.0.2.11", "48:b0:2d:11:22:33")
    file = tmp_path / "mine.yaml"
    assert run(["lab", "discover", "--root", str(host.root), "-o", str(file)]) == 0
    said = capsys.readouterr()
    assert "in recovery: p3767-0001" in said.out and "1 board;" in said.err
    board = "spacecraft.0.boards.0.jetson"
    assert left_to_fill_in(file) == {f"{board}.ssh.key_file", f"{board}.ssh.host_key", f"{board}.supervisor.power.kind"}
    text = file.read_text()
    for key, value in (
        ("key_file", "~/.ssh/lab"),
        ("host_key", HOST_KEY),
        ("power: {kind", "shelly-gen2, address: 192.0.2.20, outlet: 0"),
    ):
        text = re.sub(rf'^( +{re.escape(key)}: )""', rf"\g<1>{value}", text, flags=re.MULTILINE)
    file.write_text(text)
    (one,) = load_lab(file).boards
    assert one.module == "p3767-0001" and one.real and one.real.ssh and one.real.console
    assert one.real.ssh.address == "192.0.2.11" and one.real.recovery
    assert one.real.recovery.usb_path == "1-4.2"
    assert one.real.console.url == "/dev/serial/by-path/pci-0000:00:14.0-usb-0:3:1.0-port0"


def test_what_could_belong_to_either_of_two_boards_is_given_to_none_and_listed_for_both(
    host: HostTree, tmp_path: Path
) -> None:
    host.neighbour("192.0.2.11", "48:b0:2d:11:22:33")
    host.neighbour("192.0.2.12", "48:b0:2d:11:22:34")
    host.tty("ttyUSB0", host.usb("1-3", "0403:6001"))
    host.usb("1-4", "0955:7523", "APX")
    file = tmp_path / "mine.yaml"
    file.write_text(lab_file(discover(host.root)))
    assert left_to_fill_in(file) == {
        f"spacecraft.0.boards.{n}.{key}"
        for n in (0, 1)
        for key in (
            "module",
            "jetson.ssh.key_file",
            "jetson.ssh.host_key",
            "jetson.console.url",
            "jetson.supervisor.power.kind",
        )
    }
    assert file.read_text().count("#   seen: /dev/serial/by-path/") == 2
    assert file.read_text().count("#   seen: 1-4 ") == 2


def test_two_modules_that_the_boot_rom_cannot_tell_apart_leave_the_choice(host: HostTree) -> None:
    host.usb("1-4", "0955:7023", "APX")
    text = lab_file(discover(host.root))
    assert 'module: ""' in text and "one of p3701-0000, p3701-0001, p3701-0002, p3701-0005, p3701-0008\n" in text
    assert "usb_path: 1-4}" in text


def test_more_boards_than_a_spacecraft_carries_are_spread_over_joined_ones(host: HostTree, tmp_path: Path) -> None:
    for n in range(20):
        host.neighbour(f"192.0.2.{n + 10}", f"48:b0:2d:11:22:{n:02x}")
    found = discover(host.root)
    assert len(drafts(found)) == 20
    file = tmp_path / "many.yaml"
    file.write_text(lab_file(found))
    assert "between: [sc-a, sc-b]" in file.read_text()
    with pytest.raises(ConfigurationError, match=f"and {20 * 5 - MOST_ROWS} more"):
        load_lab(file)


def test_what_a_device_calls_itself_breaks_neither_the_terminal_nor_the_file(
    host: HostTree, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    nasty = "APX\x1b[2J\nschema: 2"
    host.tty("ttyUSB0", host.usb("1-3", "1234:5678", nasty, nasty))
    host.usb("1-5", FLASH_GADGET, nasty)
    host.file("var/lib/misc/dnsmasq.leases", "1 48:b0:2d:00:00:13 192.0.2.7 tegra\"\x1b#': *\n")
    file = tmp_path / "mine.yaml"
    assert run(["lab", "discover", "--root", str(host.root), "-o", str(file)]) == 0
    assert "\x1b" not in capsys.readouterr().out + file.read_text()
    assert not {key for key in left_to_fill_in(file) if "schema" in key}


def test_nothing_found_says_what_to_plug_in_and_writes_no_file(
    host: HostTree, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["lab", "discover", "--root", str(host.root)]) == 0
    assert "What to plug in" in capsys.readouterr().out
    file = tmp_path / "mine.yaml"
    assert run(["lab", "discover", "--root", str(host.root), "-o", str(file)]) == 2
    assert "no board was found" in capsys.readouterr().err and not file.exists()
    assert run(["lab", "discover", "--root", str(tmp_path / "empty")]) == 0


def test_a_file_that_is_there_is_kept_unless_it_is_given_up(
    host: HostTree, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    host.usb("1-4", "0955:7523", "APX")
    file = tmp_path / "mine.yaml"
    file.write_text("mine\n")
    argv = ["lab", "discover", "--root", str(host.root), "-o", str(file)]
    assert run(argv) == 2 and "--force" in capsys.readouterr().err
    assert file.read_text() == "mine\n"
    assert run([*argv, "--force"]) == 0 and "usb_path: 1-4}" in file.read_text()


def test_everything_is_in_the_json(host: HostTree, capsys: pytest.CaptureFixture[str]) -> None:
    host.tty("ttyUSB0", host.usb("1-3", "0403:6001"))
    host.usb("1-4", "0955:7523", "APX")
    assert run(["lab", "discover", "--root", str(host.root), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["serial"][0]["what"] == "FTDI FT232R"
    assert document["usb"][0]["port"] == "1-4" and "p3767-0005" in document["usb"][0]["what"]
