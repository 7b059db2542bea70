"""The table of record types: whole, and no row at odds with another source."""

import re
from pathlib import Path

import pytest

from auditns_connector.vocabulary import record_types as rectypes

_KERNEL = Path("/usr/include/linux/audit.h")
_LIBAUDIT = Path("/usr/include/libaudit.h")
#: requests to the kernel, and marks of ranges, that are no records
_NO_RECORD = re.compile(
    r"(FIRST|LAST|MAX|MIN|ALWAYS|NEVER|POSSIBLE|FAIL|STATUS|FEATURE|ARCH|COMPARE|DIR|PERM)_|\w+_(MIN|MAX)$"
)


def test_every_row_says_what_the_columns_allow() -> None:
    for row in rectypes.TYPES.values():
        assert row.pid in ("pid", "opid", "-"), row
        assert row.settled in ("pid", "syscall", "target", "packet", "bpf", "landlock", "host", "own", "-"), row
        assert row.place in ("syscall", "record", "-"), row
        assert row.edge in ("begin", "part", "member", "lone", "alone", "end"), row
        assert row.decode in ("fields", "argv", "title", "msg"), row
        assert re.fullmatch(r"(audit|auditns)?[0-9]+(\.[0-9]+)*", row.since), row


def test_rows_are_in_order_and_no_name_comes_twice() -> None:
    assert list(rectypes.TYPES) == sorted(rectypes.TYPES)
    assert len(rectypes.NUMBERS) == len(rectypes.TYPES)


def test_what_tools_end_an_event_at_is_not_waited_for() -> None:
    """A record of a range with SINGLE_BIT is whole; the kernel goes on behind a LOGIN."""
    for number, row in rectypes.TYPES.items():
        if not rectypes.range_bits(number) & rectypes.SINGLE_BIT or row.name == "LOGIN":
            assert row.edge != "alone" or number in rectypes.OWN, row
        else:
            assert (row.edge, row.place) == ("alone", "record"), row


@pytest.mark.parametrize("number", [1005, 1119, 1204, 1299, 1310, 1399, 1999, 2099, 2100, 2999, 3000, 65535, 0])
def test_a_type_of_tomorrow_is_taken_for_what_its_range_says(number: int) -> None:
    row = rectypes.of(number)
    kernel = number == 0 or 1300 <= number < 2100
    assert row.edge == ("member" if kernel else "alone")
    assert row.settled == ("syscall" if kernel else "pid")


@pytest.mark.parametrize("header", [_KERNEL, _LIBAUDIT], ids=["kernel", "libaudit"])
def test_numbers_are_those_of_the_headers(header: Path) -> None:
    if not header.exists():
        pytest.skip(f"no {header}")
    text = header.read_text(encoding="utf-8", errors="replace")
    found = {name: int(number) for name, number in re.findall(r"#\s*define\s+AUDIT_(\w+)\s+([12][0-9]{3})\b", text)}
    compared = 0
    for name, number in found.items():
        row = rectypes.TYPES.get(number)
        if row is None or _NO_RECORD.match(name):
            continue
        assert rectypes.NUMBERS.get(name, number) == number, name
        compared += name == row.name
    assert compared > 60
