"""Answers that still hold: most records on a busy host are of processes that have been asked about before.

A frame that speaks of a process, or may speak of anybody, ends what was known of it: whoever is found here would be
answered the same if it were asked for again. The C is in cdefs/text_known.c.
"""

import os
from collections.abc import Sequence
from typing import Any, Final

from ._text import ffi, lib
from .reassemble import Points

_LEAST_BITS: Final = 10
_MOST_BITS: Final = 18
_FOREVER: Final = (1 << 63) - 1
#: odd, and known to nobody: pids cannot be chosen so that looking them up takes long
_SEED: Final = int.from_bytes(os.urandom(8), "little") | 1


class Touched:
    """When frames last spoke of a process."""

    def __init__(self) -> None:
        self.c: Any = ffi.new("struct auditns_touched *", {"now": 1})

    def saw(self, block: bytes, *, every: bool) -> None:
        """``block`` of frames is taken in; ``every``: any of them may speak of anybody."""
        lib.auditns_touch(self.c, ffi.from_buffer(block), len(block), every)


class Known:
    """Numbers of answers by process, each as long as no frame that ``touched`` has seen speaks of the process."""

    def __init__(self, touched: Touched) -> None:
        self._touched = touched
        self._missed: Any = ffi.new("uint32_t[]", 1024)
        self._c, self._answers = self._table(_LEAST_BITS)

    @staticmethod
    def _table(bits: int) -> tuple[Any, Any]:
        answers = ffi.new("struct auditns_answer[]", 1 << bits)
        return ffi.new("struct auditns_known *", {"seed": _SEED, "bits": bits, "answer": answers}), answers

    def find(self, points: Points, first: int, end: int, careful: int, less: int, choice: Any) -> tuple[Any, int]:
        """Put into ``choice`` (an array of typecode I) the answers of the points from ``first`` up to ``end`` that are
        known; a stamp means ``less`` ns less than it says. Returns an array of the others' numbers, with those that
        have a flag of ``careful``, and how many they are; it holds until the next call."""
        if len(self._missed) < end - first:
            self._missed = ffi.new("uint32_t[]", 2 * (end - first))
        count = lib.auditns_known_find(
            self._c, self._touched.c, points.c, first, end, careful, less, ffi.from_buffer("uint32_t[]", choice),
            self._missed,
        )  # fmt: skip
        return self._missed, int(count)

    def put(self, answers: Sequence[tuple[int, int | None, int, int]]) -> None:
        """Remember answers: (after which time they hold, until which, both CLOCK_MONOTONIC ns, ``None`` for now; pid;
        number)."""
        now = self._touched.c.now
        rows = ffi.new(
            "struct auditns_answer[]",
            [(since, _FOREVER if until is None else until, now, pid, number) for since, until, pid, number in answers],
        )
        done = lib.auditns_known_put(self._c, rows, len(rows))
        if done == len(rows):
            return
        former, held = self._c, self._answers
        if former.bits == _MOST_BITS:
            self._c, self._answers = self._table(_LEAST_BITS)  # it was asked about so many, not all will come again
            return
        self._c, self._answers = self._table(former.bits + 1)
        lib.auditns_known_move(self._c, former, self._touched.c)
        ffi.release(held)
        lib.auditns_known_put(self._c, rows + done, len(rows) - done)
