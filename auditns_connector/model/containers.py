"""Containers: what makes one, what it is called, and when it is gone.

The rule that decides to which container a process belongs stands in :meth:`Containers.belongs`, and nowhere else:

1. a registration, inherited from the true creator (a runtime's container found *inside* a registered one nests in it);
2. a runtime recognised from the process's cgroup path, the innermost match; below the cgroup of the container that
   owns its pid namespace it is inside that one, whatever it is called;
3. the owner of its pid namespace: the container of the namespace's first process, or of whoever made it;
4. the owner of its user namespace, likewise;
5. a container whose mount namespace it entered while everyone living there belongs to that container;
6. otherwise it is a process of the host.

A pid (or user) namespace made outside every container owns itself: that is a *sandbox*. A namespace made inside a
container starts no further one. Where the evidence is missing the answer is :data:`UNKNOWN`, never a guess.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Final

from auditns_connector.model.namespaces import Instance, Namespaces
from auditns_connector.model.runtimes import Runtime, derive_contid, free_contid, hash64, lent, places

_MAX_TOLD: Final = 8192
Key = tuple[tuple[str, str], ...]


class Container:
    """One container, from its first process to its last. ``parent`` is the container it runs inside."""

    __slots__ = (
        "born",
        "contid",
        "ended",
        "first",
        "gives_way",
        "home",
        "id",
        "image",
        "key",
        "kind",
        "labels",
        "live",
        "name",
        "owner",
        "parent",
        "places",
        "pod",
        "rehashed",
        "replaces",
        "runtime",
        "sandbox",
        "text",
        "told",
    )

    def __init__(self, key: Key, kind: str, born: int, parent: "Container | None") -> None:
        #: (runtime, id) of this container and of those around it, outermost first: a container cannot pose as
        #: another by naming a cgroup of its own like the other's
        self.key = key
        #: "runtime", "sandbox" or "registered"; "unknown" for the one object UNKNOWN
        self.kind = kind
        self.born = born
        self.parent = parent
        self.runtime, self.id = key[-1]
        self.contid: int | None = None
        #: the contid field's text, chain included; filled by :meth:`Containers.text`
        self.text = ""
        self.name = ""
        self.image = ""
        self.pod = ""
        self.labels: dict[str, str] = {}
        self.sandbox: Instance | None = None
        #: the derived containers whose processes a registered id took over
        self.replaces: frozenset[Key] = frozenset()
        #: of a registered one: the container (None: the host) whose processes may put more tasks into it
        self.owner: Container | None = None
        #: of a registered one: (pid, start) of the process it was set on
        self.first: tuple[int, int] | None = None
        #: living processes in it, and containers nested in it
        self.live = 0
        self.ended: int | None = None
        self.rehashed = False
        self.told = False
        #: where its cgroup is in each hierarchy, as far as seen
        self.places: dict[int, str] = {}
        #: the cgroups of its first process when that began to run a program of the container's own; what is below them
        #: may be the container's doing
        self.home: CgroupSet | None = None
        #: whoever gave it its id may write to a part of the cgroup tree only: another that wants its number gets it
        self.gives_way = False

    def __repr__(self) -> str:
        return f"<Container {self.kind} {self.runtime}/{self.id[:16]} {self.text or self.contid}>"

    @property
    def inner(self) -> bool:
        """Whether only a cgroup inside another container says what it is: that may be the word of the container."""
        return self.kind == "runtime" and self.parent is not None

    def chain(self) -> "list[Container]":
        """This container and those it is nested in, innermost first."""
        out, c = [], self
        while True:
            out.append(c)
            if c.parent is None:
                return out
            c = c.parent


#: "we do not know": printed as ``contid=?``
UNKNOWN: Final = Container((("", ""),), "unknown", 0, None)
UNKNOWN.text = "?"


def cgroup_paths(raw: bytes) -> Iterator[tuple[str, str]]:
    """(hierarchy, path) of what /proc/PID/cgroup says, but for those at the root."""
    for line in raw.decode("utf-8", "surrogateescape").split("\n"):
        hierarchy, _, rest = line.partition(":")
        path = rest.partition(":")[2]
        if path != "/" and hierarchy.isdecimal():
            yield hierarchy, path


class CgroupSet:
    """The cgroups of a process, one path for each hierarchy where it is not the root; interned."""

    __slots__ = ("paths", "places", "runtimes")

    def __init__(self, paths: tuple[tuple[int, str], ...]) -> None:
        self.paths = paths
        named = [(root, places(path)) for root, path in paths]
        best = max((found for _, found in named), key=len, default=[])
        #: the runtimes' containers that the paths name, outermost first
        self.runtimes: tuple[Runtime, ...] = tuple(runtime for runtime, _ in best)
        #: for each of these the hierarchies that say so too, and the path of the container's own cgroup there
        self.places: tuple[dict[int, str], ...] = tuple({} for _ in best)
        for root, found in named:
            for level, ((runtime, place), wanted) in enumerate(zip(found, self.runtimes, strict=False)):
                if runtime[:2] != wanted[:2]:
                    break
                self.places[level][root] = place

    def path(self, root: int) -> str:
        """The path in hierarchy ``root`` (0: cgroup v2)."""
        for known, path in self.paths:
            if known == root:
                return path
        return "/"


class Cgroups:
    """Interned cgroup sets, and what path a cgroup id means."""

    def __init__(self) -> None:
        self._sets: dict[tuple[tuple[int, str], ...], CgroupSet] = {}
        self.root = self.of(())
        #: what /proc/PID/cgroup says -> its set: most processes share theirs
        self._told: dict[bytes, CgroupSet] = {}
        self.path_of: dict[int, str] = {}

    def of(self, paths: Iterable[tuple[int, str]]) -> CgroupSet:
        """The one set of these ``(hierarchy, path)`` pairs."""
        key = tuple(sorted((root, path) for root, path in paths if path and path != "/"))
        found = self._sets.get(key)
        if found is None:
            if len(self._sets) > 100_000:
                self._sets.clear()  # a cache only: processes keep the sets they point to
            found = self._sets[key] = CgroupSet(key)
        return found

    def told(self, raw: bytes) -> CgroupSet:
        """The set that the text of /proc/PID/cgroup means."""
        found = self._told.get(raw)
        if found is None:
            if len(self._told) >= _MAX_TOLD:
                self._told.clear()
            found = self._told[raw] = self.of((int(root), path) for root, path in dict(cgroup_paths(raw)).items())
        return found

    def moved(self, old: CgroupSet, root: int, path: str) -> CgroupSet:
        """``old`` after a move to ``path`` in hierarchy ``root``."""
        if old.path(root) == (path or "/"):
            return old
        return self.of([*((r, p) for r, p in old.paths if r != root), (root, path)])


class Containers:
    """Every container with a living process, and the rule that says who belongs where."""

    def __init__(self, namespaces: Namespaces) -> None:
        self._namespaces = namespaces
        self.boot_id = ""
        self.sandbox_types: frozenset[str] = frozenset(("pid", "user"))
        self.by_key: dict[Key, Container] = {}
        self.by_contid: dict[int, Container] = {}
        #: derived containers that a registered one has taken over as a whole
        self.taken: dict[Key, Container] = {}
        #: called with a container when its last process has gone
        self.on_end: Callable[[Container, int], None] | None = None
        #: counts containers that are called otherwise now, by number or name
        self.renames = 0

    # -- identity

    def of_cgroups(self, cgroups: CgroupSet, now: int) -> Container | None:
        """The container that the cgroups of a process name, created where it is new; parents first. Two cgroups of
        one name at different places are two containers."""
        if not cgroups.runtimes:
            return None
        parent: Container | None = None
        key: Key = ()
        for found, where in zip(cgroups.runtimes, cgroups.places, strict=True):
            key, c = self._at(key, found, where)
            if c is None:
                c = Container(key, "runtime", now, parent)
                c.id, c.name, c.pod = found.id, found.name, found.pod
                c.gives_way = parent is not None or any(map(lent, where.values()))
                self.by_key[key] = c
                self._claim(c, derive_contid(found.runtime, found.id))
                self.enter(parent)
            c.places.update(where)
            parent = c
        return parent

    def _at(self, outer: Key, found: Runtime, where: dict[int, str]) -> tuple[Key, Container | None]:
        """The key of the container that has its cgroups ``where``, and the container if it is there already."""
        number = 1
        while True:
            key = (*outer, (found.runtime, found.id if number == 1 else f"{found.id} ({number})"))
            c = self.taken.get(key) or self.by_key.get(key)
            if c is None or all(c.places.get(root, place) == place for root, place in where.items()):
                return key, c
            number += 1

    def learn(self, c: Container, cgroups: CgroupSet | None) -> None:
        """``c`` is the container that these cgroups name."""
        if cgroups is not None and cgroups.places:
            c.places.update(cgroups.places[-1])

    def doubtful(self, key: Key) -> bool:
        """Whether another container has the same name as the one that had ``key`` in a former run."""
        names = [(runtime, id_.partition(" (")[0]) for runtime, id_ in key]
        again = [(*names[:-1], (names[-1][0], f"{names[-1][1]} (2)"))] if names else []
        return any(other in self.by_key or other in self.taken for other in again)

    def sandbox_of(self, inst: Instance, now: int) -> Container:
        """The sandbox that a pid or user namespace is; its id waits for the namespace's serial."""
        c = Container(((f"{inst.type}ns", f"{inst.ino}@{inst.born}"),), "sandbox", now, None)
        c.sandbox = inst
        self.by_key[c.key] = c
        return c

    def contid(self, c: Container) -> int | None:
        """The id of ``c``; a sandbox's is fixed at the first call. ``None`` for :data:`UNKNOWN`."""
        if c.contid is None and c.sandbox is not None:
            serial = self._namespaces.serial(c.sandbox)
            text = f"{self.boot_id}/{c.sandbox.type}/{serial}".encode()
            self._claim(c, hash64(text))
        return c.contid

    def _claim(self, c: Container, contid: int) -> None:
        """Give ``c`` this derived id, or a rehash of it while another living container has it."""
        free = free_contid(contid, c.key, lambda wanted: self._stands(wanted, c))
        c.rehashed |= free != contid
        self.number(c, free)

    def _stands(self, contid: int, c: Container) -> bool:
        holder = self.by_contid.get(contid, c)
        return holder is not c and (c.gives_way or not holder.gives_way)

    def holder(self, contid: int) -> Container | None:
        """The living container that has this identifier and does not give way for a registered one."""
        found = self.by_contid.get(contid)
        return None if found is None or found.gives_way else found

    def number(self, c: Container, contid: int) -> None:
        """``c`` has this identifier from now on, and who had it gets another."""
        former = self.by_contid.get(contid)
        c.contid = contid
        self.by_contid[contid] = c
        if former is not None and former is not c and former.contid == contid:
            self.rename(former)

    def rename(self, c: Container) -> None:
        """Another container has the derived id of ``c``: give ``c`` another one."""
        self.renames += 1
        c.contid = None
        for other in [*self.by_key.values(), *self.taken.values()]:
            if c in other.chain():
                other.text = ""
        if c.sandbox is None:
            self._claim(c, derive_contid(c.runtime, c.id))
        else:
            self.contid(c)

    def text(self, c: Container) -> str:
        """The value of a contid field: ``4,^2,^1`` for 4 inside 2 inside 1, ``?`` when unknown."""
        if not c.text:
            c.text = ",^".join(str(self.contid(link)) if link is not UNKNOWN else "?" for link in c.chain())
        return c.text

    # -- the rule

    def belongs(
        self,
        cgroups: CgroupSet | None,
        pid_ns: Instance | None,
        user_ns: Instance | None,
        registered: Container | None,
        creator: Container | None,
        who: tuple[int, int],
        now: int,
        *,
        set_up: bool,
    ) -> Container | None:
        """Where a process belongs by the evidence now in hand (rules 1-4 and 6 above); ``None`` is the host.

        ``creator`` is the container of the process that made it (or its own former one), which decides to whom a
        namespace belongs that ``who`` (pid, start) is the first to live in. ``set_up``: it runs a program of its
        container's own, so that its cgroup is no longer its runtime's doing alone.
        """
        if cgroups is None or pid_ns is None:
            return UNKNOWN
        found = self.of_cgroups(cgroups, now)
        lost = registered is UNKNOWN  # whether it was registered was lost in an outage
        if registered is not None and not lost:
            if registered.first == who and (registered.home is None or not set_up):
                registered.home = cgroups
            if found is None or found in registered.chain() or found.key in registered.replaces:
                return registered
            if registered.first == who:
                # its runtime moves it into its cgroup only now: one and the same container
                registered.replaces |= {found.key}
                self.learn(registered, cgroups)
                if not found.live:
                    self.taken[found.key] = registered
                    self._drop(found, now)
                return registered
            self._nest(found, registered)
            # a move into the cgroup of a container that was there before takes no registration away
            return found if registered in found.chain() else registered
        if found is not None:
            owner = creator if pid_ns.owner is None and not pid_ns.initial else pid_ns.owner
            if (
                owner is not None
                and self._inside(owner, cgroups)
                and (set_up or (pid_ns.first, owner.sandbox) != (who, pid_ns))
            ):
                self._nest(found, owner)
            self._own(pid_ns, found, who)
            if user_ns is not None:
                self._own(user_ns, found, who)
            return found
        for inst in (pid_ns, user_ns):
            if inst is None:
                return UNKNOWN
            if inst.initial or inst.type not in self.sandbox_types:
                continue
            if inst.owner is None or (inst.owner is UNKNOWN and inst.first == who):
                inst.owner = creator if creator is not None else self.sandbox_of(inst, now)
                if creator is None:
                    inst.owner.home = cgroups
            owner = inst.owner
            if owner.sandbox is inst and inst.first == who and not set_up:
                owner.home = cgroups
            return owner
        return UNKNOWN if lost else None

    def _nest(self, found: Container, outer: Container) -> None:
        """``found`` is inside ``outer``, unless it, or one around it, was there before."""
        chain = found.chain()
        top = chain[-1]
        if any(link.live > (link is not found) for link in chain) or outer in chain or top in outer.chain():
            return
        for link in chain:
            link.gives_way, link.text = True, ""
        top.parent = outer
        self.enter(outer)

    def put_inside(self, inner: Container, outer: Container, now: int) -> None:
        """``inner`` was taken for one that is not in ``outer``; what is wrong about it is put right."""
        former, inner.parent, inner.gives_way = inner.parent, outer, True
        self.enter(outer)
        self.leave(former, now)
        for other in self.by_key.values():
            if inner in other.chain():
                other.text = ""
        self.renames += 1

    @staticmethod
    def _inside(owner: Container, cgroups: CgroupSet) -> bool:
        """Whether what ``cgroups`` name is below the cgroups of ``owner``, in every hierarchy that says it."""
        home = owner.home
        return home is not None and all(
            home.path(root) != "/" and place.startswith(home.path(root) + "/")
            for root, place in cgroups.places[0].items()
        )

    @staticmethod
    def _own(inst: Instance, c: Container, who: tuple[int, int]) -> None:
        """A recognised container owns the namespaces its first process was the first to live in."""
        if inst.initial:
            return
        owner = inst.owner
        if owner is None or (
            inst.first == who and (owner is UNKNOWN or owner.sandbox is inst) and owner not in c.chain()
        ):
            inst.owner = c

    # -- life

    def _drop(self, c: Container, now: int) -> None:
        """``c`` was made and nobody ever belonged to it."""
        if self.by_key.get(c.key) is c:
            del self.by_key[c.key]
        if c.contid is not None and self.by_contid.get(c.contid) is c:
            del self.by_contid[c.contid]
        c.ended = now
        self.leave(c.parent, now)

    def enter(self, c: Container | None) -> None:
        """One more living process belongs to ``c``."""
        if c is None or c is UNKNOWN:
            return
        c.live += 1
        if c.ended is not None:
            c.ended = None
            self.by_key.setdefault(c.key, c)
            if c.contid is not None:
                self.by_contid.setdefault(c.contid, c)
            self.enter(c.parent)

    def leave(self, c: Container | None, now: int) -> None:
        """One process fewer belongs to ``c``; at none it has ended and its id may be used again."""
        if c is None or c is UNKNOWN:
            return
        c.live -= 1
        if c.live <= 0 and c.ended is None:
            c.ended = now
            if self.by_key.get(c.key) is c:
                del self.by_key[c.key]
            if c.contid is not None and self.by_contid.get(c.contid) is c:
                del self.by_contid[c.contid]
            if self.on_end is not None:
                self.on_end(c, now)
            self.leave(c.parent, now)
