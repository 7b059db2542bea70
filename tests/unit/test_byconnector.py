"""The table without perf: what the proc connector, PROC_EVENT_NM and /proc together allow to say."""

import json
from typing import Any

import pytest

from auditns_connector.model.outputs import NsChange
from auditns_connector.vocabulary import frames as f
from auditns_connector.vocabulary.namespaces import FLAGS, INDEX, INITIAL_INODES_618
from tests.unit.world import HEX, MS, World, contid

DOCKER = f"/docker/{HEX}"
CLONE, SET = 1, 2


class Cn(World):
    """A world told by the connector."""

    def __init__(self, source: str = "nm", **hello: Any) -> None:
        super().__init__(perf=False, ns_source=source, **hello)

    def put(self, kind: int, at: float | None = None, source: int = f.S_CN, **fields: Any) -> None:
        super().put(kind, at, f.S_PIPELINE if kind in (f.K_HELLO, f.K_CLOCK) else source, **fields)

    def born(self, parent: int, child: int, at: float) -> None:
        self.put(f.K_FORK, at, pid=child, tid=child, ppid=parent, ptid=parent)

    def nm(self, pid: int, reason: int, name: str, new: int, at: float, old: int = 0, tid: int = 0) -> None:
        payload = f.NM_PAYLOAD.pack(reason, 0, old or INITIAL_INODES_618[name], new)
        self.put(f.K_NM, at, pid=pid, tid=tid or pid, arg=FLAGS[name], payload=payload)

    def ran(self, pid: int, at: float) -> None:
        self.put(f.K_EXEC, at, pid=pid, tid=pid)

    def answer(self, who: int, ppid: int, at: float, start: float, /, cg: str = "/", **ns: int) -> None:
        self.proc(who, ppid, at, start=start, cg=cg, ns={**INITIAL_INODES_618, **ns})

    def ino(self, pid: int, name: str) -> int | None:
        nsset = self.model.processes[pid].state.nsset
        inst = nsset.inst[INDEX[name]] if nsset is not None else None
        return inst.ino if inst is not None else None

    def asked(self) -> set[int]:
        pids, self.model.queries = {query.pid for query in self.model.queries}, []
        return pids

    def later(self, at: float) -> None:
        self.put(f.K_SID, at, pid=1, tid=1)


def test_a_child_of_the_host_is_unknown_until_proc_answers_and_then_from_its_birth() -> None:
    w = Cn()
    w.born(1, 100, 1000)
    assert w.who(100, 1000) == "?"
    assert w.asked() == {100}
    w.answer(100, 1, 1002, 1000)
    assert w.who(100, 1000) is None
    assert w.state(100, 1000).origin == "procfs"


def test_an_exec_is_unknown_until_proc_answers_and_then_its_snapshot_is_right() -> None:
    w = Cn()
    w.born(1, 100, 1000)
    w.answer(100, 1, 1001, 1000)
    w.ran(100, 1010)  # meanwhile somebody moved it
    assert w.who(100, 1010.5) == "?"
    w.answer(100, 1, 1012, 1000, cg=DOCKER)
    assert w.who_exec(100, 1009) == contid(HEX)
    w.born(1, 101, 1020)
    w.answer(101, 1, 1021, 1020)
    w.ran(101, 1030)
    w.exit(101, 1031)
    assert w.who_exec(101, 1029) == "?"


def test_an_answer_read_before_the_exit_counts_one_before_the_exec_does_not() -> None:
    w = Cn()
    w.born(1, 100, 1000)
    w.ran(100, 1010)
    w.asked()
    w.answer(100, 1, 1005, 1000)
    assert w.asked() == {100}
    w.exit(100, 1020)
    w.answer(100, 1, 1015, 1000, cg=DOCKER)
    assert w.who_exec(100, 1009) == contid(HEX)


def test_a_child_of_a_container_is_of_the_container() -> None:
    w = Cn()
    w.answer(50, 1, 900, 500, cg=DOCKER)
    w.born(50, 100, 1000)
    w.ran(100, 1001)
    w.exit(100, 1002)
    assert w.who_exec(100, 1000) == contid(HEX)
    assert w.state(100, 1001).origin == "inherited"


def test_where_the_possible_creators_differ_only_proc_can_tell() -> None:
    """A child made with CLONE_PARENT looks like one of its parent's."""
    w = Cn()
    w.answer(50, 1, 900, 500, cg=DOCKER)
    w.answer(51, 50, 901, 600, cg=f"{DOCKER}/docker/{'f' * 64}")  # a nested one, child of 50
    w.born(50, 100, 1000)
    assert w.who(100, 1000) == "?"
    w.answer(100, 50, 1002, 1000, cg=DOCKER)
    assert w.who(100, 1000) == contid(HEX)
    w.exit(51, 1010)
    w.born(50, 101, 1020)
    assert w.who(101, 1020) == contid(HEX)


def test_an_orphan_may_be_anybodys_child_until_proc_has_told() -> None:
    w = Cn()
    w.answer(50, 1, 900, 500, cg=DOCKER)
    w.answer(60, 1, 900, 500)
    w.answer(61, 60, 900, 600)
    w.exit(60, 1000)
    assert 61 in w.asked()
    w.born(50, 100, 1010)
    assert w.who(100, 1010) == "?"
    w.answer(61, 1, 1011, 600)
    w.born(50, 101, 1020)
    w.exit(100, 1019)
    assert w.who(101, 1020) in ("?", contid(HEX))
    w.born(50, 102, 1030)


def test_nm_set_tells_the_namespace_at_once() -> None:
    w = Cn()
    w.born(1, 100, 1000)
    w.answer(100, 1, 1001, 1000)
    w.nm(100, SET, "net", 77, 1010)
    assert (w.ino(100, "net"), w.ino(100, "uts")) == (77, INITIAL_INODES_618["uts"])
    assert w.ino(100, "user") is None, "a user namespace may have come with it"
    w.answer(100, 1, 1011, 1000, net=77)
    assert w.ino(100, "user") == INITIAL_INODES_618["user"]
    w.born(100, 101, 1020)
    assert w.ino(101, "net") == 77


def test_nm_pid_is_where_children_are_born() -> None:
    w = Cn(lifecycle=True)
    w.born(1, 100, 1000)
    w.answer(100, 1, 1001, 1000)
    w.nm(100, SET, "pid", 88, 1010)
    assert w.ino(100, "pid") == INITIAL_INODES_618["pid"]
    w.answer(100, 1, 1011, 1000)
    w.born(100, 101, 1020)
    assert w.ino(101, "pid") == 88
    w.answer(101, 100, 1021, 1020, pid=88)
    w.later(1100)
    sandbox = w.who(101, 1030)
    assert sandbox not in (None, "?")
    assert w.who(100, 1030) is None
    w.born(101, 102, 1200)
    w.exit(102, 1201)
    assert w.who(102, 1200) == sandbox


def test_nm_clone_is_of_the_birth() -> None:
    w = Cn(lifecycle=True)
    w.born(1, 100, 1000)
    w.nm(100, CLONE, "net", 77, 1000.01)
    w.nm(100, CLONE, "pid", 88, 1000.02)
    assert (w.ino(100, "net"), w.ino(100, "pid")) == (77, 88)
    w.answer(100, 1, 1002, 1000, net=77, pid=88, user=99)
    w.later(1100)
    assert w.who(100, 1000) not in (None, "?")
    told = {
        (out.inst.type, out.inst.ino, out.reason, out.source) for out in w.model.outputs if isinstance(out, NsChange)
    }
    assert told == {("net", 77, "clone", "nm"), ("pid", 88, "clone", "nm"), ("user", 99, "clone", "procfs")}


def test_setns_and_unshare_are_told_apart_by_who_lives_there() -> None:
    w = Cn(lifecycle=True)
    for pid, at in ((100, 1000), (101, 1001)):
        w.born(1, pid, at)
        w.answer(pid, 1, at + 0.5, at)
    w.nm(100, SET, "net", 77, 1010)
    w.nm(101, SET, "net", 77, 1020)
    w.nm(101, SET, "net", INITIAL_INODES_618["net"], 1030, old=77)
    told = [(out.process.pid, out.reason) for out in w.model.outputs if isinstance(out, NsChange)]
    assert told == [(100, "unshare"), (101, "setns"), (101, "setns")]


def test_a_thread_of_its_own_namespaces() -> None:
    w = Cn()
    w.born(1, 100, 1000)
    w.answer(100, 1, 1001, 1000)
    w.put(f.K_FORK, 1002, pid=100, tid=105, ppid=1, ptid=1)
    w.nm(100, SET, "net", 77, 1010, tid=105)
    assert w.ino(100, "net") == INITIAL_INODES_618["net"]
    w.born(100, 101, 1020)  # by which thread?
    assert w.ino(101, "net") is None
    assert w.ino(101, "uts") == INITIAL_INODES_618["uts"]
    w.ran(100, 1030)
    assert w.ino(100, "net") is None


def test_a_type_of_namespace_that_we_do_not_know_is_counted() -> None:
    w = Cn()
    w.put(f.K_NM, 1000, pid=1, tid=1, arg=0x1234, payload=f.NM_PAYLOAD.pack(2, 0, 1, 2))
    assert w.model.unknown_frames == 1


@pytest.mark.parametrize("source", ["audit", "procfs"])
def test_without_events_of_namespaces_only_answers_tell_them(source: str) -> None:
    w = Cn(source, lifecycle=True)
    w.born(1, 100, 1000)
    assert w.ino(100, "net") is None
    w.answer(100, 1, 1001, 1000, net=77)
    assert w.ino(100, "net") == 77
    told = [(o.inst.type, o.inst.ino, o.reason, o.source) for o in w.model.outputs if isinstance(o, NsChange)]
    assert told == [("net", 77, "unknown", "procfs")]
    w.ran(100, 1010)
    assert w.ino(100, "net") is None
    w.answer(100, 1, 1011, 1000, net=78)
    assert w.ino(100, "net") == 78


def test_an_audit_record_of_unshare_puts_the_namespaces_in_doubt() -> None:
    w = Cn("audit", lifecycle=True)
    w.born(1, 100, 1000)
    w.answer(100, 1, 1001, 1000)
    w.model.outputs.clear()
    w.asked()
    w.put(f.K_UNSHARE, 1010, f.S_AUDIT, pid=100, tid=100, arg=FLAGS["uts"])
    assert w.ino(100, "uts") is None
    assert w.asked() == {100}
    w.answer(100, 1, 1011, 1000, uts=66)
    told = [(o.inst.type, o.inst.ino, o.reason) for o in w.model.outputs if isinstance(o, NsChange)]
    assert told == [("uts", 66, "unshare")]


def test_with_perf_the_connector_decides_nothing() -> None:
    w = World()
    w.fork(1, 100, 1000, net=INITIAL_INODES_618["net"])
    frame = f.pack(f.K_NM, f.S_CN, 1001 * MS, pid=100, tid=100, arg=FLAGS["net"], payload=f.NM_PAYLOAD.pack(2, 0, 1, 7))
    w.model.apply(frame)
    nsset = w.model.processes[100].state.nsset
    assert nsset is not None
    inst = nsset.inst[INDEX["net"]]
    assert inst is not None
    assert inst.ino == INITIAL_INODES_618["net"]


def test_who_made_it_may_be_known_only_later() -> None:
    """A sandbox made by a process that was itself in doubt when it made it."""
    w = Cn()
    w.born(1, 100, 1000)
    w.ran(100, 1001)
    w.nm(100, SET, "pid", 88, 1002)
    w.born(100, 101, 1003)
    w.ran(101, 1004)
    w.answer(100, 1, 1005, 1000)
    assert w.who(100, 1010) is None
    w.answer(101, 100, 1006, 1003, pid=88)
    w.later(1100)
    assert w.who(101, 1050) not in (None, "?")
    assert w.who_exec(101, 1003) == w.who(101, 1050)


@pytest.mark.parametrize("source", ["nm", "procfs"])
def test_a_namespace_does_not_end_while_its_only_process_is_in_doubt(source: str) -> None:
    w = Cn(source, lifecycle=True)
    w.born(1, 100, 1000)
    w.answer(100, 1, 1001, 1000, user=99)
    w.later(1100)
    before = w.who(100, 1050)
    assert before not in (None, "?")
    w.ran(100, 1200)
    w.answer(100, 1, 1201, 1000, user=99)
    w.later(1300)
    assert w.who(100, 1250) == before
    told = [(out.inst.type, out.inst.ino) for out in w.model.outputs if isinstance(out, NsChange)]
    assert told == [("user", 99)]
    w.exit(100, 1400)
    assert all(not inst.sets for inst in w.model.namespaces.current[INDEX["user"]].values() if not inst.initial)


def test_the_change_of_a_child_made_by_a_process_in_doubt_is_told() -> None:
    w = Cn("procfs", lifecycle=True)
    w.born(1, 100, 1000)
    w.answer(100, 1, 1001, 1000)
    w.ran(100, 1002)
    w.born(100, 101, 1003)
    w.answer(101, 100, 1004, 1003, pid=88)
    told = [(out.process.pid, out.inst.type, out.inst.ino) for out in w.model.outputs if isinstance(out, NsChange)]
    assert told == [(101, "pid", 88)]


@pytest.mark.parametrize("name", ["net", "uts", "ipc", "mnt", "cgroup"])
def test_a_process_of_the_host_that_makes_itself_such_a_namespace_stays_the_hosts(name: str) -> None:
    w = Cn(sandbox_types=["pid"])
    w.answer(100, 1, 900, 500)
    w.nm(100, SET, name, 4026540000, 1000)
    assert w.who(100, 1000) is None
    w.later(1001)
    assert w.asked() == {100}
    w.answer(100, 1, 1002, 500, **{name: 4026540000})
    assert w.who(100, 1000) is w.who(100, 1003) is None


def test_one_that_prepares_a_pid_namespace_for_its_children_stays_the_hosts_and_they_are_not() -> None:
    w = Cn(sandbox_types=["pid"])
    w.answer(100, 1, 900, 500)
    w.nm(100, SET, "pid", 4026540000, 1000)
    assert w.who(100, 1000) is None
    w.born(100, 101, 1010)
    assert w.who(101, 1010) == "?"
    w.answer(101, 100, 1011, 1010, pid=4026540000)
    assert w.who(101, 1010) not in ("?", None)


def test_one_that_joins_the_mounts_of_a_container_is_the_containers() -> None:
    w = Cn(sandbox_types=["pid"])
    w.answer(50, 1, 900, 500, cg=DOCKER, mnt=4026540000)
    w.answer(100, 1, 900, 500)
    w.nm(100, SET, "mnt", 4026540000, 1000)
    assert w.who(100, 1002) == contid(HEX)


@pytest.mark.parametrize(("kind", "flags", "still"), [
    (f.K_UNSHARE, FLAGS["net"] | FLAGS["uts"], True), (f.K_UNSHARE, FLAGS["mnt"] | FLAGS["user"] | FLAGS["pid"], True),
    (f.K_UNSHARE, 0, True), (f.K_SETNS, FLAGS["net"], True), (f.K_SETNS, FLAGS["mnt"], False), (f.K_SETNS, 0, False),
])  # fmt: skip
def test_by_audits_word_a_process_of_the_host_is_in_doubt_only_where_it_may_have_come_into_a_container(
    kind: int, flags: int, still: bool
) -> None:
    w = Cn("audit", sandbox_types=["pid"])
    w.answer(100, 1, 900, 500)
    w.put(kind, 1000, f.S_AUDIT, pid=100, tid=100, arg=flags)
    assert (w.who(100, 1000) is None) is still
    assert w.asked() == {100}
    w.answer(100, 1, 1002, 500, net=4026540000)
    assert w.who(100, 1000) is None


@pytest.mark.parametrize("source", ["nm", "audit", "procfs"])
def test_a_process_of_a_container_stays_its_however_often_it_changes(source: str) -> None:
    w = Cn(source)
    w.answer(50, 1, 900, 500, cg=DOCKER)
    for number in range(50):
        if source == "nm":
            w.nm(50, SET, "uts", 4026540000 + number, 1000 + number, old=4026540000 + number - 1)
        w.put(f.K_UNSHARE, 1000 + number, f.S_AUDIT, pid=50, tid=50, arg=FLAGS["uts"])
        assert w.who(50, 1000 + number) == contid(HEX)


@pytest.mark.parametrize("source", ["nm", "audit", "procfs"])
def test_two_user_namespaces_one_after_the_other_are_two_though_they_have_one_inode(source: str) -> None:
    """The kernel gives an inode again at once; the answer about the first process comes when it has ended."""
    for late in (False, True):
        w = Cn(source, sandbox_types=["pid", "user"])
        for number in range(3):
            pid, at = 100 + number, 1000 + 100 * number
            w.born(1, pid, at)
            if late:
                w.exit(pid, at + 20)
            w.answer(pid, 1, at + 10, at, user=4026540000)
            if not late:
                w.exit(pid, at + 20)
        told = [w.who(100 + number, 1010 + 100 * number) for number in range(3)]
        assert None not in told
        assert len(set(told) - {"?"}) == len([one for one in told if one != "?"])


def test_what_version_1_tells_is_taken_from_no_other_source_than_the_chosen_one() -> None:
    w = Cn("audit", lifecycle=True)
    w.answer(100, 1, 900, 500)
    w.model.outputs.clear()
    w.nm(100, SET, "net", 4026540000, 1000)
    assert w.model.outputs == []
    w.put(f.K_UNSHARE, 1000, f.S_AUDIT, pid=100, tid=100, arg=FLAGS["net"])
    w.answer(100, 1, 1002, 500, net=4026540000)
    assert [type(output) for output in w.model.outputs].count(NsChange) == 1


def test_host_root_may_set_and_get_though_its_parent_has_a_registered_child() -> None:
    """Whoever that child made with CLONE_PARENT would look alike; so nothing is known of a shell's next command."""
    w = Cn()
    w.answer(50, 1, 900, 500)
    for number, pid in enumerate((60, 70)):
        w.born(50, pid, 1000 + 100 * number)
        w.answer(pid, 50, 1010 + 100 * number, 1000 + 100 * number)
        if pid == 60:
            assert ask(w, 60, "7", 1050, by=50) == ""
    assert w.who(70, 1120) == "?"
    caller = {"ns": {**INITIAL_INODES_618}, "cg": {"0": "/user.slice"}}
    assert ask(w, 50, "9", 1200, by=70, **caller) == "EBUSY"  # it has children: that is all
    w.born(1, 80, 1210)
    w.answer(80, 1, 1211, 1210)
    for spoilt in (
        {"ns": {**INITIAL_INODES_618, "pid": 5}},
        {"cg": {"0": DOCKER}},
        {"cg": None},
        {"privileged": False},
    ):
        assert ask(w, 80, "9", 1220, by=70, **{**caller, **spoilt}) == "EPERM", spoilt
    assert ask(w, 80, "9", 1230, by=70, **caller) == ""
    assert w.who(80, 1250) == "9"


def ask(w: Cn, pid: int, contid: str, at: float, by: int, **caller: Any) -> str:
    """Process ``by`` asks for an identifier of ``pid``; returns the errno's name or ""."""
    about = {"pid": by, "start": w.model.processes[by].start, "privileged": True, **caller}
    request = {"op": "set", "start": w.model.processes[pid].start, "caller": about, "id": contid}
    w.put(f.K_REGISTER, at, f.S_CONTROL, pid=pid, payload=json.dumps(request).encode())
    return w.model.registry.last.error
