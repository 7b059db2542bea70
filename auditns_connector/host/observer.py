"""The host as the model should see it: kernel events drained, /proc asked where events leave a question, all of it
journaled in the order it was taken in.

The order at the start is *subscribe, scan /proc, replay what arrived meanwhile*, so that nothing falls between. Before
audit events are answered, :meth:`Observer.look` drains every source up to now: what happened before is in hand. What
need not be known for answers that are remembered waits there, up to a second; whoever asks the model has it taken in
first, and :meth:`Observer.sync` does both.
"""

import json
import os
import time
from collections import deque
from collections.abc import Callable, Collection, Iterator
from typing import TYPE_CHECKING, Final

from auditns_connector._native import ffi, lib
from auditns_connector.attribution.exec_match import execs_told
from auditns_connector.auditrules.watch import RuleWatch
from auditns_connector.daemon.process import growing
from auditns_connector.host.namespace_queries import NsAsker
from auditns_connector.journal.files import JournalWriter, ranges
from auditns_connector.model.table import Model, Query
from auditns_connector.state.namespace_serials import SerialStore, unused
from auditns_connector.vocabulary import frames as f
from auditns_connector.vocabulary.namespaces import INITIAL_INODES, INITIAL_INODES_618, SANDBOX
from auditns_connector.vocabulary.values import CData, JsonObject

if TYPE_CHECKING:
    from auditns_connector.audittext.scanner import InsertionPoints
    from auditns_connector.sources.cgroups import Hierarchy
    from auditns_connector.sources.connector import ConnectorSource
    from auditns_connector.sources.perf import PerfSource
    from auditns_connector.sources.pidns import PidnsRing

#: dead processes are kept this long for audit records still on their way (ns)
KEEP: Final = 20_000_000_000
#: an offset that moved this much is worth a CLOCK frame (ns)
_CLOCK_STEP: Final = 100_000
_ROUNDS: Final = 4
#: what happened longer ago than this was in the journal's last good block (ns)
_BEHIND: Final = 2_000_000_000
#: records of a process are not expected so long after its end (ns); those that come are answered all the same
_LATE: Final = 2_000_000_000
#: frames that wait are taken in when they are more than this: some two hundred of them (bytes)
MUCH: Final = 16384
#: so many bytes of frames are taken in at once
_PART: Final = 1 << 15
#: of no frame
_NO_KIND: Final = 255
#: without any source of events /proc is read no more often than this (ns)
POLL: Final = 200_000_000


def _nothing() -> None:
    """Nobody else is to be served."""


def _parts(block: bytes) -> Iterator[bytes]:
    """Whole frames of ``block``, in parts of which each takes some milliseconds to be taken in."""
    if len(block) <= _PART:
        yield block
        return
    view, found, off = ffi.from_buffer(block), ffi.new("int *"), 0
    while off < len(block):
        end = int(lib.frames_seek(view, min(off + _PART, len(block)), off, _NO_KIND, f.MAX_FRAME, found))
        if found[0] < 0 or end == off:
            end = len(block)  # the model says what is wrong with it
        yield block[off:end]
        off = end


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


class Observer:
    """Feeds ``model`` from this host. ``perf`` and ``connector`` are sources or ``None``; ``all_serials`` asks for the
    kernel's id of every namespace that appears, not only of those an identifier is made from."""

    def __init__(
        self,
        model: Model,
        *,
        perf: "PerfSource | None",
        connector: "ConnectorSource | None" = None,
        ns_source: str = "perf",
        journal: JournalWriter | None = None,
        all_serials: bool = False,
        options: JsonObject | None = None,
    ) -> None:
        from auditns_connector.sources import cgroups, procfs

        self.model = model
        self.perf = perf
        self.connector = connector
        #: where changes of namespaces are seen, see host/namespace_source.py
        self.ns_source = ns_source
        self.journal = journal
        self.counters = {"frames_bytes": 0, "queries": 0, "resyncs": 0, "scanned": 0, "vanished": 0}
        #: called with connector and perf frames before the model takes them (listen --events)
        self.tap: Callable[[bytes], None] | None = None
        #: called now and then while much is taken in, for others to be served
        self.between: Callable[[], None] = _nothing
        #: what the model is still to take in, of a block of frames that is more than a little: (frames, seen)
        self._slices: deque[tuple[bytes, bool]] = deque()
        self._applying = False
        #: called at the end of each :meth:`look` with its moment: what else must be known before an answer
        self.followed: list[Callable[[int], None]] = []
        self._options = options or {}
        self._cgroups, self._procfs = cgroups, procfs.Procfs()
        self._asker = NsAsker(model.namespaces, all_serials=all_serials)
        #: the serials of a former run of ours
        self.store: SerialStore | None = None
        self._sampled: Hierarchy | None = None
        #: frames that the model has seen and not taken in, and how many bytes they are
        self._waiting: list[bytes] = []
        self._waits = 0
        self._epoch = 0
        self._polled = 0
        #: rings inside pid namespaces (sources.pidns.PidnsRing) by the namespace's number; streams open and close them
        self.insiders: dict[int, PidnsRing] = {}
        self.clock: CData = ffi.new("struct clock_sample *", {"watch": lib.clock_watch_open(), "step": _CLOCK_STEP})
        self.exec_rules = RuleWatch(self._feed)
        self._hello: JsonObject = {}
        self._run = time.monotonic_ns()

    # -- start

    def start(self) -> None:
        """Subscribe was done by whoever opened the sources; scan /proc and replay what has arrived since."""
        with growing():
            self._feed(self._hello_frame())
            self._sample_clock()
            self._scan()
            # up to a moment: an EXIT must not come without the sample that was raised on another CPU before it
            self._feed(self._drain(time.monotonic_ns()))
            if self.store is not None:
                self._feed(self.store.restored(self.model))
            self._ask_all()

    def _hello_frame(self) -> bytes:
        hierarchies = self._cgroups.hierarchies()
        number = self._cgroups.perf_hierarchy()
        self._sampled = next((h for h in hierarchies if h.id == number), None)
        self._hello = {
            "v": 1,
            "guard": 1,
            "boot_id": boot_id(),
            "run": self._run,
            "kernel": os.uname().release,
            "node": os.uname().nodename,
            "perf": self.perf is not None,
            "connector": self.connector is not None,
            "ns_source": self.ns_source,
            "lifecycle": self.model.lifecycle,
            "timens": os.path.exists("/proc/self/ns/time"),
            "features": sorted(self.perf.features) if self.perf is not None else [],
            "initial": initial_inodes(),
            "mint_next": max(self.store.first if self.store else unused(), self.model.namespaces.mint_next),
            "ns_dev": os.stat("/proc/self/ns/pid").st_dev,
            "sample_root": number,
            "v2_only": [h.id for h in hierarchies] == [0],
            "lag_ns": 8_000_000 + int(time.clock_getres(6) * 1e9),  # CLOCK_REALTIME_COARSE: a tick
            "sandbox_types": list(SANDBOX),
            **self._options,
        }
        return f.pack(f.K_HELLO, f.S_PIPELINE, time.monotonic_ns(), payload=json.dumps(self._hello).encode())

    def _scan(self) -> None:
        """Everything /proc shows, between two RESYNC frames."""
        self.counters["resyncs"] += 1
        began = time.monotonic_ns()
        out = [f.pack(f.K_RESYNC, f.S_PROCFS, began, arg=1)]
        paths = self._cgroups.cgroup_paths(self._sampled) if self._sampled is not None else {}
        for number, path in paths.items():
            text = path.encode("utf-8", "surrogateescape") + b"\0"
            out.append(f.pack(f.K_CGROUP, f.S_PROCFS, began, cgroup=number, payload=text))
        self._feed(b"".join(out))
        before = self._procfs.counters()["read"]
        for block in self._procfs.scan():
            self._feed(block)
        self.counters["scanned"] += self._procfs.counters()["read"] - before
        self._feed(f.pack(f.K_RESYNC, f.S_PROCFS, began, arg=2))

    # -- the stream

    def drain_to_now(self, upto: int = 0) -> int:
        """Drain all that happened before ``upto`` (CLOCK_MONOTONIC ns; 0: now); returns that moment. What says nothing
        new of those who are remembered (:meth:`Model.saw`) waits to be taken in: many frames at once cost less, and an
        answer that is remembered need not wait for them. Whoever asks the model calls :meth:`apply_deferred` first."""
        if upto or self.perf is None or self.connector is not None or self.insiders:
            cut = upto or time.monotonic_ns()
            self._sample_clock()
            block = self._drain(cut)
        else:
            cut, told, block = self.perf.look(self.clock)
            if told:
                self.tell_clock()
            if block and self.tap is not None:
                self.tap(block)
        self.absorb(cut, block, bool(block) and self.model.saw(block))
        return cut

    def absorb(self, cut: int, block: bytes, quiet: bool) -> None:
        """The model was shown the frames ``block`` up to ``cut``; ``quiet`` is what :meth:`Model.saw` said of them."""
        if quiet and block:
            self.defer(block)
        elif block:
            self._feed(block, seen=True)
        if self.model.queries or self.model.namespaces.born:
            self._ask_all()
        if self._epoch != self.model.epoch:
            self._epoch = self.model.epoch
            self._scan()
            self._ask_all()
        if self.perf is None and self.connector is None:
            self._poll(cut)
        for call in self.followed:
            call(cut)

    def defer(self, block: bytes) -> None:
        """Frames that the model was shown, and that may wait. Nothing else happens: more may have been drained."""
        self._waiting.append(block)
        self._waits += len(block)

    def apply_deferred(self) -> None:
        """Have the model take in what waits, and know of the execs that were answered without it."""
        self._end_waiting()
        if self.model.queries or self.model.namespaces.born:
            self._ask_all()

    def watch(self) -> CData:
        """For drains in C: what they are given, ``None`` without perf. See :meth:`PerfSource.watch`."""
        return self.perf.watch(self.clock) if self.perf is not None else None

    def drained(self, size: int) -> bytes:
        """What such a drain, that returned ``size``, has found."""
        assert self.perf is not None
        look = self.watch()
        block: bytes = self.perf.block(size, look.frames, look.cut)
        return block

    def needs_python_loop(self) -> bool:
        """Whether perf is not the only source, or somebody else looks at its frames or waits for each drain."""
        others = self.connector is not None or self.insiders or self.followed or self.journal is not None
        return bool(self.perf is None or self.tap is not None or others or self.ns_source == "audit")

    def apply_many_deferred(self) -> None:
        """:meth:`apply_deferred` where more waits than costs little."""
        if self._waits > MUCH:
            self.apply_deferred()

    def sync(self) -> int:
        """Take in all that happened before now; returns that moment (CLOCK_MONOTONIC ns)."""
        cut = self.drain_to_now()
        self.apply_deferred()
        return cut

    def _poll(self, now: int) -> None:
        """No source of events: look at all processes again, and doubt all that is known from this moment on."""
        if now - self._polled < POLL:
            return
        self._polled = time.monotonic_ns()
        self._scan()
        self._feed(f.pack(f.K_RESYNC, f.S_PROCFS, self._polled, arg=3))
        self._epoch = self.model.epoch
        self._ask_all()

    def tick(self) -> None:
        """Once in a while: have every CPU speak, so that a loss at the end of its events shows; look for new CPUs; drop
        what is remembered of the dead."""
        if self.connector is not None:
            self.connector.heartbeat()
        if self.perf is not None:
            self.perf.refresh()
        self.model.touched.tidy(time.monotonic_ns() - _LATE)

    def mark(self, now: int, serials: list[int], expire: int = 0) -> None:
        """Note that the audit events ``serials`` were answered at ``now``, and forget who ended before ``expire``."""
        self._feed(f.pack(f.K_MARK, f.S_PIPELINE, now, arg=expire, payload=ranges(serials)))
        journal = self.journal
        if journal is None:
            return
        if journal.full and journal.rotate():
            self._begin_again(now)
        elif journal.torn and expire and journal.mend():
            self._begin_again(now, journal)

    def _begin_again(self, now: int, torn: JournalWriter | None = None) -> None:
        """What a journal begins with; one that was ``torn`` tells a replay so. Here it changes nothing."""
        from auditns_connector.sources.idmaps import idmap_frame

        self._feed(self._hello_frame())
        if torn is not None:
            source = f.S_PERF if self.perf is not None else f.S_CN
            torn.write(
                f.pack(f.K_LOST, source, time.monotonic_ns(), cpu=f.CPU_UNKNOWN, cgroup=max(torn.settled - _BEHIND, 1))
            )
        self.clock.known = 0
        self._sample_clock()
        self._scan()
        self._feed(self._asker.numbered())
        for inst, maps in self.model.inside.known_maps():
            self._feed(idmap_frame(inst, maps._asdict(), now))
        self._feed_registrations(now)

    def _feed_registrations(self, now: int) -> None:
        """A rotated journal begins with what is registered; here it changes nothing."""
        packets, registry = self.model.packets, self.model.registry
        for about in packets.snapshot():
            self._feed(f.pack(f.K_ADDRS, f.S_PROCFS, now, payload=json.dumps(about).encode()))
        if packets.marks:
            marks = {"op": "marks", "marks": sorted(packets.marks.items())}
            self._feed(f.pack(f.K_REGISTER, f.S_CONTROL, now, payload=json.dumps(marks).encode()))
        if registry.living() or registry.delegates or self.model.inside.kept:
            from auditns_connector.model.apply.restore_requests import requests_of

            for request in requests_of(self.model, now):
                payload = json.dumps(request).encode()
                self._feed(f.pack(f.K_REGISTER, f.S_CONTROL, now, payload=payload))

    def _drain(self, cut: int | None) -> bytes:
        block: bytes = self.perf.drain(cut) if self.perf is not None else b""
        if not self.insiders and self.connector is None:
            if block and self.tap is not None:
                self.tap(block)
            return block
        if self.insiders:
            # behind all else: what they say is about children that the model must know first
            inside = b"".join([ring.drain(block, cut) for ring in self.insiders.values()])
            return self._drain_rest(block, cut) + inside
        return self._drain_rest(block, cut)

    def _drain_rest(self, block: bytes, cut: int | None) -> bytes:
        if self.connector is not None:
            events: bytes = self.connector.drain(cut)
            block = _merge(block, events) if block and events else block or events
        if block and self.tap is not None:
            self.tap(block)
        return block

    def feed(self, block: bytes) -> None:
        """Let the model take frames that come from elsewhere than the kernel: requests of the control socket."""
        self._feed(block)

    def name_namespaces(self, pid: int) -> None:
        """Ask the kernel for the ids of all namespaces that process ``pid`` is in and that have no serial yet."""
        process = self.model.alive(pid)
        if process is None or process.state.nsset is None:
            return
        unknown = [inst for inst in process.state.nsset.inst if inst is not None and inst.serial is None]
        answers = [self._asker.identify(inst) for inst in unknown]
        self._feed(self._drain(time.monotonic_ns()) if answers else b"")
        self._feed(b"".join(answers))

    def _end_waiting(self) -> None:
        # nothing is asked here: what is drained for an answer must not come before a block that is about to be fed
        if self._waiting:
            waiting, self._waiting, self._waits = b"".join(self._waiting), [], 0
            self._apply(waiting, seen=True)
        execs_told(self.model)

    def _feed(self, block: bytes, *, seen: bool = False) -> None:
        if block:
            self._end_waiting()
            self._apply(block, seen=seen)

    def _apply(self, block: bytes, *, seen: bool) -> None:
        self.counters["frames_bytes"] += len(block)
        if self.journal is not None:
            self.journal.write(block)
        self._slices += ((part, seen) for part in _parts(block))
        nested, self._applying = self._applying, True
        try:
            while self._slices:
                part, known = self._slices.popleft()
                self.model.apply(part, seen=known)
                if not nested and self._slices:
                    self.between()  # whoever has frames to be taken in there takes in these first
        finally:
            self._applying = nested

    def _sample_clock(self) -> None:
        if lib.clock_look(self.clock):
            self.tell_clock()

    def tell_clock(self) -> None:
        """Have the model know the newest sample of the clock."""
        now = self.clock
        self._feed(f.pack(f.K_CLOCK, f.S_PIPELINE, now.at, arg=now.offset, cgroup=now.before, ppid=now.missed))

    # -- questions

    def _ask_all(self) -> None:
        """Ask /proc what the model wants to know; answers may raise further questions, the last of which wait for the
        next time where much goes on meanwhile."""
        model = self.model
        for _ in range(_ROUNDS):
            queries, model.queries = model.queries, []
            born, model.namespaces.born = model.namespaces.born, []
            if not queries and not born:
                return
            answers = [answer for query in dict.fromkeys(queries) if (answer := self._ask(query))]
            answers += [self._asker.identify(inst) for inst in self._asker.wants(born)]
            # what happened before an answer was read must be known when it is judged; and where there is none any more,
            # the process has ended, which tells as much
            self._feed(self._drain(time.monotonic_ns()) if queries or answers else b"")
            self._feed(b"".join(answers))

    def take_calls(self, points: "InsertionPoints", nodes: Collection[bytes]) -> None:
        """Ask /proc about the processes that audit says have called unshare or setns (namespace source "audit")."""
        from auditns_connector.host.audit_calls import call_frames

        self._feed(call_frames(points, self.model.clock, time.monotonic_ns(), os.getpid(), nodes))
        self._ask_all()

    def ask_now(self, pid: int) -> bool:
        """Read process ``pid`` from /proc into the model at once; False when it is gone."""
        answer = self._ask(Query("proc", pid))
        if answer is not None:
            self._feed(answer)
        return answer is not None

    def _ask(self, query: Query) -> bytes | None:
        process = self.model.processes.get(query.pid)
        if process is not None and process.end is not None and query.what != "alive":
            return None  # its end has been seen: there is nothing left in /proc to read
        self.counters["queries"] += 1
        if query.what == "alive":
            return self._procfs.read_alive(query.pid)
        if query.what == "proc":
            answer: bytes | None = self._procfs.read_process(query.pid)
        else:
            path = self._cgroups.cgroup_path(self._sampled, query.cgroup) if self._sampled is not None else None
            answer = None
            if path is not None:
                text = path.encode("utf-8", "surrogateescape") + b"\0"
                now = time.monotonic_ns()
                answer = f.pack(f.K_CGROUP, f.S_PROCFS, now, cgroup=query.cgroup, payload=text)
        if answer is None:
            self.counters["vanished"] += 1
        return answer

    def prove(self) -> bool:
        """Ask the kernel whether namespaces without tasks are gone; True when it should be asked again soon."""
        proofs = self._asker.proofs()
        if proofs:
            self._feed(self._drain(time.monotonic_ns()))
            self._feed(b"".join(proofs))
            self._ask_all()
        return self._asker.waiting

    def tell_lifecycle(self, wanted: bool, all_serials: bool = False) -> None:
        """Have the model make outputs of how namespaces come and go, or no more; that, or ``all_serials``, asks for the
        kernel's id of every namespace from now on."""
        self.model.lifecycle = wanted
        if (wanted or all_serials) and not self._asker.all_serials:
            self._asker.all_serials = True
            self._asker.ask_again()

    def close(self) -> None:
        """Let go of the sources and finish the journal."""
        self.exec_rules.close()
        if self.clock.watch >= 0:
            os.close(self.clock.watch)
            self.clock.watch = -1
        for source in (self.perf, self.connector, self.journal):
            if source is not None:
                source.close()


def _merge(one: bytes, other: bytes) -> bytes:
    """Two blocks of frames, each in order, as one in the order of their times."""
    block = bytearray(one + other)
    view = ffi.from_buffer(block)
    failed = lib.frames_sort(view, len(block))
    ffi.release(view)
    if failed:
        raise MemoryError(f"no memory to sort {len(block)} bytes of frames")
    return bytes(block)
