"""What every sink has in common: its interface, and the bounded queue of whole lines behind it.

A sink takes blocks of whole lines and delivers them. ``write`` never blocks; what the receiver does not take
at once waits in a queue bounded in bytes. When that is full whole lines are dropped, newest first, counted, and
reported to the receiver in their place by the lines that the *lost* callback makes of a :class:`Loss`.

The pipeline watches one descriptor per sink, for reading, from start to end::

    selector.register(sink.fileno(), EVENT_READ, sink.on_ready)   # an epoll set or an eventfd behind it

and also calls ``on_ready`` when the time of ``deadline()`` has come.
"""

import os
import select
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final, Protocol

from auditns_connector.audittext.scanner import count_lines
from auditns_connector.sinks.loss import Block, Lifecycle, Loss, joined, loss_of
from auditns_connector.sinks.native import NativeOutput

#: notices are for people; when nobody takes them away, the oldest stay
MAX_NOTICES: Final = 64
#: blocks given to one writev; IOV_MAX is 1024
MAX_BLOCKS: Final = 64
NEWLINE: Final = 0x0A
#: lines that go first take no more than this part of a queue
YIELDING_PART: Final = 4
#: bytes.count is the quicker way through a few lines, count_lines through many
_SMALL: Final = 16_384


#: makes whole lines (or none, b"") for the receiver out of a loss; called only by the sink's own methods
LostLine = Callable[[Loss], bytes]


def no_lost_line(loss: Loss) -> bytes:
    """For receivers to which loss is not reported."""
    return b""


class Sink(Protocol):
    """Where enriched lines go.

    ``notices`` are messages for people, taken away by the pipeline. ``broken`` says that nothing will ever be
    delivered again (a closed pipe).
    """

    name: str
    notices: list[str]
    broken: bool

    def fileno(self) -> int:
        """The descriptor to watch for reading; it stays the same until ``close``."""

    def write(self, data: Block) -> None:
        """Take a block of whole lines, which nobody changes any more. Never blocks, never raises for the receiver's
        sake."""

    def on_ready(self) -> None:
        """Go on: the descriptor is readable, or the deadline has come. Harmless at any time."""

    @property
    def prompt(self) -> bool:
        """Somebody waits for each line as it comes."""

    def natives(self) -> Sequence[NativeOutput] | None:
        """What the loop in C may write to by itself until something waits; ``None``: ``write`` is to be called."""

    def deadline(self) -> float | None:
        """When ``on_ready`` wants to be called at the latest (``time.monotonic`` seconds); None: no such time."""

    def counters(self) -> dict[str, int]:
        """written_records, written_bytes, dropped_records, dropped_bytes, dropped_audit (records of audit among them),
        queued_bytes, reconnects, and its own."""

    def reopen(self) -> None:
        """HUP: open files anew, or hand the HUP on."""

    def flush(self, timeout: float | None) -> bool:
        """Wait up to ``timeout`` seconds (None: as long as it takes) until nothing waits; True when so."""

    def close(self, timeout: float) -> None:
        """Deliver what can be delivered within ``timeout`` seconds, count the rest as dropped, let go."""


class LineQueue:
    """Whole lines waiting for one receiver; at most ``limit`` bytes after each :meth:`trim`.

    Blocks of :class:`Lifecycle` have a part of that, and are dropped before any other line is.
    """

    def __init__(self, sink: str, limit: int, keep_sent: int = 0) -> None:
        """``keep_sent``: how many delivered bytes :meth:`take_back` can bring back at least."""
        self.sink = sink
        self.limit = limit
        self._keep_sent = keep_sent
        self._sent: deque[Block] = deque()
        self._sent_size = 0
        self.size = 0
        #: bytes that wait elsewhere to be delivered before it; they take their share of the limit
        self.ahead = 0
        self.written_records = self.written_bytes = 0
        self.dropped_records = self.dropped_bytes = self.dropped_audit = 0
        self._blocks: deque[Block] = deque()
        self._offset = 0  # bytes of the first block that are delivered
        #: bytes of Lifecycle blocks that wait
        self._yielding = 0
        #: what was dropped and is not reported yet
        self._gap: Loss | None = None
        #: not only Lifecycle is dropped
        self._full = False

    def push(self, data: Block) -> None:
        """Append whole lines; while a gap is open they are dropped, so that a loss is one piece."""
        if not data:
            return
        yields = isinstance(data, Lifecycle)
        if self._full or (yields and (self._gap is not None or not self.yields_room(len(data)))):
            self._drop(data)
            return
        self._blocks.append(data)
        self.size += len(data)
        self._yielding += len(data) * yields

    def yields_room(self, size: int) -> bool:
        """Whether ``size`` bytes of Lifecycle may wait as well."""
        return (self.ahead + self._yielding + size) * YIELDING_PART <= self.limit

    def put_back(self, blocks: Sequence[Block]) -> None:
        """What was :attr:`ahead` waits here again, before all else."""
        self._blocks.extendleft(reversed(blocks))
        self.size += sum(map(len, blocks))
        self._yielding += sum(len(block) for block in blocks if isinstance(block, Lifecycle))

    def trim(self) -> None:
        """Drop the newest whole lines beyond the limit, Lifecycle first; a line partly delivered is never cut."""
        if self._yielding and self.ahead + self.size > self.limit:
            self._yield()
        while self._blocks and self.ahead + self.size > self.limit:
            block = _as_bytes(self._blocks[-1])
            start = self._offset if len(self._blocks) == 1 else 0
            cut = start if isinstance(block, _LossLines) else self._cut(block, start)
            if start and block[start - 1] != NEWLINE:
                cut = max(cut, block.find(b"\n", start) + 1)
            if cut == len(block):
                return
            self.size -= len(block) - cut
            self._drop(block[cut:] if cut else block, newest=False)
            self._full = True
            if isinstance(block, Lifecycle):
                self._yielding -= len(block) - (cut if cut > start else 0)
            if cut > start:
                self._blocks[-1] = type(block)(block[:cut])
            else:
                self._blocks.pop()
                self._offset = self._offset if self._blocks else 0

    def _yield(self) -> None:
        """Drop all Lifecycle blocks but one that is partly delivered."""
        kept: deque[Block] = deque()
        for i, block in enumerate(self._blocks):
            if isinstance(block, Lifecycle) and not (i == 0 and self._offset):
                self.size -= len(block)
                self._yielding -= len(block)
                self._drop(block)
            else:
                kept.append(block)
        self._blocks = kept

    def _cut(self, block: bytes, start: int) -> int:
        """Where the last block has to end, at the end of a line, for the queue to be within its limit."""
        room = self.limit - self.ahead - (self.size - (len(block) - start))
        return max(block.rfind(b"\n", start, start + max(room, 0)) + 1, start)

    @property
    def loss_pending(self) -> bool:
        """Lines were dropped, and that is still to be reported."""
        return self._gap is not None

    @property
    def idle(self) -> bool:
        """Nothing waits, no loss either."""
        return not self.size and self._gap is None

    def passed(self, data: Block) -> None:
        """``data`` was delivered while the queue was idle: as if pushed, and all of it delivered."""
        self.written_bytes += len(data)
        if isinstance(data, bytes) and len(data) < _SMALL:
            self.written_records += data.count(b"\n")
        else:
            self.written_records += count_lines(data)
        if self._keep_sent:
            self._remember(data)

    def passed_lines(self, size: int, lines: int) -> None:
        """The same of so many bytes and lines; not where they are to be taken back."""
        self.written_bytes += size
        self.written_records += lines

    def peek(self) -> list[memoryview]:
        """The next bytes to deliver, as a list for writev."""
        views = [memoryview(block) for _, block in zip(range(MAX_BLOCKS), self._blocks, strict=False)]
        if self._offset:
            views[0] = views[0][self._offset :]
        return views

    def advance(self, count: int) -> None:
        """``count`` more bytes are delivered."""
        self.size -= count
        self.written_bytes += count
        while count:
            block, start = self._blocks[0], self._offset
            end = min(len(block), start + count)
            self.written_records += count_lines(block, start, end)
            count -= end - start
            self._offset = end
            if end == len(block):
                self._blocks.popleft()
                self._offset = 0
                self._yielding -= len(block) * isinstance(block, Lifecycle)
                if self._keep_sent:
                    self._remember(block)

    def _remember(self, block: Block) -> None:
        self._sent.append(block)
        self._sent_size += len(block)
        while self._sent_size - len(self._sent[0]) >= self._keep_sent:
            self._sent_size -= len(self._sent.popleft())

    def rewind(self) -> None:
        """Go back to the start of a line that is partly delivered: the receiver is a new one."""
        if self._offset:
            self._undo(_as_bytes(self._blocks[0]).rfind(b"\n", 0, self._offset) + 1)

    def take_back(self, count: int) -> None:
        """The last ``count`` bytes were not received after all: they wait again, from the start of their line on."""
        while True:
            step = min(count, self._offset)
            self._undo(self._offset - step)
            count -= step
            if not count or not self._sent:
                break
            block = self._sent.pop()
            self._sent_size -= len(block)
            self._blocks.appendleft(block)
            self._yielding += len(block) * isinstance(block, Lifecycle)
            self._offset = len(block)
        self.rewind()

    def _undo(self, offset: int) -> None:
        if offset < self._offset:
            self.size += self._offset - offset
            self.written_bytes -= self._offset - offset
            self.written_records -= count_lines(self._blocks[0], offset, self._offset)
            self._offset = offset

    def tell(self, lost: LostLine) -> None:
        """Close an open gap with the lines of ``lost`` once half of what was full is free again."""
        gap = self._gap
        if gap is not None and self.wants_to_tell():
            self._gap, self._full = None, False
            self.push(_LossLines(lost(gap), gap))

    def wants_to_tell(self) -> bool:
        """Whether :meth:`tell` would do something now."""
        if self._gap is None or (self.ahead + self.size) * 2 > self.limit:
            return False
        return self._full or self.yields_room(self.ahead + self._yielding)

    def forget(self) -> None:
        """Nobody wants any more what waits: it is not counted as dropped."""
        self._blocks.clear()
        self._offset = self.size = self._yielding = 0
        self._gap, self._full = None, False

    def clear(self) -> None:
        """Count everything that waits as dropped."""
        while self._blocks:
            block = self._blocks.popleft()
            self._drop(block[self._offset :] if self._offset else block)
            self._offset = 0
        self.size = self._yielding = 0

    def _drop(self, block: Block, newest: bool = True) -> None:
        """Count ``block`` as dropped; it is ``newest``, or else older than what the open gap holds."""
        if isinstance(block, _LossLines):
            loss = block.loss  # counted already
        else:
            loss = loss_of(self.sink, _as_bytes(block))
            self.dropped_records += loss.records
            self.dropped_bytes += loss.size
            self.dropped_audit += loss.audit
        if self._gap is not None:
            loss = joined(self._gap, loss) if newest else joined(loss, self._gap)
        self._gap = loss

    def counters(self) -> dict[str, int]:
        """The counters every sink shows."""
        return {
            "written_records": self.written_records,
            "written_bytes": self.written_bytes,
            "dropped_records": self.dropped_records,
            "dropped_bytes": self.dropped_bytes,
            "dropped_audit": self.dropped_audit,
            "queued_bytes": self.ahead + self.size,
        }


class _LossLines(bytes):
    """The lines that tell a loss. Should they be dropped in their turn, the loss is still known."""

    loss: Loss

    def __new__(cls, data: bytes, loss: Loss) -> "_LossLines":
        lines = super().__new__(cls, data)
        lines.loss = loss
        return lines


def _as_bytes(block: Block) -> bytes:
    """To look for something in it."""
    return block if isinstance(block, bytes) else bytes(block)


def add_notice(notices: list[str], text: str) -> None:
    """Append to a bounded list of messages."""
    if len(notices) < MAX_NOTICES:
        notices.append(text)


def wait_until_flushed(sink: Sink, waiting: Callable[[], int], timeout: float | None) -> bool:
    """Run ``sink.on_ready`` until ``waiting()`` is 0, it is broken, or ``timeout`` seconds have gone by."""
    end = None if timeout is None else time.monotonic() + timeout
    poll = select.poll()
    poll.register(sink.fileno(), select.POLLIN)
    while waiting() and not sink.broken:
        left = None if end is None else end - time.monotonic()
        if left is not None and left <= 0:
            break
        due = sink.deadline()
        if due is not None:
            until_due = max(due - time.monotonic(), 0)
            left = until_due if left is None else min(left, until_due)
        poll.poll(None if left is None else left * 1000)
        sink.on_ready()
    return not waiting()


def send_vector(fd: int, views: list[memoryview]) -> int:
    """writev to a non-blocking descriptor; 0 when it takes nothing now. Raises OSError for anything worse."""
    try:
        return os.writev(fd, views)
    except (BlockingIOError, InterruptedError):
        return 0
