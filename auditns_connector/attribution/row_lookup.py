"""Answers from rows of the process table, without an object of any process.

Most records on a busy host are of processes whose whole state is one (model/rows.py), and for those the number of the
text that answers is the same for all of a profile. A profile is given its number when somebody of it was asked about
and answered the long way (attributor.py); children are rows of the same profiles, so they are answered as soon as they
are born. The numbers hold for one *generation*: where texts are dropped, the next one begins.

What a row can answer is stated in cdefs/attribution/row_lookup.c, after :mod:`lookup` and :mod:`exec_match`.
"""

import os
from collections.abc import Callable, Mapping
from typing import Final

from auditns_connector._native import ffi, lib
from auditns_connector.attribution.states import HOST, PointStates
from auditns_connector.audittext.insertion import RecordTexts
from auditns_connector.audittext.memory import SMALL, fresh
from auditns_connector.audittext.scanner import InsertionPoints
from auditns_connector.model.apply.dispatch import Model
from auditns_connector.model.process import Process, State
from auditns_connector.vocabulary.timing import FOREVER
from auditns_connector.vocabulary.values import CData

#: number and kind of an answer
Numbered = tuple[int, int]
#: times above this are nobody's (ns)
_FAR: Final = 1 << 62
#: so many states that texts say are numbered before all are numbered anew
_MOST_SAID: Final = 10_000


class RowLookup:
    """Answers about processes of ``model`` that are rows."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._table = model.table.c
        self._generation = 0
        self._missed: CData = ffi.new("uint32_t[]", 1024)
        self.c: CData = ffi.new("struct row_lookup *", {"table": self._table, "steady": FOREVER})
        self._applied = -1
        #: by point: the rows that answered
        self._rows: CData = None
        #: what came of records of ours in the text; made when there are some
        self._said: CData = None
        #: the states that these say, from 1, and their numbers
        self._said_states: list[State] = [HOST]
        self._said_numbers: dict[State, int] = {}
        #: some of that was remembered for processes without an answer; and the last points were of such
        self._said_alone = self._of_nobody = False

    def begin(self, *, dropped: bool) -> None:
        """Other points come next. Texts are numbered anew where they were ``dropped``; and where somebody else has
        numbered meanwhile."""
        if self._said is not None:
            self._said.keys = 0
        if dropped or self._table.generation != self._generation or len(self._said_states) > _MOST_SAID:
            self._table.generation += 1
            self._generation = self._table.generation
            self.c.said_generation += 1
            self._said_states, self._said_numbers = [HOST], {}

    def ready(self, now: int) -> "RowLookup":
        """Read stamps as the model does at ``now`` (CLOCK_MONOTONIC ns)."""
        model, c = self._model, self.c
        if self._applied != model.applied:
            self._applied = model.applied
            if self._said_alone:  # whom the text names may be known by now
                self._said_alone = False
                c.said_generation += 1
            steady = model.clock.clear_since(now)
            c.offset, c.lag = model.clock.offset or 0, min(model.lag, _FAR)
            c.steady = FOREVER if steady is None else min(steady, FOREVER)
            c.gap, c.horizon = min(model.gap_until, FOREVER), min(model.horizon, FOREVER)
        return self

    def alone(self, now: int) -> "RowLookup":
        """:meth:`ready`; and neither rows nor what texts say are passed on, for others than :meth:`find` may ask."""
        self.c.rows = ffi.NULL
        self._want_texts(None)
        return self.ready(now)

    def find(
        self,
        points: InsertionPoints,
        first: int,
        end: int,
        careful: int,
        now: int,
        choice: CData,
        states: PointStates | None = None,
    ) -> tuple[CData, int]:
        """Put into ``choice`` (an array of typecode I) the answers of the points from ``first`` up to ``end`` that rows
        have at ``now`` (CLOCK_MONOTONIC ns). Returns an array of the others' numbers, with those that have a flag of
        ``careful`` (an only exec apart), and how many they are; it holds until the next call. ``states`` are given
        of the rows."""
        if len(self._missed) < end - first:
            self._missed = ffi.new("uint32_t[]", 2 * (end - first))
        self.c.rows, self._of_nobody = ffi.NULL, False
        self._want_texts(states)
        if states is not None:
            self._rows = self.c.rows = ffi.new("uint32_t[]", max(end, 1))
            states.by_rows(self._rows, self._state_of)
        count = lib.lookup_find(
            self.c, points.c, first, end, careful, min(now, _FAR), ffi.from_buffer("uint32_t[]", choice), self._missed
        )
        return self._missed, int(count)

    def _want_texts(self, states: PointStates | None) -> None:
        """``states`` are to be given what the text of points says."""
        self.c.texts = ffi.NULL
        if states is not None and self._said is not None:
            self.c.texts = states.by_texts(self._said_states)

    def find_nobody(
        self,
        points: InsertionPoints,
        first: int,
        end: int,
        careful: int,
        before: int,
        number: int,
        choice: CData,
        states: PointStates | None = None,
    ) -> list[int]:
        """Put ``number`` into ``choice`` for the points that are stamped ``before`` a time (ms); see the C. Returns the
        others. ``states`` are given what the text says of some."""
        if len(self._missed) < end - first:
            self._missed = ffi.new("uint32_t[]", 2 * (end - first))
        self._want_texts(states)
        self._of_nobody = True
        found = ffi.from_buffer("uint32_t[]", choice)
        count = lib.lookup_nobody(self.c, points.c, first, end, careful, before, number, found, self._missed)
        return ffi.unpack(self._missed, count) if count else []

    def find_all(self, points: InsertionPoints, careful: int, now: int, choice: CData) -> bool:
        """The same for all points, if rows answer all; else False, and nothing has happened."""
        self._want_texts(None)
        found, now = ffi.from_buffer("uint32_t[]", choice), min(now, _FAR)
        return not lib.lookup_find(self.c, points.c, 0, points.n, careful, now, found, ffi.NULL)

    def join(self, points: InsertionPoints, careful: int, now: int, tails: RecordTexts) -> bytes | memoryview | None:
        """The text of ``points`` with the answers inserted, if rows answer all; else ``None``, and nothing has
        happened."""
        n = points.n
        if len(self._missed) < n:
            self._missed = ffi.new("uint32_t[]", 2 * n)
        room = points.consumed + n * tails.most
        out = fresh("char[]", room)
        size = lib.lookup_join(
            self.c, points.c, points.consumed, careful, min(now, _FAR), self._missed, tails.c_struct(), out, room
        )
        if size < 0:
            return None
        return ffi.buffer(out, size)[:] if size <= SMALL else memoryview(ffi.buffer(out, size))

    def holder_in(self, pid: int, state: State) -> Process | None:
        """The holder of ``pid`` that is a row in that very ``state``."""
        process: Process | None = self._model.processes.get(pid)
        while process is not None and not (process.row and process.state is state):
            process = process.prev
        return process

    def _state_of(self, row: int) -> State:
        return self._model.table.state_at(row)

    def says(self, i: int, number: int, said: State | None, *, alone: bool) -> None:
        """Point ``i`` of the last :meth:`find` or :meth:`find_nobody`, whose event has records of ours in its text,
        has ``number``; so have others that say the same, where the evidence says the same as well, or (``alone``)
        nothing. ``said`` is the state that the text says; ``None``: it follows from the evidence."""
        if alone and not self._of_nobody:
            return
        if not self.c.said:
            self._said = ffi.gc(lib.said_new(int.from_bytes(os.urandom(8), "little")), lib.said_free)
            self.c.said = self._said
        elif self._table.generation == self._generation:
            self._said_alone |= alone
            lib.said_put(self._said, i, number, self._number_of(said), self.c.said_generation)

    def _number_of(self, said: State | None) -> int:
        """The place of a state that a text says; 0 where it says none."""
        if said is None:
            return 0
        number = self._said_numbers.get(said)
        if number is None:
            number = self._said_numbers[said] = len(self._said_states)
            self._said_states.append(said)
        return number

    def counted(self, kind: int) -> int:
        """How many answers of that kind the last call found."""
        return int(self.c.counted[kind])

    def learn(self, number_of: Callable[[State], Numbered | None]) -> None:
        """Number those that were asked about and missed, as far as there is a text."""
        table = self._table
        if not table.wanted:
            return
        wanted = ffi.unpack(table.wanted_pid, table.wanted)
        table.wanted = 0
        for pid in dict.fromkeys(wanted):
            process = self._model.processes.get(pid)
            if process is not None:
                self.number(process, number_of(process.state))

    def number_all(self, numbered: Mapping[Process, Numbered | None]) -> None:
        """:meth:`number` of several."""
        for process, one in numbered.items():
            self.number(process, one)

    def number(self, process: Process, numbered: Numbered | None) -> None:
        """``numbered`` is the answer about ``process`` as it is now, and about all of its kind; ``None``: there is no
        text yet."""
        if numbered is not None and self._model.pack(process):
            lib.table_answer(self._table, process.row, *numbered)
