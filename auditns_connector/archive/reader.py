"""Ask an archive: which blocks may hold something, their events, containers and counts. Nothing is written.

Reading needs no lock: a segment never changes, and one that is removed stays readable for who has it open. What has
happened since is not seen. Text that is not sealed yet is not of the archive; :meth:`Archive.sealed_upto` tells how
much of a file is, so that both together are everything once::

    texts = [open(path) for path in …]    # first
    with Archive(path) as archive:        # then
        start = archive.sealed_upto(texts[0].fileno())
"""

import os
from array import array
from collections import OrderedDict
from collections.abc import Collection, Iterator, Sequence
from typing import Final, NamedTuple

from auditns_connector._native import ffi
from auditns_connector.archive.catalogue import (
    AggregateRow,
    Catalogue,
    CatalogueError,
    ContainerRow,
    PrunedRow,
    SegmentRow,
    Serials,
)
from auditns_connector.archive.files import CATALOGUE, ArchiveFiles, segment_name
from auditns_connector.archive.found import Found, Part
from auditns_connector.archive.index_terms import Term, hashes
from auditns_connector.archive.segment_layout import MAX_LENGTH, Damaged
from auditns_connector.archive.segment_reader import Segment
from auditns_connector.archive.text_files import head_of
from auditns_connector.audittext.grouping import pick_numbers
from auditns_connector.audittext.memory import fresh

#: segments that are held open
_MOST_OPEN: Final = 64


class Wanted(NamedTuple):
    """Which blocks may hold it: every condition that is given must be met. ``since`` and ``until`` are ms since 1970,
    inclusive; ``nodes`` hosts as ``node=`` names them (``b""``: text without); ``containers`` numbers of ContainerRow
    whose own events are wanted; of each set of ``terms`` one must be there."""

    since: int | None = None
    until: int | None = None
    nodes: frozenset[bytes] | None = None
    containers: frozenset[int] | None = None
    terms: tuple[tuple[Term, ...], ...] = ()


class BlockRef(NamedTuple):
    """A block: number ``number`` of a segment, ``size`` bytes of text."""

    segment: int
    number: int
    events: int
    size: int
    first_ms: int
    last_ms: int


class Block:
    """A block read. Event i is ``text[starts[i]:starts[i + 1]]``: all its lines, whole. ``positions[i]`` is where its
    first line stands in the segment's text, ``containers[i]`` the number of the ContainerRow it is of. Events of a
    container are in the order of the text."""

    def __init__(
        self, ref: BlockRef, text: bytes, starts: "array[int]", positions: "array[int]", containers: "array[int]"
    ) -> None:
        self.ref = ref
        self.text = text
        self.starts = starts
        self.positions = positions
        self.containers = containers

    @property
    def count(self) -> int:
        """How many events there are."""
        return len(self.positions)

    def part(self) -> Part:
        """Its events, of which some may be wanted."""
        return Part(self.text, self.starts, self.positions, self.count)


class Event(NamedTuple):
    """An event's lines; ``segment`` and ``position`` say where it stands."""

    segment: int
    position: int
    text: bytes


class Archive:
    """The archive in the directory ``path``. Raises AuditnsError where there is none, or it is of a later version. What
    could not be read is reported in ``notices``, and the rest goes on."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.notices: list[str] = []
        self._open: OrderedDict[int, Segment] = OrderedDict()
        self._numbers: dict[int, array[int]] = {}
        self._files = ArchiveFiles(path)
        try:
            self._catalogue = self._read_catalogue()
            self._rows = {row.seq: row for row in self._catalogue.segments()}
        except BaseException:
            self._files.close()
            raise

    def _read_catalogue(self) -> Catalogue:
        """The catalogue; where it cannot be read, or lacks a segment, one is made in memory."""
        there = self._files.segments()
        try:
            catalogue = Catalogue(self._files.join(CATALOGUE))
            missing = self._missing(catalogue, there)
            if missing:
                catalogue = catalogue.copied()
                missing = self._missing(catalogue, there)  # less what was sealed meanwhile
        except CatalogueError as error:
            if there:
                self.notices.append(f"{self.path}: {error}: the segments are read instead")
            catalogue, missing = Catalogue(None), there
        for seq in missing:
            segment = self._segment(seq, listed=False)
            if segment is None:
                continue
            try:
                trailer = segment.trailer
                catalogue.add(seq, segment.about, trailer.digest.hex() if trailer else "", segment.size)
            except (Damaged, CatalogueError) as error:
                name = segment_name(seq)
                self.notices.append(str(error) if name in str(error) else f"{name}: {error}")
        return catalogue

    @staticmethod
    def _missing(catalogue: Catalogue, there: Sequence[int]) -> list[int]:
        listed = {row.seq for row in catalogue.segments()} | {row.seq for row in catalogue.pruned()}
        return [seq for seq in there if seq not in listed]

    # -- segments and blocks

    def segments(self, *, reverse: bool = False) -> list[SegmentRow]:
        """The segments, oldest first."""
        rows = list(self._rows.values())
        return rows[::-1] if reverse else rows

    def _segment(self, seq: int, *, listed: bool = True) -> Segment | None:
        found = self._open.get(seq)
        if found is not None:
            self._open.move_to_end(seq)
            return found
        name = segment_name(seq)
        try:
            segment = Segment(self._files.open(name), name, salvage=True)
        except FileNotFoundError:
            if listed:
                self.notices.append(f"{name}: {'pruned meanwhile' if self._was_pruned(seq) else 'missing'}")
            return None
        except (Damaged, OSError) as error:
            self.notices.append(f"{name}: {error}")
            return None
        self._tell(segment)
        self._open[seq] = segment
        if len(self._open) > _MOST_OPEN:
            _, oldest = self._open.popitem(last=False)
            oldest.close()
        return segment

    def _was_pruned(self, seq: int) -> bool:
        """Whether the catalogue as it is now says so."""
        try:
            catalogue = Catalogue(self._files.join(CATALOGUE))
        except CatalogueError:
            return False
        try:
            return any(row.seq == seq for row in catalogue.pruned())
        finally:
            catalogue.close()

    def _tell(self, segment: Segment) -> None:
        self.notices += segment.notices
        segment.notices.clear()

    def candidates(self, wanted: Wanted = Wanted(), *, reverse: bool = False) -> Iterator[list[BlockRef]]:  # noqa: B008
        """The blocks that may hold it, those of each segment that has any together."""
        terms = hashes(wanted.terms)
        holders = self._holders(wanted)
        holding = None if holders is None else self._catalogue.holding(holders)
        for row in self.segments(reverse=reverse):
            if holding is not None and row.seq not in holding:
                continue
            if wanted.since is not None and row.last_ms < wanted.since:
                continue
            if wanted.until is not None and row.first_ms > wanted.until:
                continue
            segment = self._segment(row.seq)
            if segment is None:
                continue
            groups = None if holders is None else self._groups(row.seq, holders)
            found = segment.pick(terms, wanted.since, wanted.until, groups)
            self._tell(segment)
            if found:
                yield [self._ref(row.seq, segment, number) for number in found]

    def _holders(self, wanted: Wanted) -> set[int] | None:
        if wanted.containers is None and wanted.nodes is None:
            return None
        rows = self.containers()
        return {
            row.number
            for row in rows
            if (wanted.containers is None or row.number in wanted.containers)
            and (wanted.nodes is None or row.node in wanted.nodes)
        }

    def _groups(self, seq: int, holders: Collection[int]) -> bytes:
        """A byte for each group of a segment: 1 where it is of one of the holders."""
        rows = self._catalogue.groups(seq)
        found = bytearray(max((grp for grp, _ in rows), default=0) + 1)
        for grp, holder in rows:
            found[grp] = holder in holders
        return bytes(found)

    @staticmethod
    def _ref(seq: int, segment: Segment, number: int) -> BlockRef:
        entry = segment.entry(number)
        return BlockRef(seq, number, entry.events, entry.size, entry.first_ms, entry.last_ms)

    def read_block(self, ref: BlockRef) -> Block | None:
        """A block; ``None`` where it is damaged, which is reported."""
        segment = self._segment(ref.segment)
        if segment is None:
            return None
        try:
            contents = segment.read(ref.number)
        except Damaged as error:
            self.notices.append(str(error))
            return None
        numbers = self._numbers_of(ref.segment, max(contents.groups, default=0))
        return Block(
            ref, contents.text, contents.starts, contents.positions, pick_numbers(contents.groups, numbers)
        )  # fmt: skip

    def _numbers_of(self, seq: int, most: int) -> "array[int]":
        """Group of a segment -> number of the container; 0 for what the catalogue does not know."""
        numbers = self._numbers.get(seq)
        if numbers is None or len(numbers) <= most:
            rows = self._catalogue.groups(seq)
            numbers = array("I", bytes(4 * (max([most, *(grp for grp, _ in rows)]) + 1)))
            for grp, holder in rows:
                numbers[grp] = holder
            self._numbers[seq] = numbers
        return numbers

    def events(self, wanted: Wanted = Wanted(), *, reverse: bool = False) -> Iterator[Event]:  # noqa: B008
        """All events of the blocks that may hold it, in the order of the text. They are not tested."""
        found = Found()
        for refs in self.candidates(wanted, reverse=reverse):
            found.begin([ref.size for ref in refs], [ref.events for ref in refs])
            for block in filter(None, map(self.read_block, refs)):
                found.add(block.part())
            found.sort()
            for position, text in found.events(reverse=reverse):
                yield Event(refs[0].segment, position, bytes(text))

    def texts(self) -> Iterator[memoryview]:
        """The text, segment by segment, as it was; what is damaged is missing, and reported."""
        for row in self.segments():
            segment = self._segment(row.seq)
            if segment is None:
                continue
            if not 0 <= row.length <= MAX_LENGTH:
                self.notices.append(f"{segment_name(row.seq)}: no text has {row.length} bytes, as the catalogue says")
                continue
            out = memoryview(ffi.buffer(fresh("char[]", max(row.length, 1))))[: row.length]
            coverage = segment.scatter(out)
            self._tell(segment)
            for start, end in coverage.runs():
                yield out[start:end]

    def sealed_upto(self, fd: int) -> int:
        """How many bytes of its text, from its start on, of an open file are in the archive already."""
        info, head = os.fstat(fd), head_of(fd)
        good = 0
        for part in self._catalogue.parts(head) if head else []:
            here = part.segment in self._rows  # or it was sealed since, and is not of what is read
            if here and (part.dev, part.ino) == (info.st_dev, info.st_ino) and part.start <= good:
                good = max(good, part.start + part.length)
        return good

    # -- the catalogue

    @property
    def current(self) -> bool:
        """Nothing was sealed or pruned since: what was counted is of the segments that are read."""
        return {row.seq for row in self._catalogue.segments()} == set(self._rows)

    def containers(self) -> list[ContainerRow]:
        """Whose events are in the archive, the earliest first."""
        return self._catalogue.containers()

    def aggregates(self, kinds: Collection[str] = (), containers: Collection[int] | None = None) -> list[AggregateRow]:
        """What was counted at sealing, the most frequent first; see AggregateRow."""
        return self._catalogue.aggregates(kinds, containers)

    def serials(self) -> list[tuple[int, Serials]]:
        """Runs of serials of the hosts' kernels, by segment."""
        return self._catalogue.serials()

    def pruned(self) -> list[PrunedRow]:
        """Segments that are gone, and why."""
        return self._catalogue.pruned()

    def close(self) -> None:
        """Close it."""
        for segment in self._open.values():
            segment.close()
        self._open.clear()
        self._catalogue.close()
        self._files.close()

    def __enter__(self) -> "Archive":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
