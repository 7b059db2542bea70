"""What events leave open, asked of /proc and of the kernel.

An answer is a frame, fed behind all that happened before it was read: so the model can tell an answer about one
process, or namespace, from one about the next that has its number.
"""

import os
import time
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Final

from auditns_connector.host.feed import Feed
from auditns_connector.host.namespace_queries import NsAsker
from auditns_connector.model.table import Model, Query
from auditns_connector.sources import cgroups
from auditns_connector.sources.procfs import Procfs
from auditns_connector.vocabulary import frames as f

if TYPE_CHECKING:
    from auditns_connector.audittext.scanner import InsertionPoints
    from auditns_connector.sources.cgroups import Hierarchy

_ROUNDS: Final = 4


class Questions:
    """Asks for ``model``. ``drain`` has everything that has happened by now fed; ``all_serials`` asks for the kernel's
    id of every namespace that appears, not only of those an identifier is made from."""

    def __init__(self, model: Model, feed: Feed, drain: Callable[[], None], *, all_serials: bool) -> None:
        self._model = model
        self._feed = feed
        self._drain = drain
        self._asker = NsAsker(model.namespaces, all_serials=all_serials)
        self.procfs = Procfs()
        #: the hierarchy that samples of perf are of, ``None`` before it is known
        self.hierarchy: Hierarchy | None = None
        self.counters = {"queries": 0, "resyncs": 0, "scanned": 0, "vanished": 0}

    @property
    def open(self) -> bool:
        """Whether the model wants to know something."""
        return bool(self._model.queries or self._model.namespaces.born)

    def ask_all(self) -> None:
        """Ask what the model wants to know; answers may raise further questions, the last of which wait for the next
        time where much goes on meanwhile."""
        model = self._model
        for _ in range(_ROUNDS):
            queries, model.queries = model.queries, []
            born, model.namespaces.born = model.namespaces.born, []
            if not queries and not born:
                return
            answers = [answer for query in dict.fromkeys(queries) if (answer := self.ask(query))]
            answers += [self._asker.identify(inst) for inst in self._asker.wants(born)]
            if queries or answers:
                # where nothing is there to be read any more the process has ended, which tells as much
                self._drain()
            self._feed.feed(b"".join(answers))

    def ask(self, query: Query) -> bytes | None:
        """The answer to one question, as a frame; ``None`` where there is none any more."""
        process = self._model.processes.get(query.pid)
        if process is not None and process.end is not None and query.what != "alive":
            return None  # its end has been seen: there is nothing left in /proc to read
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
        proofs = self._asker.proofs()
        if proofs:
            self._drain()
            self._feed.feed(b"".join(proofs))
            self.ask_all()
        return self._asker.waiting

    def numbered(self) -> bytes:
        """Frames that say which serials namespaces have."""
        return self._asker.numbered()

    def want_all_serials(self) -> None:
        """Ask for the kernel's id of every namespace from now on."""
        if not self._asker.all_serials:
            self._asker.all_serials = True
            self._asker.ask_again()
