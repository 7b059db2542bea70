"""What a process is in: namespaces, and the container that these, its cgroups and its creator put it into.

A namespace of some types has a container that owns it, and a sandbox has the namespace that it is: so both stand here.
Where they are kept, and what begins and ends them, is in namespaces.py and containers.py.
"""

from collections.abc import Callable
from typing import Any, Final

from auditns_connector.model.cgroups import CgroupSet
from auditns_connector.vocabulary.namespaces import ALL_ORDER, FLAGS

#: serials from here on are minted, and not the kernel's
MINTED: Final = 1 << 63
Key = tuple[tuple[str, str], ...]
#: containers one inside the other: more are not distinguished, so that a contid always fits a record
MOST_LEVELS: Final = 16
#: so many names that a container had before are remembered
_NAMES: Final = 8


class Instance:
    """One namespace. ``serial`` is fixed once given; ``sets`` are the :class:`NsSet` with members that hold it."""

    __slots__ = (
        "born",
        "creator",
        "dev",
        "disputed",
        "ended",
        "first",
        "guessed",
        "held",
        "index",
        "initial",
        "ino",
        "joined",
        "number",
        "origin",
        "owner",
        "possible_predecessor",
        "reported",
        "serial",
        "sets",
    )

    def __init__(self, number: int, index: int, dev: int, ino: int, born: int, initial: bool) -> None:
        #: counted up in the order of appearance: the same in every replay
        self.number = number
        self.index = index
        self.dev = dev
        self.ino = ino
        self.born = born
        self.initial = initial
        self.serial: int | None = None
        self.sets: dict[NsSet, None] = {}
        #: when the last task known in it left
        self.ended: int | None = None
        #: after that: True the kernel says it lives on, False it is gone, None not known
        self.held: bool | None = None
        #: the former instance with this inode, while it is open whether this is the same one
        self.possible_predecessor: Instance | None = None
        #: it turned out to be a former instance that had outlived its tasks
        self.joined = False
        #: (pid, start) of the first process known in it
        self.first: tuple[int, int] | None = None
        self.creator: tuple[int, int] | None = None
        #: of a pid namespace: the one that its creator was in. Of other types each would remember all those that one
        #: process has made, one after the other, before it
        self.origin: Instance | None = None
        #: the container that processes of this pid or user namespace belong to; see containers.py
        self.owner: Container | None = None
        #: processes may live in it that came before its owner had it, and belong elsewhere
        self.disputed = False
        #: where it was made is not known, so that another may be its owner
        self.guessed = False
        self.reported = False

    def change_owner(self, owner: "Container", *, seen: bool) -> None:
        """Processes that come into it belong to ``owner`` from now on; whoever is there already stays where he is. If
        the change was not ``seen`` when it came about, somebody may be there whom nobody knows."""
        if self.owner is not owner:
            here = {member for nsset in self.sets for member in nsset.members}
            alone = here <= {self.first[0] if self.first is not None else 0}
            self.disputed |= not (seen and alone)
        self.owner = owner

    @property
    def live(self) -> int:
        """How many sets with members hold it."""
        return len(self.sets)

    @property
    def has_kernel_id(self) -> bool:
        """It has the kernel's own id for a serial."""
        return self.serial is not None and self.serial < MINTED

    @property
    def type(self) -> str:
        """Name of the type, as in /proc/PID/ns."""
        return ALL_ORDER[self.index]

    @property
    def flag(self) -> int:
        """The CLONE_NEW* flag of the type."""
        return FLAGS[ALL_ORDER[self.index]]


class NsSet:
    """One namespace of each type, interned; ``inst[i]`` is ``None`` where that one is not known."""

    __slots__ = ("inst", "members", "raw")

    def __init__(self, inst: tuple[Instance | None, ...], raw: bytes | None) -> None:
        self.inst = inst
        #: the NAMESPACES payload that this set answers to; None where it holds unknowns
        self.raw = raw
        #: thread ids, and numbers below 0 that stand for several, see :meth:`Namespaces.tasks`
        self.members: set[int] = set()


def _nothing(*_: object) -> None:
    """All of them are here."""


class Inodes(dict[int, Instance]):
    """The instances of a type (index in ALL_ORDER) by inode. Those of a process that nobody has looked at yet are in
    the table in C alone, see apply/lives.py: whoever looks for one, or at all of them, has them here."""

    def __init__(self, index: int) -> None:
        super().__init__()
        self._index = index
        #: has the living instance with an inode here; has all of them
        self.fetch: Callable[[int, int], None] = _nothing
        self.fetch_all: Callable[[], object] = _nothing

    def get(self, ino: int, default: Any = None) -> Any:
        """The instance that the inode means now."""
        found = super().get(ino)
        if found is None:
            self.fetch(self._index, ino)
            found = super().get(ino)
        return default if found is None else found

    def here(self, ino: int) -> Instance | None:
        """The same, if that is here."""
        return super().get(ino)

    def values(self) -> Any:
        """All of them."""
        self.fetch_all()
        return super().values()


class Container:
    """One container, from its first process to its last. ``parent`` is the container it runs inside."""

    __slots__ = (
        "born",
        "contid",
        "ended",
        "first",
        "former",
        "home",
        "id",
        "image",
        "init",
        "key",
        "kind",
        "labels",
        "live",
        "missed",
        "name",
        "namespace",
        "owner",
        "parent",
        "places",
        "pod",
        "pod_uid",
        "ran",
        "rehashed",
        "replaces",
        "reported",
        "role",
        "runtime",
        "sandbox",
        "text",
        "yields_id",
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
        #: the pod's name, its namespace there, and its uid (of Podman's pods and ECS's tasks their ids)
        self.pod = ""
        self.namespace = ""
        self.pod_uid = ""
        #: "pause" where it is there to hold a pod's namespaces alone
        self.role = ""
        self.labels: dict[str, str] = {}
        #: (pid, start) of the first process of a pid namespace of its own
        self.init: tuple[int, int] | None = None
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
        #: its first exec that was seen (CLOCK_MONOTONIC ns)
        self.ran: int | None = None
        #: that it was not registered is reported
        self.missed = False
        self.rehashed = False
        #: it as it was under the names it had before, oldest first, each with when it lost that (CLOCK_MONOTONIC ns)
        self.former: tuple[tuple[int, Container], ...] = ()
        self.reported = False
        #: where its cgroup is in each hierarchy, as far as seen
        self.places: dict[int, str] = {}
        #: the cgroups of its first process when that began to run a program of the container's own; what is below them
        #: may be the container's doing
        self.home: CgroupSet | None = None
        #: whoever gave it its id may write to a part of the cgroup tree only: another that wants its number gets it
        self.yields_id = False

    def __repr__(self) -> str:
        return f"<Container {self.kind} {self.runtime}/{self.id[:16]} {self.text or self.contid}>"

    def lose_name(self, now: int, then: "Container") -> None:
        """It is called otherwise from ``now`` on; ``then`` is it as it was until now."""
        self.text = ""
        self.former = (*self.former, (now, then))
        if len(self.former) > _NAMES:
            self.former = ((self.former[1][0], UNKNOWN), *self.former[2:])

    def called(self, low: int, high: int) -> "Container":
        """It as it was called from ``low`` to ``high``; :data:`UNKNOWN` where that changed, or is not remembered."""
        if not self.former or low >= self.former[-1][0]:
            return self
        until, then = next(name for name in self.former if low < name[0])
        return then if high < until else UNKNOWN

    @property
    def inner(self) -> bool:
        """Whether only a cgroup inside another container says what it is: that may be the word of the container."""
        return self.kind == "runtime" and self.parent is not None

    @property
    def runtimes(self) -> tuple[str, ...]:
        """The words for its runtime: as it is known, and where only a path tells of it as that does."""
        return (self.runtime, self.key[-1][0]) if self.kind == "runtime" else (self.runtime,)

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
UNKNOWN.text, UNKNOWN.ran = "?", 0
