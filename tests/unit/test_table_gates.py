"""When a frame is not plain: each condition of cdefs/table/apply.c, one by one, against the readable rules."""

from typing import Any

import pytest

from auditns_connector.vocabulary import frames as f
from auditns_connector.vocabulary.namespaces import CLONE_NEWTIME
from tests.property.test_process_table import Both, raw

SAME = raw({})
INSIDE = raw({"mnt": 4026540002})


def fork(by: int, pid: int, payload: bytes = SAME, **more: int) -> tuple[int, int, dict[str, Any]]:
    return f.K_FORK, f.S_PERF, {"pid": pid, "tid": pid, "ppid": by, "ptid": by, "payload": payload, **more}


def thread(pid: int, tid: int, payload: bytes = SAME) -> tuple[int, int, dict[str, Any]]:
    return f.K_FORK, f.S_PERF, {"pid": pid, "tid": tid, "ppid": pid, "ptid": pid, "payload": payload}


def exec_(pid: int, by: int = 0, **more: int) -> tuple[int, int, dict[str, Any]]:
    return f.K_EXEC, f.S_PERF, {"pid": pid, "tid": pid, "ppid": by or pid, "payload": b"/bin/x\0", **more}


def sample(pid: int, tid: int = 0) -> tuple[int, int, dict[str, Any]]:
    return f.K_EXIT_SAMPLE, f.S_PERF, {"pid": pid, "tid": tid or pid}


def gone(pid: int, tid: int = 0) -> tuple[int, int, dict[str, Any]]:
    return f.K_EXIT, f.S_PERF, {"pid": pid, "tid": tid or pid}


def comm(pid: int, name: bytes, arg: int = 0) -> tuple[int, int, dict[str, Any]]:
    return f.K_COMM, f.S_PERF, {"pid": pid, "tid": pid, "arg": arg, "payload": name}


def enters(pid: int, payload: bytes = INSIDE, tid: int = 0) -> tuple[int, int, dict[str, Any]]:
    return f.K_NAMESPACES, f.S_PERF, {"pid": pid, "tid": tid or pid, "payload": payload}


#: a process that is alone in its namespaces, a row, and has left them
ALONE = (fork(100, 103, INSIDE), fork(103, 104, INSIDE), sample(104), gone(104), sample(103))
#: a thread of another process, whose children are born into a time namespace of their own
APART = ((f.K_UNSHARE, f.S_PERF, {"pid": 101, "tid": 222, "arg": CLONE_NEWTIME}), enters(101, SAME, 222))
HISTORIES = {
    "a fork by a thread that is not known": (fork(100, 103), fork(100, 104, ptid=222)),
    "a fork by a thread of another's": (fork(100, 103), *APART, fork(100, 104, ptid=222)),
    "a number that a thread has": (thread(100, 200), fork(102, 200), gone(100, 200), exec_(200)),
    "a thread where nobody lives": (*ALONE, thread(103, 200, INSIDE), gone(103)),
    "somebody enters where nobody but a thread lives": (*ALONE, thread(103, 200, INSIDE), enters(102)),
    "a child where nobody lives": (*ALONE, fork(103, 104, INSIDE), gone(103)),
    "a child that is a thread": (fork(100, 103), fork(100, 104, tid=201)),
    "the first exec of a container's own": (fork(100, 103, INSIDE), fork(103, 104, INSIDE), exec_(104)),
    "an exec by a thread that is not known": (thread(100, 200), exec_(100, 222)),
    "an exec by a thread of another's": (fork(100, 103), *APART, exec_(103, 222)),
    "an exec without its leader where nobody lives": (
        fork(100, 103, INSIDE), thread(103, 200, INSIDE), sample(103), gone(103), sample(103, 200), exec_(103, 200),
    ),
    "somebody enters where an exec made a thread the leader": (
        fork(102, 103, INSIDE), thread(103, 200, INSIDE), fork(103, 104, INSIDE), sample(104), gone(104), sample(103),
        gone(103), sample(103, 200), exec_(103, 200), enters(101),
    ),
    "an EXIT without its sample": (fork(100, 103), gone(103), exec_(103)),
    "an EXIT without its sample of one that was there before": (fork(100, 103), gone(100)),
    "the sample of a task whose EXIT is missing": (fork(100, 103), sample(104), fork(100, 104), gone(104)),
    "namespaces are left at the sample": (fork(100, 103, INSIDE), fork(103, 104, INSIDE), sample(104), sample(103)),
    "a child in another cgroup": (fork(100, 103), (f.K_NEWTASK, f.S_PERF, {"tid": 103, "arg": 0x2_0000_0000})),
    "a child in another time namespace": (fork(100, 103), (f.K_NEWTASK, f.S_PERF, {"tid": 103, "arg": CLONE_NEWTIME})),
    "the connector's word": (fork(100, 103), (f.K_EXIT, f.S_CN, {"pid": 103, "tid": 103})),
    "a comm that is an exec": (thread(100, 200), comm(100, b"other\0", 1)),
    "a comm of one that may have moved": (fork(100, 103), comm(103, b"other\0", 1)),
    "a comm that is too long": (fork(100, 103), comm(103, b"x" * 40)),
}  # fmt: skip


#: hosts that have not all tracepoints
FEWER = {
    "a comm that is an exec": ["newtask", "attach", "exit_sample"],
    "a comm of one that may have moved": ["newtask", "exit_sample"],
}


@pytest.mark.parametrize("looked", [True, False], ids=["step by step", "at once"])
@pytest.mark.parametrize("name", HISTORIES)
def test_what_is_not_plain_is_left_to_python(name: str, looked: bool) -> None:
    both = Both(features=FEWER[name]) if name in FEWER else Both()
    for what in HISTORIES[name]:
        both.apply(both.step(1, what))
        if looked:
            both.check()
    both.finish()


def test_the_connectors_word_stops_nothing_where_perf_tells() -> None:
    both = Both()
    both.apply(both.step(1, fork(100, 103)))
    table = both.models[0].table.c
    before = table.frames
    both.apply(both.step(1, (f.K_EXIT, f.S_CN, {"pid": 103, "tid": 103})))
    assert table.frames == before + 1
