"""The order in which what is asked and what happened come to the model."""

import os
from typing import Any

from auditns_connector.host.observer import Observer
from auditns_connector.model.apply.dispatch import Model
from auditns_connector.model.outputs import Query
from auditns_connector.vocabulary import frames as f

NOBODY = 2**22 - 1


class Rings:
    """A source of kernel events; each drain gives the next block."""

    def __init__(self, *blocks: bytes) -> None:
        self.blocks = list(blocks)

    def drain(self, cut: int | None = None) -> bytes:
        return self.blocks.pop(0) if self.blocks else b""

    def look(self, clock: object) -> tuple[int, bool, bytes]:
        return 20, False, self.drain()

    def close(self) -> None:
        pass


class Deaf(Observer):
    """Asks nobody anything."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.questions.ask_all = self._drop  # type: ignore[method-assign]
        self.bootstrap.scan = lambda: None  # type: ignore[method-assign]

    def _drop(self) -> None:
        self.model.queries.clear()
        self.model.forget_questions()


def test_the_end_of_a_process_that_vanished_before_it_was_asked_is_known_before_the_answer() -> None:
    exit_ = f.pack(f.K_EXIT_SAMPLE, f.S_PERF, 20, pid=NOBODY, tid=NOBODY)
    exit_ += f.pack(f.K_EXIT, f.S_PERF, 20, pid=NOBODY, tid=NOBODY)
    model = Model()
    observer = Observer(model, perf=Rings(exit_))
    observer.feed(f.pack(f.K_FORK, f.S_PERF, 10, pid=NOBODY, tid=NOBODY, ppid=1, ptid=1))
    model.queries = [Query("proc", NOBODY)]
    observer.questions.ask_all()
    assert observer.counters["vanished"] == 1
    assert model.processes[NOBODY].end == 20
    observer.close()


def test_questions_that_come_up_while_others_are_asked_are_asked_too_however_many() -> None:
    model = Model()

    class Busy(Rings):
        raised = 0

        def drain(self, cut: int | None = None) -> bytes:
            if self.raised < 10:
                self.raised += 1
                model.ask(NOBODY - self.raised)
            return b""

    rings = Busy()
    observer = Observer(model, perf=rings)
    for _ in range(4):
        observer.sync()
    assert rings.raised == observer.counters["queries"] == 10
    assert not model.queries
    observer.close()


def test_nothing_is_asked_about_a_process_whose_end_is_known() -> None:
    model = Model()
    observer = Observer(model, perf=None)
    for kind in (f.K_FORK, f.K_EXIT):
        observer.feed(f.pack(kind, f.S_PERF, 20, pid=os.getpid(), tid=os.getpid(), ppid=1, ptid=1))
    assert observer.questions.ask(Query("proc", os.getpid())) is None
    assert observer.counters["queries"] == 0
    observer.feed(f.pack(f.K_FORK, f.S_PERF, 30, pid=os.getpid(), tid=os.getpid(), ppid=1, ptid=1))
    assert observer.questions.ask(Query("proc", os.getpid())) is not None
