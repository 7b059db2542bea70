"""Enrich recorded text with made-up containers: the container of pid N is N."""

from pathlib import Path

from auditns_connector.audittext import own_records as text
from auditns_connector.audittext.insertion import RecordTexts, assemble
from auditns_connector.audittext.scanner import InsertionPoints, TextStream
from auditns_connector.vocabulary import audit_text as p

DATA = Path(__file__).parent / "data"


def tail(points: InsertionPoints, i: int, numeric: bool) -> bytes:
    """What to insert at point ``i``."""
    if points.flags[i] & p.P_OWN:
        return b""
    if points.flags[i] & p.P_NETFILTER:
        return text.container_id(",".join(map(text.contid_chain, [(2, 1), (3, 1)])), None, numeric)
    contid = text.UNKNOWN if points.pid[i] < 0 else text.contid_chain([points.pid[i], 7])
    return text.container_id(contid, points.recno[i], numeric)


def enrich(data: bytes, numeric: bool, size: int = 1 << 20) -> bytes:
    """The whole text, fed in pieces of ``size``."""
    stream, tails, out = TextStream(), RecordTexts(), []

    def put(points: InsertionPoints) -> None:
        choice = [tails.add(tail(points, i, numeric)) for i in range(points.n)]
        out.append(assemble(points, choice, tails))

    for at in range(0, len(data), size):
        put(stream.push(data[at : at + size]))
    put(stream.flush(eof=True))
    return b"".join(out)
