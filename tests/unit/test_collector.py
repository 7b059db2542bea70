"""The garbage collector runs when it is told to, and only then."""

import gc
import weakref

import pytest

from auditns_connector.daemon import collector
from auditns_connector.daemon.collector import collecting
from auditns_connector.model.places import Instance, NsSet
from auditns_connector.model.process import Process
from auditns_connector.vocabulary import frames as f
from tests.unit.world import MS, World


class Knot:
    """An object that only the collector can free."""

    def __init__(self) -> None:
        self.own = self


def tied() -> "weakref.ref[Knot]":
    return weakref.ref(Knot())


def test_it_starts_by_itself_no_more_and_then_again() -> None:
    assert gc.isenabled()
    with collecting():
        assert not gc.isenabled()
        found = tied()
        kept = [[] for _ in range(5000)]  # type: ignore[var-annotated]
        assert found() is not None
        del kept
    assert gc.isenabled()


@pytest.mark.parametrize(("idle", "freed"), [(True, True), (False, False)])
def test_some_objects_are_looked_through_where_nothing_waits(idle: bool, freed: bool) -> None:
    with collecting() as run:
        gc.collect()
        found, kept = tied(), [[] for _ in range(collector.SOME)]  # type: ignore[var-annotated]
        run.look(idle=idle)
        assert (found() is None) == freed
        assert (run.young, len(kept)) == (int(freed), collector.SOME)


def test_many_are_looked_through_whatever_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collector, "MANY", 3000)
    with collecting() as run:
        gc.collect()
        found, kept = tied(), [[] for _ in range(3000)]  # type: ignore[var-annotated]
        run.look(idle=False)
        assert found() is None
        assert len(kept) == 3000


def test_what_grew_old_is_looked_through_at_last(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collector, "SOME", 1000)
    monkeypatch.setattr(collector, "FEWEST", 5000)
    with collecting() as run:
        gc.collect()
        knot: Knot | None = Knot()
        found = weakref.ref(knot)
        kept = [[[] for _ in range(1000)]]  # type: ignore[var-annotated]
        run.look(idle=True)  # it lives: now it is old
        knot = None
        while run.whole == 0:
            assert found() is not None
            kept.append([[] for _ in range(1000)])
            run.look(idle=True)
        assert found() is None
        assert len(kept) == 5


def living() -> int:
    return sum(isinstance(found, Process | Instance | NsSet) for found in gc.get_objects())


def test_what_ended_is_freed_without_the_collector() -> None:
    w = World(lifecycle=True)
    w.fork(1, 100, 1000)
    assert w.model.alive(100) is not None  # from now on it is an object, and stays one
    with collecting():
        before = living()
        for i in range(20):
            w.fork(100, 200 + i, 1010 + i, user=7001 + i, pid=8001 + i)
            w.exit(200 + i, 1010.5 + i)
            assert w.model.processes.get(200 + i) is not None  # looked at: it is an object
        assert living() > before + 40
        w.model.outputs.clear()
        w.model.queries.clear()
        w.model.forget_questions()
        w.put(f.K_MARK, 60_000, f.S_PIPELINE, arg=50_000 * MS)
        assert living() == before
