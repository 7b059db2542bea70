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


def thread(pid: int, tid: int) -> tuple[int, int, dict[str, Any]]:
    return f.K_FORK, f.S_PERF, {"pid": pid, "tid": tid, "ppid": pid, "ptid": pid, "payload": SAME}


def exec_(pid: int, by: int = 0, **more: int) -> tuple[int, int, dict[str, Any]]:
    return f.K_EXEC, f.S_PERF, {"pid": pid, "tid": pid, "ppid": by or pid, "payload": b"/bin/x\0", **more}


def sample(pid: int, tid: int = 0) -> tuple[int, int, dict[str, Any]]:
    return f.K_EXIT_SAMPLE, f.S_PERF, {"pid": pid, "tid": tid or pid}


def gone(pid: int, tid: int = 0) -> tuple[int, int, dict[str, Any]]:
    return f.K_EXIT, f.S_PERF, {"pid": pid, "tid": tid or pid}


def comm(pid: int, name: bytes, arg: int = 0) -> tuple[int, int, dict[str, Any]]:
    return f.K_COMM, f.S_PERF, {"pid": pid, "tid": pid, "arg": arg, "payload": name}


#: a process that is alone in its namespaces, a row, and has left them
ALONE = (fork(100, 103, INSIDE), fork(103, 104, INSIDE), sample(104), gone(104), sample(103))
HISTORIES = {
    "a fork by a thread that is not known": (fork(100, 103), fork(100, 104, ptid=222)),
    "a number that a thread has": (thread(100, 200), fork(102, 200), gone(100, 200), exec_(200)),
    "a thread where nobody lives": (*ALONE, thread(103, 200), gone(103)),
    "a child where nobody lives": (*ALONE, fork(103, 104, INSIDE), gone(103)),
    "a child that is a thread": (fork(100, 103), fork(100, 104, tid=201)),
    "the first exec of a container's own": (fork(100, 103, INSIDE), fork(103, 104, INSIDE), exec_(104)),
    "an exec by a thread that is not known": (thread(100, 200), exec_(100, 222)),
    "an exec without its leader where nobody lives": (
        fork(100, 103, INSIDE), thread(103, 200), sample(103), gone(103), sample(103, 200), exec_(103, 200),
    ),
    "an EXIT without its sample": (fork(100, 103), gone(103), exec_(103)),
    "an EXIT without its sample of one that was there before": (fork(100, 103), gone(100)),
    "the sample of a task whose EXIT is missing": (fork(100, 103), sample(104), fork(100, 104), gone(104)),
    "namespaces are left at the sample": (fork(100, 103, INSIDE), fork(103, 104, INSIDE), sample(104), sample(103)),
    "a child in another cgroup": (fork(100, 103), (f.K_NEWTASK, f.S_PERF, {"tid": 103, "arg": 0x2_0000_0000})),
    "a child in another time namespace": (fork(100, 103), (f.K_NEWTASK, f.S_PERF, {"tid": 103, "arg": CLONE_NEWTIME})),
    "the connector's word": (fork(100, 103), (f.K_EXIT, f.S_CN, {"pid": 103, "tid": 103})),
    "a comm that is an exec": (thread(100, 200), comm(100, b"other\0", 1)),
    "a comm that is too long": (fork(100, 103), comm(103, b"x" * 40)),
}  # fmt: skip


@pytest.mark.parametrize("name", HISTORIES)
def test_what_is_not_plain_is_left_to_python(name: str) -> None:
    both = Both()
    for what in HISTORIES[name]:
        both.apply(both.step(1, what))
        both.check()
    both.finish()


def test_the_connectors_word_stops_nothing_where_perf_tells() -> None:
    both = Both()
    both.apply(both.step(1, fork(100, 103)))
    table = both.models[0].table.c
    before = table.frames
    both.apply(both.step(1, (f.K_EXIT, f.S_CN, {"pid": 103, "tid": 103})))
    assert table.frames == before + 1
