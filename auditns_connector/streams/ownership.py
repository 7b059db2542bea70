"""Which containers are an ordinary user's: those in a user namespace that he owns, by the kernel's word.

A sandbox lies in the user namespace that its pid namespace belongs to, which is fixed when that is made: what its
processes enter or make later changes nothing. Of a container that a runtime's cgroup tells, the longest living process
is asked, of a registered one the process that the identifier was set on: it must be in a user namespace of the same
owner as its pid namespace belongs to. Who is only a guest in somebody's container can make namespaces there, and is not
that process. Besides, a runtime's cgroup must be in a part of the tree that was given to a user.

Beyond that each event counts for itself: its process must be in the container's user namespace or below it, and of all
namespaces from there up to the container's he must be the owner. He can trace such a process anyway.

Whatever cannot be asked any more is nobody's.
"""

import os
import time
from typing import TYPE_CHECKING, Final, NamedTuple

from auditns_connector.control.peer import PidHandle
from auditns_connector.daemon.rate import RateLimit
from auditns_connector.model.places import UNKNOWN, Container, Instance
from auditns_connector.model.process import REGISTERED, Process, State
from auditns_connector.sources.procfs import Procfs
from auditns_connector.sources.user_namespaces import UserNamespace, descends, lineage, open_namespace, owning
from auditns_connector.vocabulary.namespaces import USER

if TYPE_CHECKING:
    from auditns_connector.host.observer import Observer

#: seconds after which a container that is nobody's, or root's, is asked for again: who sets it up may be about to enter
#: the user's namespace; later ones
_AGAIN: Final = (0.02, 0.05, 0.1, 0.2, 0.4, 0.8, 1.5, 3.0)
_LATER: Final = 10.0
#: questions a second; beyond them everything new is nobody's for a while
_QUESTIONS: Final = 200
#: two readings of one start time (ns); no pid comes round in that time
_SAME: Final = 50_000_000
_MOST: Final = 4096
#: processes that are tried to ask for a namespace
_TRIES: Final = 4


class Place(NamedTuple):
    """The user namespace that a container lies in, and its owner's uid."""

    uid: int
    ino: int


class _Asked(NamedTuple):
    place: Place | None
    #: when to ask again (time.monotonic seconds), and how often it was asked
    due: float
    times: int


class Ownership:
    """Asks the kernel about the containers of ``observer``'s model, and keeps its answers as long as they live."""

    def __init__(self, observer: "Observer") -> None:
        self._observer = observer
        self._procfs = Procfs()
        self._containers: dict[Container, _Asked] = {}
        self._lineages: dict[Instance, tuple[UserNamespace, ...]] = {}
        self._limit = RateLimit(_QUESTIONS)
        self._made = -1

    def place(self, container: Container) -> Place | None:
        """Where ``container`` lies; None where that is not known."""
        if container is UNKNOWN:
            return None
        asked = self._containers.get(container)
        now = time.monotonic()
        if asked is not None and ((asked.place is not None and asked.place.uid) or now < asked.due):
            return asked.place
        if not _may_be_a_users(container) or not self._limit.allows(1, time.monotonic_ns()):
            return None
        times = asked.times if asked is not None else 0
        found = self._ask(container)
        wait = _AGAIN[times] if times < len(_AGAIN) else _LATER
        if len(self._containers) >= _MOST:
            self._containers.clear()
        self._containers[container] = _Asked(found, now + wait, times + 1)
        return found

    def owns(self, uid: int, container: Container) -> bool:
        """Whether ``container`` lies in a user namespace of ``uid``."""
        place = self.place(container)
        return place is not None and place.uid == uid

    def inside(self, uid: int, home: Container, state: State) -> bool:
        """Whether a process in ``state`` lives in the user namespace of ``home``, or in one below it that is of
        ``uid`` like all in between."""
        place = self.place(home)
        nsset = state.nsset
        inst = nsset.inst[USER] if nsset is not None else None
        if place is None or inst is None or place.uid != uid:
            return False
        for namespace in self._lineage(inst):
            if namespace.owner != uid:
                return False
            if namespace.ino == place.ino:
                return True
        return False

    def look(self) -> None:
        """Ask for containers that are new, as long as there are processes to be asked."""
        containers = self._observer.model.containers
        if self._made == containers.made:
            return
        self._made = containers.made
        for container in list(containers.by_key.values()):
            if container.live and container not in self._containers:
                self.place(container)

    def tick(self) -> None:
        """Forget what has ended."""
        self._containers = {c: asked for c, asked in self._containers.items() if c.ended is None}
        self._lineages = {inst: line for inst, line in self._lineages.items() if inst.live}

    # -- asking

    def _ask(self, container: Container) -> Place | None:
        process = self._witness(container)
        if process is None:
            return None
        pid = process.pid
        with PidHandle.by_pid(pid) as held:
            try:
                place = _of_sandbox(container.sandbox, pid) if container.sandbox is not None else _of_process(pid)
            except OSError:
                return None  # it has gone
            about = self._procfs.describe(pid)
            began = about["start"] if about is not None else None
            # the very process, not another one that has its number now
            same = began is not None and abs(began - process.start) < _SAME
            return place if same and held.alive() else None

    def _witness(self, container: Container) -> Process | None:
        """The process to be asked for ``container``."""
        model = self._observer.model
        if container.kind == REGISTERED:
            found = model.incarnation(*container.first) if container.first is not None else None
            return found if found is not None and found.end is None else None
        if container.sandbox is not None and container.init is not None:
            # whichever lives in it will do, and this one is found without looking at all processes
            first = model.alive(container.init[0])
            if first is not None and first.start == container.init[1]:
                return first
        return min(model.table.living_in([container]), key=lambda one: (one.start, one.pid), default=None)

    def _lineage(self, inst: Instance) -> tuple[UserNamespace, ...]:
        lineage = self._lineages.get(inst)
        if lineage is not None:
            return lineage
        if inst.initial or not self._limit.allows(1, time.monotonic_ns()):
            return ()
        found = self._ask_lineage(inst)
        if found:
            if len(self._lineages) >= _MOST:
                self._lineages.clear()
            self._lineages[inst] = found
        return found

    def _ask_lineage(self, inst: Instance) -> tuple[UserNamespace, ...]:
        namespaces = self._observer.model.namespaces
        tids = [tid for nsset in namespaces.sets_of(inst) for tid in namespaces.tasks(nsset)][:_TRIES]
        for tid in tids:
            try:
                fd = open_namespace(tid, "user")
            except OSError:
                continue  # it has gone
            try:
                if os.fstat(fd).st_ino != inst.ino:
                    continue
                found = lineage(fd)
                # while we hold it no other namespace has its inode: the model must say the same of this moment
                self._observer.sync()
                if namespaces.current[USER].get(inst.ino) is inst and inst.live:
                    return found
            except OSError:
                continue
            finally:
                os.close(fd)
        return ()


def _may_be_a_users(container: Container) -> bool:
    """Whether it is neither the system's nor one of which only cgroups inside another container tell."""
    if container.sandbox is not None or container.kind == REGISTERED:
        return True
    return container.parent is None and container.yields_id


def _of_sandbox(sandbox: Instance, pid: int) -> Place | None:
    """Where the sandbox is that process ``pid`` lives in. Raises OSError."""
    fd = open_namespace(pid, sandbox.type)
    try:
        if sandbox.type == "pid":
            if not descends(fd, sandbox.ino):
                return None
        elif os.fstat(fd).st_ino != sandbox.ino:
            return None
        return _first(fd) if sandbox.type == "user" else _owning(fd)
    finally:
        os.close(fd)


def _of_process(pid: int) -> Place | None:
    """Where a container is whose longest living process is ``pid``. Raises OSError."""
    user = open_namespace(pid, "user")
    try:
        own = _first(user)
    finally:
        os.close(user)
    fd = open_namespace(pid, "pid")
    try:
        if os.fstat(fd).st_ino == os.stat("/proc/self/ns/pid").st_ino:
            return own
        outer = _owning(fd)
    finally:
        os.close(fd)
    return outer if outer.uid == own.uid else None


def _owning(fd: int) -> Place:
    user = owning(fd)
    try:
        return _first(user)
    finally:
        os.close(user)


def _first(user: int) -> Place:
    found = lineage(user)[0]
    return Place(found.owner, found.ino)
