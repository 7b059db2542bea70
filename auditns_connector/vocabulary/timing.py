"""How far the clocks, stamps and events that the answers rest on may be apart. Nanoseconds.

Audit stamps come from CLOCK_REALTIME_COARSE, which stands still between two ticks; kernel events from CLOCK_MONOTONIC;
process starts in /proc are counted in clock ticks (fs/proc/array.c).
"""

from typing import Final

MS: Final = 1_000_000

#: the error of our sample of the offset between the two clocks: an event may be this much earlier than its stamp
EPSILON: Final = 1 * MS
#: an offset that moved less than this is drift to follow, not a step of the clock
STEP: Final = 1 * MS
#: how far behind the present the kernel's coarse clock and our own sampling may be
SLACK: Final = 20 * MS
#: a record is asked for within this time of its writing, as a rule
RECENT: Final = 10_000 * MS
#: how long after a time of the clock that was missed records from it may still come
MISSED: Final = 1_000 * MS
