"""Which events a stream shows, and with which numbers: histories of a small world in, text out."""

import re
from collections.abc import Iterable
from typing import Any

import pytest

from auditns_connector.attribution.attributor import Correlator
from auditns_connector.audittext.scanner import InsertionPoints, TextStream
from auditns_connector.model.places import Container, Instance
from auditns_connector.streams.tailor import outsider
from auditns_connector.streams.view import Viewer, group
from auditns_connector.vocabulary import frames as f
from auditns_connector.vocabulary import record_types as rectypes
from auditns_connector.vocabulary.namespaces import INITIAL_INODES_618, PID, USER
from tests.unit.world import HEX, REAL, World

CG = f"/docker/{HEX}"
CONTID = str(int(HEX[:16], 16))
OTHER = "fedcba9876543210" * 4


class Scene(World):
    """A container of process 200, made by the runtime's process 100."""

    def __init__(self, *, own: bool = True, user: int = 0, runtime_mnt: int = 0, pid: int = 5001) -> None:
        super().__init__()
        self.fork(1, 100, 9, mnt=INITIAL_INODES_618["mnt"])
        if runtime_mnt:
            self.unshare(100, 10, mnt=runtime_mnt)
        self.attach(100, CG, 11)
        inner = {"mnt": 6001, **({"pid": pid} if pid else {}), **({"user": 7001} if user else {})}
        self.fork(100, 200, 20, **inner)
        if own:
            self.exec(200, 30, "/bin/sh")
        self.asked: list[tuple[int, Instance | None]] = []
        self.answers: dict[int, list[int]] = {}
        self.viewer = Viewer(self.model, self._ask)

    def _ask(self, pid: int, user_ns: Instance | None) -> bool:
        self.asked.append((pid, user_ns))
        if user_ns is not None or pid not in self.answers:
            return False
        process = self.model.processes[pid]
        self.model.inside.set_numbers(process, self.answers[pid])
        return True

    def number(self, index: int, ino: int) -> int:
        return self.model.namespaces.current[index][ino].number

    def inside(self, pid: int, number: int, at: float, ino: int = 5001) -> None:
        self.put(f.K_INSIDE, at, pid=pid, tid=pid, ppid=number, ptid=number, cgroup=self.number(PID, ino))

    def map(self, uid: str, gid: str) -> None:
        payload = f'{{"uid": {uid}, "gid": {gid}}}'.encode()
        self.put(f.K_IDMAP, source=f.S_PROCFS, cgroup=self.number(USER, 7001), payload=payload)

    def show(
        self, *records: str, at: float, view: str = "container", home: Container | None = None, names: bool = False
    ) -> str:
        """The event of these records (without headers) stamped at ``at`` ms, as a stream shows it; but for ``names``
        it is spelled by number, and then read as if it were not."""
        self.now = max(self.now, int(at * 1e6) + 200_000_000)
        ms = REAL // 1_000_000 + int(at)
        stamp = f"msg=audit({ms // 1000}.{ms % 1000:03d}:77):"
        text = "".join(f"type={r.partition(' ')[0]} {stamp} {r.partition(' ')[2]}\n" for r in records)
        correlator = Correlator(self.model)
        correlator.keep_states = True
        out = []
        stream = TextStream(whole=True)
        for points in _all(stream, text.encode()):
            correlator.answer(points, self.now)
            subjects = [i for i, s in enumerate(correlator.states) if s.container is not None and points.flags[i] & 1]
            if not subjects and home is not None:
                subjects = [i for i in range(points.n) if points.flags[i] & 1]  # somebody else did it
            for i, wanted in group(points, subjects).items():
                container = home or correlator.states[i].container
                assert container is not None
                entry = self.viewer.entry(points, wanted, correlator.states, container, view, not names, self.now)
                if entry is not None:
                    shown = entry.lines()
                    assert shown.count(b"\n") == entry.records
                    out.append(shown.decode().replace(stamp + " ", "").replace("type=", ""))
        return "".join(out) if names else self.by_name("".join(out))

    def by_name(self, shown: str) -> str:
        self.spelled = shown
        for number, name in rectypes.OWN.items():
            shown = shown.replace(f"UNKNOWN[{number}]", name)
        return re.sub(r'="((?:[0-9a-f]{2})+)"(?=[ \n])', r"=\1", shown)


def _all(stream: TextStream, text: bytes) -> Iterable[InsertionPoints]:
    yield stream.push(text)
    yield stream.flush(eof=True)


def syscall(pid: int, ppid: int, number: int = 257, result: int = 3, **more: Any) -> str:
    ids = " ".join(f"{key}={value}" for key, value in {"auid": 4294967295, "uid": 0, "gid": 0, **more}.items())
    return (
        f"SYSCALL arch=c000003e syscall={number} success=yes exit={result} a0=64 a1=0 a2=0 a3=0 items=0 ppid={ppid} "
        f'pid={pid} {ids} ses=4 comm="x" exe="/x"'
    )


def fields(shown: str) -> dict[str, str]:
    return dict(word.partition("=")[::2] for word in shown.splitlines()[0].split()[1:])


def test_the_first_process_is_number_one_and_its_parent_is_outside() -> None:
    scene = Scene()
    shown = scene.show(syscall(200, 100), "PROCTITLE proctitle=78", at=60)
    assert shown == (
        "SYSCALL arch=c000003e syscall=257 success=yes exit=3 a0=64 a1=0 a2=0 a3=0 items=0 ppid=0 pid=1 "
        f'auid=4294967295 uid=0 gid=0 ses=4294967295 comm="x" exe="/x"\nCONTAINER_ID contid={CONTID}\n'
        "PROCTITLE proctitle=78\nEOE \n"
    )
    assert scene.asked == []


def test_a_child_is_called_what_its_fork_told() -> None:
    scene = Scene()
    scene.fork(200, 201, 40)
    scene.inside(201, 7, 40)
    scene.exit(201, 41)
    assert fields(scene.show(syscall(201, 200), at=40))["pid"] == "7"


def test_a_living_child_that_nothing_told_of_is_asked_for() -> None:
    scene = Scene()
    scene.fork(200, 201, 40)
    scene.answers[201] = [201, 9]
    assert fields(scene.show(syscall(201, 200), at=60))["pid"] == "9"
    assert [pid for pid, _ in scene.asked] == [201]


def test_a_dead_one_is_nobody() -> None:
    scene = Scene()
    scene.fork(200, 201, 40)
    scene.exit(201, 45)
    assert fields(scene.show(syscall(201, 200), at=41))["pid"] == "0"
    assert scene.viewer.tally.hidden_pids == 1


def test_a_number_used_again_is_not_the_former_holders() -> None:
    scene = Scene()
    scene.fork(200, 201, 40)
    scene.inside(201, 7, 40)
    scene.exit(201, 50)
    scene.fork(200, 201, 100)
    scene.inside(201, 31, 100)
    assert fields(scene.show(syscall(201, 200), at=42))["pid"] == "7"
    assert fields(scene.show(syscall(201, 200), at=120))["pid"] == "31"


def test_what_the_runtime_does_before_is_withheld() -> None:
    scene = Scene(own=False)
    assert scene.show(syscall(100, 1), at=12) == ""  # in the cgroup, of the host otherwise
    assert scene.show(syscall(200, 100), at=22) == ""  # in the namespaces, the container's program not yet run
    assert scene.viewer.withheld == 2


def test_from_its_first_exec_on_it_is_the_containers() -> None:
    scene = Scene()
    exec_ = syscall(200, 100, 59, 0)
    path = 'PATH item=0 name="/bin/sh" inode=1 ouid=0 ogid=0'
    assert scene.show(syscall(200, 100), at=25) == ""  # may have been before it
    assert "pid=1 " in scene.show(exec_, path, at=29)
    assert scene.show(syscall(200, 100), at=60) != ""


def test_a_runtime_in_a_mount_namespace_of_its_own_is_still_the_runtime() -> None:
    scene = Scene(own=False, runtime_mnt=6000)
    scene.exec(100, 13, "/usr/bin/runc")
    assert scene.show(syscall(100, 1), at=40) == ""


def test_a_container_that_shares_the_hosts_pid_namespace() -> None:
    scene = Scene(own=False, pid=0)
    assert scene.show(syscall(200, 100), at=25) == ""
    scene.exec(200, 30)
    got = fields(scene.show(syscall(200, 100), at=60))
    assert (got["pid"], got["ppid"]) == ("200", "100")  # that is what it sees itself


def test_clone_by_one_in_the_hosts_pid_namespace() -> None:
    scene = Scene()
    scene.fork(200, 201, 40)
    scene.inside(201, 7, 40)
    # a process of the container that lives in the host's pid namespace sees the host's numbers
    scene.fork(100, 300, 41)
    process = scene.model.processes[300]
    process.own_since = 42_000_000
    shown = fields(scene.show(syscall(300, 100, 56, 201), at=60))
    assert (shown["exit"], shown["a0"], shown["pid"]) == ("7", "0", "0")
    assert fields(scene.show(syscall(300, 100, 56, 100), at=60))["exit"] == "0"
    assert fields(scene.show(syscall(200, 100, 56, 7), at=60))["exit"] == "7"  # its own numbers stay


def test_ids_go_through_the_user_namespace() -> None:
    scene = Scene(user=7001)
    scene.map("[[0, 100000, 1000]]", "[[0, 200000, 1000]]")
    shown = scene.show(
        syscall(200, 100, auid=100005, uid=100001, gid=200002, euid=0), "PATH item=0 name=78 ouid=100000 ogid=5", at=60
    )
    got = fields(shown)
    assert (got["auid"], got["uid"], got["gid"], got["euid"]) == ("5", "1", "2", "65534")
    assert "ouid=0 ogid=65534\n" in shown


def test_ids_of_unknown_maps_are_nobodys() -> None:
    scene = Scene(user=7001)
    got = fields(scene.show(syscall(200, 100, auid=1000, uid=1000), at=60))
    assert (got["auid"], got["uid"], got["gid"]) == ("4294967295", "65534", "65534")


def test_targets_elsewhere_are_left_out_and_records_counted_anew() -> None:
    scene = Scene()
    scene.fork(200, 201, 40)
    scene.inside(201, 7, 40)
    shown = scene.show(
        syscall(200, 100, 62, 0),
        'OBJ_PID opid=1 oauid=-1 ouid=0 oses=-1 ocomm="hostd"',
        'OBJ_PID opid=201 oauid=-1 ouid=0 oses=-1 ocomm="x"',
        at=60,
    )
    assert "hostd" not in shown
    assert f"CONTAINER_ID record=1 contid={CONTID}\n" in shown
    assert f'OBJ_PID opid=7 oauid=-1 ouid=0 oses=4294967295 ocomm="x"\nCONTAINER_ID record=2 contid={CONTID}\n' in shown


HOSTS = (
    'OBJ_PID opid=1 oauid=-1 ouid=0 oses=-1 obj=init_t ocomm="hostd"',
    'PROCTITLE proctitle="strace" cwd="/root"',
)
KILL = (
    "SYSCALL arch=c000003e syscall=62 success=yes exit=0 a0=c8 a1=f a2=8d3 a3=7f items=0 ppid=90 pid=100 auid=1000 "
    'uid=0 gid=5 euid=0 suid=0 fsuid=0 egid=5 sgid=5 fsgid=5 tty=pts4 ses=9 comm="strace" exe="/opt/strace" '
    'subj=admin_t key="kills"\x1dARCH=x86_64 AUID="bob"'
)


def test_what_somebody_outside_does_to_it_is_shown_without_who_did_it() -> None:
    scene = Scene(user=7001)
    scene.map("[[0, 100000, 1000]]", "[[0, 200000, 1000]]")
    scene.fork(1, 101, 35)
    scene.put(f.K_LOGIN, 50, f.S_CONTROL, pid=200, tid=200, arg=1000 | 5 << 32)
    home = scene.model.processes[200].state.container
    kill = KILL.replace("pid=100", "pid=101")
    target = 'OBJ_PID opid=200 oauid=1000 ouid=100003 oses=4 obj=ctr_t ocomm="sh"\x1dOUID="sub"'
    assert scene.show(kill, HOSTS[0], target, HOSTS[1], at=70, home=home) == (
        "SYSCALL arch=c000003e syscall=62 success=yes exit=0 a0=0 a1=f a2=0 a3=0 items=0 ppid=0 pid=0 auid=4294967295 "
        "uid=65534 gid=65534 euid=65534 suid=65534 fsuid=65534 egid=65534 sgid=65534 fsgid=65534 tty=(none) "
        'ses=4294967295 comm=(null) exe=(null) key="kills"\n'
        'OBJ_PID opid=1 oauid=1000 ouid=3 oses=5 obj=ctr_t ocomm="sh"\n'
        f"CONTAINER_ID record=2 contid={CONTID}\nEOE \n"
    )


@pytest.mark.parametrize(
    ("call", "shown"),
    [
        ("arch=c000003e syscall=101 success=no exit=-1 a0=4206 a1=c8", "exit=-1 a0=4206 a1=0"),
        ("arch=c000003e syscall=234 success=yes exit=0 a0=c8 a1=c8 a2=9", "exit=0 a0=0 a1=0 a2=9"),
        ("arch=c000003e syscall=62 success=yes exit=77 a0=c8 a1=7ffd0000", "exit=0 a0=0 a1=0"),
        ("arch=c000003e syscall=310 success=yes exit=0 a0=c8 a1=1", "exit=0 a0=0 a1=0"),
    ],
)
def test_of_an_outsiders_arguments_only_the_deed_is_shown(call: str, shown: str) -> None:
    line = f"type=SYSCALL msg=audit(1.000:2): {call} ppid=7 pid=8\n".encode()
    words = dict(word.split(b"=") for word in call.encode().split())
    want = f"{' '.join(call.split()[:3])} {shown} ppid=0 pid=0\n"
    assert outsider(line, int(words[b"arch"], 16), int(words[b"syscall"])).partition(b"): ")[2] == want.encode()


def test_signals_to_what_the_runtime_sets_up_are_its_own_business() -> None:
    scene = Scene(own=False)
    home = scene.model.processes[200].state.container
    target = 'OBJ_PID opid=200 oauid=-1 ouid=0 oses=-1 ocomm="runc:[2:INIT]"'
    assert scene.show(KILL, target, at=70, home=home) == ""
    scene.exec(200, 80)
    assert scene.show(KILL, target, at=79, home=home) == ""  # may have been before it
    assert "opid=1 " in scene.show(KILL, target, at=120, home=home)


def test_the_hosts_view_of_a_signal_is_the_whole_event() -> None:
    scene = Scene()
    home = scene.model.processes[200].state.container
    kill, target = KILL.replace("pid=100", "pid=1"), 'OBJ_PID opid=200 oauid=-1 ouid=0 oses=-1 ocomm="sh"'
    assert scene.show(kill, HOSTS[0], target, at=70, home=home, view="host") == (
        f"{kill}\n{HOSTS[0]}\n{target}\nCONTAINER_ID record=3 contid={CONTID}\nEOE \n"
    )


def test_records_about_the_host_are_left_out() -> None:
    scene = Scene()
    shown = scene.show(syscall(200, 100), "NETFILTER_CFG table=x", "CONFIG_CHANGE op=add_rule key=y", at=60)
    assert "NETFILTER_CFG" in shown
    assert "CONFIG_CHANGE" not in shown
    assert scene.show("CONFIG_CHANGE auid=0 ses=1 op=add_rule", at=60) == ""


def test_the_outer_part_of_a_chain_is_not_shown() -> None:
    scene = Scene()
    scene.fork(200, 202, 40, pid=5002, mnt=6002)
    scene.attach(202, f"{CG}/docker/{OTHER}", 41)
    scene.exec(202, 42)
    inner = scene.model.processes[202].state.container
    assert inner is not None
    assert inner.parent is not None
    both = f"contid={int(OTHER[:16], 16)},^{CONTID}\n"
    alone = f"contid={int(OTHER[:16], 16)}\n"
    event = syscall(202, 200)
    assert both in scene.show(event, at=60, home=inner.parent)
    assert alone in scene.show(event, at=60, home=inner)
    assert both in scene.show(event, at=60, view="host", home=inner)


def test_inside_of_a_nested_container_numbers_are_its_own() -> None:
    scene = Scene()
    scene.fork(200, 202, 40, pid=5002, mnt=6002)
    scene.inside(202, 8, 40)  # as the outer one sees it
    scene.attach(202, f"{CG}/docker/{OTHER}", 41)
    scene.exec(202, 42)
    inner = scene.model.processes[202].state.container
    assert inner is not None
    assert fields(scene.show(syscall(202, 200), at=60, home=inner.parent))["pid"] == "8"
    got = fields(scene.show(syscall(202, 200), at=60, home=inner))
    assert (got["pid"], got["ppid"]) == ("1", "0")


def test_the_hosts_view_changes_nothing() -> None:
    scene = Scene()
    record = syscall(200, 100)
    assert scene.show(record, at=60, view="host") == f"{record}\nCONTAINER_ID contid={CONTID}\nEOE \n"


def test_ours_stand_where_the_hosts_text_has_them() -> None:
    """Behind SOCKADDR, by whose place readers find it, and in front of PROCTITLE; by number in quotes."""
    scene = Scene()
    records = (syscall(200, 100, 42, 0), "SOCKADDR saddr=0100", "PROCTITLE proctitle=78")
    for view in ("container", "host"):
        kinds = [line.split()[0] for line in scene.show(*records, at=60, view=view).splitlines()]
        assert kinds == ["SYSCALL", "SOCKADDR", "CONTAINER_ID", "PROCTITLE", "EOE"]
    assert "UNKNOWN[1340] " in scene.spelled
    assert f'contid="{CONTID}"' in scene.spelled or len(CONTID) % 2


def test_names_stand_at_the_end_of_the_event() -> None:
    scene = Scene()
    records = (syscall(200, 100, 42, 0), "SOCKADDR saddr=0100", "PROCTITLE proctitle=78")
    for more, end in (((), ["PROCTITLE", "CONTAINER_ID", "EOE"]), (("EOE ",), ["PROCTITLE", "CONTAINER_ID", "EOE"])):
        shown = scene.show(*records, *more, at=60, names=True)
        assert [line.split()[0] for line in shown.splitlines()] == ["SYSCALL", "SOCKADDR", *end]
        assert f"contid={CONTID}\n" in shown
    shown = scene.show(*records[:2], at=60, names=True)
    assert [line.split()[0] for line in shown.splitlines()] == ["SYSCALL", "SOCKADDR", "EOE", "CONTAINER_ID"]


def test_a_login_inside_is_told_to_its_children() -> None:
    scene = Scene()
    scene.put(f.K_LOGIN, 50, f.S_CONTROL, pid=200, tid=200, arg=1000 | 5 << 32)
    scene.put(f.K_LOGIN, 51, f.S_CONTROL, pid=200, tid=200, arg=1001)  # once only
    scene.fork(200, 201, 60)
    scene.inside(201, 7, 60)
    shown = scene.show(syscall(201, 200), at=90)
    assert (fields(shown)["auid"], fields(shown)["ses"]) == ("1000", "5")
    assert f"CONTAINER_INFO contid={CONTID} origin=inherited cauid=1000 cses=5\n" in shown
    assert fields(scene.show(syscall(200, 100), at=35))["auid"] == "4294967295"  # before it


def test_a_users_record_has_its_container_behind_it() -> None:
    scene = Scene()
    shown = scene.show("USER_CMD pid=200 uid=0 auid=4294967295 ses=4294967295 msg='op=x pid=200'", at=60)
    assert shown == (
        f"USER_CMD pid=1 uid=0 auid=4294967295 ses=4294967295 msg='op=x pid=200'\nCONTAINER_ID contid={CONTID}\n"
    )


def burst(*, thread: bool = True, close: bool = False) -> Scene:
    """Children that were born, and ended, before a ring was open: 201, a thread, 202, then 203 that a ring tells."""
    scene = Scene()
    scene.fork(200, 201, 40)
    if not close:
        scene.exit(201, 41)
    if thread:
        scene.thread(200, 9001, 42)
    scene.fork(200, 205, 43)
    scene.fork(200 if not close else 201, 202, 43.05 if close else 44)
    scene.exit(202, 45)
    scene.fork(200, 203, 46)
    return scene


def test_numbers_given_before_the_ring_was_open_are_counted() -> None:
    scene = burst()
    scene.inside(203, 6, 46)
    assert [
        scene.viewer.number(pid, scene.model.namespaces.current[PID][5001], 0, 10**12) for pid in (201, 205, 202)
    ] == [
        2,
        4,
        5,
    ]


def test_where_the_count_is_wrong_nothing_is_concluded() -> None:
    scene = burst()
    scene.inside(203, 7, 46)  # somebody was given a number and never came to be
    ns = scene.model.namespaces.current[PID][5001]
    assert [scene.viewer.number(pid, ns, 0, 10**12) for pid in (201, 205, 202, 203)] == [None, None, None, 7]


def test_births_at_the_same_time_may_have_been_counted_in_the_other_order() -> None:
    scene = burst(close=True)
    scene.inside(203, 6, 46)
    ns = scene.model.namespaces.current[PID][5001]
    assert [scene.viewer.number(pid, ns, 0, 10**12) for pid in (201, 205, 202)] == [2, None, None]
