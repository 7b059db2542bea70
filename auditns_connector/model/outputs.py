"""What the model has to tell beside answers: beginnings, changes and ends of namespaces, and losses."""

from typing import TYPE_CHECKING, NamedTuple

from auditns_connector.vocabulary.values import JsonObject

if TYPE_CHECKING:
    from auditns_connector.model.places import Container, Instance, NsSet
    from auditns_connector.model.process import Process, State


class Query(NamedTuple):
    """Something to ask /proc: ``what`` is "proc", "alive" (the same, and the answer may be that it is gone) or
    "cgroup"."""

    what: str
    pid: int
    cgroup: int = 0


class Loss(NamedTuple):
    """``number`` events (0: not known how many) of ``source`` are missing between ``since`` and ``time`` (ns)."""

    time: int
    source: str
    cpu: int
    number: int
    since: int


class NsInit(NamedTuple):
    """A namespace came to exist; ``old`` is the one of its type that its creator, ``process``, was in, and ``state``
    what held for the creator then. Who made it may not be known (None)."""

    time: int
    inst: "Instance"
    old: "Instance | None"
    process: "Process | None"
    state: "State"
    comm: bytes = b""


class NsChange(NamedTuple):
    """A process moved from ``old`` to ``inst``; ``reason`` is clone, unshare, setns or, where only
    /proc showed, unknown; ``tid`` the thread that did (0: the leader); ``source`` perf, nm, audit or procfs."""

    time: int
    inst: "Instance"
    old: "Instance | None"
    process: "Process"
    state: "State"
    reason: str
    tid: int = 0
    source: str = "perf"
    #: no task is known in ``old`` any more
    last: bool = False
    comm: bytes = b""
    #: the program that it runs, b"" not known
    exe: bytes = b""


class NsLeft(NamedTuple):
    """The last process known in a namespace has exited; ``tid`` its thread (0: the leader)."""

    time: int
    inst: "Instance"
    process: "Process"
    state: "State"
    tid: int = 0
    comm: bytes = b""


class NsDel(NamedTuple):
    """A namespace is gone; ``held`` is False where the kernel proved it, None where only its tasks are known gone.
    ``process`` left it last, where that is known."""

    time: int
    inst: "Instance"
    held: bool | None
    process: "Process | None"


class ContainerOp(NamedTuple):
    """An identifier was set, refused, delegated or dropped, or its container was dumped or restored. ``op`` is set,
    delegate, drop, checkpoint or restore; ``contid`` and ``old`` are texts as in records; ``caller`` has the fields of
    who asked; ``error`` is an errno's name or ""; ``nsset`` are the namespaces of the first process where there is one
    to tell."""

    time: int
    op: str
    opid: int
    contid: str
    old: str
    caller: "JsonObject"
    error: str
    nsset: "NsSet | None"
    container: "Container | None"
    #: of checkpoint and restore: the UUID of the dump, ? where it is not known
    run: str = ""


class ContainerInfo(NamedTuple):
    """A container is worth a record of its own: ``reason`` is seen, named, entry or present."""

    time: int
    reason: str
    container: "Container"
    state: "State"


class Unread(NamedTuple):
    """What events ``first`` to ``last`` (without it) of the process table tell; see apply/lives.py."""

    first: int
    last: int


Output = ContainerInfo | ContainerOp | Loss | NsInit | NsChange | NsLeft | NsDel
