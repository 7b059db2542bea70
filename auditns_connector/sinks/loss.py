"""What a sink has dropped: which lines, how many of them are records of audit, and between which of these.

Lines that tell how namespaces come and go, and the other records of ours, stand beside what audit said. They are known
by their type, in text and in JSON; lines for people are all taken for audit's.
"""

import re
from typing import Final, NamedTuple

from auditns_connector.vocabulary import record_types as rectypes

_NAMES: Final = "|".join(
    re.escape(rectypes.spelling(number, numeric)) for number in rectypes.OWN for numeric in (False, True)
)
# These patterns, as others of what few runs come to, are compiled where they are used, which re remembers: all of them
# together were a thirtieth of a start.
#: a record of ours, as text or as the first of a JSON object
_OWN_LINE: Final = (
    rf'(?m)^(?:(?:node=[^ \n]* )?type=(?:{_NAMES}) |{{"v":[^\n]{{0,4000}}?"records":\[{{"type":"(?:{_NAMES})")'.encode()
)
#: a line that has a stamp, likewise: time and serial
_STAMP: Final = (
    rb"(?m)^(?:(?:node=[^ \n]* )?type=[^ \n]{1,64} msg=audit\((\d{1,20}\.\d{3}):(\d{1,10})\)"
    rb'|{"v":\d+,"time":"(\d{1,20}\.\d{3})","serial":(\d{1,10}))'
)
_LIFECYCLE_NAMES: Final = "|".join(
    re.escape(rectypes.spelling(number, numeric))
    for number in (rectypes.NS_INIT, rectypes.NS_CHANGE, rectypes.NS_DEL)
    for numeric in (False, True)
)
_LIFECYCLE: Final = rf"(?:node=[^ \n]* )?type=(?:{_LIFECYCLE_NAMES}) ".encode()


class Loss(NamedTuple):
    """Lines that a sink dropped in one gap, ``audit`` of them audit's; ``first`` and ``last`` are the stamps
    "SEC.mmm:SERIAL" of these, "SEC.mmm:?" where all were our own, "" where none has a stamp."""

    sink: str
    records: int
    size: int
    first: str
    last: str
    audit: int = 0


#: whole lines
Block = bytes | memoryview


class Lifecycle(bytes):
    """Whole lines of how namespaces come and go: the first to be dropped where not all find room."""

    __slots__ = ()


def joined(early: Loss, late: Loss) -> Loss:
    """Both as one. Stamps of audit's records count before those of our own."""
    firsts = [loss.first for loss in (early, late) if loss.audit] + [early.first, late.first]
    newest = [loss.last for loss in (late, early) if loss.audit] + [late.last, early.last]
    first, last = next(filter(None, firsts), ""), next(filter(None, newest), "")
    return Loss(early.sink, early.records + late.records, early.size + late.size, first, last, early.audit + late.audit)


def own_lines() -> "re.Pattern[bytes]":
    """Finds records of ours where lines begin, as text or as the first of a JSON object."""
    return re.compile(_OWN_LINE)


def loss_of(sink: str, data: bytes) -> Loss:
    """The loss of the whole lines ``data``."""
    own_line, stamp = own_lines(), re.compile(_STAMP)
    records, own = data.count(b"\n"), len(own_line.findall(data))
    audit = 0 if isinstance(data, Lifecycle) else max(records - own, 0)
    first = last = ""
    for found in stamp.finditer(data):  # of the first and the last record that audit made
        if not audit or own_line.match(data, found.start()) is None:
            first = first or _stamp_of(found, audit)
            break
    at = len(data)
    while at > 0:
        at = data.rfind(b"\n", 0, at - 1) + 1
        line = stamp.match(data, at)
        if line is not None and (not audit or own_line.match(data, at) is None):
            last = _stamp_of(line, audit)
            break
    return Loss(sink, records, len(data), first, last, audit)


def _stamp_of(found: "re.Match[bytes]", audit: int) -> str:
    time, serial = (found[1], found[2]) if found[1] else (found[3], found[4])
    return f"{time.decode()}:{serial.decode() if audit else '?'}"


def marked(block: bytes) -> bytes:
    """``block``, as :class:`Lifecycle` where its lines are such."""
    return Lifecycle(block) if re.match(_LIFECYCLE, block) is not None else block
