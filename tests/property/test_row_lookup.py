"""What rows answer is what would be found where there are no rows, whatever has happened in between."""

from typing import Any
from unittest import mock

from hypothesis import given
from hypothesis import strategies as st

from auditns_connector.attribution import attributor as correlate
from auditns_connector.attribution.attributor import Correlator
from auditns_connector.model.apply.perf import CLONE_INTO_CGROUP
from auditns_connector.vocabulary import frames as f
from tests.examples import examples
from tests.unit.world import MS, REAL, World

from .test_grouping import points_of

PIDS = (100, 101, 102, 103)
OTHER = 1000
PLACES = ("/", *(f"/system.slice/docker-{letter * 64}.scope" for letter in "ab"))
PID = st.sampled_from(PIDS)
LIVES = st.one_of(
    st.tuples(st.sampled_from(["born", "born", "execed", "execed", "left"]), PID, PID),
    st.tuples(st.sampled_from(["exec", "exit", "exit_sample", "thread", "into", "sampled", "second"]), PID, PID),
    st.tuples(st.sampled_from(["changes_user", "exit_alone"]), PID, PID),
    st.tuples(st.sampled_from(["unshare", "setns", "called", "proc"]), PID, PID),
    st.tuples(st.just("fork"), st.sampled_from((1, *PIDS)), PID),
    st.tuples(st.just("attach"), PID, st.sampled_from(PLACES)),
)
TROUBLE = st.tuples(
    st.sampled_from(["lost", "expire", "clock", "scan", "lost_connector", "rules"]), st.none(), st.integers(0, 3000)
)
STEP = st.integers(0, 15).flatmap(lambda number: LIVES if number else TROUBLE)
ASK = st.none() | st.lists(st.tuples(PID, st.sampled_from([0, 1, 30, 1000, 3000, 12_000]), st.booleans()), max_size=4)
HISTORY = st.lists(st.tuples(st.sampled_from([0, 1, 20, 2000]), STEP, ASK), min_size=1, max_size=30)


class Answers:
    """A world and whoever answers from it: from blocks of text (``many`` 1), or a few points at a time, rows first."""

    def __init__(self, ns: str, many: int, *, packs: bool = True, replayed: bool = False) -> None:
        self.world = World(timens=True)
        self.world.model.packs = packs
        for number, place in enumerate(PLACES, 50):
            self.world.put(f.K_CGROUP, cgroup=number, payload=place.encode() + b"\0")
        for pid in PIDS:
            self.world.proc(pid, 1, 0, cg=PLACES[pid % 3])
        self.now = 5000.0
        self.many = many
        self.by_rows = 0
        self.correlator = Correlator(self.world.model, ns=ns)
        #: the text is older than the moment at which it is answered, as in a replay
        self.correlator.next_stamps = replayed

    def step(self, wait: int, name: str, who: Any, what: Any) -> None:
        """One step, ``wait`` ms after the last."""
        self.now += wait + 0.01
        w, now = self.world, self.now
        if name == "born":
            w.put(f.K_FORK, now, pid=what, tid=what, ppid=who, ptid=who, payload=w.ns())
        elif name == "second":
            w.put(f.K_FORK, now, pid=who, tid=OTHER + what, ppid=who, ptid=who, payload=w.ns())
        elif name == "execed":
            w.exec(who, now, cgroup=50 + what % 3)
        elif name == "left":
            w.put(f.K_EXIT_SAMPLE, now, pid=who, tid=who, cgroup=50 + who % 3)
            w.put(f.K_EXIT, now, pid=who, tid=who)
        elif name == "changes_user":
            w.changes_user(who, now, cgroup=50 + what % 3)
        elif name == "exit_alone":
            w.put(f.K_EXIT, now, pid=who, tid=who)
        elif name == "fork":
            w.fork(who, what, now)
        elif name == "thread":
            w.thread(who, OTHER + what, now)
        elif name == "exec":
            w.exec(who, now)
        elif name == "into":
            w.put(f.K_NEWTASK, now, tid=who, arg=CLONE_INTO_CGROUP)
        elif name == "sampled":
            w.exec(who, now, cgroup=max(w.cgroups))
        elif name == "exit":
            w.exit(who, now)
        elif name == "exit_sample":
            w.put(f.K_EXIT_SAMPLE, now, pid=who, tid=who)
        elif name == "unshare":
            w.unshare(who, now, pid=4026539000 + what)
        elif name == "setns":
            w.put(f.K_SETNS, now, pid=who, tid=who)
        elif name == "called":
            w.called_unshare(who, now, now + 0.005, pid=4026539100 + what)
        elif name == "attach":
            w.attach(who, what, now)
        elif name == "proc":
            w.proc(who, 1, now, start=now - 100, cg=PLACES[what % 3])
        elif name == "lost":
            w.put(f.K_LOST, now, cgroup=max(int((now - what) * MS), 1))
        elif name == "lost_connector":
            w.put(f.K_LOST, now, source=f.S_CN)
        elif name == "expire":
            w.put(f.K_MARK, now, source=f.S_PIPELINE, arg=max(int((now - what) * MS), 1))
        elif name == "rules":
            w.put(f.K_RULES, now, source=f.S_AUDIT, arg=what % 4)
        elif name == "clock":
            w.put(f.K_CLOCK, now, source=f.S_PIPELINE, arg=REAL + what * MS)
        else:
            w.put(f.K_RESYNC, now, source=f.S_PROCFS, arg=1)
            for pid in PIDS[: what % 4]:
                w.proc(pid, 1, now, cg=PLACES[(pid + what) % 3])
            w.put(f.K_RESYNC, now, source=f.S_PROCFS, arg=2)

    def ask(self, rows: list[tuple[int, int, bool]]) -> list[object]:
        """What is answered about records of these processes, so many ms ago; True: they tell of an exec."""
        first, now = int(self.now) + REAL // MS, int(self.now * MS)
        points = points_of([(pid, 5 if exec_ else 1, -before) for pid, before, exec_ in rows], first)
        for i in range(points.n):
            points.serial[i] = 1 + i // 2
        choice = self.correlator.answer_ready(points, now) if self.many > 1 and self.world.model.packs else None
        self.by_rows += choice is not None
        if choice is None:
            with mock.patch.object(correlate, "_MANY", self.many), mock.patch.object(correlate, "_LASTING", -(10**18)):
                choice = self.correlator.answer(points, now)
        counted = (self.correlator.attributed, self.correlator.unknown)
        return [bytes(self._text(number)) for number in choice] + [counted]

    def told(self) -> list[object]:
        """What is known of execs that no record has told of."""
        processes = self.world.model.processes
        return [
            (pid, process.not_before, [e.time for e in process.execs or ()])
            for pid in PIDS
            if (process := processes.get(pid)) is not None
        ]

    def _text(self, number: int) -> bytes:
        tails = self.correlator.tails[0]
        return tails._text[tails._off[number - 1] : tails._off[number]] if number else b""


@examples(600)
@given(HISTORY, st.sampled_from(["off", "all"]), st.booleans())
def test_what_rows_answer_is_what_would_be_found(
    history: list[tuple[int, Any, list[tuple[int, int, bool]] | None]], ns: str, replayed: bool
) -> None:
    blocks, few = (Answers(ns, many, replayed=replayed) for many in (1, 1 << 30))
    asking = Answers(ns, 1 << 30, packs=False, replayed=replayed)
    for wait, step, rows in history:
        for answers in (blocks, few, asking):
            answers.step(wait, *step)
        if rows is None:
            continue
        for wanted in (rows, [(pid, 0, False) for pid in PIDS]):
            answered = asking.ask(wanted)
            assert blocks.ask(wanted) == answered
            assert few.ask(wanted) == answered
    assert blocks.told() == few.told() == asking.told()


def asked(told: Answers, pids: tuple[int, ...], before: int = 0) -> list[int]:
    """Which of ``pids`` is looked at, to answer one point of each."""
    seen = []

    def plain(self: Correlator, pid: int, *rest: Any) -> Any:
        seen.append(pid)
        return Correlator.__dict__["_real_plain"](self, pid, *rest)

    with (
        mock.patch.object(Correlator, "_real_plain", Correlator._plain, create=True),
        mock.patch.object(Correlator, "_plain", plain),
    ):
        told.ask([(pid, before, False) for pid in pids])
    return seen


def test_nobody_is_looked_at_twice_until_something_has_happened_to_it() -> None:
    told = Answers("off", 1)
    assert asked(told, PIDS) == list(PIDS)
    assert asked(told, PIDS) == []
    told.step(1, "exec", 101, None)  # plain
    told.step(1, "unshare", 101, 0)
    told.step(1, "attach", 102, PLACES[0])
    assert asked(told, PIDS) == [101, 102]
    assert asked(told, PIDS, before=5000) == list(PIDS)  # what rows have does not hold for that time
    assert asked(told, (103, 103)) == []
    told.step(1, "lost", None, 10)
    assert asked(told, PIDS) == list(PIDS)


def test_a_child_is_answered_without_being_looked_at() -> None:
    told = Answers("off", 1 << 30)
    for child in (101, 102, 103):
        told.step(1, "left", child, None)
    told.ask([(100, 0, False)])
    told.step(30_000, "expire", None, 0)
    told.step(1, "born", 100, 101)
    told.step(1, "execed", 101, 1)
    told.ask([(101, 0, True)])  # from now on there is a number for the children of 100
    for child in (102, 103):
        told.step(1, "born", 100, child)
        told.step(1, "execed", child, 1)
        before = told.by_rows
        told.ask([(child, 0, True)])
        told.ask([(child, 0, False)])
        told.step(1, "left", child, None)
        told.ask([(child, 1, False)])
        assert told.by_rows - before == 3
        told.ask([(child, 5, True)])  # there was one exec alone
        assert told.by_rows - before == 3


def test_two_who_answer_from_one_model_do_not_take_one_anothers_numbers() -> None:
    told = Answers("off", 1 << 30)
    rows = [(pid, 0, False) for pid in PIDS]
    first = told.ask(rows)[:-1]
    assert told.ask(rows)[:-1] == first
    told.correlator, one = Correlator(told.world.model), told.correlator
    assert told.ask(rows[::-1])[:-1] == first[::-1]  # its texts are numbered in another order
    told.correlator = one
    assert told.ask(rows)[:-1] == first
