"""Text on its way into segments: read, scanned, and cut where no event stands on both sides."""

from typing import Final, NamedTuple

from auditns_connector.archive.collector import Collector
from auditns_connector.archive.text_files import TextFile
from auditns_connector.audittext.scanner import Scanner
from auditns_connector.vocabulary.audit_text import AWAITS_MORE, MODE_ENDED, MODE_EOF, MODE_FLUSH, MODE_MORE

#: text is read and scanned in pieces of this size (bytes)
_CHUNK: Final = 1 << 19
#: so much before a segment is full a place is looked for where it can be cut
_MARGIN: Final = 8 << 20
#: in steps of this size
_STEP: Final = 1 << 16
#: so far into the next file the events are followed that the last one has begun
_AHEAD: Final = 1 << 20


class PartOfFile(NamedTuple):
    """``length`` bytes of a file from ``start`` on stand in the segment's text at ``at``."""

    file: TextFile
    at: int
    start: int
    length: int


class Filling:
    """The text of the segment that is being filled, and the beginning of the next one."""

    def __init__(self, collector: Collector) -> None:
        self.collector = collector
        self._view = memoryview(collector.buffer)
        self._capacity = len(collector.buffer)
        self._margin = min(_MARGIN, self._capacity // 4)
        self._end = 0
        #: so much is decided
        self.length = 0
        self._parts: list[PartOfFile] = []
        self._scanner = Scanner(whole=True, awaits=AWAITS_MORE)

    def read(self, file: TextFile, most: int = _CHUNK) -> int:
        """Take in more of a file; 0 at its end."""
        room = min(self._capacity - self._end, _STEP if self._near else most)
        start = file.at
        size = file.read_into(self._view[self._end : self._end + room])
        if not size:
            if self._end and self._view[self._end - 1] != 0x0A:
                self._scan(MODE_EOF)  # the next file does not go on with this line
            return 0
        last = self._parts[-1] if self._parts else None
        if last is not None and last.file is file:
            self._parts[-1] = last._replace(length=last.length + size)
        else:
            self._parts.append(PartOfFile(file, self._end, start, size))
        self._end += size
        self._scan(MODE_MORE)
        return size

    def _scan(self, mode: int) -> None:
        points = self._scanner.feed(self._view[self.length : self._end], mode)
        self.collector.take(points, self.length)
        self.length += points.consumed

    @property
    def empty(self) -> bool:
        """There is no text."""
        return not self._end

    @property
    def _clean(self) -> bool:
        """No event stands on both sides of :attr:`length`."""
        return bool(self.length) and self.collector.reach <= self.length

    @property
    def _near(self) -> bool:
        return self._end >= self._capacity - self._margin or self.collector.full

    def ready(self) -> bool:
        """The segment is full, and :attr:`length` is where to cut it: if need be within an event."""
        if self._near and self._clean:
            return True
        if self._end < self._capacity:
            return False
        self._scan(MODE_ENDED)
        if self._clean:
            return True
        self._scan(MODE_FLUSH)
        if not self.length:
            self._scan(MODE_EOF)
        return True

    def follow(self, ahead: TextFile) -> None:
        """Read on in the file that is not to be sealed yet until the events have ended that began before it."""
        border, read = self._end, 0
        while not (self.length >= border and self._clean) and read < _AHEAD and self._end < self._capacity:
            size = self.read(ahead, _STEP // 4)
            if not size:
                self._scan(MODE_ENDED)  # none of ours is there yet
                break
            read += size

    def finish(self) -> None:
        """Nothing more comes."""
        if not self._clean or self.length < self._end:
            self._scan(MODE_EOF)

    @property
    def filled(self) -> int:
        """Bytes of text there are."""
        return self._end

    def files(self) -> set[TextFile]:
        """Those with text in what is here."""
        return {part.file for part in self._parts}

    def parts(self) -> list[PartOfFile]:
        """What the text up to :attr:`length` is made of."""
        return [
            part._replace(length=min(part.length, self.length - part.at))
            for part in self._parts
            if part.at < self.length
        ]

    def cut(self) -> None:
        """The text up to :attr:`length` is sealed; the rest begins the next segment."""
        rest = self._end - self.length
        parts = []
        for part in self._parts:
            skip = max(self.length - part.at, 0)
            if skip < part.length:
                parts.append(PartOfFile(part.file, part.at + skip - self.length, part.start + skip, part.length - skip))
        self._parts = parts
        self._view[:rest] = bytes(self._view[self.length : self._end])
        self._end, self.length = rest, 0
        self._scanner = Scanner(whole=True, awaits=AWAITS_MORE)
        self.collector.reset()
        if rest:
            self._scan(MODE_MORE)
