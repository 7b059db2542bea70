"""The measured program: scan, decide by a dict of 10,000 processes in 200 containers, assemble, write.

``python ours.py FILE PIDS`` with one pid a line; enriched text goes to stdout.
"""

import os
import sys
from array import array

from auditns_connector.emit.text import container_id
from auditns_connector.reassemble import Tails, TextStream

BLOCK = 256 * 1024


def main() -> None:
    tails = Tails()
    own = [tails.add(container_id(str(4515122123205246976 + i), 1, False)) for i in range(200)]
    with open(sys.argv[2], encoding="ascii") as listed:
        pids = [int(line) for line in listed]
    pids += range(5_000_000, 5_000_000 + 10_000 - len(pids))
    table = {pid: own[i % 200] for i, pid in enumerate(pids)}
    get = table.get
    stream = TextStream()
    source = os.open(sys.argv[1], os.O_RDONLY)
    more = True
    while more:
        size = os.readv(source, [stream.room(BLOCK)])
        more = size > 0
        points = stream.filled(size) if more else stream.flush(eof=True)
        choice = array("I", [get(pid, 0) for pid in points.pid[: points.n].tolist()])
        out = memoryview(stream.assemble(points, choice, tails))
        while out:
            out = out[os.write(1, out) :]


if __name__ == "__main__":
    main()
