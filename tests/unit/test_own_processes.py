"""What the program starts itself appears in no line about namespaces, no event of a process and no list."""

import os
import socket
import stat
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from auditns_connector.control import own_programs, snapshot
from auditns_connector.control.peer import peer_of
from auditns_connector.emit.events import EventWriter
from auditns_connector.emit.held_events import BORN, PATIENCE
from auditns_connector.pipeline.standalone_records import StandaloneRecords
from auditns_connector.pipeline.text_stage import RAW
from auditns_connector.state.event_serials import EventSerials
from auditns_connector.vocabulary import frames as f
from auditns_connector.vocabulary.namespaces import INITIAL_INODES_618
from tests.unit.world import HEX, MS, World

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


def test_another_program_of_ours_is_hidden_as_long_as_it_is_that() -> None:
    w = world()
    w.fork(1, 400, 12, uts=INITIAL_INODES_618["uts"])
    w.put(f.K_OWN, 15, f.S_CONTROL, pid=400, arg=12 * MS)
    w.fork(400, 410, 20, uts=INITIAL_INODES_618["uts"])
    w.unshare(410, 30, uts=SPACE)
    w.unshare(400, 31, net=4026540002)
    w.exit(410, 40)
    assert lines(w) == b""
    assert [process[0] for process in snapshot.take(w.model, 50 * MS, 0.0, live=True)["processes"]] == [1, SELF, 300]
    w.exit(400, 60)
    w.fork(1, 400, 70, uts=INITIAL_INODES_618["uts"])  # the number is another's
    w.unshare(400, 80, uts=4026540005)
    assert lines(w).startswith(b"type=NS_INIT")


def test_a_process_of_a_container_or_of_another_start_is_no_program_of_ours() -> None:
    for pid, start in ((500, 20), (300, 1000), (301, 10)):
        w = world()
        w.fork(1, 500, 20)
        w.attach(500, f"/docker/{HEX}", 21)
        w.put(f.K_OWN, 25, f.S_CONTROL, pid=pid, arg=start * MS)
        assert not w.model.own.others
        for who in {500, pid} & set(w.model.processes):
            w.unshare(who, 30, uts=SPACE + who)
            assert b"type=NS_INIT" in lines(w)


def test_as_many_others_as_there_may_be_are_remembered() -> None:
    w = world()
    for pid in range(1000, 1100):
        w.fork(1, pid, pid / 100)
        w.put(f.K_OWN, pid / 100, f.S_CONTROL, pid=pid, arg=pid * MS // 100)
    assert [w.model.own.other(w.model.processes[pid]) for pid in (1000, 1035, 1036, 1099)] == [False, False, True, True]


def test_no_event_is_of_who_another_program_of_ours_starts() -> None:
    w = world()
    events = EventWriter(w.model)
    w.put(f.K_OWN, 15, f.S_CONTROL, pid=300, arg=10 * MS)
    frames = [
        f.pack(f.K_FORK, f.S_PERF, 20 * MS, pid=310, tid=310, ppid=300, ptid=300),
        f.pack(f.K_EXEC, f.S_PERF, 21 * MS, pid=310, tid=310, ppid=310, payload=b"/bin/x\0"),
        f.pack(f.K_EXIT_SAMPLE, f.S_PERF, 22 * MS, pid=310, tid=310),
        f.pack(f.K_EXIT, f.S_PERF, 22 * MS, pid=310, tid=310),
        f.pack(f.K_FORK, f.S_PERF, 23 * MS, pid=400, tid=400, ppid=1, ptid=1),
    ]
    block = b"".join(frames)
    events.frames(block)
    w.model.apply(block)
    outputs, w.model.outputs = w.model.outputs, []
    told = events.tell(outputs).decode().splitlines()
    assert [line.split(" contid")[0] for line in told] == ["fork: ppid=1 pid=400"]


HOOK = b"/usr/libexec/auditns-oci-hook"


def suspected(pid: int, file: bytes) -> bool:
    return file == HOOK


def shown(events: EventWriter, w: World, *frames: bytes, now: float) -> list[str]:
    """The lines that come with these frames at ``now`` (ms)."""
    block = b"".join(frames)
    events.frames(block)
    w.model.apply(block)
    outputs, w.model.outputs = w.model.outputs, []
    return [line.split(" contid")[0] for line in events.tell(outputs, int(now * MS)).decode().splitlines()]


def born(pid: int, at: float, above: int = 300) -> bytes:
    return f.pack(f.K_FORK, f.S_PERF, int(at * MS), pid=pid, tid=pid, ppid=above, ptid=above)


def ran(pid: int, at: float, name: bytes) -> bytes:
    return f.pack(f.K_EXEC, f.S_PERF, int(at * MS), pid=pid, tid=pid, ppid=pid, payload=name + b"\0")


def ended(pid: int, at: float) -> bytes:
    kinds = (f.K_EXIT_SAMPLE, f.K_EXIT)
    return b"".join(f.pack(kind, f.S_PERF, int(at * MS), pid=pid, tid=pid) for kind in kinds)


def is_ours(pid: int, at: float, start: float) -> bytes:
    return f.pack(f.K_OWN, f.S_CONTROL, int(at * MS), pid=pid, arg=int(start * MS))


def test_nothing_is_shown_of_a_hook_that_shows_who_it_is() -> None:
    """Neither its birth, which came before that, nor whom it starts; what others do meanwhile comes in time."""
    w = world()
    events = EventWriter(w.model, may_be=suspected)
    assert shown(events, w, born(400, 20), now=21) == []
    assert shown(events, w, ran(400, 22, HOOK), born(401, 23), ran(401, 24, b"/bin/x"), now=25) == [
        "fork: ppid=300 pid=401", "exec: pid=401",
    ]  # fmt: skip
    assert shown(events, w, born(410, 26, 400), ran(410, 27, b"/bin/y"), ended(401, 28), now=29) == ["exit: pid=401"]
    assert shown(events, w, is_ours(400, 30, 20), now=31) == []
    thread = f.pack(f.K_FORK, f.S_CN, 31 * MS, pid=400, tid=405, ppid=300, ptid=300)  # the process's parent
    assert shown(events, w, thread, now=32) == []
    assert shown(events, w, ended(410, 32), ended(400, 33), born(410, 90), ran(410, 91, b"/bin/z"), now=92) == [
        "fork: ppid=300 pid=410", "exec: pid=410",
    ]  # fmt: skip


def test_it_is_ours_also_where_that_comes_behind_its_end() -> None:
    w = world()
    events = EventWriter(w.model, may_be=suspected)
    assert shown(events, w, born(400, 20), ran(400, 22, HOOK), now=23) == []
    assert shown(events, w, ended(400, 24), is_ours(400, 25, 20), now=26) == []
    assert events.tell([]) == b""


def test_whoever_is_called_so_and_shows_nothing_is_shown_with_its_times() -> None:
    w = world()
    events = EventWriter(w.model, may_be=suspected, times=True)
    assert shown(events, w, born(400, 20), ran(400, 22, HOOK), born(410, 23, 400), now=24) == []
    told = shown(events, w, ended(400, 30), ended(410, 31), now=32)
    zero = (w.model.clock.offset or 0) / 1e9
    assert [(round((float(line.split()[0]) - zero) * 1000), line.split(": ")[0].split()[1]) for line in told] == [
        (20, "fork"), (22, "exec"), (23, "fork"), (30, "exit"), (31, "exit"),
    ]  # fmt: skip


def test_one_that_lives_on_is_shown_after_a_while() -> None:
    w = world()
    events = EventWriter(w.model, may_be=suspected)
    late = 22 + PATIENCE / MS
    assert shown(events, w, born(400, 20), ran(400, 22, HOOK), now=24) == []
    assert shown(events, w, now=late - 1) == []
    assert shown(events, w, now=late) == ["fork: ppid=300 pid=400", "exec: pid=400"]
    assert shown(events, w, ended(400, late + 1), now=late + 2) == ["exit: pid=400"]


def test_a_number_that_is_given_away_again_takes_nothing_with_it() -> None:
    """The hook's child has ended, and its number is another's before it is known whose the hook is."""
    w = world()
    events = EventWriter(w.model, may_be=suspected)
    frames = (born(400, 20), ran(400, 22, HOOK), born(410, 23, 400), ended(410, 24), born(410, 25), ended(400, 26))
    assert shown(events, w, *frames, born(400, 27), is_ours(400, 28, 20), now=90) == [
        "fork: ppid=300 pid=410", "fork: ppid=300 pid=400",
    ]  # fmt: skip
    assert shown(events, w, ended(400, 91), ended(410, 92), now=93) == ["exit: pid=400", "exit: pid=410"]


def test_so_many_are_put_aside_and_no_more() -> None:
    w = world()
    events = EventWriter(w.model, may_be=suspected)
    frames = [born(pid, pid) + ran(pid, pid + 0.5, HOOK) for pid in range(1000, 1070)]
    told = shown(events, w, *frames, now=1100)
    assert told == [line for pid in range(1000, 1006) for line in (f"fork: ppid=300 pid={pid}", f"exec: pid={pid}")]


def test_a_birth_waits_no_longer_than_until_an_exec_an_end_or_a_while() -> None:
    w = world()
    events = EventWriter(w.model)
    assert shown(events, w, born(400, 20), now=21) == []
    assert shown(events, w, ended(400, 22), born(401, 23), now=24) == ["fork: ppid=300 pid=400", "exit: pid=400"]
    assert shown(events, w, now=23 + BORN / MS - 1) == []
    assert shown(events, w, now=23 + BORN / MS) == ["fork: ppid=300 pid=401"]
    assert shown(events, w, born(402, 200), now=201) == []
    assert events.tell([]) == b"fork: ppid=300 pid=402\n"  # the end


def test_what_waits_is_shown_in_the_order_of_time() -> None:
    w = world()
    events = EventWriter(w.model)
    shown(events, w, born(400, 20), ran(300, 30, b"/bin/x"), now=31)
    assert shown(events, w, ran(300, 29, b"/bin/y"), ran(400, 32, b"/bin/z"), now=33) == [
        "fork: ppid=300 pid=400", "exec: pid=300", "exec: pid=300", "exec: pid=400",
    ]  # fmt: skip


def test_who_may_be_one_by_its_name_and_words() -> None:
    assert own_programs.may_be_one(1, b"/any/auditns-oci-hook")
    assert not own_programs.may_be_one(1, b"/any/auditns")
    assert not own_programs.may_be_one(os.getpid(), b"/bin/true")
    for word, asks in (("doctor", True), ("oci-hook", True), ("status", False)):
        code = "print(flush=True); input()"
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        with subprocess.Popen([sys.executable, "-c", code, word], **pipes) as made:
            assert made.stdout is not None
            made.stdout.readline()
            assert own_programs.may_be_one(made.pid, b"/usr/bin/auditns") is (asks and os.geteuid() == 0)
            made.communicate(b"\n")
    assert not own_programs.may_be_one(made.pid, b"/usr/bin/auditns")  # it is gone


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, who can be another user")
def test_the_arguments_of_who_cannot_show_it_are_not_read() -> None:
    """They are memory, which a user can have served by a file system that never answers."""
    command = ["setpriv", "--reuid=1000", "--regid=1000", "--clear-groups", "sh", "-c", "echo; read line", "doctor"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as made:
        assert made.stdout is not None
        made.stdout.readline()
        assert b"doctor" in Path(f"/proc/{made.pid}/cmdline").read_bytes()
        assert not own_programs.may_be_one(made.pid, b"/usr/bin/auditns")
        made.communicate(b"\n")


class Asked:
    """A control connection of this very process, and what is found out about it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **about: object) -> None:
        caller = {"pid": os.getpid(), "start": 10 * MS, "uid": 0, "privileged": True, **about}
        monkeypatch.setattr(own_programs, "describe_caller", lambda *_: caller)
        self.world = World()
        self.world.fork(1, os.getpid(), 10)
        self.sync_within = lambda: 20 * MS
        self.feed, self.model = self.world.model.apply, self.world.model

    def ask(self) -> bool:
        here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with here, there:
            answer = own_programs.OwnPrograms(self).answer({"op": "own"}, peer_of(here), here)  # type: ignore[arg-type]
        assert answer["ok"] is self.model.own.others
        return bool(answer["ok"])


def test_who_is_root_and_runs_a_file_of_roots_alone_is_believed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    program = tmp_path / "program"
    program.touch()
    for mode, uid, privileged, expected in (
        (0o755, 0, True, True),
        (0o775, 0, True, False),
        (0o757, 0, True, False),
        (0o755, 1000, True, False),
        (0o755, 0, False, False),
    ):
        asked = Asked(monkeypatch, privileged=privileged)
        found = os.stat_result((stat.S_IFREG | mode, 1, 1, 1, uid, 0, 0, 0, 0, 0))
        with monkeypatch.context() as patched:
            patched.setattr(own_programs.os, "stat", lambda path, found=found: found)
            assert asked.ask() is expected


def test_who_may_be_somebody_else_by_now_is_not_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not Asked(monkeypatch, start=None, privileged=False).ask()
    assert not Asked(monkeypatch, start=900 * MS).ask()
