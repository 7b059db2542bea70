"""An archive asked: its index says which blocks may hold a match, their events are tested as those of text are, and
what is kept comes in the order of the text."""

import re
from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterator

from auditns_connector.archive.catalogue import ContainerRow
from auditns_connector.archive.index_terms import Term
from auditns_connector.archive.reader import Archive, Block, BlockRef, Ordered, Wanted
from auditns_connector.audittext.grouping import event_numbers
from auditns_connector.audittext.scanner import InsertionPoints, TextStream
from auditns_connector.query.answers import LogAnswers
from auditns_connector.query.asked import Asked
from auditns_connector.query.names import Names
from auditns_connector.vocabulary.audit_text import P_LATE

#: text is scanned in pieces of so many bytes
_PIECE = 1 << 20
#: where fewer of a block's events are kept than one in so many, the others' text is let go
_FEW = 4
#: a record that may tell of an entry
_NEW = re.compile(rb"(?:CONTAINER_INFO|UNKNOWN\[1342\]) .*entry-")
_ABOUT = {"runtime": "runtime", "full_id": "id", "name": "name", "pod": "pod", "pod_ns": "namespace", "image": "image"}


def wanted_of(asked: Asked, *, named: bool) -> Wanted:
    """What blocks must have for it; the times, and the words that an index knows. ``named``: all names are known."""
    terms = [tuple(Term(kind, value) for kind, value in one) for one in asked.terms(named=named)]
    return Wanted(asked.since, asked.until, terms=tuple(one for one in terms if one))


def learn(archive: Archive, names: Names, *, entries: bool) -> None:
    """Take in what the archive tells of containers, and, where it is wanted, of ``entries``."""
    for row in archive.containers():
        if row.kind == "container":
            names.add(row.first_ms, row.contid, about_of(row))
    entered = frozenset(tally.container for tally in archive.aggregates(("entry",))) if entries else frozenset()
    if not entered:
        return
    for refs in archive.candidates(Wanted(containers=entered, terms=((Term("entry", b"how"),),))):
        for block in map(archive.read_block, refs):
            names.read(line for line in (block.text if block else b"").splitlines(keepends=True) if _NEW.search(line))


def about_of(row: ContainerRow) -> dict[str, str]:
    """What a row says of its container, by the names of JSON."""
    return {member: value for column, member in _ABOUT.items() if (value := getattr(row, column))}


class ArchiveSearch:
    """Runs an archive through the filter ``asked``; ``take`` is given whole events in the order of the text, and
    returns False when nobody wants more."""

    def __init__(
        self, archive: Archive, answers: LogAnswers, asked: Asked, take: Callable[[TextStream, InsertionPoints], bool]
    ) -> None:
        self._archive, self._answers, self._asked, self._take = archive, answers, asked, take
        self._hosts = {row.seq: row.host for row in archive.segments()}

    def _segments(self, *, reverse: bool = False) -> Iterator[Ordered]:
        """The events that are wanted, segment by segment; those of each in the order of its text."""
        for refs in self._archive.candidates(wanted_of(self._asked, named=True), reverse=reverse):
            self._asked.host = self._hosts.get(refs[0].segment, "")
            found = self._of_segment(refs)
            if found is not None:
                yield found
            del found  # before the next one is read

    def _of_segment(self, refs: list[BlockRef]) -> Ordered | None:
        kept = [found for ref in refs if (found := self._kept(ref)) is not None]
        return self._archive.ordered(kept) if kept else None

    def forwards(self) -> bool:
        """All of it; False when nobody wants more."""
        for events in self._segments():
            stream, text = TextStream(whole=True, patient=True), events.text
            for start in range(0, len(text), _PIECE):
                if not self._take(stream, stream.push(text[start : start + _PIECE])):
                    return False
            if not self._take(stream, stream.flush(eof=True)):
                return False
            del events, text
        return True

    def backwards(self) -> Iterator[memoryview]:
        """The text of each event that is wanted, the newest first."""
        for events in self._segments(reverse=True):
            for i in range(events.count - 1, -1, -1):
                yield events.text[events.starts[i] : events.starts[i + 1]]

    def _kept(self, ref: BlockRef) -> tuple[Block, bytearray | None] | None:
        """A block with a byte for each event, 1 for those that are wanted; ``None`` where there are none."""
        block = self._archive.read_block(ref)
        if block is None:
            return None
        keep = bytearray(block.count)
        stream = TextStream(whole=True, patient=True)
        text = memoryview(block.text)
        for start in range(0, len(text), _PIECE):
            self._mark(stream, stream.push(text[start : start + _PIECE]), block, keep)
        self._mark(stream, stream.flush(eof=True), block, keep)
        count = keep.count(1)
        if not count:
            return None
        return (block, keep) if count * _FEW > block.count else (_less(block, keep), None)

    def _mark(self, stream: TextStream, points: InsertionPoints, block: Block, keep: bytearray) -> None:
        if not points.some:
            return
        choice = self._answers.answer(points)
        first, count = event_numbers(points)
        wanted = self._asked.keep(points, choice, self._answers, first, count)
        for i in range(points.n) if points.c.late else ():
            if points.flags[i] & P_LATE:  # in a block all lines of an event stand together
                wanted[points.event[i] - first] = 0
        table, base, starts = self._answers.table, stream.base, block.starts
        row = wanted.find(1)
        while row >= 0:
            line = table.first[table.number.index(first + row) if table.number[row] != first + row else row]
            keep[bisect_right(starts, base + points.l_off[line], 0, block.count) - 1] = 1
            row = wanted.find(1, row + 1)


def _less(block: Block, keep: bytearray) -> Block:
    """The block without the events that are not kept."""
    rows = [i for i, one in enumerate(keep) if one]
    texts = [block.text[block.starts[i] : block.starts[i + 1]] for i in rows]
    starts = array("I", [0])
    for text in texts:
        starts.append(starts[-1] + len(text))
    return Block(
        block.ref, b"".join(texts), starts, array("I", (block.positions[i] for i in rows)),
        array("I", (block.containers[i] for i in rows)),
    )  # fmt: skip
