"""Terms: the words that the filter of a block is made from, and may be asked for.

======== =========================================================================================
contid   each number of every ``contid=`` and ``old-contid=``, targets and lists included; ``?``
pid      ``pid=``, ``ppid=``, ``opid=``
auid     ``auid=``, ``old-auid=``
uid      ``uid=``, ``euid=``
type     the number of each record's type
syscall  ``syscall=`` as it stands, whatever the architecture
key      each key of ``key=``
comm     ``comm=``, ``ocomm=``
exe      ``exe=``; ``exename`` is its last component
path     ``name=`` of PATH and of security modules' records, ``path=``: joined with the ``cwd=`` in front of it,
         without what leads nowhere; ``base`` is the last component. "": there is one that is relative, to what is
         not known
arg      ``a0=``, ``a1=`` … of EXECVE; not what was cut into pieces (``a1[0]=``)
addr     of SOCKADDR (as inet_ntop(3) writes it, or the path), ``saddr=`` and ``daddr=`` of NETFILTER_PKT
entry    ``entry=`` of CONTAINER_INFO, and ``*``; ``how`` where ``entry-how=`` tells of one
======== =========================================================================================

Values are decoded: without quotes, and not in hexadecimal. Of what a user process says of itself (``msg='…'``) there
are ``exe``, ``exename`` and ``addr``. A term says where to look, never whose an event is.
``cdefs/archive/index_terms.c`` takes them from text.
"""

from collections.abc import Iterable
from typing import Final, NamedTuple

from auditns_connector._native import lib
from auditns_connector.vocabulary import archive as numbers

#: name -> number in filters
KINDS: Final[dict[str, int]] = {
    name.removeprefix("TERM_").lower(): value for name, value in vars(numbers).items() if name.startswith("TERM_")
}


class Term(NamedTuple):
    """A value of one of :data:`KINDS`."""

    kind: str
    value: bytes

    def hash(self) -> int:
        """As filters have it, 32 bits."""
        return int(lib.archive_term(KINDS[self.kind], self.value, len(self.value)))


def hashes(sets: Iterable[Iterable[Term]]) -> tuple[list[int], list[int]]:
    """The hashes of all terms, one set behind the other, and where each set ends."""
    found: list[int] = []
    ends: list[int] = []
    for terms in sets:
        found += [term.hash() for term in terms]
        ends.append(len(found))
    return found, ends
