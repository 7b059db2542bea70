"""What the model has to tell beside answers: beginnings, changes and ends of namespaces, and losses."""

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from .containers import Container
    from .namespaces import Instance
    from .process import Process, State


class Loss(NamedTuple):
    """``number`` events (0: not known how many) of ``source`` are missing between ``since`` and ``time`` (ns)."""

    time: int
    source: str
    cpu: int
    number: int
    since: int


class NsInit(NamedTuple):
    """A namespace came to exist; ``old`` is the one of its type that its creator was in."""

    time: int
    inst: "Instance"
    old: "Instance | None"
    process: "Process"
    state: "State"


class NsChange(NamedTuple):
    """A process moved from ``old`` to ``inst``; ``reason`` is clone, unshare or setns."""

    time: int
    inst: "Instance"
    old: "Instance | None"
    process: "Process"
    state: "State"
    reason: str


class NsDel(NamedTuple):
    """A namespace is gone; ``held`` is False where the kernel proved it, None where only its tasks are known gone."""

    time: int
    inst: "Instance"
    held: bool | None


class ContainerEnd(NamedTuple):
    """The last process of a container has exited."""

    time: int
    container: "Container"


Output = Loss | NsInit | NsChange | NsDel | ContainerEnd
