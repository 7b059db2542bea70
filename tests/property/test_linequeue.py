"""The queue of whole lines against its promises, with any sequence of operations."""

import re

from hypothesis import given
from hypothesis import strategies as st

from auditns_connector.sinks.base import LineQueue
from auditns_connector.sinks.loss import Block, Lifecycle, Loss

LINES = st.lists(st.integers(1, 30), min_size=1, max_size=6)
OPERATIONS = st.lists(
    st.one_of(
        st.tuples(st.just("write"), LINES),
        st.tuples(st.just("send"), st.integers(1, 80)),
        st.tuples(st.just("tell"), st.none()),
        st.tuples(st.just("restart"), st.integers(0, 60)),
    ),
    max_size=60,
)


class Model:
    """Numbered lines in, what receivers got out. Every line is its number and filling, so all are told apart."""

    def __init__(self, limit: int) -> None:
        self.queue = LineQueue("q", limit, keep_sent=60)
        self.made = 0
        self.longest = 0
        self.received = b""
        #: bytes that the present receiver was given; no other can have left them unread
        self.given = 0

    def block(self, lengths: list[int]) -> Block:
        lines = []
        for length in lengths:
            lines.append(b"%d:" % self.made + b"." * length + b"\n")
            self.made += 1
        self.longest = max(self.longest, *map(len, lines))
        data = b"".join(lines)
        return memoryview(data) if len(lengths) % 2 else data

    def send(self, count: int) -> None:
        data = b"".join(self.queue.peek())[:count]
        self.queue.advance(len(data))
        self.received += data
        self.given += len(data)

    def lost(self, loss: Loss) -> bytes:
        return b"LOST:%d:%d\n" % (loss.records, loss.size)

    def restart(self, unread: int) -> None:
        """The receiver died with ``unread`` bytes unread; what it had of a line counts as not received."""
        unread, self.given = min(unread, self.given), 0
        self.received = self.received[: len(self.received) - unread]
        self.received = self.received[: self.received.rfind(b"\n") + 1]
        self.queue.take_back(unread)


@given(st.integers(20, 120), OPERATIONS)
def test_each_line_is_received_once_or_told_as_lost(limit: int, operations: list[tuple[str, object]]) -> None:
    model = Model(limit)
    queue = model.queue
    for name, argument in operations:
        if name == "write":
            assert isinstance(argument, list)
            queue.push(model.block(argument))
        elif name == "send":
            assert isinstance(argument, int)
            model.send(argument)
        elif name == "tell":
            queue.tell(model.lost)
        else:
            assert isinstance(argument, int)
            model.restart(argument)
        queue.trim()
        assert queue.size == sum(map(len, queue.peek())) or len(queue.peek()) == 64
        assert queue.size <= limit + model.longest  # a line partly delivered is never cut
    while queue.size or queue.wants_to_tell():
        queue.tell(model.lost)
        model.send(1 << 20)

    assert model.received == b"" or model.received.endswith(b"\n")
    next_line = records = size = 0
    for line in model.received.splitlines():
        if line.startswith(b"LOST:"):
            told, told_size = map(int, line[5:].split(b":"))
            next_line += told
            records += told
            size += told_size
        else:
            assert int(line.partition(b":")[0]) == next_line
            next_line += 1
    assert next_line == model.made
    assert queue.written_bytes == len(model.received)
    assert queue.written_records == model.received.count(b"\n")
    assert (queue.dropped_records, queue.dropped_bytes) == (records, size)


MIXED = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["audit", "lifecycle"]), st.integers(1, 4)),
        st.tuples(st.just("send"), st.integers(1, 400)),
        st.tuples(st.just("tell"), st.just(0)),
        st.tuples(st.just("restart"), st.integers(0, 60)),
    ),
    max_size=60,
)
AUDIT = b"type=SYSCALL msg=audit(1.%03d:%d): pid=1\n"
LIFECYCLE = b"type=NS_INIT msg=audit(1.000:%d): pid=1\n"


@given(st.integers(150, 900), MIXED)
def test_lifecycle_goes_first_and_a_loss_names_the_records_of_audit(
    limit: int, operations: list[tuple[str, int]]
) -> None:
    queue, told = LineQueue("q", limit, keep_sent=60), []
    received, serial, given_now = b"", 0, 0
    made: dict[str, int] = {"audit": 0, "lifecycle": 0}

    def lost(loss: Loss) -> bytes:
        told.append(loss)
        return b"LOST\n"

    def send(count: int) -> int:
        nonlocal received
        data = b"".join(queue.peek())[:count]
        queue.advance(len(data))
        received += data
        return len(data)

    for name, number in operations:
        before = queue.dropped_audit
        if name in made:
            lines = []
            for _ in range(number):
                serial += name == "audit"
                lines.append(AUDIT % (serial, serial) if name == "audit" else LIFECYCLE % ((1 << 31) + serial))
            made[name] += number
            queue.push(b"".join(lines) if name == "audit" else Lifecycle(b"".join(lines)))
        elif name == "send":
            given_now += send(number)
        elif name == "restart":
            unread, given_now = min(number, given_now), 0
            received = received[: len(received) - unread]
            received = received[: received.rfind(b"\n") + 1]
            queue.take_back(unread)
        else:
            queue.tell(lost)
        queue.trim()
        waiting = b"".join(queue.peek())
        if queue.dropped_audit > before:  # but for one that is partly sent, which nobody may cut
            assert waiting.partition(b"\n")[2].count(b"type=NS_INIT") <= max(3, number)
        assert queue.size == len(waiting)
    while queue.size or queue.wants_to_tell():
        queue.tell(lost)
        send(1 << 20)

    there = [int(found) for found in re.findall(rb"type=SYSCALL msg=audit\(1\.\d+:(\d+)\)", received)]
    missing = sorted(set(range(1, serial + 1)) - set(there))
    assert there == sorted(set(there))
    assert sum(loss.audit for loss in told) == len(missing) == queue.dropped_audit
    assert sum(loss.records for loss in told) == len(missing) + made["lifecycle"] - received.count(b"type=NS_INIT")
    named = [int(stamp.partition(":")[2]) for loss in told if loss.audit for stamp in (loss.first, loss.last)]
    assert named == sorted(named)
    assert not missing or (named[0], named[-1]) == (missing[0], missing[-1])
    assert all(loss.first.endswith(":?") for loss in told if not loss.audit)


def test_a_storm_of_lifecycle_has_a_quarter_and_costs_audit_nothing() -> None:
    queue = LineQueue("q", 4000)
    for i in range(100):
        queue.push(Lifecycle(LIFECYCLE % i * 5))
        queue.push(AUDIT % (i, i))
        queue.trim()
    assert queue.dropped_audit == 0
    assert queue.dropped_records >= 470
    assert queue.size <= 4000
