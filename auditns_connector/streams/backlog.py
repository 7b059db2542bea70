"""What waits for one reader (or for the first one to come): whole events, bounded in records. Pure.

``drop-newest`` refuses what does not fit and goes on refusing until half is free again, so that a loss is one piece;
``drop-oldest`` makes room at the front. Either way :meth:`Backlog.take` gives the loss in its place in the order.
"""

from collections import deque
from collections.abc import Callable, Iterable
from typing import NamedTuple

from auditns_connector.config.streams import DROP_NEWEST, DROP_OLDEST
from auditns_connector.model.places import Container


class Entry:
    """One event of a stream. ``text`` is made by ``make`` when a reader is first given it, and not before: what is
    dropped costs no more than the place it took."""

    __slots__ = ("home", "make", "ms", "records", "serial", "text")

    def __init__(self, serial: int, ms: int, records: int, home: Container | None, make: Callable[[], bytes]) -> None:
        self.serial = serial
        #: milliseconds since 1970
        self.ms = ms
        self.records = records
        #: the container whose event it is
        self.home = home
        self.make: Callable[[], bytes] | None = make
        self.text = b""

    def lines(self) -> bytes:
        """The event as whole lines of audit text; may be empty."""
        if self.make is not None:
            self.text, self.make = self.make(), None
        return self.text


class Gap(NamedTuple):
    """``records`` lost in one piece between the serials ``first`` and ``last``; ``ms``: the time of the last.
    ``home`` is the container they all belonged to, None where they were several's; ``records`` 0: not known;
    ``paused``: not for want of room, but because the stream was paused."""

    records: int
    first: int
    last: int
    ms: int
    home: Container | None
    paused: bool = False

    @classmethod
    def of(cls, entry: Entry, *, paused: bool = False) -> "Gap":
        """The loss of ``entry``."""
        return cls(entry.records, entry.serial, entry.serial, entry.ms, entry.home, paused)

    def joined(self, later: "Gap") -> "Gap":
        """Both as one, ``later`` behind it."""
        home = self.home if self.home is later.home else None
        records, paused = self.records + later.records, self.paused and later.paused
        return Gap(records, self.first, later.last, later.ms, home, paused)


class Backlog:
    """A queue of at most ``limit`` records."""

    def __init__(self, limit: int, overflow: str = DROP_OLDEST) -> None:
        self.limit = limit
        self.overflow = overflow
        self.records = 0
        self.lost = 0
        self._items: deque[Entry | Gap] = deque()
        self._refusing = False

    def __len__(self) -> int:
        return len(self._items)

    def push(self, entry: Entry) -> bool:
        """Queue ``entry``; False when it was dropped."""
        size = entry.records
        if self.overflow == DROP_NEWEST:
            if self._refusing and self.records * 2 > self.limit:
                return self._lose(entry)
            self._refusing = self.records + size > self.limit
            if self._refusing:
                return self._lose(entry)
        elif size > self.limit:
            return self._lose(entry)
        self._items.append(entry)
        self.records += size
        self._shrink()
        return True

    def _lose(self, entry: Entry) -> bool:
        self.lost += entry.records
        gap = Gap.of(entry)
        if self._items and isinstance(self._items[-1], Gap):
            gap = self._items.pop().joined(gap)  # type: ignore[union-attr]
        self._items.append(gap)
        return False

    @property
    def refuses(self) -> bool:
        """Whether the next event is dropped for sure."""
        return self.limit == 0 or (self._refusing and self.records * 2 > self.limit)

    def held_for(self, home: Container | None) -> int:
        """Records that wait, of ``home`` alone unless it is None."""
        return sum(i.records for i in self._items if isinstance(i, Entry) and (home is None or i.home is home))

    def lost_for(self, home: Container | None) -> int:
        """Records lost and not reported yet, of ``home`` alone unless it is None."""
        return sum(i.records for i in self._items if isinstance(i, Gap) and (home is None or i.home is home))

    def lose(self, entry: Entry) -> None:
        """``entry`` is lost for another reason (the rate); reported in its place."""
        self._lose(entry)

    def _shrink(self) -> None:
        """Drop the oldest beyond the limit."""
        gap: Gap | None = None
        while self.records > self.limit:
            item = self._items.popleft()
            if isinstance(item, Gap):
                gap = item if gap is None else gap.joined(item)
                continue
            self.records -= item.records
            self.lost += item.records
            gap = Gap.of(item) if gap is None else gap.joined(Gap.of(item))
        if gap is not None:
            if self._items and isinstance(self._items[0], Gap):
                gap = gap.joined(self._items.popleft())  # type: ignore[arg-type]
            self._items.appendleft(gap)

    def resize(self, limit: int, overflow: str) -> None:
        """Another limit from now on; what does not fit goes, the oldest first."""
        self.limit, self.overflow = limit, overflow
        self._shrink()

    def take(self) -> Entry | Gap | None:
        """The next event, or the loss that stands in its place; None when there is nothing."""
        if not self._items:
            return None
        item = self._items.popleft()
        if isinstance(item, Entry):
            self.records -= item.records
        return item

    def give_back(self, item: Entry | Gap) -> None:
        """Put what :meth:`take` gave back to the front."""
        if isinstance(item, Entry):
            self.records += item.records
        self._items.appendleft(item)

    def extract(self, home: Container) -> "Backlog":
        """A queue with the events and losses of ``home``; they leave this one. A loss that several containers share
        is reported in it without its number."""
        out = Backlog(self.limit, self.overflow)
        items, self._items, self.records = self._items, deque(), 0
        for item in items:
            if item.home is home:
                out.append(item)
            else:
                self.append(item)
                if isinstance(item, Gap) and item.home is None:
                    out.append(item._replace(records=0))
        return out

    def append(self, item: "Entry | Gap") -> None:
        """Put ``item`` at the end, whatever the limit."""
        self._items.append(item)
        if isinstance(item, Entry):
            self.records += item.records

    def prepend(self, items: Iterable[Entry | Gap]) -> None:
        """Put ``items`` (in order) before all others; what is too much then goes by the overflow rule."""
        for item in reversed(list(items)):
            self.give_back(item)
        self._shrink()

    def items(self) -> list[Entry | Gap]:
        """Everything in order, taken out."""
        out, self._items, self.records = list(self._items), deque(), 0
        return out
