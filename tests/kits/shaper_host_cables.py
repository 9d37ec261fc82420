"""What lies between this machine and the shaper host of the tests: an SSH port on loopback, and a switch with VLANs.

A process of its own, in a network namespace of its own, so that neither waits for the tests' interpreter, and that
everything goes with it: ``unshare --net python -m tests.kits.shaper_host_cables LISTENER ADDRESS TRUNK
ACCESS=VLAN...``.  LISTENER is the descriptor of a socket that listens elsewhere; who connects there reaches port 22 of
ADDRESS here.  It begins with a line on stdin and ends with its end.
"""

from __future__ import annotations

import os
import selectors
import socket
import struct
import sys
import threading
from contextlib import suppress
from dataclasses import dataclass

from hil.core import netns

_SOL_PACKET, _AUXDATA, _VNET_HDR, _IGNORE_OUTGOING = 263, 8, 15, 23
_SO_RCVBUFFORCE = 33
_ETH_P_ALL = 0x0003
_AUX = struct.Struct("=IIIHHHH")  # struct tpacket_auxdata
_VLAN_VALID = 1 << 4
_VNET = struct.Struct("=BBHHHH")
_NEEDS_CSUM = 1
_MACS_B = 12
_MAX_B = 70_000
_OUTER = struct.pack("!HH", 0x88A8, 1)
"""The receiving kernel takes one tag off a frame before a packet socket sees it: this one, so that the VLAN's own
stays in the frame and reaches the shaper host, as it would over a cable."""


@dataclass(frozen=True)
class Frame:
    """One Ethernet frame, with what is left to do about its checksum, and the VLAN that the kernel took off it."""

    offload: bytes
    data: bytes
    vlan: int | None


def listen(nic: str) -> socket.socket:
    """A packet socket that gets what arrives at a NIC of this thread's namespace, and sends out of it."""
    sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    sock.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, 16 << 20)
    for option in (_AUXDATA, _VNET_HDR, _IGNORE_OUTGOING):
        sock.setsockopt(_SOL_PACKET, option, 1)
    sock.bind((nic, _ETH_P_ALL))
    sock.setblocking(False)
    return sock


def receive(sock: socket.socket) -> Frame:
    """BlockingIOError when there is none."""
    raw, ancillary, _, _ = sock.recvmsg(_MAX_B, socket.CMSG_SPACE(_AUX.size))
    vlan = None
    for level, kind, content in ancillary:
        if (level, kind) == (_SOL_PACKET, _AUXDATA):
            status, _, _, _, _, tci, _ = _AUX.unpack_from(content)
            vlan = tci & 0xFFF if status & _VLAN_VALID else None
    return Frame(raw[: _VNET.size], raw[_VNET.size :], vlan)


def tagged(frame: Frame, vlan: int) -> bytes:
    """The frame as the trunk carries it, under one more tag that the next kernel takes off."""
    tags = _OUTER + struct.pack("!HH", 0x8100, vlan)
    flags, kind, header, size, start, offset = _VNET.unpack(frame.offload)
    if flags & _NEEDS_CSUM:
        start += len(tags)
    offload = _VNET.pack(flags, kind, header, size, start, offset)
    return offload + frame.data[:_MACS_B] + tags + frame.data[_MACS_B:]


def switch(trunk: str, access: dict[str, int]) -> None:
    """Carry frames between access ports, each of one VLAN, and the trunk; for ever."""
    far = listen(trunk)
    near = {vlan: listen(nic) for nic, vlan in access.items()}
    vlan_of = {sock: vlan for vlan, sock in near.items()}
    waiting = selectors.DefaultSelector()
    for sock in (far, *near.values()):
        waiting.register(sock, selectors.EVENT_READ)
    while True:
        for key, _ in waiting.select():
            source = key.fileobj
            assert isinstance(source, socket.socket)
            # a port that is down now, or full, loses the frame, as a switch does
            with suppress(OSError):
                for _ in range(64):
                    frame = receive(source)
                    if source is not far:
                        far.send(tagged(frame, vlan_of[source]))
                    elif frame.vlan in near:
                        near[frame.vlan].send(frame.offload + frame.data)


def forward(listener: socket.socket, address: str) -> None:
    """Join whoever connects to ``listener`` with port 22 of an address in this namespace; for ever."""
    while True:
        here, _ = listener.accept()
        here.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            there = netns.connect(netns.HOST, (address, 22), timeout_s=5)
        except OSError:
            here.close()
            continue
        there.settimeout(None)
        for source, sink in ((here, there), (there, here)):
            threading.Thread(target=_pump, args=(source, sink), daemon=True).start()


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
    for sock in (source, sink):
        with suppress(OSError):
            sock.shutdown(socket.SHUT_RDWR)


def main() -> None:
    descriptor, address, trunk, *ports = sys.argv[1:]
    access = {nic: int(vlan) for nic, _, vlan in (port.partition("=") for port in ports)}
    print("in a namespace of its own", flush=True)
    if os.read(0, 1):
        threads = (
            threading.Thread(target=switch, args=(trunk, access), daemon=True),
            threading.Thread(target=forward, args=(socket.socket(fileno=int(descriptor)), address), daemon=True),
        )
        for thread in threads:
            thread.start()
        while os.read(0, 4096):
            pass


if __name__ == "__main__":
    main()
