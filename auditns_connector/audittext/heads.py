"""The head of one line of audit text: node, type, time and serial."""

from typing import Final, NamedTuple

from auditns_connector._native import ffi, lib
from auditns_connector.audittext.type_names import type_names

_TYPES: Final = type_names()


class LineHead(NamedTuple):
    """What a record's line says of it: ``body`` is what follows the header, ``escaped`` whether that lies in a string
    of JSON, ``number`` the type's (0: not known)."""

    node: bytes
    ms: int
    serial: int
    kind: bytes
    number: int
    body: bytes
    escaped: bool


_head: Final = ffi.new("struct auditns_head *")


def read_head(line: bytes) -> LineHead | None:
    """The head of a line, with or without its newline; ``None`` where it is no record."""
    bare = line.removesuffix(b"\n")
    h = _head
    if not lib.auditns_head(bare, len(bare), h):
        return None
    return LineHead(
        bare[h.node_off : h.node_off + h.node_len],
        h.ms,
        h.serial,
        bare[h.name_off : h.name_off + h.name_len],
        h.type,
        bare[h.body : h.end],
        len(bare) - h.end > 1,
    )
