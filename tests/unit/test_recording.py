"""The recording of kernel tests has whole events."""

from tests.kernel.recorder import whole


def records(serial: int, *types: str) -> bytes:
    return b"".join(f"type={kind} msg=audit(1700000000.123:{serial}): a=1\n".encode() for kind in types)


def test_events_of_which_a_part_is_missing_are_left_out() -> None:
    first, last = records(1, "OBJ_PID", "PROCTITLE", "EOE"), records(9, "SYSCALL", "OBJ_PID")
    one, two = records(2, "SYSCALL", "OBJ_PID", "PROCTITLE", "EOE"), records(3, "USER_LOGIN")
    assert whole(first + one + two + last) == one + two


def test_events_among_each_other_are_whole() -> None:
    one, two = (records(serial, "SYSCALL", "PROCTITLE", "EOE").splitlines(keepends=True) for serial in (1, 2))
    text = b"".join(line for pair in zip(one, two, strict=True) for line in pair)
    assert whole(text) == text
    assert whole(text[: text.rfind(b"type=EOE")]) == b"".join(one)
    assert whole(b"torn line\n" + text) == b"torn line\n" + text
