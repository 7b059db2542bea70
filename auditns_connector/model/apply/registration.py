"""Identifiers that orchestrators set: who may set which on whom, and what follows from it.

A request enters as a REGISTER frame that holds what only the moment of asking could tell (who asked, with which rights,
whether audit was on); the decision is made here from the table alone, so that a replay decides alike. The rules are
those of the kernel patches' last revision, in their order (the errno of each in brackets)::

    1  the process is there [ESRCH]; the id is a number, decimal or 0x-hex [EINVAL], of 64 bits [ERANGE]
    2  audit is on [ENOPROTOOPT]
    3  the id is not 2^64-1, which means unset [EINVAL]
    4  the caller is privileged and on the host, or holds the delegated right [EPERM]
    5  the process has no child and no second thread [EBUSY]
    6  it is not the caller nor one of its ancestors, and in the caller's own container if that is in one [EXDEV]
    7  it has no registered id, or the caller nests: sets one inside the container it is in itself [EEXIST]
    8  fewer than 16 containers are around it, so that its contid fits a record [EMLINK]
    9  no living container of another owner has the id, nor a dead one with a process yet to be reaped [ENOTUNIQ]

What a derived identifier says counts as unset. Rule 5 does not hold for an OCI hook, whose container's first process
may have threads: its thread group and all descendants are registered.
"""

import json
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Final

from auditns_connector.model import container_names as names
from auditns_connector.model.apply.requests import Outcome, Refused, caller_of, number
from auditns_connector.model.containers import NAMED, SEEN
from auditns_connector.model.outputs import ContainerOp
from auditns_connector.model.places import MOST_LEVELS, UNKNOWN, Container, Key
from auditns_connector.model.process import REGISTERED, Process
from auditns_connector.model.registrations import Registrations, Who
from auditns_connector.model.runtimes import UNSET, free_contid
from auditns_connector.vocabulary.namespaces import PID, USER
from auditns_connector.vocabulary.values import JsonObject

if TYPE_CHECKING:
    from auditns_connector.model.addresses import Packets
    from auditns_connector.model.inner_ids import Inside
    from auditns_connector.model.tables import Tables

REGISTERED_RUNTIME: Final = "registered"
_KEEP_ENDED: Final = 4096
#: ancestors looked at
_MAX_LINE: Final = 4096


class Registry(Registrations):
    """Registered containers of ``model``; :attr:`last` is the outcome of the newest request."""

    def __init__(self, model: "Tables", packets: "Packets", inside: "Inside") -> None:
        super().__init__(model.containers)
        self._model, self._packets, self._inside = model, packets, inside
        self.last = Outcome()
        #: requests about registrations that others answer, by op
        self.on_restored: Callable[[int, Container, JsonObject], None] = lambda *_: None
        self.others: dict[str, Callable[[int, JsonObject], None]] = {}

    # -- frames

    def take(self, time: int, pid: int, tid: int, ppid: int, ptid: int, cgroup: int, arg: int, payload: bytes) -> None:
        """REGISTER frame."""
        request: JsonObject = json.loads(payload.rstrip(b"\0"))
        op = request.get("op")
        if op == "set":
            self._set(time, pid, request)
        elif op == "delegate":
            self._delegate(time, pid, request)
        elif op == "restore":
            from auditns_connector.model.apply.restore import restore

            restore(self._model, self, time, request)
        elif op == "restored":
            from auditns_connector.model.apply.restore import doubt_orphans

            doubt_orphans(self._model, self, time, request)
        elif op == "inside":
            from auditns_connector.model.apply.inner_ids_state import restore as restore_inside

            restore_inside(self._model, self._inside, request)
        elif op == "entries":
            from auditns_connector.model.apply.entries_state import restore as restore_entries

            restore_entries(self._model, request)
        elif op == "marks":
            self._packets.marks = {int(mark): int(contid) for mark, contid in request["marks"]}
        elif op == "names":
            named = names.add(self._model.containers, request)
            if named is not None:
                self._model.containers.tell(NAMED, named, time)
        elif op in self.others:
            self.others[op](time, request)

    # -- setting an id

    def _set(self, time: int, pid: int, request: JsonObject) -> None:
        asked = str(request.get("id", ""))
        target: Process | None = None
        old, contid = UNSET_TEXT, "?"
        error = message = ""
        container: Container | None = None
        try:
            target = self._target(pid, request)
            old = self._text(target.state.container)
            wanted = number(asked)
            contid = str(wanted)
            container = self._decide(time, target, wanted, request)
            contid = str(container.contid)
            if container.contid != wanted:
                # the id asked for was another's: that attempt is reported too
                refused = ContainerOp(
                    time, "set", pid, str(wanted), old, caller_of(request), "ENOTUNIQ", None, container
                )
                self._model.tell(refused)
        except Refused as refusal:
            error, message = refusal.args
        nsset = target.state.nsset if target is not None and not error else None
        if error:
            container = target.state.container if target is not None else None
        self.last = Outcome(error, message, container)
        out = ContainerOp(time, "set", pid, contid, old, caller_of(request), error, nsset, container)
        self._model.tell(out)
        if "restored" in request and container is not None and not error:
            self.on_restored(time, container, request)

    def _target(self, pid: int, request: JsonObject) -> Process:
        start = request.get("start")
        process = self._model.alive_since(pid, int(start)) if start is not None else None
        if process is None:
            raise Refused("ESRCH", "no such process")
        return process

    def _decide(self, time: int, target: Process, wanted: int, request: JsonObject) -> Container:
        hook = bool(request.get("hook"))
        if not request.get("audit", True):
            raise Refused("ENOPROTOOPT", "audit is off (auditctl -e 1 switches it on)")
        if wanted == UNSET:
            raise Refused("EINVAL", "2^64-1 means unset and cannot be set")
        inside = self.may_set(request)
        self._model.table.hold(target.pid)  # a row of the table does not show its threads
        if not hook and (target.threads or any(self._children(target))):
            raise Refused("EBUSY", "the process has children or threads already")
        self._check_place(target, inside, request)
        found = target.state.container
        replaced: Container | None = None
        if found is UNKNOWN or found is None:
            parent = None
        elif found is inside:
            parent = found
        elif self._set_already(found, inside):
            raise Refused("EEXIST", f"it is set already: {self._text(found)}")
        else:
            replaced, parent = found, found.parent
        if parent is not None and len(parent.chain()) >= MOST_LEVELS:
            raise Refused("EMLINK", f"{MOST_LEVELS} containers are one inside the other already")
        container = self._named(time, wanted, inside, replaced, parent, request)
        self._register(time, target, container, replaced, hook)
        return container

    def may_set(self, request: JsonObject) -> Container | None:
        """The container (None: the host) in which the caller may set ids; raises :class:`Refused` (EPERM)."""
        caller = request.get("caller") or {}
        process = self._model.alive_since(int(caller.get("pid", 0)), int(caller.get("start") or 0))
        if process is None:
            raise Refused("EPERM", "who asks cannot be found among the processes of this host")
        inside = self.standing(process, caller)
        if inside is UNKNOWN:
            raise Refused("EPERM", "whether the caller is in a container is not known")
        if inside is None and caller.get("privileged"):
            return None
        for who in self._line(process, caller):
            if who in self.delegates and self.delegates[who] is inside:
                return inside
        where = "is in a container" if inside is not None else "has not CAP_AUDIT_CONTROL"
        raise Refused("EPERM", f"the caller {where} and has not been given the right to set identifiers")

    def standing(self, process: Process, caller: JsonObject) -> Container | None:
        """The container of ``process``, which asks as ``caller``; ``None`` for the host.

        Without perf nobody tells who made a process, so one whose parent has a registered child may be that one's for
        all we know. Host root that /proc shows in the initial namespaces and in no container's cgroup asks as the
        host then: what it could gain by a false name it has."""
        found = process.state.container
        if found is not UNKNOWN or self._model.perf or not caller.get("privileged"):
            return found
        namespaces, paths, initial = caller.get("ns"), caller.get("cg"), self._model.namespaces.initial_inodes
        if not namespaces or paths is None or any(namespaces.get(name) != initial.get(name) for name in _OF_THE_HOST):
            return found
        named = self._model.cgroups.of((int(root), path) for root, path in paths.items())
        return found if named.runtimes else None

    def _line(self, process: Process, caller: JsonObject) -> Iterator[Who]:
        """The caller and its ancestors: true creators as far as they are remembered, then the kernel's parents."""
        step: Process | None = process
        for _ in range(_MAX_LINE):
            if step is None:
                break
            yield step.pid, step.start
            step = self._model.incarnation(*step.creator) if step.creator is not None else None
        for pid, start in caller.get("ancestors") or ():
            process_ = self._model.alive_since(int(pid), int(start))
            if process_ is not None:
                yield process_.pid, process_.start

    def _check_place(self, target: Process, inside: Container | None, request: JsonObject) -> None:
        caller = request["caller"]
        process = self._model.alive(int(caller["pid"]))
        if process is not None and (target.pid, target.start) in self._line(process, caller):
            raise Refused("EXDEV", "a process sets neither its own identifier nor that of an ancestor")
        if inside is not None:
            found = target.state.container
            if found is None or found is UNKNOWN or inside not in found.chain():
                raise Refused("EXDEV", "the process is not inside the caller's container")

    @staticmethod
    def _set_already(found: Container, inside: Container | None) -> bool:
        """Whether a registered id lies between the process and the container in which the caller may set."""
        for link in found.chain():
            if link is inside:
                return False
            if link.kind == REGISTERED:
                return True
        return False

    def _named(
        self,
        time: int,
        wanted: int,
        inside: Container | None,
        replaced: Container | None,
        parent: Container | None,
        request: JsonObject,
    ) -> Container:
        """The container that ``wanted`` means: a living one of the caller's, or a new one."""
        containers = self._model.containers
        holder = containers.holder(wanted)
        if holder is not None and holder is not replaced:
            own = holder.kind == REGISTERED and holder.owner is inside and holder.parent is parent
            if own and not request.get("new"):
                return holder
            if not request.get("rehash"):
                raise Refused("ENOTUNIQ", "another container has this identifier")
        gone = self.ended.get(wanted)
        if gone is not None and request.get("unreaped") and gone[0] is not inside and not request.get("rehash"):
            raise Refused("ENOTUNIQ", "the last process of the container that had this identifier is not reaped yet")

        def taken(contid: int) -> bool:
            return containers.holder(contid) not in (None, replaced)

        given = free_contid(wanted, _key(parent, wanted), taken) if taken(wanted) else wanted
        container = Container(_key(parent, given), REGISTERED, time, parent)
        container.contid, container.owner, container.rehashed = given, inside, given != wanted
        names.describe(container, replaced, request.get("names") or {})
        containers.enter(parent)
        return container

    def _register(
        self, time: int, target: Process, container: Container, replaced: Container | None, hook: bool
    ) -> None:
        model = self._model
        containers = model.containers
        containers.by_key[container.key] = container
        if replaced is not None:
            container.places.update(replaced.places)
            if replaced.contid == container.contid:
                containers.by_contid.pop(replaced.contid or 0, None)
        containers.number(container, container.contid or 0)
        self.ended.pop(container.contid or 0, None)
        who = (target.pid, target.start)
        first_of_ns = self._own_namespaces(target, container)
        if replaced is not None:
            container.replaces |= {replaced.key}
            if hook or first_of_ns:
                containers.taken[replaced.key] = container
        if container.first is None:
            container.first = who
        self.changes += 1
        self.fresh.append(container)
        containers.tell(SEEN, container, time)
        members = [target, *self._descendants(target)] if hook else [target]
        former = (None, UNKNOWN, target.registered)
        for process in members:
            if process.registered in former:
                model.table.register(process, container)
                model.settle(process, time, REGISTERED)
        if replaced is not None and replaced.key in containers.taken:
            replaced.reported = True  # it does not end, it is called otherwise from now on
            for process in model.table.living_in([replaced]):
                model.settle(process, time, REGISTERED)

    @staticmethod
    def _own_namespaces(target: Process, container: Container) -> bool:
        """Namespaces that ``target`` was the first to live in belong to ``container``; whether its pid namespace is
        one of them."""
        found = False
        for index in (PID, USER) if target.state.nsset is not None else ():
            inst = target.state.nsset.inst[index] if target.state.nsset is not None else None
            if inst is not None and not inst.initial and inst.first == (target.pid, target.start):
                inst.owner = container
                found |= index == PID
        return found

    def _children(self, target: Process) -> Iterator[Process]:
        if not self._model.perf:
            return iter(self._model.children_of(target.pid))  # nobody tells creators
        who = (target.pid, target.start)
        return (p for p in self._model.table.family(*who) if p.end is None and p.creator == who)

    def _descendants(self, target: Process) -> list[Process]:
        return [p for p in self._model.table.family(target.pid, target.start) if p.end is None]

    # -- the end

    def on_end(self, container: Container, time: int) -> None:
        """The last process of ``container`` has gone."""
        if container.kind != REGISTERED:
            return
        model = self._model
        self.changes += 1
        taken = model.containers.taken
        for key in [key for key, holder in taken.items() if holder is container]:
            del taken[key]
        last = model.ending
        opid = last.pid if last is not None else 0
        self.ended[container.contid or 0] = container.owner, (opid, last.start if last is not None else 0)
        while len(self.ended) > _KEEP_ENDED:
            self.ended.popitem(last=False)
        old = model.containers.text(container)
        model.tell(ContainerOp(time, "drop", opid, UNSET_TEXT, old, {}, "", None, container))

    # -- the delegated right

    def _delegate(self, time: int, pid: int, request: JsonObject) -> None:
        error = message = ""
        target: Process | None = None
        text = UNSET_TEXT
        try:
            target = self._target(pid, request)
            text = self._text(target.state.container)
            inside = self.may_set(request)
            self._check_place(target, inside, request)
            if target.state.container is UNKNOWN:
                raise Refused("EXDEV", "the container of the process is not known")
            for who in [who for who in self.delegates if self._model.alive(who[0]) is None]:
                del self.delegates[who]
            self.delegates[(target.pid, target.start)] = target.state.container
            self.changes += 1
        except Refused as refusal:
            error, message = refusal.args
        self.last = Outcome(error, message, target.state.container if target is not None else None)
        out = ContainerOp(time, "delegate", pid, text, text, caller_of(request), error, None, self.last.container)
        self._model.tell(out)

    def _text(self, container: Container | None) -> str:
        return UNSET_TEXT if container is None else self._model.containers.text(container)

    def after_loss(self, time: int, since: int) -> None:
        """Events were lost ``since``: processes that may have been forked in a container meanwhile are in doubt."""
        if self.living():
            from auditns_connector.model.apply.restore import doubt_orphans, loose, snapshots

            found = [loose(request) for request in snapshots(self._model, self.living())]
            doubt_orphans(self._model, self, time, {"saved": since, "loose": [about for about in found if about]})


UNSET_TEXT: Final = "-1"
_OF_THE_HOST: Final = ("pid", "user", "mnt")


def _key(parent: Container | None, contid: int) -> Key:
    return (*(parent.key if parent is not None else ()), (REGISTERED_RUNTIME, str(contid)))
