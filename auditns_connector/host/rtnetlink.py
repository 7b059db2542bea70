"""rtnetlink(7), as far as changes of addresses in network namespaces need it: bytes to messages and back. Pure.

Layouts are those of linux/netlink.h, linux/if_addr.h and linux/net_namespace.h; what is cut or odd ends the reading.
"""

import struct
from collections.abc import Iterator
from typing import Final

NEWADDR: Final = 20
DELADDR: Final = 21
NEWNSID: Final = 88
DELNSID: Final = 89
_GETNSID: Final = 90
ERROR: Final = 2
#: socket options and groups
SOL_NETLINK: Final = 270
LISTEN_ALL_NSID: Final = 8
ADD_MEMBERSHIP: Final = 1
#: RTNLGRP_IPV4_IFADDR, RTNLGRP_IPV6_IFADDR, RTNLGRP_NSID
GROUPS: Final = (5, 9, 28)

_HEADER: Final = struct.Struct("=IHHII")
_ATTRIBUTE: Final = struct.Struct("=HH")
_INT: Final = struct.Struct("=i")
_REQUEST: Final = 1
_ACK: Final = 4
_IFADDRMSG: Final = 8
_RTGENMSG: Final = 4
_IFA_ADDRESS, _IFA_LOCAL, _IFA_BROADCAST = 1, 2, 4
_NETNSA_NSID, _NETNSA_FD = 1, 3
_LENGTHS: Final = (4, 16)


def _padded(size: int) -> int:
    return size + 3 & ~3


def messages(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    """The type, flags and body of each message."""
    off = 0
    while off + _HEADER.size <= len(data):
        size, kind, flags, _, _ = _HEADER.unpack_from(data, off)
        if size < _HEADER.size or off + size > len(data):
            return
        yield kind, flags, data[off + _HEADER.size : off + size]
        off += _padded(size)


def attributes(body: bytes, off: int) -> dict[int, bytes]:
    """The attributes of a message from ``off`` on, by type."""
    found = {}
    while off + _ATTRIBUTE.size <= len(body):
        size, kind = _ATTRIBUTE.unpack_from(body, off)
        if size < _ATTRIBUTE.size or off + size > len(body):
            break
        found[kind] = body[off + _ATTRIBUTE.size : off + size]
        off += _padded(size)
    return found


def addresses(body: bytes) -> tuple[list[bytes], list[bytes]]:
    """The address that a NEWADDR or DELADDR is about, and its broadcast address: of each at most one."""
    found = attributes(body, _IFADDRMSG)
    # on a point-to-point link IFA_ADDRESS is the other side
    own = found.get(_IFA_LOCAL) or found.get(_IFA_ADDRESS) or b""
    all_of = found.get(_IFA_BROADCAST, b"")
    return [own] * (len(own) in _LENGTHS), [all_of] * (len(all_of) in _LENGTHS)


def nsid(body: bytes) -> int:
    """The number that a message about a namespace's number has; -1 where it has none."""
    raw = attributes(body, _RTGENMSG).get(_NETNSA_NSID, b"")
    return int(_INT.unpack(raw)[0]) if len(raw) == _INT.size else -1


def failure(body: bytes) -> int:
    """The errno of an ERROR message, 0 for an acknowledgement."""
    return -int(_INT.unpack_from(body)[0]) if len(body) >= _INT.size else 0


def _message(kind: int, flags: int, body: bytes) -> bytes:
    return _HEADER.pack(_HEADER.size + len(body), kind, _REQUEST | flags, 1, 0) + body


def _numbers(kind: int, *attributes: tuple[int, int]) -> bytes:
    body = bytes(_RTGENMSG) + b"".join(_ATTRIBUTE.pack(8, name) + _INT.pack(value) for name, value in attributes)
    return _message(kind, _ACK if kind == NEWNSID else 0, body)


def number(fd: int) -> bytes:
    """Asks for a number, any, for the network namespace ``fd``; EEXIST where it has one."""
    return _numbers(NEWNSID, (_NETNSA_FD, fd), (_NETNSA_NSID, -1))


def number_of(fd: int) -> bytes:
    """Asks which number the network namespace ``fd`` has."""
    return _numbers(_GETNSID, (_NETNSA_FD, fd))
