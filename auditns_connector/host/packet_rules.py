"""Whether packets can have been logged in a network namespace, read by who is in it. Used by address_helper.py.

NETFILTER_PKT records are made by the target AUDIT of x_tables (net/netfilter/xt_AUDIT.c) and by nf_tables with ``log
level audit`` (nft_log.c). Each needs something in its namespace that stays until the namespace ends:

- the generation of nf_tables is 1 in a new namespace, and is counted up before the rules of a transaction come into use
  (nf_tables_commit() in nf_tables_api.c): while it is 1 there never was a rule;
- a table of x_tables, once it is there, is in ``/proc/net/*_tables_names``, empty or not;
- ebtables has no such list, and tc's action ipt (gone in Linux 6.8) runs a target without a table: with either in the
  kernel nothing is proven. What is in it, built in or as a module, is read from files: a socket of IPv4, which would
  answer for ebtables, is what auditns.service forbids.

So a namespace in which none of it is found had nothing that logs at any time before. Modules that were unloaded
meanwhile take their tables along; that is for root of the host to do.
"""

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
#: of ebtables: its module, and what begins the name of a function of its own
_EBTABLES: Final = ("ebtables", "ebt_register_table")
_IPT: Final = ("act_ipt", "tcf_ipt")
_WITHOUT_IPT: Final = (6, 8)
#: names of what is built in: file, what stands before a name. kallsyms is hidden by auditns.service, and an empty file
_SYMBOLS: Final = (("/sys/kernel/btf/vmlinux", b"\0"), ("/proc/kallsyms", b" "))
#: a function that every kernel with a network has
_CERTAIN: Final = "register_netdevice"


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
    """The generation of nf_tables; 0 where it is not given. Raises OSError."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_NETFILTER) as sock:
        sock.settimeout(1.0)
        sock.send(struct.pack("=IHHIIBBH", 20, _GETGEN, _REQUEST, 1, 0, 0, 0, 0))
        for kind, _, body in rtnetlink.messages(sock.recv(65536)):
            generation = rtnetlink.attributes(body, _NFGENMSG).get(_NFTA_GEN_ID, b"") if kind == _NEWGEN else b""
            if len(generation) == 4:
                return int.from_bytes(generation, "big")
    return 0


def _unlisted() -> bool:
    """Whether the kernel has what may log without a table that is listed. Raises OSError where that cannot be found
    out."""
    return _in_kernel(*_EBTABLES) or (_release() < _WITHOUT_IPT and _in_kernel(*_IPT))


def _in_kernel(module: str, function: str) -> bool:
    """Whether a module is loaded or built in. Raises OSError where that cannot be found out."""
    try:
        with open("/proc/modules") as modules:
            if any(line.startswith(f"{module} ") for line in modules):
                return True
    except FileNotFoundError:
        pass  # a kernel without modules
    return _built_in(function)


@cache
def _built_in(beginning: str) -> bool:
    """Whether there is a symbol that begins so. Raises OSError where the kernel's names cannot be read."""
    for path, before in _SYMBOLS:
        try:
            with open(path, "rb") as file:
                names = file.read()
        except FileNotFoundError:
            continue
        if before + _CERTAIN.encode() in names:
            return before + beginning.encode() in names
    raise OSError(errno.ENOENT, os.strerror(errno.ENOENT))


def _release() -> tuple[int, ...]:
    found = re.match(r"(\d+)\.(\d+)", os.uname().release)
    return tuple(map(int, found.groups())) if found else (0, 0)
