"""What a filter has decided about an event that it had but a part of, as a record of ours: a CONTAINER_LOST in front of
what came then.

It is an event of its own, of the same time, and its serial is that of the event moved as by :mod:`.spelling`: so it is
the same live and in a replay, and needs no counter. What stands in front of the event's records, and behind them where
they are members of an object, is repeated as with every record of ours.
"""

from typing import TYPE_CHECKING

from auditns_connector.audittext import own_records as text
from auditns_connector.emit.spelling import serial_apart

if TYPE_CHECKING:
    from auditns_connector.audittext.points import InsertionPoints

SOURCE = "filter"


def divided(points: "InsertionPoints", i: int, numeric: bool) -> bytes:
    """The line that says that more came of the event of point ``i`` when it was decided not to pass it on."""
    ms, serial = points.ms[i], points.serial[i]
    stamp = f"{ms // 1000}.{ms % 1000:03d}:{serial}"
    tail = text.container_lost(SOURCE, None, 1, stamp, stamp, numeric)
    line = text.stamp(tail, ms, serial_apart(serial)).removesuffix(b"\n")
    trail = points.bytes_at(points.trail_off[i], points.trail_len[i])
    if len(trail) > 1:  # the text of the record is a string of JSON
        line = line.replace(b"\\", b"\\\\").replace(b'"', b'\\"')
    return points.lead(i) + line + trail + b"\n"
