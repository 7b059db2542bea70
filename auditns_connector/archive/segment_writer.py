"""Write a segment: blocks, what it says of itself, index, trailer; checked before it gets its name."""

import hashlib
import json
import os
from collections import defaultdict
from collections.abc import Iterable
from typing import Final

from auditns_connector.archive import zstd
from auditns_connector.archive.collector import Collector, Tally
from auditns_connector.archive.files import Access, ArchiveFiles, segment_name
from auditns_connector.archive.segment_layout import (
    ENTRY,
    Head,
    Table,
    Trailer,
    pack_about,
    pack_head,
    pack_index,
    pack_table,
    pack_trailer,
)
from auditns_connector.archive.segment_reader import Segment
from auditns_connector.errors import AuditnsError
from auditns_connector.vocabulary.values import JsonObject

#: values of one kind in one group that are kept by name; the rest are counted together
MOST_VALUES: Final = 200


class SegmentWriter:
    """One segment on its way into the directory. The files are synced; nobody sees it before :meth:`publish`."""

    def __init__(self, files: ArchiveFiles, head: Head, access: Access) -> None:
        self._files = files
        self._head = head
        self._name = segment_name(head.seq)
        self._staged, self._fd = files.stage(self._name)
        self._sha = hashlib.sha256()
        self._size = 0
        self.digest = b""
        access.give(self._fd)
        self._put(pack_head(head))

    def _put(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(self._fd, view) :]
        self._sha.update(data)
        self._size += len(data)

    def write(self, collector: Collector, length: int, about: JsonObject) -> JsonObject:
        """Everything; ``length`` bytes of the collector's text. Returns ``about`` with what is added to it."""
        count = collector.plan()
        entries, low, high = self._blocks(collector)
        rows, filters = collector.filters(length)
        about |= {
            "seq": self._head.seq,
            "previous": self._head.previous.hex(),
            "length": length,
            "records": collector.records,
            "events": collector.events,
            "blocks": count,
            "dropped": collector.dropped,
            "groups": [
                [g.holder, g.node.decode("latin-1"), g.contid.decode("latin-1"), *g[3:], low.get(i, 0), high.get(i, 0)]
                for i, g in enumerate(collector.groups())
            ],
            "serials": [[s.node.decode("latin-1"), *s[1:]] for s in collector.serials()],
            "infos": [[group, fields.decode("latin-1")] for group, fields in collector.infos()],
            "tallies": most_frequent(collector.tallies()),
        }
        about_at = self._size
        text = json.dumps(about, separators=(",", ":")).encode("ascii")
        self._put(pack_about(zstd.module().ZstdCompressor(level=zstd.LEVEL).compress(text)))
        index_at = self._size
        self._put(pack_index(entries, count, rows, filters))
        trailer = Trailer(
            self._head.seq, about_at, index_at - about_at, index_at, self._size - index_at, self._head.previous, b""
        )
        self._put(pack_trailer(trailer))
        self.digest = self._sha.digest()
        self._put(self.digest)
        os.fsync(self._fd)
        return about

    def _blocks(self, collector: Collector) -> tuple[bytes, dict[int, int], dict[int, int]]:
        """Write the blocks; their rows of the index, and in which blocks each group begins and ends."""
        compressor = zstd.module().ZstdCompressor(level=zstd.LEVEL, write_checksum=True, write_content_size=True)
        entries = bytearray()
        low: dict[int, int] = {}
        high: dict[int, int] = {}
        for number, block in enumerate(collector.blocks()):
            raw, text = collector.table(block), collector.text(block)
            frame = compressor.compress(text)
            table = pack_table(Table(number, block.events, len(text), len(frame), len(raw), compressor.compress(raw)))
            entries += ENTRY.pack(
                self._size, block.first_ms, block.last_ms, len(table), len(frame), len(text), block.events,
                block.low_group, block.high_group,
            )  # fmt: skip
            self._put(table)
            self._put(frame)
            for group in range(block.low_group, block.high_group + 1):
                low.setdefault(group, number)
                high[group] = number
        return bytes(entries), low, high

    def check(self, collector: Collector, length: int) -> None:
        """Read it back from the disk and compare it with the text. Raises AuditnsError where they differ."""
        os.posix_fadvise(self._fd, 0, 0, os.POSIX_FADV_DONTNEED)
        with Segment(os.dup(self._fd), self._staged) as segment:
            if not segment.is_text(memoryview(collector.buffer)[:length]) or segment.measure() != self.digest:
                raise AuditnsError(f"{self._files.join(self._staged)}: what was written cannot be read back")

    def publish(self) -> str:
        """Give it its name; returns that."""
        self._files.publish(self._staged, self._name)
        os.close(self._fd)
        self._fd = -1
        return self._name

    def drop(self) -> None:
        """Leave nothing behind, where it has no name yet."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
            self._files.remove(self._staged)


def most_frequent(tallies: Iterable[Tally]) -> list[list[object]]:
    """The most frequent values of each kind in each group, as they stand in JSON; of the rest (``null``) the sum."""
    kinds: defaultdict[tuple[int, int], list[Tally]] = defaultdict(list)
    for tally in tallies:
        kinds[tally.group, tally.kind].append(tally)
    found: list[list[object]] = []
    for (group, kind), values in kinds.items():
        if len(values) > MOST_VALUES:
            values.sort(key=lambda tally: (-tally.times, tally.value))
            values, rest = values[:MOST_VALUES], values[MOST_VALUES:]
            times = min(one.first_ms for one in rest), max(one.last_ms for one in rest)
            found.append([group, kind, None, sum(one.times for one in rest), *times])
        found += [[group, kind, one.value.decode("latin-1"), *one[3:]] for one in values]
    return found
