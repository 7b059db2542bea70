"""Seal text: into segments, checked, in the catalogue; then the files go.

In this order, so that whatever ends it loses nothing and doubles nothing: the segment is written beside, synced, read
back and compared with the text; it gets its name; the catalogue is committed; the files whose text is all in are
removed. Who comes next finds a segment without its row and adds it, or a file whose text is there already, compares
it byte for byte, and removes it.
"""

import contextlib
import os
import socket
import time
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from auditns_connector.archive.catalogue import Catalogue, CatalogueError
from auditns_connector.archive.collector import Collector
from auditns_connector.archive.files import CATALOGUE, Access, ArchiveFiles, segment_name
from auditns_connector.archive.filling import Filling
from auditns_connector.archive.segment_layout import NO_DIGEST, Damaged, Head
from auditns_connector.archive.segment_reader import Segment
from auditns_connector.archive.segment_writer import SegmentWriter
from auditns_connector.archive.text_files import TextFile
from auditns_connector.errors import AuditnsError
from auditns_connector.vocabulary.values import JsonObject

#: text of a segment (bytes)
SEGMENT: Final = 1 << 27
LEAST_SEGMENT: Final = 1 << 20
_BOOT: Final = "/proc/sys/kernel/random/boot_id"


class Sealed(NamedTuple):
    """What was done: new segments, bytes of text in them and of their files, records; files removed, files whose
    text was there already; ``head`` is the digest of the last segment."""

    segments: int
    length: int
    bytes: int
    records: int
    removed: int
    repeated: int
    head: str


def open_catalogue(files: ArchiveFiles, say: Callable[[str], None], *, repair: bool = True) -> Catalogue:
    """The catalogue for writing, with what a writer that was killed left undone. One that cannot be read is made anew
    from the segments."""
    path = files.join(CATALOGUE)
    try:
        catalogue = Catalogue(path, write=True)
    except CatalogueError as error:
        say(f"{error}: it is made anew from the segments")
        files.remove(CATALOGUE)
        files.remove(CATALOGUE + "-journal")
        catalogue = Catalogue(path, write=True)
    if repair:
        _add_missing(files, catalogue, say)
    return catalogue


def _add_missing(files: ArchiveFiles, catalogue: Catalogue, say: Callable[[str], None]) -> None:
    there = {row.seq for row in catalogue.segments()}
    pruned = {row.seq for row in catalogue.pruned()}
    for seq in files.segments():
        name = segment_name(seq)
        if seq in pruned:
            files.remove(name)
        elif seq not in there:
            try:
                with Segment(files.open(name), name) as segment:
                    digest = segment.trailer.digest.hex() if segment.trailer else ""
                    catalogue.add(seq, segment.about, digest, segment.size)
                    catalogue.commit()
            except (Damaged, CatalogueError) as error:
                say(str(error) if name in str(error) else f"{name}: {error}")


class Sealer:
    """Seals the texts of files, one after the other. Only with the lock of the archive."""

    def __init__(
        self,
        files: ArchiveFiles,
        catalogue: Catalogue,
        say: Callable[[str], None],
        *,
        size: int = SEGMENT,
        keep: bool = False,
    ) -> None:
        self._files, self._catalogue, self._say, self._keep = files, catalogue, say, keep
        self._collector = Collector(max(size, LEAST_SEGMENT))
        self._access: Access | None = None
        seq, digest = catalogue.last()
        self._seq = max([*files.segments(), seq])
        self._previous = bytes.fromhex(digest) if digest else NO_DIGEST
        self._segments = self._length = self._bytes = self._records = self._removed = self._repeated = 0
        self._waiting: list[TextFile] = []

    def seal(self, texts: Sequence[TextFile], ahead: TextFile | None = None) -> Sealed:
        """All of the texts; ``ahead`` is the file that goes on where the last one ends, and stays."""
        if texts:
            self._access = Access.of(texts[-1].fd)
        for text in [*texts, *([ahead] if ahead else [])]:
            self._skip_sealed(text)
        filling = Filling(self._collector)
        for text in texts:
            self._read(text, filling)
            self._waiting.append(text)
        if not filling.empty:
            border = filling.filled
            if ahead is not None:
                with contextlib.suppress(AuditnsError):  # it is being compressed: what it has is sealed with it
                    filling.follow(ahead)
            if filling.length < border:
                filling.finish()
            self._write(filling)
        self._remove_done(None)
        return Sealed(
            self._segments, self._length, self._bytes, self._records, self._removed, self._repeated,
            self._previous.hex(),
        )  # fmt: skip

    def _read(self, text: TextFile, filling: Filling) -> None:
        try:
            while filling.read(text):
                if filling.ready():
                    self._write(filling)
            text.ended = True
        except AuditnsError as error:
            text.kept = str(error)
            self._say(f"{error}: what can be read of it is sealed, the file stays")

    def _write(self, filling: Filling) -> None:
        """Seal what is decided, and remove the files that it ends."""
        assert self._access is not None
        head = Head(self._seq + 1, self._previous)
        writer = SegmentWriter(self._files, head, self._access)
        name = segment_name(head.seq)
        try:
            about = writer.write(self._collector, filling.length, self._about(filling))
            writer.check(self._collector, filling.length)
            size = os.stat(name + ".new", dir_fd=self._files.fd).st_size
            writer.publish()
        finally:
            writer.drop()
        try:
            self._catalogue.add(head.seq, about, writer.digest.hex(), size)
            self._catalogue.commit()
        except CatalogueError:
            self._files.remove(name)  # the text is still there
            raise
        self._files.give(self._access)
        self._seq, self._previous = head.seq, writer.digest
        self._segments += 1
        self._length += filling.length
        self._bytes += size
        self._records += self._collector.records
        filling.cut()
        self._remove_done(filling)

    @staticmethod
    def _about(filling: Filling) -> JsonObject:
        with open(_BOOT, encoding="ascii") as file:
            boot = file.read().strip()
        parts = [
            {"head": part.file.head, "at": part.at, "start": part.start, "length": part.length,
             "path": os.path.abspath(part.file.path), "dev": part.file.dev, "ino": part.file.ino}
            for part in filling.parts()
        ]  # fmt: skip
        return {"host": socket.gethostname(), "boot": boot, "sealed": time.time_ns() // 1_000_000, "parts": parts}

    def _remove_done(self, filling: Filling | None) -> None:
        """Remove the files all of whose text is in segments."""
        left = filling.files() if filling is not None else set()
        for text in [one for one in self._waiting if one not in left]:
            self._waiting.remove(text)
            if self._keep or text.kept:
                continue
            if text.grown():
                self._say(f"{text.path} has grown meanwhile: it stays, and is sealed from there on next time")
                continue
            problem = text.remove()
            if problem:
                self._say(problem)
            else:
                self._removed += 1

    # -- text that is there already

    def _skip_sealed(self, text: TextFile) -> None:
        """Go on behind what of the file stands in the archive already: it was sealed and could not be removed."""
        good = 0
        for part in self._catalogue.parts(text.head) if text.head else []:
            if part.start > good or part.start + part.length <= good:
                continue
            if part.start < good or not self._same(text, part.segment, part.at, part.length):
                break
            good = part.start + part.length
        if text.at != good:
            text.rewind()
            text.skip(good)
        self._repeated += bool(good)

    def _same(self, text: TextFile, seq: int, at: int, length: int) -> bool:
        """Whether the next ``length`` bytes of the text stand in a segment."""
        scratch = memoryview(self._collector.buffer)[:length]
        name = segment_name(seq)
        try:
            if len(scratch) < length or text.fill(scratch) < length:
                return False
            with Segment(self._files.open(name), name, salvage=True) as segment:
                coverage = segment.scatter(scratch, at, compare=True)
                if not coverage.whole and all("not in its place" not in one for one in segment.notices):
                    text.kept = f"{text.path}: it stands in {name}, which is damaged: the file stays"
                    self._say(text.kept)
                    return True
                return coverage.whole
        except (OSError, AuditnsError):
            return False
