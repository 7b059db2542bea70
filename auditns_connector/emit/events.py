"""Kernel process events as lines: for people in the shape of the proc connector's namespace proposal of 2016, and as
JSON, one object an event (``auditns listen --events``). Pure: frames in, bytes out.

For people::

    fork: ppid=696 pid=858
    exec: pid=858
    ns: pid=858 type=net reason=set old_inum=4026531957 inum=4026532142
    exit: pid=858

``tid=`` is added where the task is not the leader of its process. An ``ns`` line without ``source=`` is the kernel's
own PROC_EVENT_NM, whose reason is clone or set, and whose type pid means the namespace of children yet to be made.
One with ``source=perf``, ``audit`` or ``procfs`` was concluded from that source; its reason is clone, unshare, setns or
(from procfs) unknown, and its type pid means the namespace the process is in. An inode that is not known is ``?``.

JSON: every object has ``v`` (1), ``event``, ``time`` (CLOCK_REALTIME, seconds with nine decimals, a string), ``source``
(connector, perf, nm, audit, procfs) and ``cpu`` (where known); events of a process have ``pid``, ``tid``, ``contid``
(null: the host, "?": unknown). Beside these::

    fork      ppid ptid           the creator (source connector: the parent, which CLONE_PARENT may have passed over)
    exec      file comm           where known
    exit      exit_code signal    of the last thread, from the connector
    comm      comm
    ns        nstype reason old_inum inum, serial old_serial (hex strings, where the model knows the namespace)
    uid gid   real effective
    sid       -
    ptrace    ptid ppid           the tracer; 0 when it lets go
    coredump  -
    cgroup    path id hierarchy   moved to this cgroup
    lost      lost_source count   events lost before this point; count null: not known how many
"""

import json
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import TYPE_CHECKING, Final

from auditns_connector.attribution.lookup import holders
from auditns_connector.emit.exit_filter import ExitFilter
from auditns_connector.emit.held_events import HeldEvents, never
from auditns_connector.model.outputs import NsChange, Output
from auditns_connector.vocabulary import frames as f
from auditns_connector.vocabulary.namespaces import NAMES
from auditns_connector.vocabulary.timing import FOREVER
from auditns_connector.vocabulary.values import Json, JsonObject

if TYPE_CHECKING:
    from auditns_connector.model.apply.dispatch import Model

VERSION: Final = 1
TYPES: Final = (
    "fork", "exec", "exit", "comm", "ns", "uid", "gid", "sid", "ptrace", "coredump", "cgroup", "lost",
)  # fmt: skip
_KINDS: Final[dict[int, str]] = {
    f.K_FORK: "fork",
    f.K_EXEC: "exec",
    f.K_EXIT: "exit",
    f.K_COMM: "comm",
    f.K_NM: "ns",
    f.K_UID: "uid",
    f.K_GID: "gid",
    f.K_SID: "sid",
    f.K_PTRACE: "ptrace",
    f.K_COREDUMP: "coredump",
    f.K_ATTACH: "cgroup",
    f.K_LOST: "lost",
}
#: what both the connector and perf tell
_BOTH: Final = frozenset((f.K_FORK, f.K_EXEC, f.K_EXIT, f.K_COMM))
_REASONS: Final = {1: "clone", 2: "set"}
#: what PROC_EVENT_NM does not tell
_NOT_NM: Final = frozenset(("user", "time"))
#: order of the kinds where times are equal: what a thing is caused by comes first
_NS_RANK: Final = 1
Event = JsonObject


def _parent(frame: f.Frame) -> Event:
    return {"ppid": frame.ppid, "ptid": frame.ptid}


def _exit(frame: f.Frame) -> Event:
    # perf does not say it
    return {"exit_code": frame.arg >> 8 & 0xFF, "signal": frame.arg & 0x7F} if frame.source == f.S_CN else {}


def _ns(frame: f.Frame) -> Event:
    reason, _, old, new = f.NM_PAYLOAD.unpack_from(frame.payload)
    nstype = NAMES.get(frame.arg, f"{frame.arg:#x}")
    return {"nstype": nstype, "reason": _REASONS.get(reason, str(reason)), "old_inum": old, "inum": new}


def _ids(frame: f.Frame) -> Event:
    real, effective = f.IDS_PAYLOAD.unpack_from(frame.payload)
    return {"real": real, "effective": effective}


#: kind of event -> what it has beside pid and tid
_DETAILS: Final[dict[str, Callable[[f.Frame], Event]]] = {
    "fork": _parent,
    "exec": lambda frame: {"file": _text(frame.payload)} if frame.payload else {},
    "exit": _exit,
    "comm": lambda frame: {"comm": _text(frame.payload)},
    "ns": _ns,
    "uid": _ids,
    "gid": _ids,
    "ptrace": _parent,
    "cgroup": lambda frame: {"path": _text(frame.payload), "id": frame.cgroup, "hierarchy": frame.arg},
}


class EventWriter:
    """Collects events (:meth:`frames` before the model takes them, :meth:`tell` after) and writes them in order.

    ``connector_first`` says whose fork, exec, exit and comm events are shown where both sources are open; ``nm`` that
    the kernel's own namespace events are shown, and from other sources only what those leave out. ``types`` and
    ``pids`` (processes, or parents of new ones) filter, empty lets all through; ``limit`` ends after so many.
    ``may_be`` says of a process and the file that it has run whether that may be a program of ours, see
    :mod:`held_events`.
    """

    def __init__(
        self,
        model: "Model",
        *,
        json: bool = False,
        times: bool = False,
        details: bool = False,
        connector_first: bool = False,
        nm: bool = False,
        types: Collection[str] = (),
        pids: Collection[int] = (),
        limit: int | None = None,
        may_be: Callable[[int, bytes], bool] = never,
    ) -> None:
        self._model = model
        self._held = HeldEvents(model, may_be)
        self._json = json
        self._times = times
        self._details = details
        self._skip_both = f.S_PERF if connector_first else f.S_CN
        self._exits = ExitFilter(model, connector_first=connector_first)
        #: processes that we have started ourselves, or that are of other programs of ours
        self._own: set[int] = set()
        self._nm = nm
        self._types = frozenset(types)
        self._pids = frozenset(pids)
        self.limit = limit
        self._blocks: list[bytes] = []
        self.seen = 0
        self.shown = 0

    @property
    def done(self) -> bool:
        """The limit is reached."""
        return self.limit is not None and self.shown >= self.limit

    def needs_python_loop(self) -> bool:
        """Always: it is shown every event."""
        return True

    def frames(self, block: bytes) -> None:
        """Note kernel events; they are written by the next :meth:`tell`."""
        self._blocks.append(block)

    def tell(self, outputs: Collection[Output], now: int = FOREVER) -> bytes:
        """Lines for what was noted and for the changes of namespaces among ``outputs``, in the order of time; what may
        turn out to be of our own doing at ``now`` (CLOCK_MONOTONIC ns) comes with a later call."""
        for block in self._blocks:
            for frame in f.iter_frames(block):
                if self._of_ours(frame):
                    continue
                self._held.look(frame)
                for shown in self._exits.take(frame):
                    self._add(shown.time, 0, self._event(shown))
        self._blocks.clear()
        for shown in self._exits.proven():
            self._add(shown.time, 0, self._event(shown))
        self._model.own.forget()
        for output in outputs:
            if isinstance(output, NsChange) and not self._model.own.did(output.process):
                event = self._change(output)
                if not self._nm or event["nstype"] in _NOT_NM:
                    self._add(output.time, _NS_RANK, [event])
        self._own |= self._held.decide(now)
        return b"".join(self._written(time, event) for time, _, event in self._held.ready(now))

    def _add(self, time: int, rank: int, events: Iterable[Event]) -> None:
        for event in events:
            if event.get("pid") not in self._own:
                self._held.add(time, rank, event)

    def _written(self, time: int, event: Event) -> bytes:
        """The line for ``event``, where it is to be shown."""
        self.seen += 1
        if self.done or not self._wanted(event):
            return b""
        self.shown += 1
        return self._object(time, event) if self._json else self._line(time, event)

    def _of_ours(self, frame: f.Frame) -> bool:
        """Whether ``frame`` tells of a process that we have started, or of its start."""
        kind, own, pid = frame.kind, self._own, frame.pid or frame.tid
        if kind == f.K_LOST:
            return False
        if kind == f.K_FORK and frame.tid == frame.pid:  # no thread, whose parent is its process's to the connector
            above = frame.ppid
            if above in own or (above == self._model.own.pid and above) or self._of_another(frame):
                own.add(pid)
                return True
            own.discard(pid)  # the number is another's now
            return False
        return pid in own

    def _of_another(self, frame: f.Frame) -> bool:
        """Whether another program of ours has started the process whose FORK is ``frame``."""
        child = self._model.incarnation(frame.pid, frame.time) if self._model.own.others else None
        return child is not None and self._model.own.made(child)

    def _wanted(self, event: Event) -> bool:
        if self._types and event["event"] not in self._types:
            return False
        return not self._pids or not self._pids.isdisjoint((event.get("pid"), event.get("ppid")))

    # -- events

    def _event(self, frame: f.Frame) -> Iterator[Event]:
        kind = _KINDS.get(frame.kind)
        if kind is None or (frame.kind in _BOTH and frame.source == self._skip_both and frame.kind != f.K_EXIT):
            return
        if frame.kind == f.K_NM and not self._nm:
            return  # another source of namespaces was asked for
        source = "nm" if frame.kind == f.K_NM else f.SOURCE_NAMES.get(frame.source, str(frame.source))
        event: Event = {"event": kind, "source": source}
        if frame.cpu != f.CPU_UNKNOWN:
            event["cpu"] = frame.cpu
        if kind == "lost":
            event.update(source="auditns", lost_source=source, count=frame.arg or None)
            yield event
            return
        event.update(pid=frame.pid or frame.tid, tid=frame.tid)
        if kind in _DETAILS:
            event.update(_DETAILS[kind](frame))
        yield event

    def _change(self, change: NsChange) -> Event:
        inst, old = change.inst, change.old
        event: Event = {
            "event": "ns",
            "source": change.source,
            "pid": change.process.pid,
            "tid": change.tid or change.process.pid,
            "nstype": inst.type,
            "reason": change.reason,
            "old_inum": old.ino if old is not None and old.ino else None,
            "inum": inst.ino or None,
        }
        for name, space in (("old_serial", old), ("serial", inst)):
            if space is not None and space.serial is not None:
                event[name] = f"{space.serial:x}"
        return event

    # -- lines

    def _object(self, time: int, event: Event) -> bytes:
        line: Event = {"v": VERSION, "event": event.pop("event"), "time": self._stamp(time), **event}
        if "pid" in event:
            line["contid"] = self._contid(event["pid"], time)
        return json.dumps(line, separators=(",", ":"), ensure_ascii=True).encode("ascii") + b"\n"

    def _line(self, time: int, event: Event) -> bytes:
        kind = event["event"]
        words = [self._stamp(time)] if self._times else []
        words.append(f"{kind}:")
        pairs: list[tuple[str, Json]] = []
        if kind == "fork":
            pairs.append(("ppid", event["ppid"]))
        if "pid" in event:
            pairs.append(("pid", event["pid"]))
            if event["tid"] and event["tid"] != event["pid"]:
                pairs.append(("tid", event["tid"]))
        if kind == "ns":
            pairs += (("type", event["nstype"]), ("reason", event["reason"]))
            pairs += ((name, event[name] or "?") for name in ("old_inum", "inum"))
            if event["source"] != "nm":
                pairs.append(("source", event["source"]))
        elif kind == "exit" and (event.get("exit_code") or event.get("signal")):
            name = "signal" if event["signal"] else "code"
            pairs.append((name, event["signal"] or event["exit_code"]))
        else:
            names = ("comm", "real", "effective", "path", "lost_source", "count")
            pairs += ((name, "?" if event[name] is None else event[name]) for name in names if name in event)
            if kind == "ptrace":
                pairs.append(("tracer", event["ppid"]))
        if self._details:
            pairs += ((name, event[name]) for name in ("file", "cpu") if name in event)
            if "pid" in event:
                pairs.append(("contid", self._contid(event["pid"], time) or "unset"))
        words += (f"{name}={_clean(what)}" for name, what in pairs)
        return " ".join(words).encode("utf-8", "backslashreplace") + b"\n"

    def _stamp(self, time: int) -> str:
        real = time + (self._model.clock.offset or 0)
        return f"{real // 1_000_000_000}.{real % 1_000_000_000:09d}"

    def _contid(self, pid: int, time: int) -> str | None:
        """The container of ``pid`` at ``time``: None the host, "?" unknown."""
        process = next((process for process in holders(self._model, pid, time, time) if process.start <= time), None)
        if process is None:
            return "?"
        container = next(iter(process.states(time, time)), process.state).container
        return None if container is None else self._model.containers.text(container)


def _text(payload: bytes) -> str:
    return f.text(payload).decode("utf-8", "backslashreplace")


def _clean(what: Json) -> str:
    """A value without spaces or anything a terminal would obey."""
    words = str(what)
    if words.isprintable() and " " not in words:
        return words
    return "".join(
        c if c.isprintable() and c != " " else c.encode("unicode_escape").decode("ascii").replace(" ", "\\x20")
        for c in words
    )
