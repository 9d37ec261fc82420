"""Netlink messages that wire NICs together, and reading what the kernel answers.

pyroute2, which composes and parses them, takes a sixth of a second to import: only who does that pays for it.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from hil.errors import BenchError

NLM_F_REQUEST, NLM_F_ACK, NLM_F_DUMP, NLM_F_REPLACE, NLM_F_EXCL, NLM_F_CREATE = 0x1, 0x4, 0x300, 0x100, 0x200, 0x400
NLMSG_ERROR, NLMSG_DONE = 2, 3
RTM_NEWLINK, RTM_GETLINK, RTM_NEWQDISC, RTM_GETQDISC, RTM_NEWTFILTER = 16, 18, 36, 38, 44
TC_H_ROOT, TC_H_INGRESS = 0xFFFFFFFF, 0xFFFFFFF1
IFF_UP, IFF_PROMISC = 0x1, 0x100
"""The kernel's own: include/uapi/linux/netlink.h, rtnetlink.h, pkt_sched.h, if.h."""
HEADER = struct.Struct("=IHHII")
CHANGE, NEW, DUMP = NLM_F_ACK, NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL, NLM_F_DUMP
"""Flags of messages besides that of a request."""
INGRESS_HANDLE = 0xFFFF0000
_ETH_P_ALL_BE = 0x0300
_NLMSGERR_ATTR_MSG = 1
U32_MAX = 0xFFFFFFFF
TICK_NS_SHIFT = 6  # PSCHED_SHIFT: traffic control counts time in ticks of 64 ns
LINKLAYER_ETHERNET = 1
_MIRRED = struct.Struct("=IIiiiiI")  # struct tc_mirred: index, capab, action, refcnt, bindcnt, eaction, ifindex
_TC_ACT_STOLEN, _TCA_EGRESS_REDIR = 4, 1


class Requester(Protocol):
    """Anything that can hand a batch to a kernel."""

    def request(self, batch: bytes) -> bytes: ...


@dataclass(frozen=True)
class Reply:
    """What the kernel said about one message of a batch."""

    sequence: int
    error: int  # errno; 0 is fine
    text: str  # the kernel's own words, when it had any
    messages: tuple[bytes, ...]  # a dump's content


def number(steps: Sequence[bytes]) -> bytes:
    """Return one batch of these messages, with sequence numbers 1, 2, ..."""
    batch = bytearray()
    for sequence, message in enumerate(steps, 1):
        numbered = bytearray(message)
        struct.pack_into("=I", numbered, 8, sequence)
        batch += numbered + bytes(-len(numbered) % 4)
    return bytes(batch)


def replies(answer: bytes) -> list[Reply]:
    """Return the answers to a batch, in order."""
    answers: list[Reply] = []
    content: list[bytes] = []
    for message in messages(answer):
        _, kind, _, sequence, _ = HEADER.unpack_from(message)
        if kind not in (NLMSG_ERROR, NLMSG_DONE):
            content.append(message)
            continue
        (error,) = struct.unpack_from("=i", message, HEADER.size) if kind == NLMSG_ERROR else (0,)
        answers.append(Reply(sequence, -error, _extended_text(message) if error else "", tuple(content)))
        content = []
    return answers


def transact(agent: Requester, steps: Sequence[tuple[str, bytes]]) -> list[Reply]:
    """Send every ``(what, message)``; BenchError that names the first step that the kernel refused."""
    answers = replies(agent.request(number([message for _, message in steps])))
    if len(answers) != len(steps):
        raise BenchError(f"the link engine answered {len(answers)} of {len(steps)} messages")
    for (what, _), answer in zip(steps, answers, strict=True):
        if answer.error:
            said = f" ({answer.text})" if answer.text else ""
            raise BenchError(f"the link engine refused {what}: {os.strerror(answer.error)}{said}")
    return answers


def nic_up(ifindex: int) -> bytes:
    """Set a NIC up and promiscuous: it carries frames for other machines' MAC addresses."""
    from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg

    flags = IFF_UP | IFF_PROMISC
    return encoded(ifinfmsg, RTM_NEWLINK, CHANGE, index=ifindex, flags=flags, change=flags)


def ingress(ifindex: int) -> bytes:
    """Give a NIC an ingress qdisc, where filters on arriving frames hang."""
    from pyroute2.netlink.rtnl.tcmsg import tcmsg

    fields = {"index": ifindex, "handle": INGRESS_HANDLE, "parent": TC_H_INGRESS}
    return encoded(tcmsg, RTM_NEWQDISC, NEW, [("TCA_KIND", "ingress")], **fields)


def redirect(from_ifindex: int, to_ifindex: int, police: bytes = b"") -> bytes:
    """Redirect what arrives at one NIC to the other: ``matchall`` with ``mirred egress redirect``.

    ``police``: an action that may drop it before (:mod:`.police`).  Not a bridge: a bridge costs a factor of six here
    and has opinions about what it forwards.
    """
    from pyroute2.netlink.rtnl.tcmsg import tcmsg

    mirred = _MIRRED.pack(0, 0, _TC_ACT_STOLEN, 0, 0, _TCA_EGRESS_REDIR, to_ifindex)
    actions = [police] if police else []
    actions.append(attribute(1, b"mirred\0") + attribute(2, attribute(2, mirred)))
    chain = b"".join(attribute(place, action) for place, action in enumerate(actions, 1))
    options = attribute(1, b"matchall\0") + attribute(2, attribute(2, chain))
    info = (1 << 16) | _ETH_P_ALL_BE  # priority 1, every protocol
    head = encoded(tcmsg, RTM_NEWTFILTER, NEW, index=from_ifindex, parent=INGRESS_HANDLE, info=info)
    return struct.pack("=I", len(head) + len(options)) + head[4:] + options


def interfaces(agent: Requester) -> dict[str, int]:
    """Return ifindexes by NIC name, in the engine's namespace."""
    from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg

    (reply,) = transact(agent, [("listing NICs", encoded(ifinfmsg, RTM_GETLINK, DUMP))])
    nics = [decoded(ifinfmsg, raw) for raw in reply.messages]
    return {str(nic.get_attr("IFLA_IFNAME")): int(nic["index"]) for nic in nics}


def encoded(form: Any, kind: int, flags: int, attributes: Sequence[tuple[str, Any]] = (), /, **fields: int) -> bytes:
    """Compose a message of pyroute2's class ``form``, with these attributes and fields of its header."""
    message = form()
    message.update(fields)
    message["attrs"] = list(attributes)
    message["header"].update(type=kind, flags=NLM_F_REQUEST | flags)
    message.encode()
    return bytes(message.data)


def decoded(form: Any, raw: bytes) -> Any:
    """Parse a message of pyroute2's class ``form``."""
    message = form(raw)
    message.decode()
    return message


def composed(kind: int, flags: int, fixed: bytes, content: bytes) -> bytes:
    """Compose a message without pyroute2: ``fixed`` is the header of its family, ``content`` its attributes."""
    body = fixed + content
    return HEADER.pack(HEADER.size + len(body), kind, NLM_F_REQUEST | flags, 0, 0) + body


def attribute(kind: int, content: bytes) -> bytes:
    """Return an attribute, padded to four bytes."""
    return struct.pack("=HH", 4 + len(content), kind) + content + bytes(-len(content) % 4)


def attributes(data: bytes, at: int) -> dict[int, tuple[int, int]]:
    """Return where the content of each attribute from ``at`` on begins and ends, by kind."""
    places = {}
    while at + 4 <= len(data):
        length, kind = struct.unpack_from("=HH", data, at)
        if length < 4:
            break
        places[kind & 0x3FFF] = at + 4, at + length
        at += -(-length // 4) * 4
    return places


def parts(data: bytes, at: int = 0) -> dict[int, bytes]:
    """Return the content of each attribute from ``at`` on, by kind."""
    return {kind: data[begin:end] for kind, (begin, end) in attributes(data, at).items()}


def messages(data: bytes) -> Iterator[bytes]:
    """Yield the messages of a batch or an answer. BenchError for what is no netlink."""
    at = 0
    while at + HEADER.size <= len(data):
        (length,) = struct.unpack_from("=I", data, at)
        if length < HEADER.size:
            raise BenchError("what went to or came from the link engine is not netlink")
        yield data[at : at + length]
        at += -(-length // 4) * 4


def _extended_text(message: bytes) -> str:
    """Return the message string of an extended acknowledgement (the request in it is capped to its header)."""
    begin, end = attributes(message, HEADER.size + 4 + HEADER.size).get(_NLMSGERR_ATTR_MSG, (0, 0))
    return message[begin:end].rstrip(b"\0").decode(errors="replace")
