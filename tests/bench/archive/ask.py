"""One question to an archive, in a process of its own: ``python -m tests.bench.archive.ask ARCHIVE QUESTION [VALUE]``

Prints how many events it has found, to stderr. The events that have the value are found by the bytes of it.
"""

import os
import sys
from bisect import bisect_right

from auditns_connector.archive.reader import Archive, Wanted
from auditns_connector.archive.terms import Term


def find(archive: Archive, wanted: Wanted, word: bytes, out: int) -> int:
    """Write the events with the word that blocks have which may hold it."""
    count = 0
    for refs in archive.candidates(wanted):
        kept = []
        for block in map(archive.read_block, refs):
            if block is None:
                continue
            mask = bytearray(block.count)
            at = block.text.find(word)
            while at >= 0:
                i = bisect_right(block.starts, at) - 1
                mask[i] = 1
                at = block.text.find(word, block.starts[i + 1])
            if any(mask):
                kept.append((block, mask))
        if kept:
            found = archive.ordered(kept)
            count += found.count
            os.write(out, found.text)
    return count


def life(archive: Archive, wanted: Wanted, out: int) -> int:
    """Write the events of one container, between two times."""
    (number,) = wanted.containers or (0,)
    count = 0
    for refs in archive.candidates(wanted):
        kept = []
        for block in map(archive.read_block, refs):
            if block is not None:
                kept.append((block, bytes(one == number for one in block.containers)))
        found = archive.ordered(kept)
        count += found.count
        os.write(out, found.text)
    return count


def main() -> int:
    """One question."""
    path, question, *values = sys.argv[1:]
    out = sys.stdout.fileno()
    with Archive(path) as archive:
        if question == "containers":
            rows = archive.containers()
            count = len(rows)
            print(*rows, sep="\n")
        elif question == "report":
            found = archive.aggregates()
            count = len(found)
            print(*found[:1000], sep="\n")
        elif question in ("life", "minutes"):
            (row,) = [row for row in archive.containers() if row.contid == values[0]]
            since = until = None
            if question == "minutes":
                since = (row.first_ms + row.last_ms) // 2
                until = since + 120_000
            count = life(archive, Wanted(since, until, containers=frozenset([row.number])), out)
        else:
            value = values[0].encode()
            words = {"path": b'name="%b"', "key": b'key="%b"', "pid": b" pid=%b ", "addr": b"saddr=0200"}
            word = words[question] % value if b"%b" in words[question] else bytes.fromhex(values[1])
            count = find(archive, Wanted(terms=((Term(question, value),),)), word, out)
        for notice in archive.notices:
            print(notice, file=sys.stderr)
    print(count, file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
