"""The table in C against the readable rules: whatever frames come, both know, tell and refuse the same."""

import itertools
import lzma
import os
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from auditns_connector._native import ffi
from auditns_connector.errors import DecodeError
from auditns_connector.model import rows
from auditns_connector.model.apply.dispatch import Model
from auditns_connector.pipeline.lifecycle_budget import LifecycleBudget
from auditns_connector.pipeline.standalone_records import StandaloneRecords
from auditns_connector.state.event_serials import EventSerials
from auditns_connector.vocabulary import frames as f
from auditns_connector.vocabulary.namespaces import CLONE_NEWTIME, FLAGS, INITIAL_INODES_618, PERF_ORDER
from tests.reference import plain_frames as rules
from tests.unit.world import MS, World

GOLDEN = Path(__file__).parents[1] / "golden"
JOURNALS = sorted(GOLDEN.rglob("*.journal"))
#: a recording too large for the repository; where it is, it is compared too
LARGE = os.environ.get("AUDITNS_LARGE_JOURNAL", "")
_AT: Any = st.sampled_from([1, 1, 1, 20, 2000])
_PIDS = (100, 101, 102, 103, 104)
_TIDS = (*_PIDS, 200, 201, 202)
_ODD = (0, -1, 1 << 22, (1 << 31) - 1)
_PLACES = (b"/", b"/system.slice/docker-" + b"a" * 64 + b".scope", b"/user.slice")


def raw(changed: dict[str, int]) -> bytes:
    inodes = {**INITIAL_INODES_618, **changed}
    return f.NAMESPACES_PAYLOAD.pack(4, *(inodes[name] for name in PERF_ORDER))


NAMESPACES = st.dictionaries(
    st.sampled_from(PERF_ORDER), st.integers(4026540000, 4026540003), max_size=2
).map(raw) | st.just(raw({}))  # fmt: skip
#: of one that is born with namespaces of its own
_OWN = st.sampled_from(["pid", "user", "net"])
APART = st.dictionaries(_OWN, st.integers(4026540000, 4026540002), min_size=1).map(raw)
PID = st.sampled_from(_PIDS)
TID = st.sampled_from(_TIDS)


def frame(kind: int, source: int = f.S_PERF, **fields: Any) -> Any:
    """Frames of a kind, with fields from strategies."""
    return st.fixed_dictionaries(fields).map(lambda found: (kind, source, found))


SAME = st.just(raw({})) | st.just(b"")
CGROUP = st.sampled_from([0, 50, 51])
PLACE = st.sampled_from([place + b"\0" for place in _PLACES])
FRAME = st.one_of(
    PID.flatmap(lambda pid: frame(f.K_FORK, pid=st.just(pid), tid=st.just(pid), ppid=PID, ptid=PID, payload=SAME)),
    PID.flatmap(lambda pid: frame(f.K_FORK, pid=st.just(pid), tid=st.just(pid), ppid=PID, ptid=PID, payload=SAME)),
    PID.flatmap(lambda p: frame(f.K_FORK, pid=st.just(p), tid=st.just(p), ppid=PID, ptid=TID, payload=NAMESPACES)),
    PID.flatmap(lambda pid: frame(f.K_FORK, pid=st.just(pid), ppid=st.just(pid), tid=TID, ptid=TID, payload=SAME)),
    frame(f.K_FORK, pid=PID, tid=PID, ppid=PID, ptid=TID, payload=NAMESPACES),
    frame(f.K_EXEC, pid=PID, tid=PID, ppid=st.just(0) | TID, cgroup=st.sampled_from([0, 50, 51, 52, 59]),
          payload=st.sampled_from([b"/bin/x\0", b"/bin/" + b"y" * 300, b""])),
    frame(f.K_COMM, pid=PID, tid=TID, arg=st.sampled_from([0, 1]),
          payload=st.sampled_from([b"one\0", b"another name\0", b"x" * 15 + b"\0", b"z" * 40])),
    PID.flatmap(lambda pid: frame(f.K_EXIT, pid=st.just(pid), tid=st.just(pid) | TID)),
    PID.flatmap(lambda pid: frame(f.K_EXIT, pid=st.just(pid), tid=st.just(pid) | TID)),
    PID.flatmap(lambda p: frame(f.K_EXIT_SAMPLE, pid=st.just(p), tid=st.just(p) | TID, cgroup=CGROUP)),
    frame(f.K_NEWTASK, tid=TID, arg=st.sampled_from([0x8000, FLAGS["pid"], CLONE_NEWTIME, 0x2_0000_0000])),
    frame(f.K_NAMESPACES, pid=PID, tid=TID, payload=NAMESPACES),
    PID.flatmap(lambda p: frame(f.K_FORK, pid=st.just(p), tid=st.just(p), ppid=PID, ptid=PID, payload=APART)),
    frame(f.K_NSID, f.S_PROCFS, ppid=st.sampled_from([3, 4]), cgroup=st.integers(8, 24),
          arg=st.sampled_from([0, 0, 0, 5, 6, (1 << 63) | 2, (1 << 63) | 9]), payload=st.just(bytes(8))),
    frame(f.K_NSGONE, f.S_PROCFS, ppid=st.sampled_from([3, 4]), cgroup=st.integers(8, 24),
          arg=st.sampled_from([0, 1, 2]), payload=st.just(bytes(8))),
    frame(f.K_UNSHARE, pid=PID, tid=PID, arg=st.sampled_from([0, FLAGS["net"], CLONE_NEWTIME])),
    frame(f.K_SETNS, pid=PID, tid=PID, arg=st.just(0)),
    frame(f.K_ATTACH, tid=PID, cgroup=st.sampled_from([50, 51, 52]), payload=PLACE),
    frame(f.K_CGROUP, cgroup=st.sampled_from([50, 51, 52]), payload=PLACE),
    frame(f.K_FORK, f.S_CN, pid=PID, tid=PID, ppid=PID, ptid=PID),
    frame(f.K_MARK, f.S_PIPELINE, arg=st.sampled_from([0, 1, 2])),
    frame(f.K_LOST, arg=st.just(3)),
    frame(f.K_LOGIN, f.S_CONTROL, pid=PID, arg=st.just(1000)),
    frame(f.K_EXE, f.S_AUDIT, pid=PID, arg=st.sampled_from([0, 0, 1, 2, 3]),
          payload=st.sampled_from([b"/usr/bin/x\0", b"/usr/bin/y\0", b"/" + b"z" * 2000 + b"\0", b""])),
)  # fmt: skip
HISTORY = st.lists(st.tuples(_AT, FRAME, st.booleans()), min_size=1, max_size=60)


class Both:
    """The table and the rules, shown the same."""

    def __init__(self, **hello: Any) -> None:
        """``hello``: what is otherwise about the host."""
        world = World(**{"timens": True, "lifecycle": True, "sandbox_types": ["pid", "user"], **hello})
        for number, place in enumerate(_PLACES, 50):
            world.put(f.K_CGROUP, cgroup=number, payload=place + b"\0")
        for pid in _PIDS[:3]:
            world.proc(pid, 1, 0, cg=_PLACES[pid % 3].decode(), tids=[pid, 300 + pid] if pid == 101 else [pid])
        self.models = (Model(), rules.reference())
        self.errors: list[type[Exception] | None] = []
        for model in self.models:
            model.apply(b"".join(world.log))
        self.now = 5000 * MS
        #: times of execs, the newest first
        self.execs: list[int] = []

    def apply(self, block: bytes) -> None:
        """Both take in ``block``; what they refuse they refuse alike."""
        refused: list[object] = []
        for model in self.models:
            try:
                model.apply(block)
                refused.append(None)
            except DecodeError as error:
                refused.append(str(error))
            except Exception as error:
                refused.append(type(error))
        assert refused[0] == refused[1]

    def step(self, wait: int, what: tuple[int, int, dict[str, Any]]) -> bytes:
        """The next frame."""
        kind, source, fields = what
        self.now += wait * MS + 1000
        if kind == f.K_MARK and fields["arg"]:
            fields = {**fields, "arg": self.now - (0 if fields["arg"] == 1 else 1000 * MS)}
        if kind == f.K_EXEC:
            self.execs.insert(0, self.now)
        if kind == f.K_EXE:
            fields = {**fields, "arg": dict(enumerate(self.execs)).get(fields["arg"], 0)}
        return f.pack(kind, source, self.now, **fields)

    def check(self) -> None:
        """Both know the same."""
        one, other = (rules.dump(model) for model in self.models)
        for key in one:
            assert one[key] == other[key], key

    def check_some(self) -> None:
        """Both find the same where they look at some processes only, and those that all of them show."""
        table, other = (model.table for model in self.models)
        everybody = self.models[1].processes.values()
        line = {(1, 0)}
        for one in sorted(everybody, key=lambda process: process.start):
            if one.creator in line:
                line.add((one.pid, one.start))
        found = [(one.pid, one.start) for one in other.family(1, 0)]
        assert {(1, 0), *found} == line
        assert [(one.pid, one.start) for one in table.family(1, 0)] == found
        places = {one.state.container for one in everybody}
        for place in places:
            alive = [one.pid for one in everybody if one.end is None and one.state.container is place]
            same = {
                rules._container(one.state.container): one.state.container for one in self.models[0].processes.values()
            }
            assert [one.pid for one in other.living_in([place])] == alive
            assert [one.pid for one in table.living_in([same[rules._container(place)]])] == alive

    def finish(self) -> None:
        """And so where nothing is packed any more."""
        self.check_some()
        self.check()
        one, other = (rules.held(model) for model in self.models)
        for key in one:
            assert one[key] == other[key], key


#: the exit sample of a number is no process that had it: the row of the child still comes behind those before it
SAMPLED_BEFORE: Any = [
    (1, (f.K_LOST, f.S_PERF, {"arg": 3}), False),
    (1, (f.K_EXIT_SAMPLE, f.S_PERF, {"pid": 100, "tid": 103, "cgroup": 0}), False),
    (1, (f.K_FORK, f.S_PERF, {"pid": 103, "tid": 100, "ppid": 100, "ptid": 100, "payload": raw({})}), True),
]  # fmt: skip
#: an exec in a state that is left and taken up again
STATE_AGAIN: Any = [
    (1, (f.K_EXEC, f.S_PERF, {"pid": 103, "tid": 100, "ppid": 0, "cgroup": 0, "payload": b"/bin/x\0"}), False),
    (1, (f.K_FORK, f.S_PERF, {"pid": 100, "tid": 100, "ppid": 100, "ptid": 100, "payload": raw({})}), False),
    (1, (f.K_LOST, f.S_PERF, {"arg": 3}), False),
    (1, (f.K_ATTACH, f.S_PERF, {"tid": 103, "cgroup": 50, "payload": b"/\0"}), False),
    (1, (f.K_FORK, f.S_PERF, {"pid": 100, "tid": 100, "ppid": 103, "ptid": 100, "payload": raw({})}), True),
]  # fmt: skip


@given(HISTORY)
@example(SAMPLED_BEFORE)
@example(STATE_AGAIN)
def test_one_frame_at_a_time(history: list[Any]) -> None:
    both = Both()
    for wait, what, look in history:
        both.apply(both.step(wait, what))
        if look:
            both.check()
    both.finish()


#: the sample of an exec says of a scanned maker that it is where it was, after it has made a namespace
RESTATED: Any = [
    (1, (f.K_MARK, f.S_PIPELINE, {"arg": 2}), False),
    (1, (f.K_FORK, f.S_PERF, {"pid": 103, "tid": 103, "ppid": 102, "ptid": 102, "payload": raw({"pid": 4026540000})}),
     False),
    (1, (f.K_EXEC, f.S_PERF, {"pid": 102, "tid": 100, "ppid": 0, "cgroup": 52, "payload": b"/bin/x\0"}), False),
]  # fmt: skip


@given(HISTORY)
@example(RESTATED)
def test_all_at_once(history: list[Any]) -> None:
    both = Both()
    both.apply(b"".join(both.step(wait, what) for wait, what, _ in history))
    both.finish()


@given(HISTORY, st.randoms(use_true_random=False), st.sampled_from(_ODD))
def test_damaged_frames(history: list[Any], chance: random.Random, odd: int) -> None:
    both = Both()
    for wait, what, _ in history:
        block = bytearray(both.step(wait, what))
        for _ in range(chance.choice((0, 0, 1, 2))):
            if len(block) > 32 and chance.random() < 0.4:
                at = 16 + 4 * chance.randrange(4)
                block[at : at + 4] = odd.to_bytes(4, "little", signed=odd < 0)
            elif block and chance.random() < 0.1:
                del block[chance.randrange(len(block)) :]
            elif block:
                block[chance.randrange(len(block))] = chance.randrange(256)
        if len(block) > 4 and block[4] in (f.K_HELLO, f.K_LOST):
            continue  # what these say of the whole run is no matter of the table
        both.apply(bytes(block))
    both.finish()


ENDS = (f.K_EXIT_SAMPLE, f.K_EXIT)
LIFE = st.tuples(st.integers(110, 114), st.sampled_from([1, *_PIDS[:3]]), APART, st.sampled_from([0, 1, 1, 2, 2, 2]))
#: what happens beside lives: frames as above
LIVES = st.lists(st.one_of(LIFE, LIFE, LIFE, LIFE, FRAME), min_size=1, max_size=40)


def frames_of(what: Any) -> list[tuple[int, int, dict[str, Any]]]:
    """The frames of a life that was seen so far: 0 its birth, 1 that it leaves its namespaces, 2 its end."""
    if not isinstance(what[2], bytes):
        return [what]
    pid, maker, payload, seen = what
    fork = {"pid": pid, "tid": pid, "ppid": maker, "ptid": maker, "payload": payload}
    task = {"pid": pid, "tid": pid}
    new = {"tid": pid, "arg": FLAGS["user"] | FLAGS["pid"]}
    found = [(f.K_FORK, f.S_PERF, fork), (f.K_NEWTASK, f.S_PERF, new)]
    return found + [(kind, f.S_PERF, task) for kind in ENDS[:seen]]


#: namespaces of a life are forgotten before it is told of them, and asked for their serials behind that
FORGOTTEN_UNTOLD: Any = [
    (f.K_COMM, f.S_PERF, {"pid": 100, "tid": 100, "arg": 0, "payload": b"one\0"}),
    (110, 1, raw({"pid": 4026540000, "user": 4026540000}), 1),
    (f.K_MARK, f.S_PIPELINE, {"arg": 1}),
    (f.K_COMM, f.S_PERF, {"pid": 100, "tid": 100, "arg": 0, "payload": b"one\0"}),
]  # fmt: skip


#: whose maker has run a program that no record names
UNNAMED_PROGRAM: Any = [
    (f.K_EXEC, f.S_PERF, {"pid": 102, "tid": 102, "ppid": 0, "cgroup": 0, "payload": b"./run\0"}),
    (110, 102, raw({"pid": 4026540000, "user": 4026540000}), 2),
]


@given(LIVES, st.sets(st.integers(0, 39)), st.sampled_from([8, 20]), st.booleans())
@example(UNNAMED_PROGRAM, set(), 20, True)
@example(FORGOTTEN_UNTOLD, {3}, 8, False)
def test_lives_of_namespaces(lives: list[Any], asked: set[int], each: int, mix: bool) -> None:
    """They are known, told and counted alike, whoever is asked about in between."""
    both = Both()
    budgets = [LifecycleBudget(each, 100) for _ in both.models]
    tellers = [
        StandaloneRecords(model, EventSerials(None), ("raw",), budget=budget)
        for model, budget in zip(both.models, budgets, strict=True)
    ]
    for place, what in enumerate(lives):
        frames = frames_of(what)
        both.apply(b"".join(both.step(1, one) for one in frames))
        if place in asked:
            both.apply(both.step(1, (f.K_NSID, f.S_PROCFS, NAMED | {"cgroup": both.models[1].namespaces.created})))
            if mix:
                assert len({str(model.processes.get(110 + place % 5) is None) for model in both.models}) == 1
        if place % 3 == 0:
            lines = []
            for model, teller in zip(both.models, tellers, strict=True):
                lines.append([bytes(block["raw"]) for block in teller.format_outputs(model.take_outputs())])
                model.outputs_consumed()
            assert lines[0] == lines[1]
            assert budgets[0].counted == budgets[1].counted
    both.finish()


NAMED: dict[str, Any] = {"ppid": 4, "arg": 0, "payload": bytes(8)}


def test_rows_are_read_as_they_are_declared() -> None:
    assert rows._ROW.size == ffi.sizeof("struct table_row")
    fields = dict(ffi.typeof("struct table_row").fields)
    assert [fields[name].offset for name in ("pid", "row", "ended", "comm")] == [80, 88, 116, 127]


def compare(block: bytes, parts: int) -> int:
    """Both take in a journal; returns how many frames the table applied."""
    models = (Model(), rules.reference())
    offs, off = [0], 0
    while off < len(block):
        off += int.from_bytes(block[off : off + 4], "little")
        offs.append(min(off, len(block)))
    cuts = [offs[len(offs) * part // parts] if part < parts else offs[-1] for part in range(parts + 1)]
    for first, end in itertools.pairwise(cuts):
        for model in models:
            model.apply(block[first:end])
        one, other = (rules.dump(model) for model in models)
        for key in one:
            assert one[key] == other[key], key
        for model in models:
            model.outputs.clear()
            model.queries.clear()
    one, other = (rules.held(model) for model in models)
    for key in one:
        assert one[key] == other[key], key
    return int(models[0].table.c.frames)


@pytest.mark.parametrize("path", JOURNALS, ids=lambda path: path.parent.name)
@pytest.mark.parametrize("parts", [1, 40])
def test_journals(path: Path, parts: int) -> None:
    assert compare(path.read_bytes(), parts) > 0


@pytest.mark.skipif(not Path(LARGE).is_file(), reason="AUDITNS_LARGE_JOURNAL names no recording")
def test_a_large_journal() -> None:
    data = Path(LARGE).read_bytes()
    assert compare(lzma.decompress(data) if LARGE.endswith(".xz") else data, 25) > 0
