"""Answers that still hold: most records on a busy host are of processes that have been asked about before, or of their
children.

A frame that speaks of a process, or may speak of anybody, ends what was known of it: whoever is found here would be
answered the same if it were asked for again. A few frames do not: what a plain fork, exec or exit does is followed, so
that children are known when they are born. The C is in cdefs/attribution/cache.c.
"""

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

from auditns_connector._native import ffi, lib
from auditns_connector.vocabulary.timing import FOREVER
from auditns_connector.vocabulary.values import CData

if TYPE_CHECKING:
    from auditns_connector.audittext.scanner import InsertionPoints, RecordTexts

_LEAST_BITS: Final = 10
_MOST_BITS: Final = 18
#: times above this are nobody's (ns)
_FAR: Final = 1 << 62
_MAX_SETS: Final = 1024
_SET: Final = int(lib.AUDITNS_SET)
#: memory for a text that is its reader's own: it is written over, so there is no need to clear it
fresh: Final = ffi.new_allocator(should_clear_after_alloc=False)
#: a text no larger than this is cheaper to copy than to give memory of its own
SMALL: Final = 1 << 14
#: odd, and known to nobody: pids cannot be chosen so that looking them up takes long
_SEED: Final = int.from_bytes(os.urandom(8), "little") | 1


class Answer(NamedTuple):
    """What is known of process ``pid``: the number of its answer for stamps that mean more than ``since`` and at most
    ``until`` (CLOCK_MONOTONIC ns, :data:`FOREVER`: for now). The fields are those of struct auditns_answer."""

    since: int
    until: int
    #: when it execed, if no record has told of it; 0 it did not, -1 nothing is to be said of its execs
    exec: int
    stamp: int
    #: the id that samples in its cgroup have; 0: not known
    cgroup: int
    pid: int
    number: int
    missed: int = 0
    #: :meth:`Known.set_of` what FORK frames of its children have for payload, where they are what it is; 0: nowhere
    set: int = 0
    #: how the answer is counted, 0 to 3
    kind: int = 0
    #: it holds for a stamp a little before ``since`` as well: nobody had the pid then
    newborn: int = 0
    #: it has other threads
    threads: int = 0


class Touched:
    """When frames last spoke of a process, and whose answers follow them."""

    def __init__(self) -> None:
        self.c: CData = ffi.new("struct auditns_touched *", {"now": 1})
        self._known: Known | None = None
        #: what the one before had to tell
        self._told: list[tuple[int, int]] = []

    def saw(self, block: bytes, *, every: bool) -> bool:
        """``block`` of frames is, or will be, taken in; ``every``: any of them may speak of anybody. True where the
        answers that are known may be given before it is."""
        return bool(lib.auditns_follow(self.c, ffi.from_buffer(block), len(block), every))

    def exec_told(self, pid: int, *, all_of_them: bool) -> None:
        """A record of an exec of ``pid`` was answered by the model, and perhaps there was no other."""
        lib.auditns_exec_told(self.c, pid, all_of_them)

    def attach(self, known: "Known") -> None:
        """From now on the frames are followed for ``known``, and no longer for whom they were before."""
        self._told += self.told()
        self._known = known
        self.c.known = known.c

    def follows(self, known: "Known") -> bool:
        """Whether it is ``known`` for whom the frames are followed."""
        return self._known is known

    def tidy(self, before: int) -> None:
        """See :meth:`Known.tidy`."""
        if self._known is not None:
            self._known.tidy(before)

    def told(self) -> list[tuple[int, int]]:
        """The (pid, time) of execs that were answered since the last time, for the model to know."""
        c = self.c.known
        count = c.told_count if c else 0
        if not count and not self._told:
            return []
        told, self._told = self._told, []
        if count:
            told += [(row.pid, row.time) for row in c.told[0:count]]
            c.told_count = 0
        return told


class Known:
    """Numbers of answers by process, each as long as no frame that ``touched`` has seen says otherwise."""

    def __init__(self, touched: Touched) -> None:
        self._touched = touched
        self._missed: CData = ffi.new("uint32_t[]", 1024)
        self._sets: dict[bytes, int] = {}
        self._raw: CData = ffi.new("uint8_t[]", _MAX_SETS * _SET)
        self.c: CData = ffi.new("struct auditns_known *", {"seed": _SEED, "sets": self._raw, "steady": FOREVER})
        self._begin(_LEAST_BITS)
        touched.attach(self)

    def _begin(self, bits: int) -> None:
        self._answers: CData = ffi.new("struct auditns_answer[]", 1 << bits)
        self.c.bits, self.c.used, self.c.answer = bits, 0, self._answers

    def forget(self) -> None:
        """Nothing is known any more."""
        self._sets.clear()
        self._begin(_LEAST_BITS)

    def see(self, *, offset: int, steady: int | None, gap: int, lag: int) -> None:
        """How stamps are to be read: the clock's ``offset`` (ns), since when they have one meaning (``None``: they have
        several), until when events are missing, how far behind its stamp an event may be."""
        c = self.c
        c.offset, c.lag = offset, min(lag, _FAR)
        c.steady, c.gap = FOREVER if steady is None else min(steady, FOREVER), min(gap, FOREVER)

    def find(
        self, points: "InsertionPoints", first: int, end: int, careful: int, now: int, choice: CData
    ) -> tuple[CData, int]:
        """Put into ``choice`` (an array of typecode I) the answers of the points from ``first`` up to ``end`` that are
        known at ``now`` (CLOCK_MONOTONIC ns). Returns an array of the others' numbers, with those that have a flag of
        ``careful`` (a known exec apart), and how many they are; it holds until the next call."""
        if len(self._missed) < end - first:
            self._missed = ffi.new("uint32_t[]", 2 * (end - first))
        count = lib.auditns_known_find(
            self._touched.c, points.c, first, end, careful, min(now, _FAR), ffi.from_buffer("uint32_t[]", choice),
            self._missed,
        )  # fmt: skip
        return self._missed, int(count)

    def find_all(self, points: "InsertionPoints", careful: int, now: int, choice: CData) -> bool:
        """The same for all points, if all are known; else False, and nothing has happened."""
        found, now = ffi.from_buffer("uint32_t[]", choice), min(now, _FAR)
        return not lib.auditns_known_find(self._touched.c, points.c, 0, points.n, careful, now, found, ffi.NULL)

    def join(
        self, points: "InsertionPoints", careful: int, now: int, tails: "RecordTexts"
    ) -> bytes | memoryview | None:
        """The text of ``points`` with the answers put in, if all are known; else ``None``, and nothing has happened."""
        n = points.n
        if len(self._missed) < n:
            self._missed = ffi.new("uint32_t[]", 2 * n)
        room = points.consumed + n * tails.most
        out = fresh("char[]", room)
        size = lib.auditns_join(
            self._touched.c,
            points.c,
            points.consumed,
            careful,
            min(now, _FAR),
            self._missed,
            tails.c_struct(),
            out,
            room,
        )
        if size < 0:
            return None
        return ffi.buffer(out, size)[:] if size <= SMALL else memoryview(ffi.buffer(out, size))

    def counted(self, kind: int) -> int:
        """How many answers of that kind the last call found."""
        return int(self.c.counted[kind])

    def wanted(self) -> list[int]:
        """Processes that were not known, and whose being known would have helped, since the last time."""
        c = self.c
        if not c.wanted_count:
            return []
        found = ffi.unpack(c.wanted, c.wanted_count)
        c.wanted_count = 0
        return list(dict.fromkeys(found))

    def put(self, answers: Sequence[Answer]) -> None:
        """Remember answers, as they are now: their ``stamp`` is put there."""
        stamp = self._touched.c.now
        rows = ffi.new("struct auditns_answer[]", answers)
        done = lib.auditns_known_put(self.c, rows, len(rows), stamp)
        if done < len(rows) and self.c.bits < _MOST_BITS:
            self._move(self.c.bits + 1, 0)
            lib.auditns_known_put(self.c, rows + done, len(rows) - done, stamp)
        elif done < len(rows):
            self.forget()  # it was asked about so many, not all will come again
        if len(self._sets) == _MAX_SETS:
            self.forget()

    def tidy(self, before: int) -> None:
        """Drop what is about processes that ended ``before`` (CLOCK_MONOTONIC ns), if there is much."""
        if self.c.used >= 1 << (self.c.bits - 2):
            self._move(self.c.bits, before)

    def _move(self, bits: int, since: int) -> None:
        held = self._answers
        former = ffi.new("struct auditns_known *", {"bits": self.c.bits, "answer": held})
        self._begin(bits)
        lib.auditns_known_move(self.c, former, self._touched.c, min(since, FOREVER))
        ffi.release(held)

    def set_of(self, raw: bytes) -> int:
        """The number of namespaces as a FORK frame tells them; 0 where there is no room, or these are none."""
        number = self._sets.get(raw, 0)
        if not number and len(raw) == _SET and len(self._sets) < _MAX_SETS:
            number = self._sets[raw] = len(self._sets) + 1
            ffi.memmove(self._raw + (number - 1) * _SET, raw, _SET)
        return number
