"""An exec of a set-user-ID program makes perf tell an EXIT of a task that lives on; real ends are told from it."""

import json
from typing import Any

import pytest

from auditns_connector.emit.events import EventWriter
from auditns_connector.model.process import Process
from auditns_connector.vocabulary import frames as f
from auditns_connector.vocabulary.namespaces import INITIAL_INODES_618
from tests.unit.world import HEX, MS, World, contid

DOCKER = f"/system.slice/docker-{HEX}.scope"
IN = contid(HEX)
#: hosts without tracepoints, with the connector and without it
BARE: dict[str, Any] = {"features": []}
HEARD: dict[str, Any] = {"features": [], "connector": True}


def shell(**hello: Any) -> World:
    """100 is a process of a container, 101 a shell that it has made."""
    w = World(**hello)
    w.fork(1, 100, 10)
    w.attach(100, DOCKER, 20)
    if not hello:
        w.exec(100, 25, "/bin/init")
    w.fork(100, 101, 30)
    return w


def exec_su(w: World, pid: int, at: float) -> None:
    """What perf tells of an exec of su, and what the connector does where it is heard."""
    if w.model.exits.proof == "samples":
        w.changes_user(pid, at)
        return
    w.put(f.K_COMM, at, pid=pid, tid=pid, arg=1, payload=b"su\0")
    w.put(f.K_EXIT, at, pid=pid, tid=pid)
    if w.model.exits.proof == "connector":
        w.put(f.K_EXEC, at + 0.1, source=f.S_CN, pid=pid, tid=pid)


def leave(w: World, pid: int, at: float, tid: int = 0) -> None:
    """The end of a task by the means of the host."""
    if w.model.exits.proof == "samples":
        w.exit(pid, at, tid)
        return
    w.put(f.K_EXIT, at, pid=pid, tid=tid or pid)
    if w.model.exits.proof == "connector":
        w.put(f.K_EXIT, at + 0.1, source=f.S_CN, pid=pid, tid=tid or pid)


def gone(w: World, pid: int, at: float) -> None:
    """/proc has no process of that number."""
    answer = {"pid": pid, "ppid": 0, "start": None, "gone": True}
    w.put(f.K_PROC, at, f.S_PROCFS, pid=pid, payload=json.dumps(answer).encode())


@pytest.mark.parametrize("hello", [{}, HEARD])
def test_a_set_user_id_program_is_run_by_the_process_that_was_there_before(hello: dict[str, Any]) -> None:
    w = shell(**hello)
    before = w.model.processes[101]
    exec_su(w, 101, 40)
    w.fork(101, 102, 50)
    if not hello:
        w.exec(102, 55, "/bin/id")
        assert w.who_exec(101, 39, "/bin/su") == w.who_exec(102, 54, "/bin/id") == IN
    assert w.model.processes[101] is before
    assert w.model.processes[102].creator == (101, before.start)
    assert w.who(101, 39) == w.who(101, 60) == w.who(102, 60) == IN
    leave(w, 102, 70)
    leave(w, 101, 80)
    assert before.end == 80 * MS
    assert w.who(101, 200) == "?"


@pytest.mark.parametrize("hello", [{}, HEARD, BARE])
def test_real_ends_are_ends(hello: dict[str, Any]) -> None:
    w = shell(**hello)
    leave(w, 101, 40)
    assert w.model.processes[101].end == 40 * MS
    assert w.who(101, 39.5) == IN
    assert w.who(101, 60) == "?"
    w.fork(1, 101, 100)
    assert w.who(101, 110) is None
    assert not w.model.exits.suspended
    leave(w, 100, 120)
    if hello is BARE:
        gone(w, 100, 121)
    assert not w.model.containers.by_key, "its last process has gone"


def test_nobody_knows_after_an_exit_without_proof_until_the_process_acts() -> None:
    for kind, more in ((f.K_COMM, {"payload": b"x\0"}), (f.K_COMM, {"arg": 1, "payload": b"x\0"}), (f.K_EXEC, {})):
        w = shell(**BARE)
        w.put(f.K_EXIT, 40, pid=101, tid=101)
        assert (w.who(101, 30), w.who(101, 60)) == (IN, "?")
        w.put(kind, 100, pid=101, tid=101, **more)
        assert [w.who(101, at) for at in (30, 60, 110)] == [IN, IN, IN], "it was there all the time"
        asked = [query.what for query in w.model.queries if query.pid == 101]
        # without tracepoints nobody tells where a process is that has run a program
        assert asked == (["alive", "proc"] if "arg" in more else ["alive"])


def test_a_child_shows_that_its_creator_lives() -> None:
    w = shell(**BARE)
    w.put(f.K_EXIT, 40, pid=101, tid=101)
    w.fork(101, 102, 100)
    assert (w.who(102, 120), w.who(101, 120)) == (IN, IN)


def test_proc_tells_what_became_of_a_process_after_an_exit_without_proof() -> None:
    w = shell(**BARE)
    w.put(f.K_EXIT, 40, pid=101, tid=101)
    w.proc(101, 100, 41, start=30, cg=DOCKER)
    assert w.who(101, 60) == IN
    w.put(f.K_EXIT, 70, pid=101, tid=101)
    w.proc(101, 100, 71, start=30, cg=DOCKER, state="Z")
    assert w.model.processes[101].end == 70 * MS
    assert not w.model.exits.suspended


@pytest.mark.parametrize("hello", [HEARD, BARE])
def test_an_answer_from_before_the_exit_does_not_say_that_it_was_none(hello: dict[str, Any]) -> None:
    """/proc was read while the process lived; the answer comes behind the EXIT."""
    w = World(**hello)
    w.fork(1, 100, 10, pid=77)
    first = w.who(100, 30)
    w.put(f.K_EXIT, 40, pid=100, tid=100)
    w.proc(100, 1, 39, start=10)
    if hello is HEARD:
        w.put(f.K_EXIT, 40.1, source=f.S_CN, pid=100, tid=100)
    else:
        gone(w, 100, 41)
    assert w.model.processes[100].end == 40 * MS
    assert not w.model.exits.suspended
    w.fork(1, 200, 50, pid=77)
    assert w.who(200, 70) not in (None, "?", first), "that inode is another namespace's"


def test_who_lives_after_all_is_asked_about_again_where_it_is_not_known() -> None:
    """The first of a sandbox may have been moved before its exec, and is asked about; that answer came behind the EXIT,
    and from before it."""
    w = World(**HEARD)
    w.fork(1, 100, 10, pid=77)
    sandbox = w.who(100, 20)
    w.put(f.K_COMM, 40, pid=100, tid=100, arg=1, payload=b"su\0")
    w.put(f.K_EXIT, 40.2, pid=100, tid=100)
    w.proc(100, 1, 40.1, start=10, ns={**INITIAL_INODES_618, "pid": 77})
    w.model.queries.clear()
    w.put(f.K_EXEC, 40.3, source=f.S_CN, pid=100, tid=100)
    assert w.who(100, 60) == "?"
    assert [query.what for query in w.model.queries if query.pid == 100] == ["proc"]
    w.proc(100, 1, 41, start=10, ns={**INITIAL_INODES_618, "pid": 77})
    assert w.who(100, 60) == sandbox


def test_an_answer_about_a_former_holder_of_a_number_brings_nobody_back() -> None:
    """It was read before the number was given anew, and the new holder has ended as well."""
    w = shell()
    w.exit(101, 40)
    w.fork(1, 101, 200)
    w.exit(101, 210)
    w.proc(101, 100, 39, start=30, cg=DOCKER)
    assert w.model.alive(101) is None
    assert (w.who(101, 205), w.who(101, 250)) == (None, "?")


def test_the_namespaces_of_a_process_that_may_have_ended_may_be_anothers() -> None:
    w = World(**BARE)
    w.fork(1, 100, 10, pid=77)
    first = w.who(100, 30)
    w.put(f.K_EXIT, 40, pid=100, tid=100)
    w.fork(1, 200, 50, pid=77)
    assert w.who(200, 70) not in (None, "?", first)


def test_a_process_alone_in_its_sandbox_goes_on_there() -> None:
    for hello in (HEARD, BARE):
        w = World(lifecycle=True, **hello)
        w.fork(1, 100, 10, pid=77)
        inside = w.who(100, 30)
        w.model.outputs.clear()
        exec_su(w, 100, 40)
        w.proc(100, 1, 45, start=10, ns={**INITIAL_INODES_618, "pid": 77})  # no event says that it was not moved before
        w.fork(100, 101, 50)
        assert w.who(101, 70) == w.who(100, 70) == inside
        assert not w.model.outputs, "the namespace was never left"


def test_the_last_process_of_a_namespace_is_told_when_its_end_is() -> None:
    w = World(lifecycle=True, **HEARD)
    w.fork(1, 100, 10, pid=77)
    w.model.outputs.clear()
    w.put(f.K_EXIT, 40, pid=100, tid=100)
    assert not w.model.outputs
    w.put(f.K_EXIT, 41, source=f.S_CN, pid=100, tid=100)
    assert [(type(output).__name__, output.time) for output in w.model.outputs] == [("NsLeft", 40 * MS)]


def test_a_thread_that_runs_a_set_user_id_program_becomes_the_leader() -> None:
    w = shell()
    w.thread(101, 500, 31)
    w.exit(101, 40, tid=101)
    w.changes_user(101, 41, old=500)
    process = w.model.processes[101]
    assert (process.end, process.threads, process.leader_gone) == (None, None, False)
    assert w.who(101, 60) == w.who_exec(101, 40.5, "/bin/su") == IN
    w.exit(101, 70)
    assert process.end == 70 * MS


@pytest.mark.parametrize("hello", [HEARD, BARE])
def test_the_same_without_tracepoints(hello: dict[str, Any]) -> None:
    w = shell(**hello)
    w.thread(101, 500, 31)
    leave(w, 101, 40)
    exec_su(w, 101, 41)
    w.put(f.K_COMM, 50, pid=101, tid=101, payload=b"x\0")
    process = w.model.processes[101]
    assert (process.end, process.threads) == (None, None)
    assert w.who(101, 60) == IN
    leave(w, 101, 70)
    assert process.end == 70 * MS


def test_a_registration_and_a_login_stay() -> None:
    w = World()
    w.fork(1, 100, 10)
    w.fork(1, 90, 11)
    asked = {"op": "set", "start": 10 * MS, "id": "5", "caller": {"pid": 90, "start": 11 * MS, "privileged": True}}
    w.put(f.K_REGISTER, 20, f.S_CONTROL, pid=100, payload=json.dumps(asked).encode())
    registered = w.model.processes[100].registered
    assert registered is not None
    w.put(f.K_LOGIN, 21, f.S_CONTROL, pid=100, arg=1000)
    w.changes_user(100, 40)
    w.fork(100, 101, 50)
    for pid in (100, 101):
        process = w.model.processes[pid]
        assert process.registered is registered
        assert process.state.login is not None
        assert process.state.login.uid == 1000
    assert w.who(101, 70) == "5"


def test_an_exit_whose_sample_was_raised_before_perf_was_on_is_asked_about() -> None:
    w = World()
    w.proc(100, 1, 5, cg=DOCKER)
    w.put(f.K_EXIT, 40, pid=100, tid=100)
    assert w.who(100, 60) == IN
    assert [query.what for query in w.model.queries if query.pid == 100] == ["alive"]
    gone(w, 100, 41)
    assert w.model.processes[100].end == 41 * MS


def test_the_number_of_a_process_that_is_gone_may_be_another_ones() -> None:
    w = World()
    w.fork(1, 100, 10)
    gone(w, 100, 5)  # this was before it began
    assert w.who(100, 30) is None
    gone(w, 4711, 50)
    assert 4711 not in w.model.processes


def test_a_sample_is_the_proof_of_one_exit_only() -> None:
    w = shell()
    w.put(f.K_EXIT_SAMPLE, 40, pid=101, tid=101)
    w.fork(100, 101, 50)  # the EXIT is missing
    w.changes_user(101, 60)
    process: Process = w.model.processes[101]
    assert (process.start, process.end) == (50 * MS, None)


def shown(w: World, *steps: tuple[int, float, int, int], **options: Any) -> list[str]:
    """The exit lines of frames (kind, ms, pid, source)."""
    events = EventWriter(w.model, types=["exit"], **options)
    out = b""
    for kind, at, pid, source in steps:
        frame = f.pack(kind, source, int(at * MS), pid=pid, tid=pid, ppid=100, ptid=100)
        events.frames(frame)
        w.model.apply(frame)
        out += events.tell(())
    return out.decode().splitlines()


FALSE = ((f.K_COMM, 40, 101, f.S_PERF), (f.K_EXIT, 41, 101, f.S_PERF))
SAMPLED = ((f.K_EXIT_SAMPLE, 60, 101, f.S_PERF), (f.K_EXIT, 61, 101, f.S_PERF))
BY_CONNECTOR = ((f.K_EXEC, 42, 101, f.S_CN), (f.K_EXIT, 61, 101, f.S_PERF), (f.K_EXIT, 62, 101, f.S_CN))


def test_no_exit_is_shown_that_is_none() -> None:
    assert shown(shell(), *FALSE, (f.K_EXEC, 42, 101, f.S_PERF), *SAMPLED) == ["exit: pid=101"]
    for first in (True, False):
        assert shown(shell(**HEARD), *FALSE, *BY_CONNECTOR, connector_first=first) == ["exit: pid=101"]
    both = {"features": ["exec_sample", "exit_sample"], "connector": True}
    assert shown(shell(**both), *FALSE, BY_CONNECTOR[0], *SAMPLED, BY_CONNECTOR[2]) == ["exit: pid=101"]
    assert shown(shell(**both), *FALSE, *SAMPLED, BY_CONNECTOR[2], connector_first=True) == ["exit: pid=101"]
    acts = (f.K_COMM, 50, 101, f.S_PERF)
    assert shown(shell(**BARE), *FALSE, acts) == []
    again = (f.K_FORK, 70, 101, f.S_PERF)
    assert shown(shell(**BARE), *FALSE, acts, (f.K_EXIT, 61, 101, f.S_PERF), again) == ["exit: pid=101"]


def test_an_exit_without_proof_is_shown_when_proc_tells_of_it() -> None:
    w = shell(**BARE)
    events = EventWriter(w.model, types=["exit"])
    frame = f.pack(f.K_EXIT, f.S_PERF, 40 * MS, pid=101, tid=101)
    events.frames(frame)
    w.model.apply(frame)
    assert events.tell(()) == b""
    gone(w, 101, 41)
    assert events.tell(()) == b"exit: pid=101\n"
