"""A program of ours that is killed under load: what its log must have in the end, held against auditd's own."""

import re
from typing import Final

from tests.kernel.programs import ours

_TOLD: Final = re.compile(rb"source=restart cpu=\? count=(\d+) from=(\d+) to=(\d+)")


def whole_events(log: bytes) -> dict[int, list[bytes]]:
    """The kernel's events by serial, each with its records but EOE."""
    found: dict[int, list[bytes]] = {}
    for line in log.splitlines():
        if not ours(line + b"\n") and not line.startswith((b"type=DAEMON_", b"type=EOE ")):  # auditd logs no EOE
            found.setdefault(int(line.partition(b"):")[0].rpartition(b":")[2]), []).append(line)
    return found


def judge(auditds: bytes, text: bytes, kills: int) -> None:
    """Every event of auditd's log is in ours, once and whole, or in the one record that the next run begins with, and
    nothing else is."""
    assert text.endswith(b"\n")
    raw, mine = whole_events(auditds), whole_events(text)
    lines = {line for records in raw.values() for line in records}
    assert [line for records in mine.values() for line in records if line not in lines] == []  # none is torn
    assert [serial for serial, records in mine.items() if len(records) > len(raw[serial])] == []  # none came twice
    # the first event may have begun before the first run, and the last ones may have come behind the last
    span = range(min(mine) + 1, max(mine) + 1)
    lost = {serial for serial, records in raw.items() if serial in span and len(mine.get(serial, ())) < len(records)}
    assert [line for line in text.splitlines() if b"type=CONTAINER_LOST " in line and b"source=audit" in line] == []
    told = [(int(count), int(first), int(last)) for count, first, last in _TOLD.findall(text)]
    assert len(told) <= kills
    between = {serial for _, first, last in told for serial in range(first, last + 1)}
    untold = {serial: (raw[serial], mine.get(serial)) for serial in sorted(lost - between)[:5]}
    assert not untold, (told, len(lost - between), untold)
    absent = {serial for serial in between if serial not in mine or serial in lost}
    assert sum(count for count, _, _ in told) == len(absent), (told, sorted(absent))
    assert all(first in lost or first not in raw for _, first, _ in told)
