"""What the model must know before the first event, and what a journal that begins anew must hold: HELLO, all that /proc
shows, the namespaces' numbers, what is registered."""

import json
import os
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from auditns_connector.host.adoption import with_parents
from auditns_connector.host.feed import Feed
from auditns_connector.host.rollback import NEEDS, roll_back
from auditns_connector.journal.files import JournalWriter
from auditns_connector.model.apply.dispatch import Model
from auditns_connector.sources import cgroups
from auditns_connector.sources.loginuids import read_all
from auditns_connector.sources.parents import NOT_READ, Parents
from auditns_connector.state.namespace_serials import SerialStore, unused
from auditns_connector.vocabulary import frames as f
from auditns_connector.vocabulary.namespaces import INITIAL_INODES, INITIAL_INODES_618, SANDBOX
from auditns_connector.vocabulary.values import JsonObject

if TYPE_CHECKING:
    from collections.abc import Callable

    from auditns_connector.host.questions import Questions

#: what happened longer ago than this was in the journal's last good block (ns)
_BEHIND: Final = 2_000_000_000


def boot_id() -> str:
    """The kernel's random id of this boot."""
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        return file.read().strip()


def initial_inodes() -> dict[str, int]:
    """Inodes of the initial namespaces; net and mnt are left out where neither constants nor pid 1 tell."""
    found = dict(INITIAL_INODES)
    for name in ("net", "mnt"):
        try:
            link = os.readlink(f"/proc/1/ns/{name}")
        except OSError:
            link = os.readlink(f"/proc/self/ns/{name}")
            if f"[{INITIAL_INODES_618[name]}]" not in link:
                continue
        found[name] = int(link.partition("[")[2].rstrip("]"))
    return found


class Bootstrap:
    """Frames that say what was there before the first event. ``options`` go into HELLO as they are; ``events`` drains
    what has happened by now."""

    def __init__(
        self, model: Model, feed: Feed, questions: "Questions", options: JsonObject, events: "Callable[[], bytes]"
    ) -> None:
        self._model = model
        self._feed = feed
        self._questions = questions
        self._options = options
        self._events = events
        #: what only the opened sources know of HELLO, see :class:`observer.Observer`
        self.sources: JsonObject = {}
        #: who was whose child before the sources were opened, for the first scan
        self.parents: Parents = NOT_READ
        #: the serials of a former run of ours
        self.store: SerialStore | None = None
        self._run = time.monotonic_ns()

    def hello(self) -> None:
        """HELLO: what this host and this run are."""
        hierarchies = cgroups.hierarchies()
        number = cgroups.perf_hierarchy()
        self._questions.hierarchy = next((h for h in hierarchies if h.id == number), None)
        hello = {
            "v": 1,
            "guard": 1,
            "boot_id": boot_id(),
            "run": self._run,
            "self": os.getpid(),
            "kernel": os.uname().release,
            "node": os.uname().nodename,
            "lifecycle": self._model.lifecycle,
            "timens": os.path.exists("/proc/self/ns/time"),
            "initial": initial_inodes(),
            "mint_next": max(self.store.first if self.store else unused(), self._model.namespaces.mint_next),
            "ns_dev": os.stat("/proc/self/ns/pid").st_dev,
            "sample_root": number,
            "v2_only": [h.id for h in hierarchies] == [0],
            "lag_ns": 8_000_000 + int(time.clock_getres(6) * 1e9),  # CLOCK_REALTIME_COARSE: a tick
            "sandbox_types": list(SANDBOX),
            **self.sources,
            **self._options,
        }
        payload = json.dumps(hello).encode()
        self._feed.feed(f.pack(f.K_HELLO, f.S_PIPELINE, time.monotonic_ns(), payload=payload))

    def scan(self, moment: int = 0) -> None:
        """Everything /proc shows, between two RESYNC frames, as it was at ``moment`` (CLOCK_MONOTONIC ns; 0: now), from
        which on the kernel's events are yet to be drained; and these."""
        questions, whole, early = self._questions, bool(moment), b""
        parents, self.parents = self.parents, NOT_READ
        questions.counters["resyncs"] += 1
        if not moment:
            early = self._events()
            self._feed.feed(early)
            moment = time.monotonic_ns()
        out = [f.pack(f.K_RESYNC, f.S_PROCFS, moment, arg=1), *self._cgroups(moment)]
        before = questions.procfs.counters()["read"]
        blocks = [(time.monotonic_ns(), block) for block in questions.procfs.scan(parents.all)]
        questions.counters["scanned"] += questions.procfs.counters()["read"] - before
        events, ended = self._events(), f.pack(f.K_RESYNC, f.S_PROCFS, moment, arg=2)
        if parents is not NOT_READ:
            blocks = with_parents(early + events, blocks, parents)
        rolled = roll_back(moment, events, blocks, whole=whole) if self._can_roll_back() else None
        if rolled is None:
            self._feed.feed(b"".join([*out, *(block for _, block in blocks), ended, events]))
        else:
            self._feed.feed(b"".join([*out, rolled.before, ended, rolled.since]))
        for pid in rolled.ask if rolled is not None else ():
            self._model.ask(pid)
        who, now = read_all(), time.monotonic_ns()
        for kind, payload in ((f.K_LOGINS, who.logins), (f.K_PROGRAMS, who.programs)):
            self._feed.feed(f.pack(kind, f.S_PROCFS, now, payload=payload) if payload else b"")

    def _cgroups(self, moment: int) -> Iterator[bytes]:
        """The paths of the cgroups that there are, by their ids."""
        hierarchy = self._questions.hierarchy
        for number, path in (cgroups.cgroup_paths(hierarchy) if hierarchy is not None else {}).items():
            text = path.encode("utf-8", "surrogateescape") + b"\0"
            yield f.pack(f.K_CGROUP, f.S_PROCFS, moment, cgroup=number, payload=text)

    def _can_roll_back(self) -> bool:
        """Whether perf tells all that changes what a scan shows."""
        return bool(self.sources.get("perf")) and NEEDS.issubset(self.sources.get("features", ()))

    def restore(self) -> None:
        """What a former run has numbered."""
        if self.store is not None:
            self._feed.feed(self.store.restored(self._model))

    # -- a journal that begins anew

    def begin_again(
        self, now: int, source: int, sample_clock: "Callable[[], None]", torn: JournalWriter | None = None
    ) -> None:
        """What a journal begins with at ``now``; one that was ``torn`` tells a replay so, as a loss of ``source``. Here
        it changes nothing."""
        from auditns_connector.sources.idmaps import idmap_frame

        feed = self._feed.feed
        self.hello()
        if torn is not None:
            since = max(torn.settled - _BEHIND, 1)
            torn.write(f.pack(f.K_LOST, source, time.monotonic_ns(), cpu=f.CPU_UNKNOWN, cgroup=since))
        sample_clock()
        self.scan()
        feed(self._questions.numbered())
        for inst, maps in self._model.inside.current_maps():
            feed(idmap_frame(inst, maps._asdict(), now))
        self._registrations(now)

    def _registrations(self, now: int) -> None:
        """A rotated journal begins with what is registered; here it changes nothing."""
        packets, registry = self._model.packets, self._model.registry
        for about in packets.snapshot():
            self._feed.feed(f.pack(f.K_ADDRS, f.S_PROCFS, now, payload=json.dumps(about).encode()))
        if packets.marks:
            self._register(now, {"op": "marks", "marks": sorted(packets.marks.items())})
        if (expected := self._model.expectations.snapshot()) is not None:
            self._register(now, expected)
        kept = self._keeps_entries or self._model.checkpoints.dumps
        if registry.living() or registry.delegates or self._model.inside.kept or kept:
            from auditns_connector.model.apply.restore_requests import requests_of

            for request in requests_of(self._model, now):
                self._register(now, request)

    @property
    def _keeps_entries(self) -> bool:
        return self._model.entries.kept or self._model.logins.kept

    def _register(self, now: int, request: JsonObject) -> None:
        self._feed.feed(f.pack(f.K_REGISTER, f.S_CONTROL, now, payload=json.dumps(request).encode()))
