"""Whether an archive is what was sealed: each segment unchanged, none missing, all in their order.

Each segment has the digest of the one before it, and its own behind that, so the last one's (the *head*) stands for all
of them. Who can write to the archive can also make all of it anew; that shows only against a head that was noted
somewhere else.
"""

from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

from auditns_connector.archive.catalogue import Catalogue, CatalogueError, PrunedRow, SegmentRow
from auditns_connector.archive.files import CATALOGUE, ArchiveFiles, segment_name
from auditns_connector.archive.segment_layout import NO_DIGEST, Damaged
from auditns_connector.archive.segment_reader import Segment


class Checked(NamedTuple):
    """``problems`` in the order of the segments; ``head`` is the digest of the last segment, "" where there is none."""

    segments: int
    head: str
    problems: list[str]


class _Link(NamedTuple):
    """A segment's place in the chain, by its file or, where that is gone, by the catalogue."""

    seq: int
    previous: str
    digest: str


def check(files: ArchiveFiles, head: str = "") -> Checked:
    """All segments; ``head`` is the digest of a segment that was sealed once: it must be
    among them, or have been pruned."""
    rows: dict[int, SegmentRow] = {}
    pruned: dict[int, PrunedRow] = {}
    problems = []
    try:
        catalogue = Catalogue(files.join(CATALOGUE))
        rows = {row.seq: row for row in catalogue.segments()}
        pruned = {row.seq: row for row in catalogue.pruned()}
        catalogue.close()
    except CatalogueError as error:
        problems.append(str(error))
    there = files.segments()
    links = [_Link(row.seq, row.previous, row.digest) for row in pruned.values()]
    for seq in sorted({*there, *rows} - set(pruned)):
        if seq not in there:
            problems.append(f"{segment_name(seq)}: missing")
            continue
        link, found = _check_one(files, seq, rows.get(seq))
        problems += found
        if link is not None:
            links.append(link)
    links.sort()
    problems += _check_chain(links)
    if head and head.lower() not in {link.digest for link in links}:
        problems.append(f"no segment has the digest {head.lower()}: what was sealed up to it is not what is here")
    return Checked(len(there), links[-1].digest if links else "", problems)


def _check_one(files: ArchiveFiles, seq: int, row: SegmentRow | None) -> tuple[_Link | None, list[str]]:
    name = segment_name(seq)
    try:
        with Segment(files.open(name), name) as segment:
            trailer = segment.trailer
            assert trailer is not None
            digest = trailer.digest.hex()
            link = _Link(trailer.seq, trailer.previous.hex(), digest)
            problems = []
            if segment.measure() != trailer.digest:
                problems.append(f"{name}: changed: it has not the digest that stands at its end")
            if row is not None and row.digest != digest:
                problems.append(f"{name}: changed: it has not the digest that stands in the catalogue")
            if trailer.seq != seq:
                problems.append(f"{name}: in the wrong place: it is segment {trailer.seq}")
            return link._replace(seq=seq), problems
    except Damaged as error:
        return None, [f"{name}: changed: {str(error).removeprefix(name + ': ')}"]
    except OSError as error:
        return None, [f"{name}: {error.strerror}"]


def _check_chain(links: list[_Link]) -> Iterator[str]:
    """What the order of the segments shows."""
    if links and links[0].seq > 1 and links[0].previous != NO_DIGEST.hex():
        yield f"segments before {segment_name(links[0].seq)} are missing, and nothing says that they were pruned"
    for before, link in pairwise(links):
        if link.seq != before.seq + 1:
            yield f"segments between {segment_name(before.seq)} and {segment_name(link.seq)} are missing"
        elif link.previous != before.digest:
            yield f"{segment_name(link.seq)}: does not follow {segment_name(before.seq)}"
