"""Records that may be the whole event: where ours stands, and what of the same serial is part of their event."""

import pytest

from auditns_connector.audittext.scanner import InsertionPoints, TextStream
from auditns_connector.vocabulary import audit_text as pt

LOGIN = b"type=LOGIN msg=audit(1.000:7): pid=5 uid=0 res=1\n"
SYSCALL = b"type=SYSCALL msg=audit(1.000:7): arch=c000003e syscall=1 success=yes exit=1 ppid=1 pid=5\n"
TITLE = b"type=PROCTITLE msg=audit(1.000:7): proctitle=00\n"
USER = b"type=USER_CMD msg=audit(1.000:7): pid=5 uid=0 msg='op=x'\n"
CONTEXTS = b"type=MAC_TASK_CONTEXTS msg=audit(1.000:7): subj_selinux=a subj_apparmor=b\n"
SADDR = b"type=SOCKADDR msg=audit(1.000:7): saddr=00\n"
TARGET = b"type=OBJ_PID msg=audit(1.000:7): opid=6\n"
EOE = b"type=EOE msg=audit(1.000:7): \n"
OURS = b"type=CONTAINER_ID msg=audit(1.000:7): contid=4\n"
NEXT = b"type=USER_END msg=audit(1.000:8): pid=6 uid=0 msg='op=y'\n"


def scan(text: bytes) -> InsertionPoints:
    return TextStream(patient=True).push(text)


@pytest.mark.parametrize(
    ("event", "behind"),
    [
        (LOGIN, LOGIN),
        (USER, USER),
        (LOGIN + SYSCALL + TITLE, LOGIN + SYSCALL),
        (USER + CONTEXTS, USER + CONTEXTS),
        (USER + SYSCALL + CONTEXTS + TITLE, USER + SYSCALL + CONTEXTS),
        (SYSCALL + SADDR + TITLE, SYSCALL + SADDR),
        (SYSCALL + SADDR + EOE, SYSCALL + SADDR),
        (SYSCALL + TARGET + TITLE, SYSCALL),
    ],
    ids=["login", "user", "login-syscall", "user-contexts", "user-syscall", "title", "eoe", "target"],
)
def test_an_event_has_one_place_in_front_of_its_title_or_at_its_end(event: bytes, behind: bytes) -> None:
    points = scan(event + NEXT + b"\n")
    assert points.flags[0] & pt.P_SUBJECT
    assert points.at[0] == len(behind)
    assert set(points.l_event[: points.line_n - 2]) == {points.event[0]}
    assert points.at[points.n - 1] == len(event + NEXT)


@pytest.mark.parametrize("event", [LOGIN + OURS, USER + OURS, SYSCALL + TITLE + OURS], ids=["login", "user", "title"])
def test_a_record_of_ours_behind_the_end_belongs_to_the_event(event: bytes) -> None:
    points = scan(event + NEXT + b"\n")
    assert points.flags[0] & pt.P_OWN
    assert not points.flags[1] & pt.P_OWN
    assert set(points.l_event[: points.line_n - 2]) == {points.event[0]}


def test_a_single_record_is_not_waited_for_until_one_of_ours_was_seen() -> None:
    stream = TextStream()
    assert stream.push(USER).n == 1
    assert stream.push(NEXT).n == 1
    assert stream.push(USER.replace(b":7", b":9") + OURS.replace(b":7", b":9")).n == 0
    assert stream.push(NEXT.replace(b":8", b":10")).n == 1
    assert stream.flush().n == 1


def test_ours_behind_an_interleaved_end_belongs_to_its_event() -> None:
    other = b"type=AVC msg=audit(1.000:6): pid=9\n"
    points = scan(SYSCALL + other + TITLE + OURS + NEXT + b"\n")
    assert points.flags[0] & pt.P_OWN
    assert TextStream(patient=True).push(SYSCALL + other + TITLE + OURS + NEXT).pid[0] == 5
