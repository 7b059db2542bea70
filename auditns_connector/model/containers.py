"""Containers: what makes one, what it is called, and when it is gone.

To which container a process belongs is decided in membership.py, and nowhere else.
"""

import copy
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from auditns_connector.model.cgroups import CgroupSet
from auditns_connector.model.namespaces import Namespaces
from auditns_connector.model.places import MOST_LEVELS, UNKNOWN, Container, Instance, Key
from auditns_connector.model.runtimes import (
    KUBERNETES,
    Runtime,
    derive_contid,
    free_contid,
    hash64,
    lent,
)
from auditns_connector.vocabulary.namespaces import SANDBOX

#: why a container is reported: it is new; it is called otherwise; somebody entered it; it is there
SEEN: Final = "seen"
NAMED: Final = "named"
ENTRY: Final = "entry"
PRESENT: Final = "present"


class Link(NamedTuple):
    """One container that a cgroup path names: its key, the container if it is there already, and the path of its cgroup
    by hierarchy."""

    key: Key
    container: Container | None
    where: dict[int, str]


class Named(NamedTuple):
    """A container that cgroups name, with those around it, outermost first."""

    links: tuple[Link, ...]
    runtimes: tuple[Runtime, ...]

    @property
    def key(self) -> Key:
        """The key of the innermost."""
        return self.links[-1].key

    @property
    def container(self) -> Container | None:
        """The innermost one, if it is there already."""
        return self.links[-1].container


class ByKey(dict[Key, Container]):
    """The containers that live, by key. Sandboxes that nobody has looked at yet are in the table in C alone, see
    apply/lives.py: whoever looks at all has them here."""

    def __init__(self) -> None:
        super().__init__()
        #: has all of them here
        self.fetch_all: Callable[[], object] = _nothing

    def values(self) -> Any:
        """All of them."""
        self.fetch_all()
        return super().values()


def _nothing() -> None:
    """All are here."""


class Containers:
    """Every container with a living process."""

    def __init__(self, namespaces: Namespaces) -> None:
        self._namespaces = namespaces
        self.boot_id = ""
        #: a process in a namespace of one of these types, made outside every container, is in a container of its own
        self.sandbox_types: frozenset[str] = frozenset(SANDBOX)
        self.by_key = ByKey()
        self.by_contid: dict[int, Container] = {}
        #: derived containers that a registered one has taken over as a whole
        self.taken: dict[Key, Container] = {}
        #: called with a container when its last process has gone
        self.on_end: Callable[[Container, int], None] | None = None
        #: counts containers that are called otherwise now, by number or name
        self.renames = 0
        #: the time of the newest frame (CLOCK_MONOTONIC ns)
        self.now: Callable[[], int] = int
        #: counts containers that came to be
        self.made = 0
        #: called with a container that is new (SEEN), or is called otherwise (NAMED), and when
        self.on_news: Callable[[str, Container, int], None] | None = None

    # -- identity

    def named(self, cgroups: CgroupSet) -> Named | None:
        """The container that the cgroups of a process name, with those around it. Two cgroups of one name at different
        places are two containers. What is deeper than :data:`MOST_LEVELS` is its outer ones'."""
        if not cgroups.runtimes:
            return None
        key: Key = ()
        links = []
        runtimes, places = cgroups.runtimes[:MOST_LEVELS], cgroups.places[:MOST_LEVELS]
        for found, where in zip(runtimes, places, strict=True):
            key, there = self._at(key, found, where)
            links.append(Link(key, there, where))
        return Named(tuple(links), runtimes)

    def around(self, named: Named) -> Container | None:
        """The innermost of the containers that were named and are there, where those that are not would be more than
        :data:`MOST_LEVELS` in all; else None."""
        for new, link in enumerate(reversed(named.links)):
            if link.container is not None:
                return link.container if new and len(link.container.chain()) + new > MOST_LEVELS else None
        return None

    def of_name(self, named: Named, now: int) -> Container:
        """The container that was named, made where it is new; those around it first."""
        parent: Container | None = None
        for (key, there, where), found in zip(named.links, named.runtimes, strict=True):
            c = there
            if c is None:
                c = Container(key, "runtime", now, parent)
                c.id, c.name, c.pod_uid = found.id, found.name, found.pod_uid
                c.runtime = "" if found.runtime == KUBERNETES else found.runtime
                c.yields_id = parent is not None or any(map(lent, where.values()))
                self.by_key[key] = c
                self._claim(c, derive_contid(found.runtime, found.id))
                self.enter(parent)
                self.tell(SEEN, c, now)
            c.places.update(where)
            parent = c
        assert parent is not None, "a name has links"
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
        self.tell(SEEN, c, now)
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
        return holder is not c and (c.yields_id or not holder.yields_id)

    def holder(self, contid: int) -> Container | None:
        """The living container that has this identifier and does not give way for a registered one."""
        found = self.by_contid.get(contid)
        return None if found is None or found.yields_id else found

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
        now, then = self.now(), dict[Container | None, Container]()
        within = [other for other in {c, *self.by_key.values(), *self.taken.values()} if c in other.chain()]
        for other in sorted(within, key=lambda other: len(other.chain())):
            then[other] = self._as_it_is(other, then.get(other.parent) or other.parent)
        for other in within:
            other.lose_name(now, then[other])
        c.contid = None
        if c.sandbox is None:
            self._claim(c, derive_contid(c.key[-1][0], c.id))
        else:
            self.contid(c)

    def _as_it_is(self, c: Container, parent: Container | None) -> Container:
        """A copy of ``c`` with the name it has now, inside ``parent``; :data:`UNKNOWN` where nobody gave it one."""
        if any(link.contid is None for link in c.chain()):
            return UNKNOWN
        self.text(c)
        then = copy.copy(c)
        then.parent, then.former = parent, ()
        return then

    def text(self, c: Container) -> str:
        """The value of a contid field: ``4,^2,^1`` for 4 inside 2 inside 1, ``?`` when unknown."""
        if not c.text:
            c.text = ",^".join(str(self.contid(link)) if link is not UNKNOWN else "?" for link in c.chain())
        return c.text

    # -- what follows from where a process belongs, see membership.py

    def below(self, owner: Container, cgroups: CgroupSet) -> bool:
        """Whether what ``cgroups`` name is below the cgroups of ``owner``, in every hierarchy that says it."""
        home = owner.home
        return home is not None and all(
            home.path(root) != "/" and place.startswith(home.path(root) + "/")
            for root, place in cgroups.places[0].items()
        )

    def too_deep(self, named: Named, outer: Container) -> bool:
        """Whether what is named and new would have more than :data:`MOST_LEVELS` levels inside ``outer``."""
        new = all(link.container is None for link in named.links)
        return new and len(named.links) + len(outer.chain()) > MOST_LEVELS

    def may_nest(self, named: Named, outer: Container) -> bool:
        """Whether a container may be inside ``outer``: neither it nor one around it was there before."""
        there = next((link.container for link in reversed(named.links) if link.container is not None), None)
        if there is None:
            return True
        chain = there.chain()
        # whoever is around another one lives by that alone
        before = any(link.live > (link is not there) for link in chain)
        return not before and outer not in chain and chain[-1] not in outer.chain()

    def nest(self, found: Container, outer: Container) -> None:
        """``found`` is inside ``outer``, with all that are around it."""
        chain = found.chain()
        for link in chain:
            link.yields_id, link.text = True, ""
        chain[-1].parent = outer
        self.enter(outer)

    def tell(self, news: str, c: Container, now: int) -> None:
        """``c`` is new, or called otherwise."""
        self.made += news == SEEN
        if self.on_news is not None:
            self.on_news(news, c, now)

    def at_home(self, c: Container, cgroups: CgroupSet | None) -> None:
        """The cgroups of the first process of ``c`` are ``cgroups``; a sandbox is called like their systemd unit."""
        former, c.home = c.home.unit if c.home is not None else "", cgroups
        unit = cgroups.unit if c.sandbox is not None and cgroups is not None else ""
        if unit and unit != c.name and c.name in ("", former):
            c.name = unit
            self.renames += 1

    def seen(self, named: Named) -> None:
        """The containers that are there have these cgroups too."""
        for _, there, where in named.links:
            if there is not None:
                there.places.update(where)

    def take_over(self, registered: Container, named: Named, now: int) -> None:
        """The registered container is the one that cgroups name."""
        key, found, where = named.links[-1]
        registered.replaces |= {key}
        registered.places.update(where)
        if found is None or not found.live:
            self.taken[key] = registered
        if found is not None and not found.live:
            self._drop(found, now)

    def put_inside(self, inner: Container, outer: Container, now: int) -> None:
        """``inner`` was taken for one that is not in ``outer``; what is wrong about it is put right."""
        former, inner.parent, inner.yields_id = inner.parent, outer, True
        self.enter(outer)
        self.leave(former, now)
        for other in self.by_key.values():
            if inner in other.chain():
                other.text = ""
        self.renames += 1

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
