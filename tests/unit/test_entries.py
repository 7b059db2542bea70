"""Who came into a container from outside: when an entry begins, what it is of, and when it is over."""

import json
import re
from array import array
from collections.abc import Iterator
from typing import Any

import pytest

from auditns_connector.attribution.attributor import Correlator
from auditns_connector.attribution.entry_fields import entry_fields, entry_object
from auditns_connector.audittext.scanner import TextStream
from auditns_connector.host.audit_logins import login_frames, session_frames
from auditns_connector.model import logins
from auditns_connector.model.apply.perf import CLONE_INTO_CGROUP
from auditns_connector.model.apply.restore_requests import checked, requests_of
from auditns_connector.model.entry import Entry
from auditns_connector.model.logins import recorded, scanned
from auditns_connector.model.outputs import ContainerInfo
from auditns_connector.pipeline.text_stage import Enricher
from auditns_connector.vocabulary import frames as f
from tests.unit.world import HEX, MS, REAL, World

BOOT = "58157936-ee0c-42ce-be19-18e22c379ded"
PATH = f"/docker/{HEX}"
OTHER = f"/docker/{HEX[::-1]}"
UNSET = 4294967295


def world(**more: Any) -> World:
    """sshd (50), the shell of somebody who logged in (60), and a daemon (70)."""
    w = World(boot_id=BOOT, **more)
    w.proc(50, 1, start=0, comm="sshd", cg="/system.slice/ssh.service", loginuid=UNSET, sessionid=UNSET)
    w.fork(50, 60, 100)
    login(w, 60, 110, 1000, 3)
    w.attach(60, "/user.slice/user-1000.slice/session-3.scope", 120)
    w.exec(60, 130, "/bin/bash")
    w.proc(70, 1, start=0, comm="containerd", cg="/system.slice/containerd.service", loginuid=UNSET, sessionid=UNSET)
    return w


def login(w: World, pid: int, at: float, auid: int, ses: int, serial: int = 77) -> None:
    block = recorded(pid, auid, ses, int(at * MS), ((REAL + int(at * MS)) // MS, serial))
    w.log.append(block)
    w.model.apply(block)


def container(w: World, pid: int, at: float, path: str = PATH, parent: int = 70, ino: int = 901) -> None:
    """As runc makes one: stage 0 (``pid``) is moved, and its child ``pid`` + 1 is the first of a pid namespace."""
    w.fork(parent, pid, at)
    w.attach(pid, path, at + 1)
    w.fork(pid, pid + 1, at + 2, pid=ino, mnt=ino + 1)
    w.exec(pid + 1, at + 3, "/bin/init")


def joins(w: World, pid: int, at: float, **namespaces: int) -> None:
    """setns(2)."""
    w.put(f.K_SETNS, at - 0.5, pid=pid, tid=pid, arg=0x20000)
    w.unshare(pid, at, **namespaces)


def entry(w: World, pid: int) -> Entry | None:
    return w.model.processes[pid].state.entry


def begun(w: World) -> list[Entry]:
    """The entries that were told since the last call."""
    outputs, w.model.outputs = w.model.outputs, []
    told = [output.state.entry for output in outputs if isinstance(output, ContainerInfo) and output.reason == "entry"]
    return [one for one in told if one is not None]


def fields(w: World, one: Entry | None) -> dict[str, str]:
    assert one is not None
    return dict(word.partition("=")[::2] for word in entry_fields(w.model, one).split())


def test_whoever_makes_a_container_does_not_enter_it() -> None:
    w = world()
    container(w, 200, 200)
    w.fork(201, 210, 210)
    assert begun(w) == []
    assert [entry(w, pid) for pid in (200, 201, 210)] == [None] * 3


def test_nsenter_begins_an_entry_and_its_children_are_of_it() -> None:
    w = world()
    container(w, 200, 200)
    w.fork(60, 300, 300)
    w.exec(300, 301, "/usr/bin/nsenter")
    joins(w, 300, 302, mnt=902)
    w.fork(300, 301, 303, pid=901, mnt=902)
    w.exec(301, 304, "/bin/sh")
    (one,) = begun(w)
    assert entry(w, 300) is entry(w, 301) is one
    assert fields(w, one) == {
        "entry": f"{BOOT.replace('-', '')}:300:300000000", "entry-how": "setns", "entry-time": "1700000000.302",
        "entry-pid": "300", "entry-start": "300000000", "entry-comm": '"nsenter"', "entry-exe": '"/usr/bin/nsenter"',
        "entry-auid": "1000", "entry-ses": "3", "entry-login": "1700000000.110:77", "entry-from": "session",
        "entry-unit": '"session-3.scope"', "entry-parents": '"60:100000000:bash:/bin/bash"',
    }  # fmt: skip
    assert entry(w, 201) is None, "who was there is of none"
    w.fork(301, 310, 320)
    assert entry(w, 310) is one


def test_a_runtimes_exec_begins_one_by_its_cgroup_and_ends_at_the_daemon() -> None:
    w = world()
    container(w, 200, 200)
    w.fork(70, 80, 250)  # the shim
    w.exec(80, 251, "/usr/bin/containerd-shim-runc-v2")
    w.fork(80, 300, 300)
    w.exec(300, 301, "/usr/bin/runc")
    w.fork(300, 301, 302)
    w.attach(301, PATH, 303)
    joins(w, 301, 304, mnt=902)
    w.fork(301, 302, 305, pid=901, mnt=902)
    (one,) = begun(w)
    assert entry(w, 301) is entry(w, 302) is one
    told = fields(w, one)
    assert (told["entry-how"], told["entry-pid"], told["entry-from"]) == ("cgroup", "301", "daemon")
    assert (told["entry-auid"], told["entry-unit"]) == (str(UNSET), '"containerd.service"')
    assert [parent and parent.pid for parent in one.parents] == [300, 80, 70]


def test_born_into_its_cgroup() -> None:
    w = world()
    container(w, 200, 200)
    w.fork(60, 300, 300)
    w.put(f.K_NEWTASK, 300, tid=300, arg=0x2_0000_0000)
    assert entry(w, 300) is None
    w.exec(300, 310, "/bin/x", cgroup=next(number for number, path in w.cgroups.items() if path == PATH))
    (one,) = begun(w)
    assert (one.how, one.who.pid, one.time) == ("clone", 300, 300 * MS)


def test_a_write_to_its_cgroup() -> None:
    w = world()
    container(w, 200, 200)
    w.attach(60, PATH, 300)
    (one,) = begun(w)
    assert (one.how, one.who.pid, entry(w, 60)) == ("cgroup", 60, one)
    w.attach(60, "/", 310)
    assert entry(w, 60) is None, "who leaves the container leaves the entry"
    w.fork(60, 61, 320)
    assert entry(w, 61) is None


def test_a_container_whose_last_process_is_gone_is_made_anew() -> None:
    w = world()
    container(w, 200, 200)
    w.exit(201, 210)
    w.exit(200, 211)
    w.fork(70, 300, 300)
    w.attach(300, PATH, 301)
    assert begun(w) == []


def test_a_sandbox_that_is_called_by_its_cgroup_afterwards() -> None:
    """crun: the first process is made, and moved only then."""
    w = world()
    w.fork(70, 200, 200, pid=901)
    w.fork(200, 201, 201)
    w.attach(200, PATH, 202)
    w.attach(201, PATH, 203)
    assert begun(w) == []


def test_one_that_nests_keeps_the_outer_one() -> None:
    w = world()
    container(w, 200, 200)
    w.attach(60, PATH, 300)
    w.fork(201, 210, 310, pid=911, mnt=912)  # a container inside
    w.attach(210, f"{PATH}/docker/{HEX[::-1]}", 311)
    inner = w.model.processes[210].state.container
    assert inner is not None
    assert inner.parent is not None
    (outer,) = begun(w)
    w.fork(60, 61, 320)
    w.attach(61, f"{PATH}/docker/{HEX[::-1]}", 321)
    (one,) = begun(w)
    assert (one.container, one.outer) == (inner, outer)
    assert fields(w, one)["entry-outer"] == outer.id
    w.attach(61, PATH, 330)
    assert entry(w, 61) is outer, "back outside it is of the outer one still"


def test_from_one_container_into_another_the_first_is_remembered() -> None:
    w = world()
    container(w, 200, 200)
    container(w, 220, 220, OTHER, ino=911)
    w.attach(60, PATH, 300)
    w.attach(60, OTHER, 310)
    first, second = begun(w)
    assert (second.outer, entry(w, 60)) == (first, second)


def test_who_goes_to_and_fro_is_not_remembered_without_end() -> None:
    w = world()
    container(w, 200, 200)
    container(w, 220, 220, OTHER, ino=911)
    for i in range(100):
        w.attach(60, (PATH, OTHER)[i % 2], 300 + i)
    told = begun(w)
    assert len(told) == 100
    assert max(len(list(one.around())) for one in told) <= 17
    assert all(list(one.around())[-1] is told[0] for one in told[1:]), "the first one is among them always"


def test_a_container_made_in_an_entry_is_of_it() -> None:
    w = world()
    container(w, 200, 200)
    w.attach(60, PATH, 300)
    w.fork(60, 61, 310, pid=921, mnt=922)
    w.attach(61, f"{PATH}/docker/{HEX[::-1]}", 311)
    (one,) = begun(w)
    assert entry(w, 61) is one


def test_registration_is_no_entry() -> None:
    w = world()
    container(w, 200, 200)
    w.fork(201, 210, 210)
    caller = {"pid": 50, "start": 0, "privileged": True}
    request = {"op": "set", "start": 202 * MS, "id": "4711", "caller": caller, "hook": True, "audit": True, "names": {}}
    w.put(f.K_REGISTER, 220, f.S_CONTROL, pid=201, payload=json.dumps(request).encode())
    assert w.model.registry.last.error == ""
    assert w.who(210, 300) == "4711"
    assert begun(w) == []
    w.attach(60, PATH, 300)
    joins(w, 60, 301, mnt=902)
    assert [one.who.pid for one in begun(w)] == [60]


def test_a_move_between_cgroups_of_a_container_is_none() -> None:
    w = world()
    container(w, 200, 200)
    w.fork(201, 210, 210)
    w.attach(210, f"{PATH}/inner", 211)
    assert begun(w) == []


def test_who_was_in_before_we_looked_is_told_where_its_namespace_proves_it() -> None:
    w = world()
    inner = {"pid": 901, "mnt": 902}
    ns = {**w.model.namespaces.initial_inodes, **inner}
    w.proc(200, 70, start=10, comm="init", ns=ns, cg=PATH, nspid=[200, 1], loginuid=UNSET, sessionid=UNSET)
    w.proc(201, 200, start=11, comm="child", ns=ns, cg=PATH, nspid=[201, 2], loginuid=UNSET, sessionid=UNSET)
    w.proc(300, 60, start=12, comm="sh", ns=ns, cg=PATH, nspid=[300, 9], loginuid=1000, sessionid=3)
    w.proc(301, 300, start=13, comm="ls", ns=ns, cg=PATH, nspid=[301, 10], loginuid=1000, sessionid=3)
    (one,) = begun(w)
    assert entry(w, 300) is entry(w, 301) is one
    assert (entry(w, 200), entry(w, 201)) == (None, None)
    told = fields(w, one)
    assert (told["entry-how"], told["entry-time"], told["entry-auid"]) == ("?", "?", "1000")
    assert told["entry-login"] == "1700000000.110:77", "the record that told of that session"


# -- whose it is


def test_children_have_their_parents_session() -> None:
    w = world()
    w.fork(60, 61, 200)
    w.fork(61, 62, 201)
    assert {w.model.processes[pid].state.session for pid in (60, 61, 62)} == {(1000, 3, "1700000000.110:77")}


def test_a_record_that_comes_late_is_of_those_born_since() -> None:
    """Records are read later than the kernel's events, and their stamps are up to a tick early."""
    w = World()
    w.proc(50, 1, start=0, loginuid=UNSET, sessionid=UNSET)
    for at in (100, 205, 250):
        w.fork(50, at, at)
    login(w, 50, 200, 1000, 3)
    sessions = [w.model.processes[pid].state.session for pid in (100, 205, 250)]
    assert [one and one[:2] for one in sessions] == [(UNSET, UNSET), None, (1000, 3)]
    assert 205 in [query.pid for query in w.model.queries], "of that one /proc is asked"
    w.proc(205, 50, at=300, start=205, loginuid=1000, sessionid=3)
    assert w.model.processes[205].state.session == (1000, 3, "1700000000.200:77")


def test_a_login_that_is_known_after_the_entry_puts_it_right() -> None:
    """The kernel's events are read before the text: who has just logged in may have entered by then."""
    w = world()
    container(w, 200, 200)
    w.fork(50, 90, 300)
    w.fork(90, 91, 340)
    w.attach(91, PATH, 350)
    (one,) = begun(w)
    assert (one.session, one.came_from) == ((UNSET, UNSET, "procfs"), "daemon")
    login(w, 90, 310, 1001, 9, serial=80)
    assert one.session == (1001, 9, "1700000000.310:80")
    assert one.came_from == "session"
    assert [parent and parent.pid for parent in one.parents] == [90]
    assert begun(w) == [one], "it is told again"


def test_a_child_within_the_tick_is_of_the_record_when_proc_shows_the_same_session() -> None:
    w = world()
    container(w, 200, 200)
    w.fork(50, 90, 300)
    w.fork(90, 91, 312)
    w.attach(91, PATH, 350)
    (one,) = begun(w)
    login(w, 90, 310, 1001, 9, serial=80)
    assert one.session is None, "not the old one, and the new one is not sure"
    w.proc(91, 90, at=360, start=312, cg=PATH, loginuid=1001, sessionid=9)
    assert one.session == (1001, 9, "1700000000.310:80")


def answered(w: World, *lines: str) -> None:
    """These SYSCALL records ("at serial pid auid ses") are about to be answered."""
    text = [
        f"type=SYSCALL msg=audit({(REAL // MS + at) / 1000:.3f}:{serial}): arch=c000003e syscall=59 success=yes exit=0 "
        f'ppid=1 pid={pid} auid={auid} uid=0 gid=0 tty=(none) ses={ses} comm="x" exe="/x" key=(null)\n'
        for at, serial, pid, auid, ses in (map(int, line.split()) for line in lines)
    ]
    points = text_points("".join(text).encode(), False)[1]
    w.model.apply(session_frames(points, w.model, w.model.now, ()))


@pytest.mark.parametrize("ended", [False, True])
@pytest.mark.parametrize("session", [(1001, 9), (UNSET, UNSET)])
def test_a_child_within_the_tick_is_of_the_session_that_its_next_record_names(
    ended: bool, session: tuple[int, int]
) -> None:
    w = world()
    container(w, 200, 200)
    w.fork(50, 90, 300)
    w.fork(90, 91, 312)
    w.attach(91, PATH, 350)
    (one,) = begun(w)
    login(w, 90, 310, 1001, 9, serial=80)
    if ended:
        w.exit(91, 352)
    answered(w, "351 81 90 1001 9")
    assert one.session is None, "that is another process"
    answered(w, f"351 82 91 {session[0]} {session[1]}")
    assert one.session is not None
    assert one.session[:2] == session
    assert not w.model.logins.unsure
    assert begun(w) == [one]


def test_a_record_that_an_earlier_holder_of_the_pid_may_have_made_says_nothing_of_the_session() -> None:
    w = world()
    container(w, 200, 200)
    w.fork(50, 90, 300)
    w.fork(1, 91, 301)
    w.exit(91, 311)
    w.fork(90, 91, 312)
    w.attach(91, PATH, 350)
    (one,) = begun(w)
    login(w, 90, 310, 1001, 9, serial=80)
    answered(w, "310 81 91 1001 9")
    assert one.session is None


def test_parents_of_the_session_are_known_as_soon_as_theirs_is() -> None:
    """One between the login and who enters was born within the tick, he himself was not."""
    w = world()
    container(w, 200, 200)
    w.fork(50, 90, 300)
    w.fork(90, 91, 312)
    w.fork(91, 92, 340)
    w.attach(92, PATH, 350)
    (one,) = begun(w)
    login(w, 90, 310, 1001, 9, serial=80)
    assert one.session == (1001, 9, "1700000000.310:80")
    assert [parent and parent.pid for parent in one.parents] == []
    answered(w, "345 82 91 1001 9")
    assert [parent and parent.pid for parent in one.parents] == [91, 90]
    assert begun(w) == [one, one], "each time that more is known; what waits for text is told once"


def test_who_descends_from_one_whose_session_is_open_has_it_as_soon_as_it_is_known() -> None:
    """Born, and gone in, between the LOGIN record and the record that names the session of the one above."""
    w = world()
    container(w, 200, 200)
    w.fork(50, 90, 300)
    w.fork(90, 91, 312)
    login(w, 90, 310, 1001, 9, serial=80)
    w.fork(91, 92, 340)
    w.fork(92, 93, 341)
    w.fork(91, 94, 342)
    login(w, 94, 349, 1002, 10, serial=81)
    w.attach(92, PATH, 350)
    w.fork(92, 95, 351)
    (one,) = begun(w)
    assert one.session is None
    answered(w, "352 82 91 1001 9")
    assert one.session == (1001, 9, "1700000000.310:80")
    assert one.came_from == "session"
    assert [parent and parent.pid for parent in one.parents] == [91, 90]
    for pid, auid in ((92, 1001), (93, 1001), (95, 1001), (94, 1002)):
        session = w.model.processes[pid].state.session
        assert session is not None
        assert session.auid == auid
    assert [state.session and state.session.auid for state in w.model.processes[94].past or ()] == [1001]


def into_cgroup(w: World, parent: int, pid: int, at: float) -> None:
    """CLONE_INTO_CGROUP, which tells no path."""
    w.fork(parent, pid, at)
    w.put(f.K_NEWTASK, at, tid=pid, arg=CLONE_INTO_CGROUP)


@pytest.mark.parametrize("first", ["its child", "itself"])
def test_who_descends_from_one_born_into_a_container_is_of_its_entry(first: str) -> None:
    """Where it was born is known only from a sample of its own, or from /proc, and it may have children by then."""
    w = world()
    container(w, 200, 200)
    w.put(f.K_CGROUP, 205, cgroup=77, payload=PATH.encode() + b"\0")
    w.put(f.K_CGROUP, 206, cgroup=78, payload=OTHER.encode() + b"\0")
    into_cgroup(w, 60, 300, 300)
    w.fork(300, 301, 301)
    w.fork(300, 302, 302)
    into_cgroup(w, 300, 303, 303)
    w.fork(301, 304, 304)
    assert begun(w) == []
    assert {("proc", pid) for pid in (300, 301, 302, 303, 304)} <= {
        (query.what, query.pid) for query in w.model.queries
    }
    samples = [(301, 77), (303, 78), (300, 77)] if first == "its child" else [(300, 77), (301, 77), (303, 78)]
    for at, (pid, cgroup) in enumerate(samples):
        w.exec(pid, 310 + at, "/bin/true", cgroup=cgroup)
    (one,) = begun(w)
    assert one.who[:2] == (300, 300 * MS)
    assert one.how == "clone"
    assert one.session is not None
    assert [entry(w, pid) for pid in (300, 301)] == [one, one]
    assert [exec_.state.entry for exec_ in w.model.processes[301].execs or ()] == [one]
    assert entry(w, 303) is None, "the first of a container of its own"
    w.proc(302, 300, start=302, cg=PATH, at=320)
    w.exit(301, 321)
    w.exec(304, 322, "/bin/true", cgroup=77)
    assert [entry(w, pid) for pid in (302, 304)] == [one, one]
    assert begun(w) == []


def test_so_many_open_sessions_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logins, "_MOST_UNSURE", 3)
    w = world()
    w.fork(50, 90, 300)
    for pid in range(91, 99):
        w.fork(90, pid, 311 + pid / 1000)
    login(w, 90, 310, 1001, 9, serial=80)
    assert sorted(w.model.logins.unsure) == [96, 97, 98]
    assert w.model.needs_python_loop()
    w.model.expire(311 * MS + 97_000)
    assert sorted(w.model.logins.unsure) == [97, 98]


def test_whose_session_is_open_and_who_is_gone_without_an_entry_is_not_waited_for() -> None:
    w = world()
    w.fork(50, 90, 300)
    w.fork(90, 91, 311)
    w.exit(91, 313)
    login(w, 90, 310, 1001, 9, serial=80)
    assert not w.model.logins.unsure


def test_a_second_login_is_another_session() -> None:
    w = world()
    container(w, 200, 200)
    login(w, 60, 300, 0, 9, serial=99)
    w.attach(60, PATH, 310)
    (one,) = begun(w)
    assert (one.session, w.state(60, 250).session) == ((0, 9, "1700000000.300:99"), (1000, 3, "1700000000.110:77"))


def test_what_a_scan_shows_is_taken_where_nothing_is_known_and_corrects_what_was_missed() -> None:
    w = World()
    w.proc(50, 1, start=0)
    assert w.model.processes[50].state.session is None
    for auid in (1000, 0):
        w.model.apply(scanned([(50, auid, 3), (4711, 1, 1), (0, 2, 2), (-1, 3, 3)], w.now))
        assert w.model.processes[50].state.session == (auid, 3, "procfs")


def text_points(lines: bytes, whole: bool = False) -> Any:
    stream = TextStream(whole=whole)
    stream.put(lines)
    points = stream.flush(eof=True)
    return stream, points


LOGIN = (
    b"type=LOGIN msg=audit(1700000000.200:5): pid=50 uid=0 subj=unconfined old-auid=4294967295 auid=1000 tty=(none)"
    b" old-ses=4294967295 ses=3 res=1"
)
SYSCALL = b"type=SYSCALL msg=audit(1700000000.200:5): arch=c000003e syscall=1 success=yes exit=4 pid=50 comm=x\n"


@pytest.mark.parametrize("whole", [False, True])
def test_login_records_are_read_from_the_text(whole: bool) -> None:
    w = World()
    w.proc(50, 1, start=0, loginuid=UNSET, sessionid=UNSET)
    other = LOGIN.replace(b"type=LOGIN", b"type=UNKNOWN[1006]").replace(b"ses=3", b"ses=4")
    lines = [
        LOGIN,
        b"node=elsewhere " + LOGIN.replace(b":5)", b":6)"),
        LOGIN.replace(b":5)", b":7)")[:-1] + b"0",
        LOGIN.replace(b":5)", b":8)").replace(b"pid=50", b"pid=99999999999"),
        other.replace(b":5)", b":9)") + b"\x1dAUID=x",
        b"type=USER_LOGIN msg=audit(1700000000.200:10): pid=50 msg='type=LOGIN msg=audit(1.000:1): pid=1 uid=0'",
    ]
    stream, points = text_points(b"".join(line + b"\n" for line in lines), whole)
    assert stream.logins == 5
    block, count = login_frames(points, w.model.clock, 300 * MS, {b"here"})
    assert count == 5
    found = list(f.iter_frames(block))
    assert [(frame.pid, frame.arg, frame.cgroup) for frame in found] == [
        (50, 1_700_000_000_200, 5), (50, 1_700_000_000_200, 9),
    ]  # fmt: skip
    w.model.apply(block)
    assert w.model.processes[50].state.session == (1000, 4, "1700000000.200:9")


def test_a_login_whose_event_has_not_ended_is_read_at_once() -> None:
    """It has no EOE where no rule audits the write; what comes behind it is answered before it."""
    w = World()
    stream = TextStream(whole=True)
    stream.put(LOGIN + b"\n")
    points = stream.part()
    assert (points.line_n, stream.logins) == (0, 1)
    block, count = login_frames(points, w.model.clock, 300 * MS, (), stream.held())
    assert (count, len(list(f.iter_frames(block)))) == (1, 1)


# -- what is said of it


def enriched(w: World, name: str, pid: int, at: int, **more: Any) -> str:
    correlator = Correlator(w.model, spellings=(False,), **more)
    enricher = Enricher(correlator, [name])
    stream = enricher.stream = TextStream(whole=enricher.whole)
    ms = (REAL + at * MS) // MS
    line = f"type=SYSCALL msg=audit({ms // 1000}.{ms % 1000:03d}:9): arch=c000003e syscall=2 pid={pid} comm=x\n"
    stream.put(line.encode())
    points = stream.flush(eof=True)

    def answer(points: Any) -> "array[int]":
        return correlator.answer(points, w.now)

    return bytes(enricher.take(points, answer)[name]).decode()


def entered() -> Iterator[World]:
    w = world()
    container(w, 200, 200)
    w.attach(60, PATH, 300)
    w.fork(60, 61, 310)
    w.exec(61, 320)
    w.fork(1, 2, 900)
    yield w


@pytest.mark.parametrize("info", [False, True])
def test_every_event_of_it_says_so_whatever_info_is(info: bool) -> None:
    (w,) = entered()
    told = entry_fields(w.model, begun(w)[0])
    for pid in (60, 61):
        lines = enriched(w, "raw", pid, 500, info=info).splitlines()
        assert lines[-1].startswith("type=CONTAINER_INFO msg=audit(1700000000.500:9): contid=")
        assert lines[-1].endswith(told)
        assert ("origin=" in lines[-1]) is info
    assert "entry=" not in enriched(w, "raw", 201, 500, info=info)
    assert "entry=" not in enriched(w, "raw", 60, 250, info=info), "before it came in"


def test_json_has_it_as_an_object() -> None:
    (w,) = entered()
    (one,) = begun(w)
    event = json.loads(enriched(w, "json", 61, 500))
    assert event["entry"] == json.loads(json.dumps(entry_object(w.model, one)))
    assert event["entry"]["id"] == f"{BOOT.replace('-', '')}:60:100000000"
    assert (event["entry"]["auid"], event["entry"]["how"], event["entry"]["from"]) == (1000, "cgroup", "session")
    assert "entry" not in json.loads(enriched(w, "json", 201, 500))


def test_what_a_user_calls_his_processes_ends_no_field() -> None:
    w = world()
    container(w, 200, 200)
    w.put(f.K_COMM, 210, pid=60, tid=60, payload=b'a,b:c "=\n\xff\0')
    w.fork(60, 61, 220)
    w.attach(61, PATH, 300)
    told = fields(w, begun(w)[0])
    assert told["entry-comm"] == b'a,b:c "=\n\xff'.hex().upper()
    assert told["entry-parents"] == '"60:100000000:a%2Cb%3Ac%20%22%3D%0A%FF:/bin/bash"'


def test_a_replay_finds_the_same() -> None:
    (w,) = entered()
    again = World(boot_id=BOOT)
    again.model = type(w.model)()
    for frame in w.log:
        again.model.apply(frame)
    again.now = w.now
    assert enriched(again, "json", 61, 500) == enriched(w, "json", 61, 500)
    assert re.search(r'"entry":', enriched(again, "json", 61, 500))


# -- over a restart, and at the head of a rotated journal


def again(w: World, at: float, pids: list[int]) -> World:
    """The next run: /proc shows these processes, and the former run's requests are put back."""
    found = World(boot_id=BOOT)
    initial = w.model.namespaces.initial_inodes
    for pid in pids:
        one = w.model.processes[pid]
        nsset = one.state.nsset
        assert nsset is not None
        ns = {**initial, **{inst.type: inst.ino for inst in nsset.inst if inst is not None and not inst.initial}}
        paths = dict(one.cgroups.paths) if one.cgroups is not None else {}
        session = one.state.session
        found.proc(
            pid, one.creator[0] if one.creator else 0, at=at, start=one.start // MS // 10 * 10, comm=one.comm.decode(),
            ns=ns, cg=paths.get(0, "/"), nspid=[pid] if ns["pid"] == initial["pid"] else [pid, pid - 199],
            loginuid=session.auid if session else UNSET, sessionid=session.ses if session else UNSET,
        )  # fmt: skip
    for request in requests_of(w.model, w.now):
        checked(json.loads(json.dumps(request)))
        found.put(f.K_REGISTER, at + 1, f.S_CONTROL, payload=json.dumps(request).encode())
    return found


def test_an_entry_outlasts_a_restart() -> None:
    w = world()
    container(w, 200, 200)
    w.fork(60, 300, 300)
    w.exec(300, 301, "/usr/bin/nsenter")
    joins(w, 300, 302, mnt=902)
    w.fork(300, 301, 303, pid=901, mnt=902)
    w.fork(301, 302, 5000, pid=901, mnt=902)
    (one,) = begun(w)
    then = again(w, 6000, [50, 70, 60, 200, 201, 300, 301, 302])
    for pid in (301, 302):
        restored = entry(then, pid)
        assert restored is not None
        assert restored.id == one.id
        assert entry_fields(then.model, restored) == entry_fields(w.model, one)
    assert entry(then, 201) is None
    assert begun(then) == [], "it is not told once more"
    assert then.model.processes[301].state.session == (1000, 3, "1700000000.110:77")
    then.fork(302, 303, 6100)
    assert entry(then, 303) is entry(then, 302)


def test_putting_back_what_is_known_changes_nothing() -> None:
    w = world()
    container(w, 200, 200)
    w.attach(60, PATH, 300)
    w.fork(60, 61, 310)
    before = [entry(w, pid) for pid in (60, 61, 201)]
    for request in requests_of(w.model, w.now):
        w.put(f.K_REGISTER, 320, f.S_CONTROL, payload=json.dumps(request).encode())
    assert [entry(w, pid) for pid in (60, 61, 201)] == before
    assert w.model.processes[61].state.session == (1000, 3, "1700000000.110:77")


@pytest.mark.parametrize(
    "change",
    [
        {"entries": [{}]}, {"entries": 5}, {"of": [[1, 2, "nobody"]]}, {"of": [[-1, 0, "x"]]}, {"sessions": [[1, 2]]},
        {"sessions": [[1, 2, -1, 0, "x"]]}, {"sessions": [[1, 2, 0, 0, 7]]}, {"sessions": [[1, 2, True, 0, "x"]]},
    ],
)  # fmt: skip
def test_state_with_any_content_is_refused(change: dict[str, Any]) -> None:
    w = world()
    container(w, 200, 200)
    w.attach(60, PATH, 300)
    (request,) = [one for one in requests_of(w.model, w.now) if one["op"] == "entries"]
    request = json.loads(json.dumps(request))
    assert checked(request) == request
    with pytest.raises((ValueError, KeyError, TypeError, AttributeError)):
        checked({**request, **change})


@pytest.mark.parametrize("field", ["id", "key", "ns", "how", "time", "who", "session", "parents", "unit", "outer"])
@pytest.mark.parametrize("value", [5, "x", [1], {}, -1, True])
def test_damaged_entries_are_refused_or_understood(field: str, value: Any) -> None:
    w = world()
    container(w, 200, 200)
    w.attach(60, PATH, 300)
    (request,) = [one for one in requests_of(w.model, w.now) if one["op"] == "entries"]
    request = json.loads(json.dumps(request))
    request["entries"][0][field] = value
    try:
        checked(request)
    except (ValueError, KeyError, TypeError, AttributeError):
        return
    then = World(boot_id=BOOT)
    then.put(f.K_REGISTER, 10, f.S_CONTROL, payload=json.dumps(request).encode())
