"""NS_INIT, NS_DEL and NS_CHANGE as audit text, to be read: what cdefs/records/lines.c makes of many at once.

Formats as in audittext/own_records.py: byte 0 stands for the ``msg=audit(…):``, byte 1 for the ``node=HOST `` prefix.
"""

import os
from typing import NamedTuple

from auditns_connector.audittext.own_records import encode_untrusted
from auditns_connector.vocabulary import record_types as rectypes
from auditns_connector.vocabulary.namespaces import FLAGS


def _line(number: int, numeric: bool, fields: str) -> bytes:
    return b"\1type=%b \0 %b\n" % (rectypes.spelling(number, numeric).encode(), fields.encode("ascii"))


def _number(value: int | None, form: str = "d") -> str:
    return "?" if value is None else format(value, form)


class Actor(NamedTuple):
    """Who did it: a process as far as it is known; None is printed ``?``, 4294967295 means unset."""

    pid: int | None = None
    uid: int | None = None
    auid: int | None = None
    ses: int | None = None
    comm: bytes | None = None
    contid: str | None = None
    ppid: int | None = None
    exe: bytes | None = None

    @property
    def ids(self) -> str:
        """The fields with which the proposal's records begin."""
        return f"pid={_number(self.pid)} uid={_number(self.uid)} auid={_number(self.auid)} ses={_number(self.ses)}"

    @property
    def who(self) -> str:
        """comm and contid; a process of the host has no contid."""
        comm = "?" if self.comm is None else encode_untrusted(self.comm).decode()
        return f"comm={comm}" + ("" if self.contid is None else f" contid={self.contid}")


class NsPlace(NamedTuple):
    """A namespace: its serial, and device and inode in nsfs; None is printed ``?``."""

    snum: int | None
    dev: int | None
    ino: int | None

    @property
    def where(self) -> str:
        """dev and ino."""
        dev = "?" if self.dev is None else f"{os.major(self.dev):02x}:{os.minor(self.dev):02x}"
        return f"dev={dev} ino={_number(self.ino)}"


def ns_init(nstype: str, place: NsPlace, old_snum: int | None, creator: Actor, numeric: bool) -> bytes:
    """NS_INIT: a namespace of type ``nstype`` (a key of nstypes.FLAGS) came to be, made by ``creator``, who was in the
    one with ``old_snum`` (0: it is an initial one, None: not known)."""
    return _line(
        rectypes.NS_INIT,
        numeric,
        f"{creator.ids} type={FLAGS[nstype]:x} old_snum={_number(old_snum, 'x')} snum={_number(place.snum, 'x')}"
        f" {creator.who} {place.where} res=1",
    )


def ns_del(nstype: str, place: NsPlace, last: Actor, held: str, numeric: bool) -> bytes:
    """NS_DEL: a namespace is gone; ``last`` was the last process known in it; ``held`` is "no" where the kernel said
    so, "unknown" where something else than a process may hold it."""
    return _line(
        rectypes.NS_DEL,
        numeric,
        f"{last.ids} type={FLAGS[nstype]:x} snum={_number(place.snum, 'x')} {last.who} {place.where} held={held} res=1",
    )


def ns_change(
    nstype: str, reason: str, old: NsPlace, new: NsPlace | None, process: Actor, numeric: bool, *,
    tid: int = 0, last: bool = False,
) -> bytes:  # fmt: skip
    """NS_CHANGE: ``process``, or its thread ``tid`` (0: the leader), went from one namespace to another. ``reason`` is
    clone, unshare, setns, set (one of these two) or exit (``new`` None: it went nowhere); ``last``: no process is known
    in the old one any more."""
    place = new or NsPlace(0, old.dev, 0)
    return _line(
        rectypes.NS_CHANGE,
        numeric,
        f"pid={_number(process.pid)}{f' tid={tid}' if tid else ''} ppid={_number(process.ppid)}"
        f" auid={_number(process.auid)} ses={_number(process.ses)} type={FLAGS[nstype]:x} reason={reason}"
        f" old_snum={_number(old.snum, 'x')} snum={_number(place.snum, 'x')} {process.who}"
        f" exe={'?' if process.exe is None else encode_untrusted(process.exe).decode()}"
        f" dev={place.where.partition(' ')[0][4:]} old-ino={_number(old.ino)} ino={_number(place.ino)}"
        f"{' last=1' if last else ''} res=1",
    )
