"""Where records of ours stand in an event as a stream shows it: at the places that the scanner found in the host's text
(see ``at`` of vocabulary/audit_text.py), or, by name, where no version of the audit tools takes them for the end of the
event. Pure."""

from collections.abc import Sequence
from typing import NamedTuple

from auditns_connector.sinks.quoting import quoted
from auditns_connector.vocabulary import record_types as rectypes


class Shown(NamedTuple):
    """A record that is shown: where its line begins in the host's text, its type, and the line."""

    off: int
    kind: int
    text: bytes


class Ours(NamedTuple):
    """A text of ours, and where in the host's text it would stand."""

    at: int
    text: bytes


def put_together(lines: Sequence[Shown], ours: Sequence[Ours], *, numeric: bool, end: bytes = b"") -> bytes:
    """The event: ``lines`` with ``ours`` between, and ``end``, an EOE that the host's text did not have. By number ours
    are quoted, for readers such as LAUREL (see sinks/quoting.py)."""
    if not numeric:
        return _by_name(lines, b"".join(one.text for one in ours), end)
    out: list[bytes] = []
    left = sorted(ours, key=lambda one: one.at)
    for line in lines:
        while left and left[0].at <= line.off:
            out.append(bytes(quoted(left.pop(0).text)))
        out.append(line.text)
    return b"".join([*out, *(bytes(quoted(one.text)) for one in left), end])


def _by_name(lines: Sequence[Shown], ours: bytes, end: bytes) -> bytes:
    """Tools before 4.0 end an event at a name they do not know: nothing of it but an EOE may follow, and that only
    behind a PROCTITLE."""
    titled = any(line.kind == rectypes.PROCTITLE for line in lines)
    last = [line.text for line in lines if titled and line.kind == rectypes.EOE]
    before = [line.text for line in lines if not (titled and line.kind == rectypes.EOE)]
    return b"".join([*before, ours, *last, end] if titled else [*before, end, ours])
