"""Registrations of a former run, or of another program on this host, put back into the table.

Processes that were members are known by pid and start. Those forked since are tied by a living parent, by a namespace
that belongs to the container, or by its cgroup. What is left is a process whose parent has gone and that may have
come from a container without namespaces of its own: whether it did nobody can know, so it is unknown, not the host's.
"""

from collections.abc import Collection
from typing import TYPE_CHECKING, Final

from auditns_connector.model import container_names as names
from auditns_connector.model.containers import SEEN
from auditns_connector.model.places import UNKNOWN, Container, Key
from auditns_connector.model.process import PROCFS, REGISTERED, Process
from auditns_connector.model.registrations import Registrations
from auditns_connector.vocabulary.namespaces import PID, USER
from auditns_connector.vocabulary.timing import SAME_START
from auditns_connector.vocabulary.values import Json, JsonObject

if TYPE_CHECKING:
    from auditns_connector.model.tables import Tables

_INIT: Final = 1
#: members named in one frame: it must stay far below frames.MAX_FRAME
MAX_MEMBERS: Final = 4000
MAX_CGROUPS: Final = 200


def snapshots(model: "Tables", living: Collection[Container]) -> list[JsonObject]:
    """The registered containers ``living`` as the requests (op "restore") that put them back, those around others
    first, JSON-able."""
    inside: dict[Container, list[Process]] = {container: [] for container in living}
    if not inside:
        return []
    for process in model.table.living(lambda one: one.registered in inside):
        if process.registered is not None:
            inside[process.registered].append(process)
    owned: dict[Container, list[list[int]]] = {}
    for index in (PID, USER):
        for inst in model.namespaces.current[index].values():
            if inst.owner in inside:
                owned.setdefault(inst.owner, []).append([index, inst.dev, inst.ino])
    taken: dict[Container, list[Key]] = {}
    for key, holder in model.containers.taken.items():
        taken.setdefault(holder, []).append(key)
    out = []
    for container, found in inside.items():
        out += _snapshot(model, container, found, owned.get(container, []), sorted(taken.get(container, [])))
    return out


def _snapshot(
    model: "Tables", container: Container, found: list[Process], owned: list[list[int]], taken: list[Key]
) -> list[JsonObject]:
    first = model.processes.get(container.first[0]) if container.first else None
    if any(index == PID for index, _, _ in owned):
        # whoever is in its pid namespace is its: the others need not be named
        found = [p for p in found if (p.pid, p.start) == container.first or not _inside(p, container)]
    about = {
        "op": "restore",
        "key": container.key,
        "parent": container.parent.key if container.parent is not None else None,
        "contid": container.contid,
        "owner": container.owner.key if container.owner is not None else None,
        "born": container.born,
        "first": container.first,
        "names": {
            **{name: getattr(container, name) for name in names.NAMES},
            "labels": container.labels,
        },
        "replaces": sorted(container.replaces),
        "taken": taken,
        "ns": owned,
        "above": [list(who) for who in above(model, first)] if first is not None else [],
        "cg": sorted({process.cgroups.paths for process in found if process.cgroups is not None})[:MAX_CGROUPS],
    }
    who = [[process.pid, process.start] for process in found]
    pieces = [who[at : at + MAX_MEMBERS] for at in range(0, len(who), MAX_MEMBERS)] or [[]]
    return [{**about, "members": piece} for piece in pieces]


def _inside(process: Process, container: Container) -> bool:
    inst = process.state.nsset.inst[PID] if process.state.nsset is not None else None
    return inst is not None and inst.owner is container


def above(model: "Tables", process: Process | None) -> list[tuple[int, int]]:
    """The ancestors of ``process`` as far as they are known."""
    out: list[tuple[int, int]] = []
    while process is not None and process.creator is not None and len(out) < 256:
        out.append(process.creator)
        process = model.processes.get(process.creator[0])
    return out


def _key(raw: Json) -> Key:
    return tuple((str(runtime), str(id_)) for runtime, id_ in raw)


def restore(model: "Tables", registered: Registrations, time: int, request: JsonObject) -> None:
    """Put one container back; no change where it is there already. Those that turn out to have no process left end
    with the last frame of the restore."""
    containers = model.containers
    members = [model.alive_since(int(pid), int(start)) for pid, start in request["members"]]
    living = [process for process in members if process is not None]
    key, contid = _key(request["key"]), int(request["contid"])
    container = containers.by_key.get(key)
    if container is None or container.kind != REGISTERED:
        parent = _parent(model, request, living)
        container = Container(key, REGISTERED, int(request["born"]), parent)
        container.contid = contid
        owner = request["owner"]
        container.owner = containers.by_key.get(_key(owner), UNKNOWN) if owner is not None else None
        container.first = tuple(request["first"]) if request["first"] else None
        names.describe(container, None, request["names"])
        container.replaces = frozenset(_key(raw) for raw in request["replaces"])
        containers.by_key[key] = container
        containers.number(container, contid)
        for taken in map(_key, request["taken"]):
            containers.taken[taken] = container
            for process in living:
                if process.cgroups is not None and tuple(r[:2] for r in process.cgroups.runtimes) == taken:
                    containers.learn(container, process.cgroups)
        for inst in _namespaces(model, request):
            inst.owner = container
        containers.enter(parent)
        containers.tell(SEEN, container, time)
        registered.changes += 1
    for process in living:
        model.table.register(process, container)
    since = int(request["saved"])
    _inherit(model, {(p.pid, p.start) for p in living}, container, since)
    for inner in _inner(model, container):
        containers.put_inside(inner, container, time)
    for process in model.table.living(lambda _: True):
        if process.registered is container or (process.registered is None and _tied(process, container)):
            model.settle(process, time, REGISTERED if process.registered is container else PROCFS)


def _namespaces(model: "Tables", request: JsonObject) -> list[Json]:
    found = []
    for index, dev, ino in request["ns"]:
        inst = model.namespaces.current[index].get(ino)
        if inst is not None and inst.dev in (dev, 0) and not inst.initial:
            found.append(inst)
    return found


def _parent(model: "Tables", request: JsonObject, living: list[Process]) -> Container | None:
    """The container around it; a sandbox is called otherwise after a restart, so it is taken from the first member."""
    if request["parent"] is None:
        return None
    key = _key(request["parent"])
    if model.containers.doubtful(key):
        return UNKNOWN
    parent = model.containers.by_key.get(key) or model.containers.taken.get(key)
    if parent is None and living:
        parent = living[0].state.container
    return parent if parent is not UNKNOWN else None


def _inherit(model: "Tables", line: set[tuple[int, int]], container: Container, since: int) -> None:
    """Children forked since then, of parents that are members."""
    for process in sorted(model.processes.values(), key=lambda p: p.start):
        if process.end is None and process.creator in line and process.start > since - SAME_START:
            if process.registered is None or process.registered is UNKNOWN:
                model.table.register(process, container)
            if process.registered is container:
                line.add((process.pid, process.start))


def _inner(model: "Tables", container: Container) -> list[Container]:
    """Containers of runtimes whose processes are all of the registered ``container``: they run inside it."""
    found: dict[Container, bool] = {}
    for process in model.processes.values():
        belongs = process.state.container
        named = [link for link in belongs.chain() if link.kind == "runtime"] if belongs is not None else []
        if process.end is None and named and (named[-1].parent is None or named[-1].parent.kind == "sandbox"):
            own = process.registered is container or _inside(process, container)
            found[named[-1]] = found.get(named[-1], True) and own
    taken = model.containers.taken
    return [
        inner
        for inner, all_own in found.items()
        if all_own and inner.key not in container.replaces and taken.get(inner.key) is not container
    ]


def _tied(process: Process, container: Container) -> bool:
    """Whether the cgroup or a namespace of ``process`` is the container's."""
    if process.cgroups is not None and process.cgroups.runtimes:
        return True  # the rule of containers.py looks whose it is
    nsset = process.state.nsset
    return nsset is not None and any(
        inst is not None and inst.owner is container for inst in (nsset.inst[PID], nsset.inst[USER])
    )


def doubt_orphans(model: "Tables", registered: Registrations, time: int, request: JsonObject) -> None:
    """Last of a restore: ``loose`` are those of the containers without a pid namespace of their own, each with its
    former cgroups and ancestors; a process forked since ``saved`` that may come from one of them is unknown."""
    containers = model.containers
    for pid, start, key in request.get("delegates", ()):
        process = model.alive_since(int(pid), int(start))
        inside = containers.by_key.get(_key(key)) if key is not None else None
        if process is not None and (key is None or inside is not None):
            registered.delegates[(process.pid, process.start)] = inside
    for container in reversed(registered.living()):
        if container.live == 0:
            containers.enter(container)
            containers.leave(container, time)  # it ended while nobody looked
    since = int(request["saved"])
    for process in model.table.living(lambda one: one.registered is None):
        if process.start <= since - SAME_START or process.state.container is not None:
            continue
        for loose in request["loose"]:
            if _may_come_from(process, loose):
                model.table.register(process, UNKNOWN)
                model.settle(process, time, PROCFS)
                break


def _may_come_from(process: Process, loose: JsonObject) -> bool:
    paths = [tuple((int(root), str(path)) for root, path in cg) for cg in loose["cg"]]
    if process.cgroups is None or process.cgroups.paths not in paths:
        return False
    adopted = process.creator is None or process.creator[0] == _INIT
    return adopted or any(
        process.creator is not None
        and process.creator[0] == int(pid)
        and abs(process.creator[1] - int(start)) <= SAME_START
        for pid, start in loose["above"]
    )


def loose(request: JsonObject) -> JsonObject | None:
    """What :func:`doubt_orphans` wants of a restored container; ``None`` where a pid namespace tells whose they are."""
    if any(index == PID for index, _, _ in request["ns"]):
        return None
    return {"cg": request["cg"], "above": request["above"]}
