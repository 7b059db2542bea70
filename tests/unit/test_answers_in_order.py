"""What is drained before an answer is applied in its order, and an exec is answered once, by rows or the long way."""

from auditns_connector.attribution.attributor import Correlator
from auditns_connector.host.observer import Observer
from auditns_connector.vocabulary import frames as f
from auditns_connector.vocabulary.namespaces import FLAGS, INITIAL_INODES_618
from tests.property.test_grouping import points_of

from .test_observer import Deaf, Rings
from .world import HEX, MS, REAL, World

ONE, TWO = f"/docker/{HEX}", f"/docker/{'ab' * 32}"
PLACES = {50: "/", 51: ONE, 52: TWO}


def at(ms: float, kind: int, **fields: object) -> bytes:
    return f.pack(kind, f.S_PERF, int(ms * MS), **fields)  # type: ignore[arg-type]


def exec_(ms: float, cgroup: int = 0) -> bytes:
    return at(ms, f.K_EXEC, pid=100, tid=100, ppid=100, cgroup=cgroup, payload=b"/bin/x\0")


def attach(ms: float, number: int) -> bytes:
    return at(ms, f.K_ATTACH, tid=100, cgroup=number, payload=PLACES[number].encode() + b"\0")


class Answering:
    """A world with process 100, an observer that is told what is drained, and who asks as the pipeline does."""

    def __init__(self, ns: str = "off", observer: type[Observer] = Observer, **hello: object) -> None:
        self.world = World(**hello)  # type: ignore[arg-type]
        self.model = self.world.model
        for number, place in PLACES.items():
            self.world.put(f.K_CGROUP, cgroup=number, payload=place.encode() + b"\0")
        self.world.put(f.K_RULES, source=f.S_AUDIT, at=1, arg=f.RULES_EXECS)
        self.world.proc(100, 1, 0, ns={**INITIAL_INODES_618, "time_for_children": INITIAL_INODES_618["time"]})
        self.rings = Rings()
        self.observer = observer(self.model, perf=self.rings)
        self.correlator = Correlator(self.model, ns=ns)

    def drain_to_now(self, ms: float, block: bytes) -> None:
        self.observer.absorb(int(ms * MS), block)

    def ask(self, ms: float, flags: int = 1, before: int = 0) -> bytes:
        """The text about a record of 100, stamped ``before`` ms ago."""
        points, now = points_of([(100, flags, -before)], int(ms) + REAL // MS), int(ms * MS)
        choice = self.correlator.answer_ready(points, now)
        if choice is None:
            choice = self.correlator.answer(points, now)
        tails = self.correlator.tails[0]
        return bytes(tails._text[tails._off[choice[0] - 1] : tails._off[choice[0]]]) if choice[0] else b""


def test_an_exec_that_a_row_answered_is_no_candidate_for_the_next_one() -> None:
    a = Answering()
    a.drain_to_now(19_000, exec_(19_000, 50))
    a.ask(19_001, 5, 1)
    a.ask(20_000)
    a.drain_to_now(20_010, exec_(20_010, 50) + at(20_010, f.K_SETNS, pid=1, tid=1))
    assert a.ask(20_011, 5, 1) == b""
    a.drain_to_now(20_011.5, attach(20_011.5, 51))
    a.drain_to_now(20_013, exec_(20_013, 51))
    assert b"contid=" in a.ask(20_014, 5, 3)
    a.observer.close()


def test_what_is_drained_for_an_answer_comes_behind_what_was_drained_before() -> None:
    a = Answering()
    a.drain_to_now(19_000, exec_(19_000, 50))
    a.ask(19_001, 5, 1)
    a.ask(20_000)
    del a.model.cgroups.path_of[50]  # as very many cgroups would: the exec raises a question
    a.model.table.forget_cgroup(50)
    a.rings.blocks = [attach(20_003, 52)]
    a.drain_to_now(20_002, exec_(20_001, 50) + attach(20_002, 51))
    assert a.model.processes[100].state.since == 20_003 * MS
    a.observer.close()


def test_an_exec_into_another_time_namespace_is_no_plain_one() -> None:
    a = Answering("all", Deaf, timens=True, kernel="6.12.0")
    inodes = {**INITIAL_INODES_618, "time_for_children": INITIAL_INODES_618["time"] + 500}
    a.world.put(f.K_UNSHARE, 1000, pid=100, tid=100, arg=FLAGS["time"])
    a.world.unshare(100, 1000.1)
    a.world.proc(100, 1, 1001, ns=inodes)
    a.world.put(f.K_MARK, 25_000, source=f.S_PIPELINE, arg=20_000 * MS)
    before = a.ask(30_000)
    assert a.ask(30_000) == before != b""
    a.drain_to_now(30_001, exec_(30_001))
    assert a.ask(31_000) != before
    a.observer.close()
