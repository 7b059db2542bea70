"""A program of ours that is killed or ended under load: what its log must have then, held against auditd's own."""

import itertools
import re
from typing import Final

import pytest

from auditns_connector.sinks.loss import own_lines

#: how often it is killed, and the seed of when: a hundred times in pieces that leave audit to others in between
SEVERAL: Final = [(4, 0), *(pytest.param(25, seed, marks=pytest.mark.nightly) for seed in range(1, 5))]
_NOT_KERNELS: Final = (b"type=DAEMON_", b"type=EOE ")
_TOLD: Final = re.compile(
    rb"(?m)^type=(?:CONTAINER_LOST|UNKNOWN\[1343\]) \S+ source=restart cpu=\? count=(\d+) from=(\d+) to=(\d+)$"
)
#: events that never came to auditd; whatever we drop ourselves is a failure
_BY_AUDIT: Final = re.compile(
    rb"(?m)^type=(?:CONTAINER_LOST|UNKNOWN\[1343\]) \S+ source=audit cpu=\? count=(\d+) from=(\d+) to=(\d+)$"
)
_BY_US: Final = re.compile(rb"(?m)^type=(?:CONTAINER_LOST|UNKNOWN\[1343\]) \S+ source=(?:intake|sink-\S+) ")


def kernel_lines(log: bytes) -> list[bytes]:
    """The kernel's records but EOE, which auditd does not log."""
    return [line for line in log.splitlines() if own_lines().match(line) is None and not line.startswith(_NOT_KERNELS)]


def whole_events(log: bytes, before: int) -> dict[int, list[bytes]]:
    """The kernel's events by serial, counted from ``before``, each with its records but EOE."""
    found: dict[int, list[bytes]] = {}
    for line in log.splitlines():
        if own_lines().match(line) is None and not line.startswith(
            (b"type=DAEMON_", b"type=EOE ")
        ):  # auditd logs no EOE
            serial = int(line.partition(b"):")[0].rpartition(b":")[2])
            found.setdefault((serial - before) % (1 << 32), []).append(line)
    return found


def judge(auditds: bytes, text: bytes, kills: int, before: int = 0) -> None:
    """Every event of auditd's log is in ours, once and whole, or in the one record that the next run begins with, and
    nothing else is. All serials are ``before`` or, counting on from there, behind it."""
    assert text.endswith(b"\n")
    raw, mine = whole_events(auditds, before), whole_events(text, before)
    lines = {line for records in raw.values() for line in records}
    assert [line for records in mine.values() for line in records if line not in lines] == []  # none is torn
    assert [serial for serial, records in mine.items() if len(records) > len(raw[serial])] == []  # none came twice
    # the first event may have begun before the first run, and the last ones may have come behind the last
    span = range(min(mine) + 1, max(mine) + 1)
    lost = {serial for serial, records in raw.items() if serial in span and len(mine.get(serial, ())) < len(records)}
    assert not _BY_US.findall(text)
    for _, first, last in _BY_AUDIT.findall(text):
        given_up = ((serial - before) % (1 << 32) for serial in range(int(first), int(last) + 1))
        assert not [serial for serial in given_up if serial in raw], "auditd has what is told to be lost before it"
    told = [
        (int(count), (int(first) - before) % (1 << 32), (int(last) - before) % (1 << 32))
        for count, first, last in _TOLD.findall(text)
    ]
    assert len(told) <= kills
    ranges = sorted((first, last) for _, first, last in told)
    assert all(last < first for (_, last), (first, _) in itertools.pairwise(ranges)), told  # none is told twice
    between = {serial for _, first, last in told for serial in range(first, last + 1)}
    untold = {serial: (raw[serial], mine.get(serial)) for serial in sorted(lost - between)[:5]}
    assert not untold, (told, len(lost - between), untold)
    absent = {serial for serial in between if len(mine.get(serial, ())) < len(raw.get(serial, (b"",)))}
    assert sum(count for count, _, _ in told) == len(absent), (told, len(absent))
    assert all(first in absent for _, first, _ in told)


_ALL_TOLD: Final = re.compile(
    rb"(?m)^type=(?:CONTAINER_LOST|UNKNOWN\[1343\]) \S+ source=(?:restart|audit|intake|sink-\S+) cpu=\? count=\d+ "
    rb"from=(?:\d+\.\d{3}:)?(\d+) to=(?:\d+\.\d{3}:)?(\d+)( |$)"
)


def untold(arrived: bytes, text: bytes) -> dict[int, list[bytes]]:
    """The events of ``arrived`` that are behind the first one of ``text`` and are neither whole there nor told."""
    mine = whole_events(text, 0)
    told = [range(int(first), int(last) + 1) for first, last, _ in _ALL_TOLD.findall(text)]
    return {
        serial: records
        for serial, records in whole_events(arrived, 0).items()
        if serial > min(mine) and len(mine.get(serial, ())) < len(records) and not any(serial in some for some in told)
    }
