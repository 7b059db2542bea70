"""What events leave open, asked of /proc and of the kernel.

An answer is a frame, fed behind all that happened before it was read: so the model can tell an answer about one
process, or namespace, from one about the next that has its number.
"""

import os
import time
from collections import deque
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Final

from auditns_connector.host.feed import Feed
from auditns_connector.host.namespace_queries import NsAsker
from auditns_connector.host.pacing import Pacing
from auditns_connector.model.apply.dispatch import Model
from auditns_connector.model.outputs import Query
from auditns_connector.sources import cgroups
from auditns_connector.sources.procfs import Procfs
from auditns_connector.vocabulary import frames as f

if TYPE_CHECKING:
    from auditns_connector.attribution.exec_programs import ExecPrograms
    from auditns_connector.audittext.scanner import InsertionPoints
    from auditns_connector.sources.cgroups import Hierarchy

_ROUNDS: Final = 4
#: where much happens, namespaces that began no longer ago than this are asked for the next time (ns): few will be left
_YOUNG: Final = 50_000_000
#: while we are behind nothing is asked more often than this (ns)
_ASK_EVERY: Final = 250_000_000
#: so many questions are looked through for those that have lost their point
_MANY: Final = 4096


class Questions:
    """Asks for ``model``. ``drain`` has everything that has happened by now fed, ``pacing`` knows whether that is much;
    ``all_serials`` asks for the kernel's id of every namespace that appears, not only of those an identifier is made
    from."""

    def __init__(
        self, model: Model, feed: Feed, drain: Callable[[], None], pacing: Pacing, *, all_serials: bool
    ) -> None:
        self._model = model
        self._feed = feed
        self._drain = drain
        self._pacing = pacing
        #: when something was asked while we were behind, and answers that came before their time: (time, frames)
        self._asked = 0
        self._early: deque[tuple[int, bytes]] = deque()
        self._listed = False
        self._asker = NsAsker(model.namespaces, all_serials=all_serials)
        self.procfs = Procfs()
        #: the hierarchy that samples of perf are of, ``None`` before it is known
        self.hierarchy: Hierarchy | None = None
        self._programs: ExecPrograms | None = None
        self.counters = {"queries": 0, "resyncs": 0, "scanned": 0, "vanished": 0}

    @property
    def open(self) -> bool:
        """Whether the model wants to know something."""
        return bool(self._model.queries or self._model.namespaces.born or self._model.table.c.borns)

    def ask_all(self) -> None:
        """Ask what the model wants to know; answers may raise further questions, the last of which wait for the next
        time where much goes on meanwhile."""
        model = self._model
        for _ in range(_ROUNDS):
            self._drop_moot()
            if not self.open:
                return
            asked, answers = bool(model.queries), self._answers()
            if asked or answers:
                # where nothing is there to be read any more the process has ended, which tells as much
                self._drain()
            self._feed.feed(answers)
            if self._pacing.heavy:
                return

    def ask_wanted(self) -> None:
        """:meth:`ask_all`, but while kernel events of long ago are being applied, answers wait for what happened before
        they were read."""
        while self._early and self._early[0][0] <= self._pacing.drained_to:
            self._feed.feed(self._early.popleft()[1])
        if not self.open:
            return
        now = time.monotonic_ns()
        if not self._pacing.far(now):
            self.ask_all()
        elif now - self._asked > _ASK_EVERY:
            self._asked = now
            self._drop_moot()
            self._feed.feed(self._asker.too_late(self._pacing.drained_to))
            answers = self._answers()
            self._early.append((time.monotonic_ns(), answers))

    def _answers(self) -> bytes:
        """The answers to all there is to be asked."""
        model = self._model
        queries, model.queries = model.queries, []
        born, model.namespaces.born = model.namespaces.born, []
        answers = [answer for query in queries if (answer := self.ask(query))]
        answers += [self._asker.identify(inst) for inst in self._asker.wants(born)]
        answers += self._asker.of_table(model.table, _YOUNG if self._pacing.heavy else 0)
        return b"".join(answers)

    def drop_moot(self) -> None:
        """Where there are many questions, leave out those that have lost their point."""
        if len(self._model.queries) > _MANY:
            self._drop_moot()

    def _drop_moot(self) -> None:
        queries = self._model.queries
        if queries:
            self._model.queries = [query for query in dict.fromkeys(queries) if not self._moot(query)]

    def _moot(self, query: Query) -> bool:
        """The end of the process has been seen: there is nothing left in /proc to read."""
        process = self._model.processes.get(query.pid)
        return process is not None and process.end is not None and query.what != "alive"

    def ask(self, query: Query) -> bytes | None:
        """The answer to one question, as a frame; ``None`` where there is none any more."""
        if self._moot(query):
            return None
        self.counters["queries"] += 1
        if query.what == "alive":
            return self.procfs.read_alive(query.pid)
        if query.what == "proc":
            answer: bytes | None = self.procfs.read_process(query.pid)
        else:
            path = cgroups.cgroup_path(self.hierarchy, query.cgroup) if self.hierarchy is not None else None
            answer = None
            if path is not None:
                text = path.encode("utf-8", "surrogateescape") + b"\0"
                answer = f.pack(f.K_CGROUP, f.S_PROCFS, time.monotonic_ns(), cgroup=query.cgroup, payload=text)
        if answer is None:
            self.counters["vanished"] += 1
        return answer

    def ask_now(self, pid: int) -> bool:
        """Read process ``pid`` from /proc into the model at once; False when it is gone."""
        answer = self.ask(Query("proc", pid))
        if answer is not None:
            self._feed.feed(answer)
        return answer is not None

    def take_calls(self, points: "InsertionPoints", nodes: Collection[bytes]) -> None:
        """Ask /proc about the processes that audit says have called unshare or setns (namespace source "audit")."""
        from auditns_connector.host.audit_calls import call_frames

        self._feed.feed(call_frames(points, self._model.clock, time.monotonic_ns(), os.getpid(), nodes))
        self.ask_all()

    def take_logins(self, points: "InsertionPoints", nodes: Collection[bytes], held: bytes) -> None:
        """Have the model know the LOGIN records among ``points``, and in ``held``, the text behind them."""
        from auditns_connector.host.audit_logins import login_frames

        self._feed.feed(login_frames(points, self._model.clock, time.monotonic_ns(), nodes, held)[0])
        self.ask_all()

    def take_sessions(self, points: "InsertionPoints", nodes: Collection[bytes]) -> None:
        """Have the model know what records among ``points`` say of sessions that are open."""
        from auditns_connector.host.audit_logins import session_frames

        self._feed.feed(session_frames(points, self._model, time.monotonic_ns(), nodes))

    def take_programs(self, points: "InsertionPoints", now: int, nodes: Collection[bytes]) -> None:
        """Have the model know the programs that records of execs among ``points`` name."""
        if self._programs is None:
            from auditns_connector.attribution.exec_programs import ExecPrograms

            self._programs = ExecPrograms(self._model)
        self._feed.feed(self._programs.frames(points, now, nodes))

    # -- namespaces

    def name_namespaces(self, pid: int) -> None:
        """Ask the kernel for the ids of all namespaces that process ``pid`` is in and that have no serial yet."""
        process = self._model.alive(pid)
        if process is None or process.state.nsset is None:
            return
        unknown = [inst for inst in process.state.nsset.inst if inst is not None and inst.serial is None]
        answers = [self._asker.identify(inst) for inst in unknown]
        if answers:
            self._drain()
        self._feed.feed(b"".join(answers))

    def prove(self) -> bool:
        """Ask the kernel whether namespaces without tasks are gone; True when it should be asked again soon."""
        self.list_unseen()
        proofs = self._asker.proofs()
        if proofs:
            self._drain()
            self._feed.feed(b"".join(proofs))
            self.ask_all()
        return self._asker.waiting

    def numbered(self) -> bytes:
        """Frames that say which serials namespaces have."""
        self._model.table.fetch_lives()
        return self._asker.numbered() + self._asker.held()

    def list_namespaces(self, *, news: bool = False) -> None:
        """Have the model know the kernel's list of namespaces, those included that no process is in. ``news``: such
        as the list before did not have have begun since, which perf alone may say."""
        self._take_list(self._asker.list_all(news=news and self._model.perf))

    def list_unseen(self) -> None:
        """Look for namespaces that have begun without an event, where somebody wants the lifecycle of namespaces."""
        if self._model.lifecycle and self._model.perf:
            self._take_list(self._asker.list_unseen())

    def _take_list(self, listed: bytes) -> None:
        if len(listed) > f.HEADER_SIZE or (listed and not self._listed):
            self._listed = True
            self._drain()
            self._feed.feed(listed)

    def want_all_serials(self) -> None:
        """Ask for the kernel's id of every namespace from now on."""
        if not self._asker.all_serials:
            self._model.table.fetch_lives()
            self._asker.all_serials = True
            self._asker.ask_again()
            self.list_namespaces()
