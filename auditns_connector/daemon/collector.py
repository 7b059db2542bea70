"""Python's garbage collector, run on purpose.

The collector starts whenever some number of objects has been made, and what it looks through is everything that has
outlived it: a table that grows by a storm's processes is looked through again and again, which takes a quarter of the
CPU, and hardly a cycle is ever found. So it is switched off; what was there at the start is never looked at; young
objects are looked through where nothing waits to be done, or where they have become many; all objects where nothing
waits and as many have come since the last time as a quarter of what there was then.
"""

import contextlib
import gc
from collections.abc import Iterator
from typing import Final

#: objects made and not freed since they were last looked through: from so many on it is worth it where nothing waits
SOME: Final = 20_000
#: so many are looked through whatever waits: some 20 ms
MANY: Final = 400_000
#: all are looked through where nothing waits and at least so many have come
FEWEST: Final = 100_000
#: and whatever waits where so many have come
MOST: Final = 8_000_000


class Collector:
    """Counts objects and looks through them; :meth:`look` is called often, and costs 50 ns where nothing is to do."""

    def __init__(self) -> None:
        #: objects that have come since all were looked through, and how many there were then
        self._came = self._were = 0
        self.young = self.whole = 0

    def look(self, *, idle: bool) -> None:
        """Look through what is due; ``idle``: nothing waits to be done."""
        count = gc.get_count()[0]
        if count < (SOME if idle else MANY):
            return
        self._came += count
        if self._came >= (max(FEWEST, self._were // 4) if idle else MOST):
            gc.collect()
            self._were, self._came = self._were + self._came, 0
            self.whole += 1
        else:
            gc.collect(0)
            self.young += 1


@contextlib.contextmanager
def collecting() -> Iterator[Collector]:
    """The collector of a run: what is there now is never looked through, and it starts by itself no more."""
    automatic = gc.isenabled()
    gc.freeze()
    gc.disable()
    try:
        yield Collector()
    finally:
        gc.unfreeze()
        if automatic:
            gc.enable()
