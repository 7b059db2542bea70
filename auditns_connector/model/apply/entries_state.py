"""Entries and LOGIN records over a restart, and at the head of a rotated journal: what /proc does not tell again.

Put back by requests (op "entries"). Who was of an entry is known by pid and start; whoever was forked in the meantime
is of its parent's, where that is in the same container. /proc alone may have reported some of it already, as somebody
who was in there before: that is not reported twice.
"""

from functools import partial
from typing import Final, Protocol

from auditns_connector.model.containers import Containers
from auditns_connector.model.entries import kept
from auditns_connector.model.entry import MOST_OUTER, Ancestor, Entry, Session
from auditns_connector.model.logins import PROCFS
from auditns_connector.model.namespaces import Namespaces
from auditns_connector.model.outputs import ContainerInfo, Output
from auditns_connector.model.places import Container
from auditns_connector.model.process import Process, State
from auditns_connector.model.processes import Processes
from auditns_connector.model.profiles import Profile
from auditns_connector.vocabulary.timing import SAME_START
from auditns_connector.vocabulary.values import Json, JsonObject

#: processes named in one request: it must stay far below frames.MAX_FRAME
MAX_NAMED: Final = 800
_U32: Final = 1 << 32
_U64: Final = 1 << 64


class Tables(Protocol):
    """What is looked at, and where outputs wait."""

    containers: Containers
    namespaces: Namespaces
    table: Processes
    outputs: list[Output]

    def alive_since(self, pid: int, start: int) -> Process | None:
        """The living process ``pid`` that began at ``start``, as nearly as /proc shows that."""


def requests(model: Tables, saved: int) -> list[JsonObject]:
    """The requests that put it back, JSON-able, as of ``saved`` (CLOCK_MONOTONIC ns)."""
    living = model.table.living(_is_kept)
    return [_request(living[at : at + MAX_NAMED], saved) for at in range(0, len(living), MAX_NAMED)]


def _is_kept(one: Process | Profile) -> bool:
    session = one.state.session
    return one.state.entry is not None or (session is not None and session.source != PROCFS)


def _request(living: list[Process], saved: int) -> JsonObject:
    entries: dict[str, Entry] = {}
    for process in living:
        entry = process.state.entry
        for one in () if entry is None else (entry, *entry.around()):
            entries.setdefault(one.id, one)
    return {
        "op": "entries",
        "saved": saved,
        # those around others first
        "entries": [_entry(one) for one in sorted(entries.values(), key=lambda one: one.depth)],
        "of": [[p.pid, p.start, p.state.entry.id] for p in living if p.state.entry is not None],
        "sessions": [
            [p.pid, p.start, *p.state.session]
            for p in living
            if p.state.session is not None and p.state.session.source != PROCFS
        ],
    }


def _entry(entry: Entry) -> JsonObject:
    container = entry.container
    assert isinstance(container, Container)
    inst = container.sandbox
    return {
        "id": entry.id,
        "key": container.key,
        "ns": None if inst is None else [inst.index, inst.dev, inst.ino],
        "how": entry.how,
        "time": entry.time,
        "who": _ancestor(entry.who),
        "session": entry.session,
        "parents": [None if one is None else _ancestor(one) for one in entry.parents],
        "unit": entry.unit,
        "outer": None if entry.outer is None else entry.outer.id,
    }


def _ancestor(one: Ancestor) -> list[Json]:
    words = (one.comm, one.file, one.exe)
    return [one.pid, one.start, *(word.decode("utf-8", "surrogateescape") for word in words), one.procfs]


def checked(request: JsonObject) -> JsonObject:
    """``request`` where it has the shape that :func:`restore` relies on; raises ValueError, KeyError, TypeError."""
    depth: dict[str, int] = {}
    for entry in request["entries"]:
        outer = entry["outer"]
        depth[str(entry["id"])] = 0 if outer is None else depth[outer] + 1
        if depth[entry["id"]] > MOST_OUTER + 1 or not isinstance(entry["id"], str):
            raise ValueError("too many entries around one another")
        if not (isinstance(entry["how"], str) and isinstance(entry["unit"], str)):
            raise ValueError("no entry")
        if entry["time"] is not None:
            _whole(_U64, entry["time"])
        if entry["session"] is not None:
            _session(*entry["session"])
        for raw in (entry["who"], *(one for one in entry["parents"] if one is not None)):
            _read_ancestor(raw)
        if entry["ns"] is not None:
            index, dev, ino = entry["ns"]
            _whole(8, index)
            _whole(_U64, dev, ino)
        for runtime, ident in entry["key"]:
            if not (isinstance(runtime, str) and isinstance(ident, str)):
                raise ValueError("no key")
    for pid, start, ident in request["of"]:
        _whole(_U64, pid, start)
        depth[ident]
    for pid, start, *session in request["sessions"]:
        _whole(_U64, pid, start)
        _session(*session)
    return request


def _whole(limit: int, *values: Json) -> None:
    if any(not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < limit for value in values):
        raise ValueError("no number")


def _session(auid: Json, ses: Json, source: Json) -> Session:
    _whole(_U32, auid, ses)
    if not isinstance(source, str):
        raise ValueError("no stamp")
    return Session(auid, ses, source)


def _read_ancestor(raw: Json) -> Ancestor:
    pid, start, *words, procfs = raw
    _whole(_U64, pid, start)
    comm, file, exe = (word.encode("utf-8", "surrogateescape") for word in words)
    return Ancestor(pid, start, comm, file, exe, bool(procfs))


def restore(model: Tables, request: JsonObject) -> None:
    """Put one request back; what the model has already stays."""
    _restore_sessions(model, request)
    entries: dict[str, Entry] = {}
    for raw in request["entries"]:
        container = _container(model, raw)
        if container is None:
            continue
        session = None if raw["session"] is None else _session(*raw["session"])
        parents = tuple(None if one is None else _read_ancestor(one) for one in raw["parents"])
        entries[raw["id"]] = Entry(
            raw["id"], container, raw["how"], raw["time"], _read_ancestor(raw["who"]), session, parents, raw["unit"],
            entries.get(raw["outer"]),
        )  # fmt: skip
    for pid, start, ident in request["of"]:
        process, entry = model.alive_since(int(pid), int(start)), entries.get(ident)
        if process is not None and entry is not None:
            _enters(model, process, entry)
    _inherit(model, int(request["saved"]))
    model.outputs = [output for output in model.outputs if not _again(model, output)]


def _restore_sessions(model: Tables, request: JsonObject) -> None:
    for pid, start, auid, ses, stamp in request["sessions"]:
        process = model.alive_since(int(pid), int(start))
        session = Session(auid, ses, stamp)
        former = process.state.session if process is not None else None
        if process is not None and (former is None or (former.source == PROCFS and former[:2] == session[:2])):
            model.table.amend(process, partial(_in_session, session))


def _in_session(session: Session, state: State, _: int) -> State:
    return state._replace(session=session)


def _container(model: Tables, raw: JsonObject) -> Container | None:
    """The container of an entry; a sandbox is called otherwise after a restart, and is the one of its namespace."""
    containers = model.containers
    key = tuple((str(runtime), str(ident)) for runtime, ident in raw["key"])
    found = containers.taken.get(key) or containers.by_key.get(key)
    if found is None and raw["ns"] is not None:
        index, dev, ino = raw["ns"]
        inst = model.namespaces.current[index].get(ino)
        owner = inst.owner if inst is not None and inst.dev in (dev, 0) else None
        found = owner if owner is not None and owner.sandbox is inst else None
    return found


def _enters(model: Tables, process: Process, entry: Entry) -> None:
    """``process`` is of ``entry``, and has been so."""
    container, former = process.state.container, process.state.entry
    if container is None or entry.container not in container.chain() or (former is not None and former.id == entry.id):
        return

    def right(state: State, _: int) -> State:
        inside = state.container is not None and entry.container in state.container.chain()
        return state._replace(entry=entry) if inside else state

    model.table.amend(process, right)
    model.containers.renames += 1


def _inherit(model: Tables, saved: int) -> None:
    """Those forked since then, of parents that are of an entry."""
    for process in sorted(model.table.living(lambda _: True), key=lambda p: (p.start, p.pid)):
        container = process.state.container
        if process.start <= saved - SAME_START or process.creator is None or container is None:
            continue
        parent = model.table.incarnation(*process.creator)
        entry = kept(parent.state.entry, container) if parent is not None else None
        own = process.state.entry is not None and process.state.entry.time is not None
        if entry is not None and not own and (entry.time is None or entry.time <= process.start):
            _enters(model, process, entry)


def _again(model: Tables, output: Output) -> bool:
    """Whether an output tells an entry that /proc alone showed, of somebody who is of another one, as is known now."""
    entry = output.state.entry if isinstance(output, ContainerInfo) else None
    if entry is None or entry.time is not None:
        return False
    process = model.alive_since(entry.who.pid, entry.who.start)
    return process is not None and process.state.entry is not entry
