"""What a correlator remembers of its answers: who is put into cache.py, and with which words.

Everything said here of a process must be what attribution/lookup.py would find, and what apply/perf.py would make of a
plain fork, exec or exit of it; attribution/cache.c relies on that.
"""

from collections.abc import Callable
from typing import Final

from auditns_connector.attribution.cache import Answer, Known
from auditns_connector.model.containers import UNKNOWN
from auditns_connector.model.process import Process, State, first_holder, valid_interval
from auditns_connector.model.table import Model
from auditns_connector.vocabulary.timing import FOREVER

#: number and kind of an answer
Numbered = tuple[int, int]
_NOBODY: Final = 0
#: of a process that ended so long ago there will hardly be more records (ns)
_PAST: Final = 1_000_000_000


class Memory:
    """Answers about processes of ``model``; ``ns``: they tell namespaces as well."""

    def __init__(self, model: Model, *, ns: bool) -> None:
        self._model = model
        self._ns = ns
        #: made at the first answer, and then as the model was when it had taken in so much
        self._known: Known | None = None
        self._applied = -1

    def known(self, now: int) -> Known:
        """What is known, and reads stamps as the model does at ``now`` (CLOCK_MONOTONIC ns)."""
        model = self._model
        if self._known is None or not model.touched.follows(self._known):
            self._known = Known(model.touched)
            self._applied = -1
        if self._applied != model.applied:
            self._applied = model.applied
            steady = model.clock.clear_since(now)
            self._known.see(offset=model.clock.offset or 0, steady=steady, gap=model.gap_until, lag=model.lag)
        return self._known

    def forget(self) -> None:
        """The numbers mean nothing any more."""
        if self._known is not None:
            self._known.forget()

    def learn(self, known: Known, number_of: Callable[[State], Numbered | None]) -> None:
        """Remember those whose being known would have helped, and who made them, as far as there is a number."""
        processes, past = self._model.processes, self._model.now - _PAST
        found: dict[int, Answer] = {}
        for pid in known.wanted():
            process = processes.get(pid)
            if process is not None and process.end is not None and process.end < past:
                continue
            creator = process.creator[0] if process is not None and process.creator is not None else _NOBODY
            for who in (pid, creator):
                process = None if who in found else self.settled(who)
                number = None if process is None else number_of(process.state)
                if process is not None and number is not None:
                    found[who] = self._followed(known, process, number)
        if found:
            known.put(list(found.values()))

    def settled(self, pid: int) -> Process | None:
        """Process ``pid``, where what holds for it now is the answer about it until something happens."""
        model = self._model
        process = model.processes.get(pid)
        if process is None or process.epoch != model.epoch or pid in model.calls.pending or pid in model.exits.sampled:
            return None
        return None if process.thread_namespaces and self._ns else process

    def lasting(self, process: Process, number: Numbered) -> Answer:
        """The answer about ``process`` as it is now."""
        since, until = valid_interval(process)
        return Answer(
            since, until, -1, 0, 0, process.pid, number[0], 0, 0, number[1], 0, process.threads is not None,
        )  # fmt: skip

    def _followed(self, known: Known, process: Process, number: Numbered) -> Answer:
        """The same, and what of its execs and its children can be known without the model."""
        model, state = self._model, process.state
        cgroup, namespaces, alone = 0, b"", process.prev is None
        exec_ = 0 if alone else -1
        if process.execs:
            only = process.execs[-1] if alone and len(process.execs) == 1 else None
            same = only is not None and only.state.container is state.container and only.state.nsset is state.nsset
            exec_ = only.time if only is not None and same else -1
        if (
            process.end is None
            and state.container is not UNKNOWN
            and state.nsset is not None
            and not (process.unresolved or process.newborn or process.thread_namespaces)
            and process.same_namespaces()
            and model.timens.plain(process)
        ):
            namespaces = state.nsset.raw or b""
            path, cgroups = model.cgroups.path_of.get(process.sampled), process.cgroups
            if path is not None and cgroups is not None and cgroups.path(model.sample_root) == (path or "/"):
                cgroup = process.sampled
        return self.lasting(process, number)._replace(
            exec=min(exec_, FOREVER), cgroup=cgroup, set=known.set_of(namespaces), newborn=first_holder(process)
        )
