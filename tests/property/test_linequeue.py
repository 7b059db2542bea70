"""The queue of whole lines against its promises, with any sequence of operations."""

from hypothesis import given
from hypothesis import strategies as st

from auditns_connector.sinks.base import Block, LineQueue, Loss

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
