"""Raw text is passed on as it comes, and ours stand where they belong however it is cut."""

import random
from collections.abc import Sequence

import pytest

from auditns_connector.audittext.insertion import RecordTexts, assemble
from auditns_connector.audittext.scanner import TextStream
from auditns_connector.vocabulary import audit_text as pt

OURS = RecordTexts([b"\1type=UNKNOWN[1340] \0 contid=1\n"])
CALLS = ("execve", "connect", "kill", "openat")


def head(kind: str, serial: int) -> str:
    return f"type={kind} msg=audit(1700000000.{serial % 900:03d}:{serial}): "


def event(serial: int, end: str = "EOE") -> list[bytes]:
    """One event of a system call, by its number another one."""
    call = CALLS[serial % 4]
    number = 59 if call == "execve" else 42
    lines = [head("SYSCALL", serial) + f"arch=c000003e syscall={number} success=yes exit=0 pid=7"]
    if call == "execve":
        lines += [head("EXECVE", serial) + 'argc=1 a0="ls"', head("CWD", serial) + 'cwd="/"']
        lines += [head("PATH", serial) + f'item={n} name="/bin/ls"' for n in range(2)]
    elif call == "connect":
        lines += [head("SOCKADDR", serial) + "saddr=0200"]
    elif call == "kill":
        lines += [head("OBJ_PID", serial) + f"opid={n}" for n in (8, 9)]
    else:
        lines += [head("CWD", serial) + 'cwd="/"', head("PATH", serial) + 'item=0 name="x"']
    lines += [head("PROCTITLE", serial) + "proctitle=6C73"] if end != "EOE alone" else []
    lines += [head("EOE", serial)] if end != "none" else []
    return [line.encode() + b"\n" for line in lines]


def interleaved(events: Sequence[Sequence[bytes]], seed: int) -> list[bytes]:
    """The events' lines, each event's in their order."""
    rng, left = random.Random(seed), [list(lines) for lines in events]
    out = []
    while left:
        lines = rng.choice(left)
        out.append(lines.pop(0))
        if not lines:
            left.remove(lines)
    return out


def passed(pieces: Sequence[bytes], *, at_end: bool = False, patient: bool = False) -> list[bytes]:
    """What comes out at each piece, and at the end."""
    stream = TextStream(at_end=at_end, patient=patient)
    out = []
    for piece in pieces:
        points = stream.push(piece)
        out.append(assemble(points, [1] * points.n, OURS))
    points = stream.flush(eof=True)
    return [*out, assemble(points, [1] * points.n, OURS)]


def by_event(text: bytes) -> dict[bytes, list[bytes]]:
    """Serial -> the types of its records, in their order."""
    found: dict[bytes, list[bytes]] = {}
    for line in text.splitlines():
        found.setdefault(line.partition(b"): ")[0].rpartition(b":")[2].rstrip(b")"), []).append(line.split()[0][5:])
    return found


@pytest.mark.parametrize("patient", [False, True])
@pytest.mark.parametrize(
    "lines",
    [event(4), event(5), event(6), event(7), event(5, "none"), event(7, "EOE alone"),
     [head("AVC", 9).encode() + b"pid=7\n", *event(9)], [head("LOGIN", 9).encode() + b"pid=7\n", *event(9)],
     [head("USER_CMD", 9).encode() + b"pid=7 msg='x'\n", head("MAC_TASK_CONTEXTS", 9).encode() + b"x=1\n"],
     [head("SECCOMP", 9).encode() + b"pid=7\n"], [b"no record\n"], [head("NEW_TYPE", 9).encode() + b"pid=7\n"]],
)  # fmt: skip
def test_no_record_is_held_back(lines: list[bytes], patient: bool) -> None:
    out = passed(lines, patient=patient)
    for line, shown in zip(lines, out, strict=False):
        assert line in shown
    assert b"".join(line for line in b"".join(out).splitlines(keepends=True) if b"1340" not in line) == b"".join(lines)


@pytest.mark.parametrize("patient", [False, True])
@pytest.mark.parametrize("at_end", [False, True])
@pytest.mark.parametrize("seed", range(6))
def test_300_interleaved_events_are_each_as_if_it_had_come_alone(seed: int, at_end: bool, patient: bool) -> None:
    events = [event(serial, ("EOE", "EOE", "EOE alone")[serial % 3]) for serial in range(300)]
    lines = interleaved(events, seed)
    alone = by_event(b"".join(b"".join(passed([b"".join(one)], at_end=at_end)) for one in events))
    assert by_event(b"".join(passed([b"".join(lines)], at_end=at_end, patient=patient))) == alone
    if not patient:
        assert by_event(b"".join(passed(lines, at_end=at_end))) == alone


def test_places_are_the_same_however_the_text_is_cut() -> None:
    lines = interleaved([event(serial) for serial in range(60)], 1)
    text = b"".join(lines)
    whole = b"".join(passed([text]))
    for step in (1, 7, 100, 1000):
        assert b"".join(passed([text[at : at + step] for at in range(0, len(text), step)])) == whole


def test_ours_stand_in_front_of_the_title_behind_others_records() -> None:
    """The tools look for SOCKADDR by its place behind the SYSCALL."""
    one, two = event(1), event(5)
    out = by_event(b"".join(passed([one[0], two[0], one[1], two[1], *one[2:], *two[2:]])))
    assert out[b"1"] == out[b"5"] == [b"SYSCALL", b"SOCKADDR", b"UNKNOWN[1340]", b"PROCTITLE", b"EOE"]


def test_a_record_of_ours_behind_the_title_is_waited_for_until_the_text_shows_where_they_stand() -> None:
    ours = b"type=CONTAINER_ID msg=audit(1700000000.001:1):  contid=5\n"
    stream = TextStream(patient=True)
    points = stream.push(b"".join(event(1, "none")))
    assert (points.n, points.size) == (0, len(b"".join(event(1, "none"))))
    points = stream.push(ours + b"".join(event(5, "none")))
    assert points.flags[0] & pt.P_OWN
    assert points.n == 1  # the next one may have its own behind it, too
    before = TextStream(patient=True)
    before.push(b"".join(event(1, "none")) + event(5, "none")[0])
    assert before.push(b"".join(event(5, "none")[1:])).n == 1


def test_where_streams_take_events_no_line_goes_before_its_event_is_decided() -> None:
    stream = TextStream()
    stream.hold(True)
    first = stream.push(b"".join(event(1)[:2]))
    assert (first.n, first.size) == (0, 0)
    stream.hold(False)
    assert stream.push(b"").size == len(b"".join(event(1)[:2]))
    stream.hold(True)
    points = stream.push(b"".join(event(1)[2:]))
    assert (points.n, points.size) == (1, len(b"".join(event(1)[2:])))
