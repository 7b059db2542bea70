"""An archive asked: its index says which blocks may hold a match, their events are tested as those of text are, and
what is kept comes in the order of the text."""

import re
from array import array
from collections.abc import Callable, Iterator

from auditns_connector.archive.catalogue import ContainerRow
from auditns_connector.archive.found import Found, Part
from auditns_connector.archive.index_terms import Term
from auditns_connector.archive.reader import Archive, Block, Wanted
from auditns_connector.audittext.grouping import event_numbers, inverted, keep_events, pick
from auditns_connector.audittext.scanner import InsertionPoints, Scanner, TextStream
from auditns_connector.matching.native import Needles
from auditns_connector.pipeline.filters import both
from auditns_connector.query.answers import LogAnswers
from auditns_connector.query.asked import Asked
from auditns_connector.query.names import Names
from auditns_connector.vocabulary.audit_text import AWAITS_MORE, MODE_EOF

#: of more containers than that all events are looked at
_MOST_SURE = 32
#: a record that may tell of an entry
_NEW = re.compile(rb"(?:CONTAINER_INFO|UNKNOWN\[1342\]) .*entry-")
_ENTRY = re.compile(rb' contid="?([^" ]+)"?(?: .*)? entry="?([^" ]+)"?')
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
    if entries:
        names.read(_telling(archive, None))


def entries_of_events(archive: Archive, containers: frozenset[int]) -> dict[str, set[str]]:
    """By contid the entries that are reported in events of these ``containers``."""
    found: dict[str, set[str]] = {}
    for line in _telling(archive, containers) if containers else ():
        if (entry := _ENTRY.search(line)) is not None:
            found.setdefault(entry[1].decode("latin-1"), set()).add(entry[2].decode("latin-1"))
    return found


def _telling(archive: Archive, containers: frozenset[int] | None) -> Iterator[bytes]:
    """The records that tell of entries, in events of these ``containers``, of any without."""
    for refs in archive.candidates(Wanted(containers=containers, terms=((Term("entry", b"how"),),))):
        for block in map(archive.read_block, refs):
            yield from filter(_NEW.search, (block.text if block else b"").splitlines(keepends=True))


def about_of(row: ContainerRow) -> dict[str, str]:
    """What a row says of its container, by the names of JSON."""
    return {member: value for column, member in _ABOUT.items() if (value := getattr(row, column))}


class ArchiveSearch:
    """Runs an archive through the filter ``asked``; ``take`` is given whole events in the order of the text, and
    returns False when nobody wants more. ``plain``, where it is given, gets the text of those that are wanted instead,
    and nobody looks at them again."""

    def __init__(
        self,
        archive: Archive,
        answers: LogAnswers,
        asked: Asked,
        take: Callable[[TextStream, InsertionPoints], bool],
        plain: Callable[[memoryview], bool] | None = None,
    ) -> None:
        self._archive, self._answers, self._asked = archive, answers, asked
        self._take, self._plain = take, plain
        self._hosts = {row.seq: row.host for row in archive.segments()}
        self._needles = [Needles(one) for one in asked.needles(named=True)]
        self._found = Found()
        self._scanner = Scanner(whole=True, patient=True)
        self._sure, self._sure_needles = self._wanted_containers()

    def _wanted_containers(self) -> tuple[bytearray, Needles | None]:
        """A byte for each number of a container, 1 where all its events are wanted whatever they are; and what stands
        in each of those whose own records say whose they are (``placement = "apart"`` says it elsewhere)."""
        if not self._asked.about_containers:
            return bytearray(), None
        rows = self._archive.containers()
        table = bytearray(max((row.number for row in rows), default=0) + 1)
        wanted = [row for row in rows if self._is_wanted(row)]
        if not 0 < len(wanted) <= _MOST_SURE:
            return bytearray(), None
        for row in wanted:
            table[row.number] = 1
        return table, Needles([b"contid=" + row.contid.encode() for row in wanted])

    def _is_wanted(self, row: ContainerRow) -> bool:
        if row.kind != "container" or row.contid in self._answers.names.several:
            return False
        return self._asked.wants(self._answers.holder(row.contid, row.first_ms))

    def _segments(self, *, reverse: bool = False) -> Iterator[Found]:
        """The events that are wanted, segment by segment; those of each in the order of its text."""
        found = self._found
        for refs in self._archive.candidates(wanted_of(self._asked, named=True), reverse=reverse):
            self._asked.host = self._hosts.get(refs[0].segment, "")
            found.begin([ref.size for ref in refs], [ref.events for ref in refs])
            self._scanner = Scanner(whole=True, patient=True)
            for block in filter(None, map(self._archive.read_block, refs)):
                self._choose(block, reverse=reverse)
            if found.count:
                found.sort()
                yield found

    def forwards(self) -> bool:
        """All of it; False when nobody wants more."""
        for found in self._segments():
            if self._plain is not None:
                if not all(map(self._plain, found.pieces())):
                    return False
                continue
            stream = TextStream(whole=True, awaits=AWAITS_MORE)  # in the order in which they come of text
            if not all(self._take(stream, stream.push(piece)) for piece in found.pieces()):
                return False
            if not self._take(stream, stream.flush(eof=True)):
                return False
        return True

    def backwards(self) -> Iterator[memoryview]:
        """The text of each event that is wanted, the newest first."""
        for found in self._segments(reverse=True):
            for _, text in found.events(reverse=True):
                yield text

    def _choose(self, block: Block, *, reverse: bool) -> None:
        """Add the events of a block that are wanted to what is found. Only those that have what they must are looked
        at; what came late of one goes where that goes, ``reverse``: with it."""
        part = block.part()
        late = bytearray(
            follows and block.containers[i] == block.containers[i - 1] for i, follows in enumerate(part.late())
        )
        every, sure = bytes(part.keep), self._certain(part, block)
        part.use(bytearray(both([inverted(one) for one in (sure, late) if one], every)))
        for needles in self._needles if 1 in part.keep else ():
            part.mark(needles)
        good = self._tested(part, self._scanner) if 1 in part.keep else bytearray(part.count)
        part.use(inverted(bytearray(both([inverted(good), inverted(sure)], every))))
        if late:
            self._follow(part, late)
        self._found.add(part.joined(late) if late and reverse else part)

    def _follow(self, part: Part, late: bytearray) -> None:
        """What came late goes where its event went; what says itself whose it is, is tested as well."""
        kept = part.keep
        part.use(bytearray(late))
        own = self._tested(part, Scanner(whole=True, patient=True), subjects=True)
        part.use(kept)
        for i, follows in enumerate(late):
            if follows:
                kept[i] = kept[i - 1] | own[i]

    def _certain(self, part: Part, block: Block) -> bytearray:
        """A byte for each event: 1 where it is wanted whatever it is."""
        if self._sure_needles is None:
            return bytearray(part.count)
        part.use(pick(block.containers, self._sure))
        part.mark(self._sure_needles)
        return part.keep

    def _tested(self, part: Part, scanner: Scanner, *, subjects: bool = False) -> bytearray:
        """A byte for each event: 1 for those that are kept and wanted; ``subjects``: and have a process."""
        kept = part.keep
        some = part.less() if 0 in kept else part
        points = scanner.feed(some.text, MODE_EOF)
        if not points.some:
            return bytearray(part.count)
        choice = self._answers.answer(points)
        first, count = event_numbers(points)
        wanted = self._asked.keep(points, choice, self._answers, first, count)
        if points.c.late:  # it was late for one in another block
            marks = array("Q", iter(wanted))
            scanner.keep_late(first, marks)
            wanted = bytearray(marks.tolist())
        if subjects:
            having = keep_events(points, bytes(pid > 0 for pid in points.pid[: points.n]), first, count)
            wanted = bytearray(both([having], wanted))
        good = some.lines(points, wanted, first)
        if some is part:
            return good
        which = iter(good)
        return bytearray(next(which) if one else 0 for one in kept)
