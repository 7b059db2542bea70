"""What the program starts itself appears in no line about namespaces, no event of a process and no list."""

from typing import Final

from auditns_connector.control import snapshot
from auditns_connector.emit.events import EventWriter
from auditns_connector.pipeline.standalone_records import StandaloneRecords
from auditns_connector.pipeline.text_stage import RAW
from auditns_connector.state.event_serials import EventSerials
from auditns_connector.vocabulary import frames as f
from auditns_connector.vocabulary.namespaces import INITIAL_INODES_618
from tests.unit.world import MS, World

SELF: Final = 200
SPACE: Final = 4026540001


def world() -> World:
    """We are process 200, which process 1 has started; so is 300, which is not ours."""
    w = World(lifecycle=True, sandbox_types=["pid"])
    w.model.own.begin(SELF, 50 * MS)
    for pid in (SELF, 300):
        w.fork(1, pid, 10, uts=INITIAL_INODES_618["uts"])
    return w


def lines(w: World) -> bytes:
    outputs, w.model.outputs = w.model.outputs, []
    told = StandaloneRecords(w.model, EventSerials(None), [RAW]).format_outputs(outputs)
    return b"".join(bytes(block[RAW]) for block in told)


def test_no_line_tells_of_namespaces_that_a_helper_makes_or_enters() -> None:
    for parent, told in ((SELF, False), (300, True)):
        w = world()
        w.fork(parent, 210, 20, uts=INITIAL_INODES_618["uts"])
        w.fork(210, 211, 21)
        w.unshare(211, 30, uts=SPACE)
        w.unshare(210, 31, uts=SPACE, net=4026540002)
        w.exit(211, 40)
        w.exit(210, 41)
        assert (lines(w) != b"") is told


def test_a_program_that_had_our_number_before_is_another() -> None:
    w = world()
    w.exit(SELF, 60)
    w.fork(1, SELF, 70)
    w.fork(SELF, 210, 80)
    w.unshare(210, 90, uts=SPACE)
    assert b"type=NS_INIT" in lines(w)


def test_what_others_do_in_a_namespace_of_ours_is_told() -> None:
    w = world()
    w.fork(SELF, 210, 20, uts=INITIAL_INODES_618["uts"])
    w.unshare(210, 30, uts=SPACE)
    w.unshare(300, 40, uts=SPACE)
    text = lines(w)
    assert [line.partition(b" ")[0] for line in text.splitlines()] == [b"type=NS_CHANGE"]


def test_an_audit_record_about_a_helper_is_answered_as_any_other() -> None:
    w = world()
    w.fork(SELF, 210, 20, pid=SPACE)
    assert w.who(210, 40) not in (None, "?")
    w.unshare(SELF, 50, uts=4026540003)
    assert w.inode(SELF, 70, 1) == 4026540003


def test_no_event_of_a_process_is_one_of_ours() -> None:
    w = world()
    events = EventWriter(w.model)
    frames = [
        f.pack(f.K_FORK, f.S_PERF, 20 * MS, pid=210, tid=210, ppid=SELF, ptid=SELF),
        f.pack(f.K_FORK, f.S_PERF, 21 * MS, pid=211, tid=211, ppid=210, ptid=210),
        f.pack(f.K_EXEC, f.S_PERF, 22 * MS, pid=211, tid=211, ppid=211, payload=b"/bin/x\0"),
        f.pack(f.K_NAMESPACES, f.S_PERF, 23 * MS, pid=211, tid=211, payload=w.ns(uts=SPACE)),
        f.pack(f.K_LOST, f.S_CN, 24 * MS, arg=3),
        f.pack(f.K_FORK, f.S_PERF, 25 * MS, pid=301, tid=301, ppid=300, ptid=300),
        f.pack(f.K_EXIT_SAMPLE, f.S_PERF, 26 * MS, pid=211, tid=211),
        f.pack(f.K_EXIT, f.S_PERF, 26 * MS, pid=211, tid=211),
        f.pack(f.K_FORK, f.S_PERF, 27 * MS, pid=211, tid=211, ppid=300, ptid=300),  # the number is used again
        f.pack(f.K_EXEC, f.S_PERF, 28 * MS, pid=211, tid=211, ppid=211, payload=b"/bin/y\0"),
    ]
    block = b"".join(frames)
    events.frames(block)
    w.model.apply(block)
    outputs, w.model.outputs = w.model.outputs, []
    told = events.tell(outputs).decode().splitlines()
    assert [line.split(" contid")[0] for line in told] == [
        "lost: lost_source=connector count=3", "fork: ppid=300 pid=301", "fork: ppid=300 pid=211", "exec: pid=211",
    ]  # fmt: skip


def test_no_list_has_them() -> None:
    w = world()
    w.fork(SELF, 210, 20, uts=SPACE)
    w.fork(300, 310, 21, uts=4026540009)
    found = snapshot.take(w.model, 30 * MS, 0.0, live=True)
    assert [process[0] for process in found["processes"]] == [1, SELF, 300, 310]
    inodes = [about["ino"] for about in found["namespaces"]]
    assert SPACE not in inodes
    assert 4026540009 in inodes
