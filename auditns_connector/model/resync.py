"""What /proc answers: the start-up scan, the scan after a loss, and single processes whose past was not seen.

A read of /proc is late by nature: it says what is, not since when. So its answers fill what no event has told, carry
the origin ``procfs``, and never overrule an event, except after a loss, where they are all there is: then whatever
they show to have changed was unknown from the moment the loss began.
"""

import json
from typing import TYPE_CHECKING, Any, Final

from ..nstypes import ALL_ORDER
from .containers import UNKNOWN, CgroupSet
from .namespaces import NsSet
from .process import NOT_KNOWN, PROCFS, Process, State

if TYPE_CHECKING:
    from .table import Model

#: /proc tells a start time in ticks of 10 ms; two starts nearer than this are the same one (ns)
SAME_START: Final = 50_000_000
_KTHREADD: Final = 2
#: states of /proc/PID/stat that come after the exit event
_ENDED: Final = ("Z", "X", "x")


class Resync:
    """Answers of /proc on their way into the table of ``model``."""

    def __init__(self, model: "Model") -> None:
        self._model = model
        self._scan: list[tuple[int, dict[str, Any]]] | None = None
        self._began = 0
        self._epoch = 0
        #: while a scan is taken in: device and inodes -> their set, for most processes share theirs
        self._scanned: dict[tuple[int | None, ...], NsSet] | None = None

    def mark(self, time: int, pid: int, tid: int, ppid: int, ptid: int, cgroup: int, arg: int, payload: bytes) -> None:
        """RESYNC frame: a scan begins (arg 1) or has ended (arg 2); there is nothing but scans (arg 3)."""
        if arg == 3:
            self._model.polled(time)
            return
        if arg == 1:
            self._scan, self._began, self._epoch = [], time, self._model.epoch
            return
        scan, self._scan = self._scan, None
        if scan is None:
            return
        scan.sort(key=lambda item: (item[1]["start"] or 0, item[1]["pid"]))  # parents before their children
        seen = set()
        self._scanned = {}
        for when, answer in scan:
            seen.add(answer["pid"])
            self._take(when, answer)
        self._scanned = None
        for process in [p for p in self._model.processes.values() if p.end is None and p.pid not in seen]:
            if process.start < self._began:
                self._model.end(process, self._began)
        if self._model.doubt:
            self._model.registry.after_loss(time, self._model.doubt[-1])

    def proc(self, time: int, pid: int, tid: int, ppid: int, ptid: int, cgroup: int, arg: int, payload: bytes) -> None:
        """PROC frame: one process as /proc showed it."""
        answer: dict[str, Any] = json.loads(payload.rstrip(b"\0"))
        if self._scan is not None:
            self._scan.append((time, answer))
        else:
            self._take(time, answer)

    def offer(self, time: int, answer: dict[str, Any]) -> None:
        """What PROC would tell, during a scan that nobody journals."""
        if self._scan is not None:
            self._scan.append((time, answer))

    # -- one answer

    def _take(self, time: int, answer: dict[str, Any]) -> None:
        model = self._model
        pid, start = int(answer["pid"]), answer["start"]
        model.heard = max(model.heard, time)
        if start is None:
            return  # it vanished while it was read
        newest = model.processes.get(pid)
        if newest is not None and newest.end is not None and abs(newest.start - start) < SAME_START:
            model.timens.answered(newest, time, answer.get("ns"), whole=False)
            if not model.perf:
                model.by_connector.answered(newest, time, self._nsset(answer), self._cgroups(answer))
            return  # its exit event came before this answer
        process = model.alive(pid)
        if process is not None and process.placeholder and start <= process.start + SAME_START:
            process.start, process.placeholder = start, False
        if process is not None and process.start - start > SAME_START:
            return  # the answer is about a former holder of the pid
        if process is not None and start - process.start > SAME_START:
            model.end(process, min(start, time))
            process = None
        if process is None:
            self._create(time, answer)
            return
        model.inside.told(process, answer.get("nspid"))
        nsset, cgroups = self._nsset(answer), self._cgroups(answer)
        doubtful = process.epoch < model.epoch
        if not model.perf:
            model.by_connector.has_parent(pid, int(answer["ppid"] or 0))
        if doubtful:
            self._confirm(process, nsset, cgroups, time, answer)
        elif not model.perf:
            model.by_connector.answered(process, time, nsset, cgroups)
        else:
            self._fill(process, nsset, cgroups, time)
        model.timens.answered(process, time, answer.get("ns"), whole=doubtful)
        if not process.comm and answer.get("comm"):
            process.comm = str(answer["comm"]).encode("utf-8", "surrogateescape")
        self._ids(process, time, answer)

    @staticmethod
    def _ids(process: Process, time: int, answer: dict[str, Any]) -> None:
        """Note whose process it is, for those who tell of it."""
        uids, auid, ses = answer.get("uids"), answer.get("loginuid"), answer.get("sessionid")
        process.ids = time, uids[0] if uids else None, auid, ses

    def _create(self, time: int, answer: dict[str, Any]) -> None:
        model = self._model
        parent = model.alive(int(answer["ppid"] or 0))
        process = Process(
            int(answer["pid"]), answer["start"], State(answer["start"], UNKNOWN, self._nsset(answer), NOT_KNOWN), None
        )
        process.cgroups = self._cgroups(answer)
        process.comm = str(answer.get("comm") or "").encode("utf-8", "surrogateescape")
        if parent is not None:
            process.creator = (parent.pid, parent.start)
            process.registered = parent.registered
        if model.polling:  # where it was before nobody knows
            process.past, process.state = [process.state], process.state._replace(since=time)
        model.adopt(process, parent.state.container if parent is not None else None, PROCFS)
        if not model.perf:
            model.by_connector.has_parent(process.pid, int(answer["ppid"] or 0))
        self._ids(process, time, answer)
        model.inside.told(process, answer.get("nspid"))
        model.inside.ran(process, process.start)
        model.timens.answered(process, time, answer.get("ns"), whole=True)
        others = [tid for tid in answer.get("tids") or () if tid != process.pid]
        for tid in others:
            model.add_thread(process, tid, process.state.nsset)
        if answer.get("state") in _ENDED:
            # its exit is past: no event will come, and it holds nothing open
            if others:
                model.leader_left(process, time)
            else:
                model.end(process, time)

    def _fill(self, process: Process, nsset: NsSet | None, cgroups: CgroupSet | None, time: int) -> None:
        model = self._model
        if process.state.nsset is None and nsset is not None:
            model.put_namespaces(process, nsset, time, PROCFS)
        if cgroups is not None and (process.cgroups is None or process.unresolved):
            unresolved, process.unresolved = process.unresolved, False
            process.cgroups = cgroups
            model.resolved(process, unresolved, time, PROCFS)

    def _confirm(
        self, process: Process, nsset: NsSet | None, cgroups: CgroupSet | None, time: int, answer: dict[str, Any]
    ) -> None:
        """After a loss: the same as before it, or changed at a moment nobody saw."""
        model = self._model
        began = model.doubt[process.epoch]
        model.confirmed = True
        process.epoch = self._epoch if self._scan is not None or self._began >= began else model.epoch
        tids = set(answer.get("tids") or ())
        for tid in [t for t in process.threads or () if t not in tids]:
            model.drop_thread(process, tid, time)
        state = process.state
        same = nsset is state.nsset and cgroups is process.cgroups and not process.unresolved
        if same and state.container is not UNKNOWN:
            return
        if state.since < began:
            process.change(state._replace(since=began, container=UNKNOWN, origin=NOT_KNOWN))
            model.containers.leave(state.container, began)
        if nsset is not None and nsset is not state.nsset:
            model.put_namespaces(process, nsset, time, PROCFS)
        if cgroups is not None:
            process.cgroups, process.unresolved = cgroups, False
        model.settle(process, time, PROCFS)

    # -- its parts

    def _nsset(self, answer: dict[str, Any]) -> NsSet | None:
        inodes: dict[str, int | None] = answer.get("ns") or {}
        if self._scanned is None:
            return self._resolved(answer, inodes)
        key = (answer.get("ns_dev"), *(inodes.get(name) for name in ALL_ORDER))
        found = self._scanned.get(key)
        if found is None or not found.members:
            found = self._resolved(answer, inodes)
            if found is not None and any(key[1:]):
                self._scanned[key] = found
        return found

    def _resolved(self, answer: dict[str, Any], inodes: dict[str, int | None]) -> NsSet | None:
        model = self._model
        if not any(inodes.get(name) for name in ALL_ORDER):
            # pid 1 and kernel threads may hide their namespaces even from root; they are in the initial ones
            pid, ppid = answer["pid"], answer["ppid"]
            return model.initial if pid in (1, _KTHREADD) or ppid == _KTHREADD else None
        insts = []
        dev = int(answer.get("ns_dev") or model.namespaces.dev)
        for index, name in enumerate(ALL_ORDER):
            ino = inodes.get(name)
            insts.append(model.namespaces.find(index, dev, ino, model.now) if ino else None)
        return model.namespaces.intern(tuple(insts))

    def _cgroups(self, answer: dict[str, Any]) -> CgroupSet | None:
        paths: dict[str, str] | None = answer.get("cg")
        if paths is None:
            return None
        return self._model.cgroups.of((int(root), path) for root, path in paths.items())
