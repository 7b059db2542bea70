"""The stream and the assembler from Python: what a caller may do wrong, and what filters rely on."""

from array import array

import pytest

from auditns_connector.audittext.insertion import RecordTexts, assemble
from auditns_connector.audittext.scanner import TextStream
from auditns_connector.vocabulary import audit_text as p

SYSCALL = b"type=SYSCALL msg=audit(1.000:%d): arch=c000003e syscall=59 success=yes exit=0 ppid=1 pid=%d\n"
END = b"type=PROCTITLE msg=audit(1.000:%d): proctitle=6C\n"
EOE = b"type=EOE msg=audit(1.000:%d): \n"


def test_nothing_in_gives_nothing() -> None:
    stream = TextStream()
    assert stream.push(b"").n == 0
    points = stream.flush(eof=True)
    assert (points.n, points.consumed) == (0, 0)
    assert assemble(points, [], RecordTexts()) == b""


def test_an_event_is_kept_back_until_it_is_complete() -> None:
    stream = TextStream()
    assert stream.push(SYSCALL % (1, 7)).n == 0
    assert stream.pending == len(SYSCALL % (1, 7))
    points = stream.push(END % 1)
    assert points.pid[: points.n].tolist() == [7]
    assert stream.pending == 0


def test_flush_decides_what_is_open_and_keeps_half_a_line() -> None:
    stream = TextStream()
    stream.push(SYSCALL % (1, 7) + b"type=PROC")
    points = stream.flush()
    assert points.pid[: points.n].tolist() == [7]
    assert stream.pending == len(b"type=PROC")
    points = stream.push(b"TITLE msg=audit(1.000:1): x\n")
    assert (points.n, points.l_event[0], points.l_type[0]) == (0, p.LINE_LATE, 1327)


def test_an_event_over_two_seconds_older_is_complete() -> None:
    stream = TextStream()
    stream.push(SYSCALL % (1, 7))
    assert stream.push(b"type=CWD msg=audit(2.999:2): x\n").n == 0
    assert stream.push(b"type=CWD msg=audit(3.000:3): x\n").pid[0] == 7


def test_a_record_of_a_long_system_call_is_not_taken_for_old() -> None:
    # the stamp is that of the entry: accept() waited ten seconds, its records come now, among others'
    stream = TextStream()
    stream.push(b"type=CWD msg=audit(20.000:1): x\n" + b"type=PROCTITLE msg=audit(20.000:1): x\n")
    stream.push(b"type=SYSCALL msg=audit(10.000:2): pid=7\n")
    assert stream.push(b"type=CWD msg=audit(20.100:3): x\n").n == 0
    points = stream.push(b"type=PROCTITLE msg=audit(10.000:2): x\n")
    assert points.pid[: points.n].tolist() == [7]


def test_a_number_of_choices_that_does_not_fit_is_refused() -> None:
    stream = TextStream()
    points = stream.push(SYSCALL % (1, 7) + END % 1)
    with pytest.raises(ValueError, match="2 choices for 1 points"):
        assemble(points, [1, 1], [b"x\n"])


def test_a_choice_beyond_the_tails_inserts_nothing() -> None:
    text = SYSCALL % (1, 7) + END % 1
    stream = TextStream()
    assert assemble(stream.push(text), array("I", [2**32 - 1]), [b"x\n"]) == text


def test_tails_may_be_forgotten() -> None:
    tails = RecordTexts([b"old\n"])
    stream = TextStream()
    points = stream.push(SYSCALL % (1, 7) + END % 1)
    assert b"old" in assemble(points, [1], tails)
    tails.clear()
    assert tails.add(b"new\n") == 1
    assert b"new" in assemble(points, [1], tails)


def test_a_text_that_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="too large"):
        RecordTexts([b"\0" * 256])


def test_the_eoe_behind_a_proctitle_belongs_to_the_whole_event() -> None:
    stream = TextStream(whole=True)
    assert not stream.push(SYSCALL % (1, 7) + END % 1).consumed
    points = stream.push(EOE % 1 + SYSCALL % (2, 8) + END % 2 + SYSCALL % (3, 9))
    assert points.l_event[: points.line_n].tolist() == [0, 0, 0, 1, 1]


@pytest.mark.parametrize("most", [1, 7, 64, 1000])
def test_what_was_taken_in_at_once_can_be_scanned_in_parts(most: int) -> None:
    text = b"".join(b"type=SYSCALL msg=audit(1700000000.010:%d): pid=%d\ntype=EOE msg=audit(1700000000.010:%d): \n"
                    % (i, i, i) for i in range(20))  # fmt: skip
    stream, seen = TextStream(capacity=64), []
    for at in (0, 333):
        stream.put(text[at : at + 333] if at == 0 else text[at:])
        while stream.left:
            points = stream.part(most)
            seen += points.pid[: points.n].tolist()
    points = stream.flush(eof=True)
    assert seen + points.pid[: points.n].tolist() == list(range(20))
    assert (stream.pending, stream.left, stream.lines) == (0, False, 40)
