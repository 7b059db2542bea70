"""Namespaces, containers and processes as they are now, as one JSON-able object. Pure: a model in, an object out.

``auditns ns`` and ``auditns tree`` show it. Keys: ``v`` (1), ``time`` (CLOCK_REALTIME, seconds), ``live`` (False: made
from one scan of /proc, so without a past), and four lists that refer to each other by position:

namespaces   objects: type, serial (hex string, null: not asked), dev, ino, initial, born (seconds before ``time``,
             null: before we looked), creator (pid and comm, null), held (true: no process is in it, yet the kernel says
             it is there), processes (how many)
containers   objects: contid (the chain, a string), kind, runtime, id, name, pod, namespace, pod_uid, image, role,
             parent (position or null), age
sets         lists of eight positions in ``namespaces`` in the order of nstypes.ALL_ORDER, null where not known
processes    [pid, creator's pid or 0, comm, container (position, -1 the host, -2 unknown), set (position or null),
             sets of those threads that are in another one]
"""

import base64
import json
import zlib
from typing import TYPE_CHECKING, Final

from auditns_connector.model.places import UNKNOWN, Container, Instance, NsSet
from auditns_connector.vocabulary.values import JsonObject

if TYPE_CHECKING:
    from collections.abc import Sequence

    from auditns_connector.model.apply.dispatch import Model
    from auditns_connector.model.process import Process
    from auditns_connector.pipeline.filters import ContidTerms

VERSION: Final = 1
HOST, NOT_KNOWN = -1, -2
#: bytes of an answer's part: it must fit a socket's send buffer
PART: Final = 96 * 1024
Snapshot = JsonObject


class _Maker:
    def __init__(self, model: "Model", now: int) -> None:
        self._model, self._now = model, now
        self.namespaces: list[JsonObject] = []
        self.containers: list[JsonObject] = []
        self.sets: list[list[int | None]] = []
        self._ns: dict[Instance, int] = {}
        self._container: dict[Container, int] = {}
        self._set: dict[NsSet, int] = {}

    def _age(self, since: int) -> float:
        return round(max(0, self._now - since) / 1e9, 3)

    def namespace(self, inst: Instance) -> int:
        at = self._ns.get(inst)
        if at is None:
            at = self._ns[inst] = len(self.namespaces)
            witnessed = inst.creator is not None
            creator = self._model.incarnation(*inst.creator) if inst.creator is not None else None
            made = {"pid": inst.creator[0], "comm": _comm(creator) if creator else None} if inst.creator else None
            self.namespaces.append(
                {
                    "type": inst.type,
                    "serial": None if inst.serial is None else f"{inst.serial:x}",
                    "dev": inst.dev or self._model.namespaces.dev,
                    "ino": inst.ino,
                    "initial": inst.initial,
                    "born": self._age(inst.born) if witnessed else None,
                    "creator": made,
                    "held": bool(inst.held) and not inst.sets,
                    "processes": 0,
                }
            )
        return at

    def nsset(self, nsset: NsSet | None) -> int | None:
        if nsset is None:
            return None
        at = self._set.get(nsset)
        if at is None:
            at = self._set[nsset] = len(self.sets)
            self.sets.append([None if inst is None else self.namespace(inst) for inst in nsset.inst])
        return at

    def container(self, container: Container | None) -> int:
        if container is None:
            return HOST
        if container is UNKNOWN:
            return NOT_KNOWN
        at = self._container.get(container)
        if at is None:
            parent = self.container(container.parent) if container.parent is not None else None
            at = self._container[container] = len(self.containers)
            named = ("kind", "runtime", "id", "name", "pod", "namespace", "pod_uid", "image", "role")
            self.containers.append(
                {
                    "contid": self._model.containers.text(container),
                    **{name: getattr(container, name) for name in named},
                    "parent": parent,
                    "age": self._age(container.born),
                }
            )
        return at


def _comm(process: "Process") -> str:
    return process.comm.decode("utf-8", "backslashreplace")


def take(model: "Model", now: int, real: float, *, live: bool) -> Snapshot:
    """What ``model`` knows at ``now`` (CLOCK_MONOTONIC ns; ``real``: the wall clock's seconds)."""
    maker = _Maker(model, now)
    processes = []
    model.own.forget()
    for process in sorted(model.table.living(lambda _: True), key=lambda process: process.pid):
        pid = process.pid
        if model.own.made(process) or model.own.other(process):
            continue
        creator = process.creator
        parent = model.processes.get(creator[0]) if creator is not None else None
        above = parent.pid if parent is not None and creator == (parent.pid, parent.start) else 0
        own = maker.nsset(process.state.nsset)
        others = {maker.nsset(nsset) for nsset in (process.threads or {}).values()} - {own, None}
        for at in {n for s in (own, *others) if s is not None for n in maker.sets[s] if n is not None}:
            maker.namespaces[at]["processes"] += 1
        container = maker.container(process.state.container)
        processes.append([pid, above, _comm(process), container, own, sorted(n for n in others if n is not None)])
    for inst in model.namespaces.unproven_ends.values():
        if inst.held:
            maker.namespace(inst)
    return {
        "v": VERSION,
        "time": round(real, 3),
        "live": live,
        "namespaces": maker.namespaces,
        "containers": maker.containers,
        "sets": maker.sets,
        "processes": processes,
    }


def only(snapshot: Snapshot, terms: "Sequence[ContidTerms]", names: "Sequence[str]" = ()) -> Snapshot:
    """What all ``terms``, and one of the patterns ``names``, want of ``snapshot``: containers, and processes; the
    namespaces stay as they are. A container stands alone where the one around it is not wanted."""
    if not terms and not names:
        return snapshot
    from auditns_connector.pipeline.filters import MEANS_HOST, MEANS_UNKNOWN, listed_wanted

    wanted = listed_wanted(snapshot["containers"], terms, names)
    places = {at: place for place, at in enumerate(at for at, kept in enumerate(wanted) if kept)}
    containers = [
        {**about, "parent": places.get(about["parent"])}
        for about, kept in zip(snapshot["containers"], wanted, strict=True)
        if kept
    ]
    for at, meant in ((HOST, MEANS_HOST), (NOT_KNOWN, MEANS_UNKNOWN)):
        if not names and all(term.takes(meant) for term in terms):
            places[at] = at
    processes = [
        [*process[:3], places[process[3]], *process[4:]] for process in snapshot["processes"] if process[3] in places
    ]
    return {**snapshot, "containers": containers, "processes": processes}


def pack(snapshot: Snapshot) -> list[str]:
    """A snapshot as texts small enough for one answer of the control socket each."""
    raw = json.dumps(snapshot, separators=(",", ":")).encode()
    words = base64.b64encode(zlib.compress(raw, 1)).decode("ascii")
    return [words[at : at + PART] for at in range(0, len(words), PART)]


def unpack(parts: list[str]) -> Snapshot:
    """The snapshot of :func:`pack`. Raises ValueError where it is none."""
    try:
        found = json.loads(zlib.decompress(base64.b64decode("".join(parts), validate=True)))
    except zlib.error as error:
        raise ValueError(str(error)) from error
    if not isinstance(found, dict) or found.get("v") != VERSION:
        raise ValueError("not a snapshot of this version")
    return found
