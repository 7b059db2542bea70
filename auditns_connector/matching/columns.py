"""Columns: what of an event is asked for, and the fields of the record types that have it.

Fields in front of ``msg='`` are the kernel's. What stands inside is the sender's own word: it is looked at for
programs, addresses and results, and never says whose an event is. An archive has the same values in its index
(archive/index_terms.py), or these could not be found there.
"""

from collections.abc import Iterable
from typing import Final

from auditns_connector.matching.native import JOINED, KERNEL, MESSAGE, PREFIX, Field
from auditns_connector.vocabulary import record_types as rectypes

#: types with a process of their own, which say more of it
_OF_PROCESS: Final = frozenset(number for number, row in rectypes.TYPES.items() if row.pid != "-")
_BY_USERS: Final = frozenset(number for number, row in rectypes.TYPES.items() if row.decode == "msg")
_TARGET: Final = frozenset((rectypes.OBJ_PID,))
_PATHS: Final = frozenset((rectypes.PATH,))
_CWD: Final = frozenset((1307,))
_SOCKADDR: Final = frozenset((1306,))
_PACKET: Final = frozenset((rectypes.NETFILTER_PKT,))
_INFO: Final = frozenset((rectypes.CONTAINER_INFO,))
#: access vector caches, AppArmor, integrity, landlock: what was accessed stands in the record itself
_ACCESS: Final = frozenset(n for n in rectypes.TYPES if 1400 <= n < 1600 or 1800 <= n < 1900)

#: name of a column -> (field, where, types)
FIELDS: Final[dict[str, tuple[tuple[str, int, frozenset[int]], ...]]] = {
    "auid": (("auid", KERNEL, _OF_PROCESS),),
    "uid": (("uid", KERNEL, _OF_PROCESS),),
    "exe": (("exe", KERNEL | MESSAGE, _OF_PROCESS),),
    "comm": (("comm", KERNEL, _OF_PROCESS), ("ocomm", KERNEL, _TARGET)),
    "key": (("key", KERNEL, _OF_PROCESS | {1305}),),
    "success": (("success", KERNEL, _OF_PROCESS), ("res", KERNEL | MESSAGE, _OF_PROCESS | {1305})),
    "syscall": (("arch", KERNEL | PREFIX, _OF_PROCESS), ("syscall", KERNEL | JOINED, _OF_PROCESS)),
    "file": (
        ("cwd", KERNEL | PREFIX, _CWD),
        ("name", KERNEL | JOINED, _PATHS | _ACCESS),
        ("path", KERNEL | JOINED, _ACCESS),
    ),
    "addr": (
        ("saddr", KERNEL | JOINED, _SOCKADDR),
        ("saddr", KERNEL, _PACKET),
        ("daddr", KERNEL, _PACKET),
        ("addr", MESSAGE, _BY_USERS),
    ),
    "entry": (("entry", KERNEL, _INFO), ("entry-outer", KERNEL, _INFO)),
    "lost": (("source", KERNEL, frozenset((rectypes.CONTAINER_LOST,))),),
}
#: the column of an event's arguments, which are put together of all its EXECVE records
ARGV: Final = "argv"


def fields_of(columns: Iterable[str]) -> list[Field]:
    """The fields of ``columns``, which are numbered as they come."""
    return [
        Field(name, number, where, types)
        for number, column in enumerate(columns)
        for name, where, types in FIELDS.get(column, ())
    ]
