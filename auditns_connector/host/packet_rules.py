"""Whether packets can have been logged in a network namespace, read by who is in it. Used by address_helper.py.

NETFILTER_PKT records are made by the target AUDIT of x_tables (net/netfilter/xt_AUDIT.c) and by nf_tables with ``log
level audit`` (nft_log.c). Each needs something in its namespace that stays until the namespace ends:

- the generation of nf_tables is 1 in a new namespace, and is counted up before the rules of a transaction come into use
  (nf_tables_commit() in nf_tables_api.c): while it is 1 there never was a rule;
- a table of x_tables, once it is there, is in ``/proc/net/*_tables_names``, empty or not;
- ebtables has no such list, and tc's action ipt (gone in Linux 6.8) runs a target without a table: with either in the
  kernel nothing is proven.

So a namespace in which none of it is found had nothing that logs at any time before. Modules that were unloaded
meanwhile take their tables along; that is for root of the host to do.
"""

import ctypes
import errno
import os
import re
import socket
import struct
from functools import cache
from typing import Final

from auditns_connector.host import rtnetlink

_NETLINK_NETFILTER: Final = 12
#: NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_GETGEN, and its answer
_GETGEN: Final = 10 << 8 | 16
_NEWGEN: Final = 10 << 8 | 15
_NFTA_GEN_ID: Final = 1
_NFGENMSG: Final = 4
_REQUEST: Final = 1
#: a namespace's generation before its first transaction
_FIRST: Final = 1
_TABLES: Final = ("ip", "ip6", "arp")
#: EBT_BASE_CTL, the first option of ebtables
_EBTABLES: Final = 128
_WITHOUT_IPT: Final = (6, 8)
_libc = ctypes.CDLL(None, use_errno=True)


def nothing_logs() -> bool:
    """Whether no packet can have been logged in our network namespace until now. False where that is not proven, also
    when something cannot be read."""
    try:
        return not _tables() and _generation() == _FIRST and not _unlisted()
    except OSError:
        return False


def _tables() -> bool:
    """Whether there is a table of x_tables."""
    for family in _TABLES:
        try:
            with open(f"/proc/thread-self/net/{family}_tables_names") as names:
                if names.read(1):
                    return True
        except FileNotFoundError:
            continue  # the kernel has no such tables
    return False


def _generation() -> int:
    """The generation of nf_tables; 0 where it is not told. Raises OSError."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_NETFILTER) as sock:
        sock.settimeout(1.0)
        sock.send(struct.pack("=IHHIIBBH", 20, _GETGEN, _REQUEST, 1, 0, 0, 0, 0))
        for kind, _, body in rtnetlink.messages(sock.recv(65536)):
            told = rtnetlink.attributes(body, _NFGENMSG).get(_NFTA_GEN_ID, b"") if kind == _NEWGEN else b""
            if len(told) == 4:
                return int.from_bytes(told, "big")
    return 0


def _unlisted() -> bool:
    """Whether the kernel has what may log without a table that is listed. Raises OSError."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
        size = ctypes.c_int(64)
        # without a buffer it cannot succeed, and no table is asked for by name
        _libc.getsockopt(sock.fileno(), socket.IPPROTO_IP, _EBTABLES, None, ctypes.byref(size))
        if ctypes.get_errno() != errno.ENOPROTOOPT:
            return True
    return _has_ipt()


def _has_ipt() -> bool:
    """Whether tc's action ipt is in the kernel. Raises OSError where that cannot be found out."""
    if _release() >= _WITHOUT_IPT:
        return False
    with open("/proc/modules") as modules:
        return any(line.startswith("act_ipt ") for line in modules) or _has_builtin_ipt()


def _release() -> tuple[int, ...]:
    found = re.match(r"(\d+)\.(\d+)", os.uname().release)
    return tuple(map(int, found.groups())) if found else (0, 0)


@cache
def _has_builtin_ipt() -> bool:
    with open("/proc/kallsyms") as symbols:
        return any(" tcf_ipt_" in line for line in symbols)
