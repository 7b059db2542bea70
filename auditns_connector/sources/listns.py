"""The kernel's own list of namespaces: listns(2), Linux 6.19.

It has all that there are, those included that no process is in (held by a descriptor, a mount, or as the parent of
others), and says of each its 64-bit id; type by type, so the type is known too. The inode is asked by the file handle
of the id alone. It tells neither when a namespace began nor who made it.

All of them are listed for root of the initial user namespace in the initial pid namespace (CAP_SYS_ADMIN there);
others get those that they may see.
"""

import errno
import struct
from collections.abc import Container
from typing import Final, NamedTuple

from auditns_connector._native import ffi, lib
from auditns_connector.vocabulary.namespaces import ALL_ORDER, FLAGS

#: struct ns_id_req of linux/nsfs.h (NS_ID_REQ_SIZE_VER0): size, 0, the id to go on behind, CLONE_NEW* flag, 0, the
#: user namespace whose namespaces are meant (0: any)
_REQUEST: Final = struct.Struct("=IIQIIQ")
#: ids asked for at once
_PAGE: Final = 4096
#: no more of one type: a list that goes on for ever is none
MOST: Final = 1 << 20


class Listed(NamedTuple):
    """One namespace: the kernel's id, its inode, and the number of its type, its place in nstypes.ALL_ORDER."""

    id: int
    ino: int
    type: int


def request(flag: int, behind: int = 0) -> bytes:
    """What listns(2) is asked for: namespaces whose type has this CLONE_NEW* ``flag``, with ids above ``behind``."""
    return _REQUEST.pack(_REQUEST.size, 0, behind, flag, 0, 0)


class NamespaceList:
    """Lists namespaces. ``available`` turns False where the kernel has no such call, or does not let us."""

    def __init__(self) -> None:
        self.available = True
        self._page = ffi.new("uint64_t[]", _PAGE)
        self._answer = ffi.new("struct nsid_answer *")
        #: ids of the last list, by index of the type
        self._former: dict[int, set[int]] = {}

    @property
    def types(self) -> list[int]:
        """The types that were listed."""
        return list(self._former)

    def ids(self, index: int) -> list[int]:
        """The ids of all namespaces of one type, ascending; empty where they cannot be listed."""
        out: list[int] = []
        while self.available and len(out) < MOST:
            asked = ffi.from_buffer(request(FLAGS[ALL_ORDER[index]], out[-1] if out else 0))
            found = lib.nsid_list(asked, self._page, _PAGE)
            if found < 0:
                self.available = found not in (-errno.ENOSYS, -errno.EPERM, -errno.EINVAL)
                break
            page = list(self._page[0:found])
            if out and page and page[0] <= out[-1]:
                break  # not as documented: it would go on for ever
            out += page
            if found < _PAGE:
                break
        return out

    def fresh(self, index: int, skip: Container[int], most: int = MOST) -> list[int]:
        """The ids of one type that the last list of it did not have, without those ``skip``. Where there are more than
        ``most``, the others are left for the next time."""
        former, listed = self._former.get(index, set()), self.ids(index)
        if not self.available:
            return []
        found = [number for number in listed if number not in former and number not in skip]
        self._former[index] = set(listed).difference(found[most:])
        return found[:most]

    def find(self, number: int, index: int) -> Listed | None:
        """The namespace with this id; None where it is gone."""
        if lib.nsid_find(number, self._answer):
            return None
        return Listed(number, int(self._answer.ino), index)
