"""Messages from inside: ``TYPE text`` lines of programs in a container, as records of the host's audit. Pure.

Who sent it is the kernel's word (:class:`Sender`), never the line's. The text stands in ``data=``, in hex unless it is
one plain word, so that nothing in it can be taken for a field, a record or an end of ``msg='…'``.
"""

import re
from typing import Final, NamedTuple

from auditns_connector.vocabulary import record_types as rectypes

MAX_LINE: Final = 4096
_PLAIN: Final = re.compile(rb"[A-Za-z0-9_./:@+-]+")
#: record types that a container may send
TYPES: Final = frozenset(name for name in rectypes.NUMBERS if name.startswith("USER_"))


class Sender(NamedTuple):
    """Who sent a message, as the host's kernel says. Ids as audit prints them (4294967295: unset)."""

    pid: int
    uid: int
    auid: int
    ses: int
    exe: bytes | None


class RefusedError(ValueError):
    """A request from inside that is not granted: the name of the error, and why."""

    def __init__(self, error: str, why: str) -> None:
        super().__init__(why)
        self.error = error


def parse(line: bytes) -> tuple[str, bytes]:
    """(type, text) of ``TYPE text``. Raises :class:`RefusedError`."""
    kind, _, text = line.strip(b"\r\n").partition(b" ")
    name = kind.decode("ascii", "replace")
    if name not in TYPES:
        raise RefusedError("EINVAL", "the type of a message is one of the USER_ types")
    if len(text) > MAX_LINE:
        raise RefusedError("EMSGSIZE", f"the text of a message is at most {MAX_LINE} bytes")
    return name, text


def word(value: bytes) -> bytes:
    """``value`` as one word that no reader can take for anything else: quoted when plain, else in hex."""
    if _PLAIN.fullmatch(value):
        return b'"' + value + b'"'
    return value.hex().upper().encode()


def record(kind: str, text: bytes, sender: Sender, stream: str, ms: int, serial: int) -> bytes:
    """The USER record, one whole line."""
    exe = b"?" if sender.exe is None else word(sender.exe)
    return (
        b"type=%b msg=audit(%d.%03d:%d): pid=%d uid=%d auid=%d ses=%d msg='op=stream-send stream=%b data=%b "
        b"exe=%b hostname=? addr=? terminal=? res=success'\n"
    ) % (
        kind.encode(),
        ms // 1000,
        ms % 1000,
        serial,
        sender.pid,
        sender.uid,
        sender.auid,
        sender.ses,
        word(stream.encode()),
        word(text),
        exe,
    )
