"""How long to let audit text gather before it is read.

A wake-up costs much the same whether it brings one event or five, and so does a round of the interpreter. An event that
comes alone is read at once. Where several come within 40 ms, and nobody waits for each (the output is a file, a pipe, a
terminal), the text of that time is read together. Where somebody does (a reader of a socket or stream), each is read at
once, and only while they are very many the text of some milliseconds is. A pause always ends before the socket is full,
for then whoever writes would wait.
"""

from typing import Final

from auditns_connector._native import ffi, lib
from auditns_connector.vocabulary.values import CData

#: from this many events a second on, waiting pays though somebody waits for each
BUSY: Final = float(lib.COALESCE_BUSY)
#: how long they gather where nobody does (seconds)
LONG: Final = lib.COALESCE_LONG / 1e9
#: in a storm, whose writer has filled the socket before this is over, waiting is worth it none the less (seconds)
LEAST: Final = lib.COALESCE_LEAST / 1e9
#: after so much text at once the socket is full again before the last of it is worked on (bytes)
MUCH: Final = int(lib.COALESCE_MUCH)
_SOON: Final = int(lib.COALESCE_LEAST)
_FOREVER: Final = (1 << 63) - 1
#: events that gather at most: a socket of the default size holds some forty, in a record each write
MOST: Final = 20


class Coalescer:
    """``fixed_ms`` is how long to wait always (milliseconds), unless much comes; ``None`` is adaptive. Times are
    seconds (CLOCK_MONOTONIC)."""

    def __init__(self, fixed_ms: float | None = None) -> None:
        fixed = -1 if fixed_ms is None else int(fixed_ms * 1e6)
        #: for the loop in C, which waits and takes note by itself
        self.c: CData = ffi.new("struct coalescer *", {"fixed": fixed, "most": MOST, "limit": _FOREVER, "prompt": 1})

    def pause(self, now: float) -> float:
        """How long to wait at ``now``, when text has come, before it is read (seconds)."""
        return float(lib.coalescer_pause(self.c, int(now * 1e9))) / 1e9

    def note_batch(self, events: int, now: float, size: int = 0) -> None:
        """``events`` were read at ``now``, in ``size`` bytes where that may be much."""
        lib.coalescer_note(self.c, events, int(now * 1e9), size)

    def adapt(self, *, most: int, prompt: bool, soon: bool) -> None:
        """So many events may gather; ``prompt``: somebody waits for each; ``soon``: it is to be there within a
        millisecond also where they are many."""
        c = self.c
        c.most, c.prompt, c.limit = most, prompt, _SOON if soon else _FOREVER
