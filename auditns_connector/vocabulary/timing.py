"""How far the clocks, stamps and events that the answers rest on may be apart. Nanoseconds.

Audit stamps come from CLOCK_REALTIME_COARSE, which stands still between two ticks; kernel events from CLOCK_MONOTONIC;
process starts in /proc are counted in clock ticks (fs/proc/array.c).
"""

from typing import Final

MS: Final = 1_000_000

#: the error of our sample of the offset between the two clocks: an event may be this much earlier than its stamp
EPSILON: Final = 1 * MS
#: how far behind a stamp may be: its clock stands still while the CPU that keeps the time is kept from its ticks (70 ms
#: were seen). A process first seen this long after the window still answers, where nobody else held the pid
LATE: Final = 100 * MS
#: an exec takes no longer than this from entry to event; the record of one that does is answered as any other
EXEC_TIME: Final = 1_000 * MS
#: /proc shows a start in ticks, rounded down: a process seen there may have begun this much later
START_TICK: Final = 10 * MS
#: a start is in ticks in /proc and exact in FORK: two that are nearer than this are the same one
SAME_START: Final = 50 * MS
#: an offset that moved less than this is drift to follow, not a step of the clock
STEP: Final = 1 * MS
#: how far behind the present the kernel's coarse clock and our own sampling may be
SLACK: Final = 20 * MS
#: a record is asked for within this time of its writing, as a rule
RECENT: Final = 10_000 * MS
#: how long after a time of the clock that was missed records from it may still come
MISSED: Final = 1_000 * MS
#: an event whose end has not come is answered so long after its last record: the kernel hands the records of one over
#: together, and whoever reads what we write is not to wait
HOLD: Final = 20 * MS
#: a time that is not known to end
FOREVER: Final = (1 << 63) - 1
