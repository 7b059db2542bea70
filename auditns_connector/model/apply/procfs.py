"""What /proc answers: the start-up scan, the scan after a loss, and single processes whose past was not seen.

A read of /proc is late by nature: it says what is, not since when. So its answers fill what no event has shown, carry
the origin ``procfs``, and never overrule an event, except after a loss, where they are all there is: then whatever
they show to have changed was unknown from the moment the loss began. Where an event behind the loss has shown a move
first, they show where that led, and nothing of where it began (:meth:`Tables.settle`).
"""

import json
import struct
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

from auditns_connector.model import thread_namespaces as threadsets
from auditns_connector.model.cgroups import CgroupSet
from auditns_connector.model.creator import creator_of
from auditns_connector.model.membership import Doubt
from auditns_connector.model.places import UNKNOWN, NsSet
from auditns_connector.model.process import NOT_KNOWN, PROCFS, Process, State
from auditns_connector.vocabulary.frames import MOST_PIDS, PROCESS_PAYLOAD
from auditns_connector.vocabulary.namespaces import ALL_ORDER, TIME
from auditns_connector.vocabulary.timing import SAME_START
from auditns_connector.vocabulary.values import JsonObject

if TYPE_CHECKING:
    from auditns_connector.model.apply.connector import ByConnector
    from auditns_connector.model.apply.losses import Losses
    from auditns_connector.model.apply.registration import Registry
    from auditns_connector.model.apply.time_namespaces import TimeNs
    from auditns_connector.model.inner_ids import Inside
    from auditns_connector.model.logins import Logins
    from auditns_connector.model.tables import Tables

_KTHREADD: Final = 2
_NO_START: Final = (1 << 64) - 1


class Answer(NamedTuple):
    """One process as /proc showed it. ``ended``: its state is one that comes behind its exit event; ``start`` None: it
    vanished while it was read; ``inodes``: those of its namespaces in ALL_ORDER, 0 for those not given; ``ids`` (real
    uid, login uid, session) None: they were not read."""

    pid: int
    ppid: int
    start: int | None
    comm: bytes
    ended: bool
    ns_dev: int
    inodes: tuple[int, ...]
    time_for_children: int
    cgroups: CgroupSet | None
    nspid: Sequence[int]
    tids: Sequence[int]
    ids: tuple[int | None, int | None, int | None] | None
    #: nobody had that number when it was asked for
    gone: bool = False
    #: whose child it was when the kernel's events began; 0: of ``ppid``, see frames.py
    former_parent: int = 0


class Resync:
    """Answers of /proc on their way into the table of ``model``."""

    def __init__(
        self, model: "Tables", by_connector: "ByConnector", inside: "Inside", losses: "Losses", logins: "Logins",
        registry: "Registry", timens: "TimeNs",
    ) -> None:  # fmt: skip
        self._model = model
        self._by_connector, self._inside, self._losses = by_connector, inside, losses
        self._logins, self._registry, self._timens = logins, registry, timens
        self._scan: list[tuple[int, Answer]] | None = None
        self._began = 0
        self._epoch = 0
        #: while a scan is taken in: device and inodes -> their set, for most processes share theirs
        self._scanned: dict[tuple[int, tuple[int, ...]], NsSet] | None = None

    def mark(self, time: int, pid: int, tid: int, ppid: int, ptid: int, cgroup: int, arg: int, payload: bytes) -> None:
        """RESYNC frame: a scan begins (arg 1) or has ended (arg 2); there is nothing but scans (arg 3)."""
        if arg == 3:
            self._losses.polled(time)
            return
        if arg == 1:
            self._scan, self._began, self._epoch = [], time, self._model.epoch
            return
        scan, self._scan = self._scan, None
        if scan is None:
            return
        scan.sort(key=lambda item: (item[1].start or 0, item[1].pid))  # parents before their children
        seen = set()
        self._scanned = {}
        for when, answer in scan:
            seen.add(answer.pid)
            self._take(when, answer)
        self._scanned = None
        for gone in [pid for pid in self._model.exits.suspended if pid not in seen]:
            self._model.exits.finish(gone)
        for process in self._model.table.living_except(seen):
            if process.start < self._began:
                self._model.end(process, self._began)
        if self._model.doubted:
            self._registry.after_loss(time, self._model.doubted[-1])

    def proc(self, time: int, pid: int, tid: int, ppid: int, ptid: int, cgroup: int, arg: int, payload: bytes) -> None:
        """PROC frame: one process as /proc showed it."""
        self._answered(time, self._read(json.loads(payload.rstrip(b"\0")))._replace(former_parent=ptid))

    def process(
        self, time: int, pid: int, tid: int, ppid: int, ptid: int, cgroup: int, arg: int, payload: bytes
    ) -> None:
        """PROCESS frame: the same of a scan."""
        values = PROCESS_PAYLOAD.unpack_from(payload)
        inodes = values[: len(ALL_ORDER)]
        children, tids, nspids, cgroup_size, comm_size, state, present = values[len(ALL_ORDER) :]
        at = PROCESS_PAYLOAD.size
        numbers: Sequence[int] = (pid,)
        if tids or nspids != 1:
            numbers = struct.unpack_from(f"<{tids + nspids}i", payload, at)
        at += 4 * (tids + nspids)
        comm, at = payload[at : at + comm_size], at + comm_size
        answer = Answer(
            pid, ppid, None if arg == _NO_START else arg, comm, state in b"ZXx", cgroup, inodes, children,
            self._model.cgroups.decode(payload[at : at + cgroup_size]) if present & 1 else None,
            numbers[tids:], numbers[:tids], None, former_parent=ptid,
        )  # fmt: skip
        self._answered(time, answer)

    def _read(self, said: JsonObject) -> Answer:
        """The payload of a PROC frame."""
        inodes, uids, paths = said.get("ns") or {}, said.get("uids"), said.get("cg")
        return Answer(
            int(said["pid"]),
            int(said["ppid"] or 0),
            said["start"],
            str(said.get("comm") or "").encode("utf-8", "surrogateescape"),
            said.get("state") in ("Z", "X", "x"),
            int(said.get("ns_dev") or 0),
            tuple([inodes.get(name) or 0 for name in ALL_ORDER]),
            inodes.get("time_for_children") or 0,
            None if paths is None else self._model.cgroups.of((int(root), path) for root, path in paths.items()),
            said.get("nspid") or (),
            said.get("tids") or (),
            (uids[0] if uids else None, said.get("loginuid"), said.get("sessionid")),
            bool(said.get("gone")),
        )

    def _answered(self, time: int, answer: Answer) -> None:
        if self._scan is not None:
            self._scan.append((time, answer))
        else:
            self._take(time, answer)

    # -- one answer

    @staticmethod
    def _is_dead(answer: Answer) -> bool:
        """Whether all threads of the process have exited."""
        return answer.ended and not any(tid != answer.pid for tid in answer.tids)

    def _gone(self, process: Process, time: int) -> None:
        """/proc has shown at ``time`` that ``process`` lives no longer."""
        if process.pid in self._model.exits.suspended:
            self._model.exits.finish(process.pid)
        elif process.end is None and process.start < time:
            self._model.end(process, time)

    def _take(self, time: int, answer: Answer) -> None:
        model, pid = self._model, answer.pid
        model.heard = max(model.heard, time)
        if not 0 <= pid < MOST_PIDS:
            return
        newest = model.processes.get(pid)
        if newest is not None and not self._is_plain(newest):
            model.table.hold(pid)
        if answer.start is None:
            if answer.gone and newest is not None:
                self._gone(newest, time)
            return  # it vanished while it was read
        if newest is None:
            self._create(time, answer)
            return
        self._take_exit(newest, time, answer.start, answer)
        if newest.end is None:
            self._take_living(newest, time, answer.start, answer)
        elif answer.start - newest.start >= SAME_START:
            self._create(time, answer)
        elif newest.start - answer.start < SAME_START:  # its exit event came before this answer
            self._time(newest, time, answer, whole=False)
            if not model.perf:
                nsset = self._nsset(answer)
                self._by_connector.answered(newest, time, nsset, answer.cgroups)
                if nsset is not None:
                    model.namespaces.end_empty(nsset, newest.end)

    def _is_plain(self, process: Process) -> bool:
        """Whether ``process`` is a row of which the answer need not be held against what Python alone keeps."""
        model = self._model
        alone = process.end is None and process.threads is None and process.prev is None
        return model.perf and process.row != 0 and alone and process.epoch == model.epoch

    def _take_exit(self, newest: Process, time: int, start: int, answer: Answer) -> None:
        """Where the end of ``newest`` was not sure, the answer of ``time`` about one that began at ``start`` says what
        it was; not one that was begun to be read before the EXIT, for it may have lived until then."""
        if newest.pid not in self._model.exits.suspended:
            return
        if abs(newest.start - start) >= SAME_START or self._is_dead(answer):
            self._model.exits.finish(newest.pid)
        elif newest.end is not None and time >= newest.end:
            self._model.exits.resume(newest.pid)

    def _take_living(self, process: Process, time: int, start: int, answer: Answer) -> None:
        """``process``, alive as far as is known, holds the pid of one that began at ``start``."""
        model = self._model
        if process.placeholder and start <= process.start + SAME_START:
            model.table.began(process, start)
        if process.start - start > SAME_START:
            return  # the answer is about a former holder of the pid
        if start - process.start > SAME_START:
            model.end(process, min(start, time))
            self._create(time, answer)
        elif model.perf and self._is_dead(answer) and process.threads is None:
            self._gone(process, time)  # its EXIT came before this answer, and was not taken for one
        else:
            self._learn(process, time, answer)

    def _learn(self, process: Process, time: int, answer: Answer) -> None:
        """The answer is about ``process``, which lives."""
        model, pid = self._model, answer.pid
        self._inside.set_numbers(process, answer.nspid)
        nsset, cgroups = self._nsset(answer), answer.cgroups
        doubtful = process.epoch < model.epoch
        if not model.perf:
            self._by_connector.has_parent(pid, answer.ppid)
        if doubtful:
            self._confirm(process, nsset, cgroups, time, answer)
        elif not model.perf:
            self._by_connector.answered(process, time, nsset, cgroups)
        else:
            self._fill(process, nsset, cgroups, time)
        self._time(process, time, answer, whole=doubtful)
        if not process.comm:
            model.table.comm(process, answer.comm)
        self._ids(process, time, answer)

    def _ids(self, process: Process, time: int, answer: Answer) -> None:
        """Note whose process it is, for those who tell of it."""
        if answer.ids is not None:
            self._model.table.ids(process, (time, *answer.ids))
            self._logins.read(process, *answer.ids[1:])

    def _time(self, process: Process, time: int, answer: Answer, *, whole: bool) -> None:
        self._timens.answered(process, time, answer.inodes[TIME], answer.time_for_children, whole=whole)

    def _create(self, time: int, answer: Answer) -> None:
        model = self._model
        ppid = answer.former_parent or answer.ppid
        parent = model.alive(ppid)
        start = answer.start or 0
        process = Process(answer.pid, start, State(start, UNKNOWN, self._nsset(answer), NOT_KNOWN), answer.cgroups)
        model.table.comm(process, answer.comm)
        if parent is not None:
            model.table.made_by(process, parent)
        if self._losses.polling:  # where it was before nobody knows
            model.table.replace(process, process.state._replace(since=time), after=True)
        missed = model.epoch > 0 and not self._losses.polling  # what was before the start is as /proc shows it then
        creator, proven = creator_of(process, parent, ppid)
        model.adopt(process, creator, Doubt(unproven=not proven, read=True, missed=missed))
        if not model.perf:
            self._by_connector.has_parent(process.pid, answer.ppid)
        self._ids(process, time, answer)
        model.entries.found(process, parent, answer.nspid)
        self._inside.set_numbers(process, answer.nspid)
        self._inside.ran(process, process.start)
        self._time(process, time, answer, whole=True)
        others = [tid for tid in answer.tids if tid != process.pid and 0 < tid < MOST_PIDS]
        for tid in others:
            threadsets.add(model, process, tid, process.state.nsset)
        if answer.ended:
            # its exit is past: no event will come, and it holds nothing open
            if others:
                model.leader_left(process, time)
            else:
                model.end(process, time)

    def _fill(self, process: Process, nsset: NsSet | None, cgroups: CgroupSet | None, time: int) -> None:
        model = self._model
        current = process.state.nsset
        partly = current is None or None in current.inst[:TIME]
        incomplete = process.cgroups is None or process.unresolved
        if (partly or incomplete) and time < process.state.since:
            model.ask(process.pid)  # something happened behind the answer
            return
        if partly and nsset is not None:
            if current is not None:
                pairs = zip(current.inst, nsset.inst, strict=True)
                nsset = model.namespaces.intern(tuple(own if own is not None else shown for own, shown in pairs))
            model.put_namespaces(process, nsset, time, PROCFS)
        if cgroups is not None and incomplete and not process.unresolved and not model.moves_reported:
            model.table.set_cgroups(process, cgroups)
            self._since(process)
        elif cgroups is not None and incomplete:
            since, former = process.unresolved, process.cgroups
            model.table.unresolved(process, 0)
            model.table.set_cgroups(process, cgroups)
            model.resolved(process, since, former, time, PROCFS)

    def _since(self, process: Process) -> None:
        """The cgroups of ``process`` were not known since its state began, and are given now."""
        model, former = self._model, process.state
        container = model.decide(process, former.nsset, None, former.since, Doubt(read=True))
        if container is UNKNOWN:
            return
        model.containers.enter(container)
        model.containers.leave(former.container, former.since)
        new = former._replace(container=container, origin=PROCFS)
        model.table.restate(process, new)
        model.table.amend_execs(process, lambda state, at: new if at >= former.since and state == former else state)

    def _confirm(
        self, process: Process, nsset: NsSet | None, cgroups: CgroupSet | None, time: int, answer: Answer
    ) -> None:
        """After a loss: the same as before it, or changed at a moment nobody saw."""
        model = self._model
        if time < process.state.since:
            model.ask(process.pid)  # something happened behind the answer
            return
        began = self._model.doubted[process.epoch]
        model.confirmed = True
        whole = self._scan is not None or self._began >= began
        model.table.confirm(process, self._epoch if whole else model.epoch)
        tids = set(answer.tids)
        for tid in [t for t in process.threads or () if t not in tids]:
            threadsets.drop(model, process, tid, time)
        state = process.state
        same = nsset is state.nsset and cgroups is process.cgroups and not process.unresolved
        if same and state.container is not UNKNOWN:
            return
        model.lost_sight(process, began)
        model.table.set_cgroups(process, cgroups)
        model.table.unresolved(process, 0)
        if nsset is not None and nsset is not state.nsset:
            model.put_namespaces(process, nsset, time, PROCFS)
        model.settle(process, time, PROCFS)

    # -- its parts

    def _nsset(self, answer: Answer) -> NsSet | None:
        if self._scanned is None:
            return self._resolved(answer)
        key = (answer.ns_dev, answer.inodes)
        found = self._scanned.get(key)
        if found is None or not found.members:
            found = self._resolved(answer)
            if found is not None and any(answer.inodes):
                self._scanned[key] = found
        return found

    def _resolved(self, answer: Answer) -> NsSet | None:
        model = self._model
        if not any(answer.inodes):
            # pid 1 and kernel threads may hide their namespaces even from root; they are in the initial ones
            return model.initial if answer.pid in (1, _KTHREADD) or answer.ppid == _KTHREADD else None
        dev = answer.ns_dev or model.namespaces.dev
        find = model.namespaces.find
        insts = [find(index, dev, ino, model.now) if ino else None for index, ino in enumerate(answer.inodes)]
        return model.namespaces.intern(tuple(insts))
