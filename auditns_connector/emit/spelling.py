"""How the records of ours are spelled, and where they stand, so that the host's audit tools read each event as before.

What ausearch, aureport and auparse make of an added record (tried with tests/compare.py, 3.0.9 and 4.2.1): in front of
PROCTITLE an event of the kernel is whole, by number in all of them, by name in 4.x alone, for 3.x ends an event at a
new name. Right behind the SYSCALL it is not: their normaliser looks for SOCKADDR and PATH by their place in the event,
and the rows of connect and rename change. By name beside 3.x the record is harmless at the very end only. Behind a
record that ends its event (USER_* and the like) it is an event of its own and changes nothing. In a kernel event
without a SYSCALL no place is whole: the normaliser takes one record or a SYSCALL. There :data:`APART` makes ours an
event of its own.
"""

import re
from array import array
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final, NamedTuple

from auditns_connector.audittext.own_records import HEADER_PLACE
from auditns_connector.vocabulary import audit_text as pt
from auditns_connector.vocabulary import record_types as rectypes
from auditns_connector.vocabulary.values import Json

if TYPE_CHECKING:
    from auditns_connector.attribution.attributor import Correlator
    from auditns_connector.audittext.scanner import InsertionPoints

AUTO: Final = "auto"
SYMBOLIC: Final = "symbolic"
NUMERIC: Final = "numeric"
#: placements: in the event, or beside it where there is no whole place in it
EVENT: Final = "event"
APART: Final = "apart"
#: the first version of audit whose tools keep a record in its event that they have no name for
_KEEPS_NAMES: Final = 4
#: what a serial of an event is moved by for the record that speaks of it: as far away from the kernel's serials, and
#: from the counter of our other events, as state/event_serials.py lets these come
_AWAY: Final = 3 << 30
_SERIALS: Final = 1 << 32
#: points that are no event's only record of the kernel
_OTHERS: Final = pt.P_SYSCALL | pt.P_TARGET | pt.P_LATE | pt.P_OWN


class Spelling(NamedTuple):
    """``numeric``: types are UNKNOWN[n]; ``at_end``: they are names, for tools that end an event at one; ``tools`` is
    the version of the audit tools that decided, empty where it could not be known."""

    numeric: bool
    at_end: bool
    tools: str

    @property
    def names(self) -> str:
        """As --record-names has it."""
        return NUMERIC if self.numeric else SYMBOLIC

    def recorded(self) -> dict[str, str]:
        """What a journal keeps of it, so that a replay writes the same bytes wherever it is made."""
        return {"audit_tools": self.tools, "record_names": self.names}

    def status(self, placement: str) -> dict[str, str]:
        """The section "records" of the status."""
        place = APART if placement == APART else "end" if self.at_end else EVENT
        return {"names": self.names, "place": place, "audit_tools": self.tools or "?"}


def recorded(hello: Mapping[str, Json], wanted: str) -> Spelling | None:
    """As :func:`choose` for the run that a journal's first frame is of; ``None`` where that does not say."""
    tools, names = hello.get("audit_tools"), hello.get("record_names")
    if (
        not isinstance(tools, str)
        or names not in (SYMBOLIC, NUMERIC)
        or not re.fullmatch(r"([0-9]{1,3}(\.[0-9]+)*)?", tools)
    ):
        return None
    return choose(names if wanted == AUTO else wanted, tools)


def choose(wanted: str, tools: str) -> Spelling:
    """What ``wanted`` (AUTO, SYMBOLIC or NUMERIC) comes to beside audit tools of the version ``tools``."""
    major = int(tools.partition(".")[0]) if tools else 0
    old = major < _KEEPS_NAMES
    numeric = old if wanted == AUTO else wanted == NUMERIC
    return Spelling(numeric, old and not numeric, tools)


def stands_apart(points: "InsertionPoints", i: int) -> bool:
    """Whether point ``i`` is of an event with a record of the kernel and no SYSCALL, where no place in it is whole."""
    if points.flags[i] & _OTHERS:
        return False
    if rectypes.of(points.rtype[i]).edge != "alone":
        return True
    # what follows a record at which tools end the event (MAC_TASK_CONTEXTS behind USER_*) is a kernel event to them
    return bool(points.flags[i] & pt.P_FOLLOWED)


def serial_apart(serial: int) -> int:
    """The serial of an event of ours that speaks of the event ``serial``."""
    return (serial + _AWAY) % _SERIALS


def set_apart(points: "InsertionPoints", choice: "array[int]", correlator: "Correlator") -> "array[int]":
    """``choice``, with what is said of such events made events of ours: ``event=TIME:SERIAL`` names theirs, the time is
    the same, the serial is theirs moved by 3 * 2^30 modulo 2^32."""
    found = [i for i, number in enumerate(choice) if number and stands_apart(points, i)]
    if not found:
        return choice
    out = array("I", choice)
    for i in found:
        ms, serial = points.ms[i], points.serial[i]
        event = b" event=%d.%03d:%d\n" % (ms // 1000, ms % 1000, serial)
        header = b"msg=audit(%d.%03d:%d):" % (ms // 1000, ms % 1000, serial_apart(serial))
        out[i] = correlator.numbers.reworded(choice[i], ((HEADER_PLACE, header), (b"\n", event)))
    return out
