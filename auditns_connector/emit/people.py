"""Lines for people out of answered points: the records are decoded by the C that makes JSON, and read back as objects.

What is said of a process is a number there, by which it is found here again.
"""

import json
from array import array
from collections.abc import Callable, Hashable, Mapping
from itertools import chain
from typing import TYPE_CHECKING, Final

from auditns_connector._native import ffi, lib
from auditns_connector.audittext.insertion import RecordTexts
from auditns_connector.audittext.scanner import InsertionPoints
from auditns_connector.emit import pretty
from auditns_connector.emit.json_native import JsonLines
from auditns_connector.emit.json_objects import HOST, Who
from auditns_connector.emit.said_of_rows import RowNumbers
from auditns_connector.vocabulary import record_types as rectypes
from auditns_connector.vocabulary.values import JsonObject

if TYPE_CHECKING:
    from auditns_connector.attribution.attributor import Correlator
    from auditns_connector.emit.redaction import Redaction
    from auditns_connector.model.apply.dispatch import Model
    from auditns_connector.model.process import State

#: records that a line does not speak of: with a system call, and beside a program with its arguments
SILENT_OF_CALL: Final = frozenset(rectypes.number(name) for name in ("BPRM_FCAPS", "PROCTITLE"))
SILENT_OF_EXEC: Final = frozenset(rectypes.number(name) for name in ("CWD", "PATH", "SOCKADDR"))
_MOST: Final = 20_000
_silent: Final = ffi.new("uint8_t[]", 1 << 16)
for _types, _bit in ((SILENT_OF_CALL, lib.AUDITNS_JSON_OF_CALL), (SILENT_OF_EXEC, lib.AUDITNS_JSON_OF_EXEC)):
    for _type in _types:
        _silent[_type] = _bit
_loads: Final = json.JSONDecoder().decode


class People:
    """Makes lines by ``lines`` of what ``correlator`` has answered; ``who_of`` says of a state what there is to say."""

    def __init__(
        self,
        correlator: "Correlator",
        lines: pretty.Pretty,
        who_of: "Callable[[State], Who]",
        redact: "Redaction | None",
    ) -> None:
        self._correlator, self._lines, self._who_of, self._redact = correlator, lines, who_of, redact
        self._json = JsonLines(_silent)
        self._rows = RowNumbers()
        self._generation = -1
        self._clear()

    def _clear(self) -> None:
        self._whos: list[Who] = [HOST]
        self._numbers: dict[Hashable, int] = {}
        self._texts = RecordTexts()
        self._rows.clear()

    def events(
        self, points: InsertionPoints, keep: bytes | bytearray | None, first: int, alone: "Mapping[int, State]"
    ) -> bytes:
        """One line for each event, and for each foreign line where there is no ``keep``; ``alone`` has by number of an
        event whose it is, where a record of ours says that which stands alone."""
        who = self._who(points)
        others = array("I", chain.from_iterable((event, self._number(state)) for event, state in alone.items()))
        objects = bytes(self._json.lines(points, who, {}, self._texts, keep, first, others))
        return b"".join([self._line(_loads(one)) for one in objects.decode("ascii").splitlines()])

    def _who(self, points: InsertionPoints) -> "array[int]":
        """For each point the number of what is said of its process."""
        correlator = self._correlator
        if self._generation != correlator.generation or len(self._whos) > _MOST:
            self._generation = correlator.generation
            self._clear()
        who, states, model = array("I", bytes(4 * points.n)), correlator.states, correlator.model
        self._rows.put(states.rows, who, model, lambda row: self._number_of_row(row, model))
        for i, number in enumerate(who):
            if not number:
                who[i] = self._number(states.of_no_row(i))
        return who

    def _number_of_row(self, row: int, model: "Model") -> int:
        """What is said here of a row is what is said of all of its profile."""
        number = self._number(model.table.state_at(row))
        self._rows.all(row, model, number)
        return number

    def _number(self, state: "State") -> int:
        key = state[1:]
        number = self._numbers.get(key)
        if number is None:
            number = self._numbers[key] = len(self._whos)
            self._whos.append(self._who_of(state))
            self._texts.add(b'"who":%d' % number)
        return number

    def _line(self, found: JsonObject) -> bytes:
        foreign = found.get("foreign")
        if foreign is not None:
            return pretty.foreign(foreign)
        records = [(record.pop("type"), record) for record in found["records"]]
        if self._redact is not None:
            self._redact.records(records)
        targets = [(one["record"], one["pid"], self._whos[one.get("who", 0)]) for one in found.get("targets", ())]
        seconds, _, ms = found["time"].partition(".")
        who = self._whos[found.get("who", 0)]
        event = pretty.Event(
            int(seconds) * 1000 + int(ms), found["serial"], found.get("node", ""), who, targets, records
        )  # fmt: skip
        return self._lines.event(event)
