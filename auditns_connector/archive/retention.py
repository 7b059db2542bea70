"""What an archive may take: the oldest segments go first, whole, and the newest one never does."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

from auditns_connector.archive.catalogue import Catalogue, SegmentRow
from auditns_connector.archive.files import ArchiveFiles, segment_name
from auditns_connector.archive.segment_layout import Damaged
from auditns_connector.archive.segment_reader import Segment
from auditns_connector.vocabulary.values import JsonObject


class Limits(NamedTuple):
    """0: no limit. ``max_size`` and ``min_free`` in bytes, ``max_age`` in seconds since the last event."""

    max_size: int = 0
    max_age: int = 0
    min_free: int = 0

    def __bool__(self) -> bool:
        return any(self)


def to_prune(rows: list[SegmentRow], limits: Limits, now_ms: int, free: int) -> Iterator[tuple[SegmentRow, str]]:
    """Which segments have to go, the oldest first, and why. Pure."""
    size = sum(row.bytes for row in rows)
    for row in rows[:-1]:
        if limits.max_age and row.last_ms < now_ms - limits.max_age * 1000:
            reason = "age"
        elif limits.max_size and size > limits.max_size:
            reason = "size"
        elif limits.min_free and free < limits.min_free:
            reason = "free space"
        else:
            return
        yield row, reason
        size -= row.bytes
        free += row.bytes


def prune(
    files: ArchiveFiles, catalogue: Catalogue, limits: Limits, now_ms: int, say: Callable[[str], None]
) -> list[tuple[SegmentRow, str]]:
    """Remove what has to go. Only with the lock. The catalogue says that a segment is gone before its file is: who is
    killed in between leaves a file that the next one removes."""
    going = list(to_prune(catalogue.segments(), limits, now_ms, files.free()))
    for row, reason in going:
        catalogue.remove(_about(files, row, say), row, reason)
    if going:
        catalogue.tidy()
        catalogue.commit()
    for row, _ in going:
        files.remove(segment_name(row.seq))
    return going


def _about(files: ArchiveFiles, row: SegmentRow, say: Callable[[str], None]) -> JsonObject | None:
    name = segment_name(row.seq)
    try:
        with Segment(files.open(name), name) as segment:
            return segment.about
    except (Damaged, OSError) as error:
        say(f"{name}: {error}: the counts of its events stay in the catalogue")
        return None
