"""What really happened: the labels of a run, its audited actions, and what each process saw of its namespaces.

The actions are read from auditd's own log (what the kernel said, before any subject touched it); each carries its
truth in its arguments, see ``truth.c``.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final, Literal

#: namespace types in the order of truth.c
NS_TYPES: Final = ("cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts")
#: those a subject must know; the kernel's namespace events leave the time namespace out
NS_SCORED: Final = ("cgroup", "ipc", "mnt", "net", "pid", "user", "uts")

HOST: Final = 0

Kind = Literal["host", "known", "sandbox"]
#: (device, inode) of a namespace
NsRef = tuple[int, int]
#: "SECONDS.mmm:SERIAL" as between the parentheses of msg=audit()
EventId = str
NsKey = tuple[int, int, int, str]


@dataclass(slots=True)
class Label:
    """One container of the run. ``ident``: the runtime's own 64-hex id (kind known); ``parent``: the container
    around it, where the answer must show the chain."""

    number: int
    kind: Kind
    ident: str = ""
    parent: "Label | None" = None


@dataclass(slots=True)
class Labels:
    """All labels of a run by number; 0 is the host."""

    by_number: dict[int, Label] = field(default_factory=lambda: {HOST: Label(HOST, "host")})

    def new(self, kind: Kind, ident: str = "", count: int = 1, parent: Label | None = None) -> Label:
        """Make ``count`` labels with consecutive numbers and return the first."""
        first = len(self.by_number)
        for number in range(first, first + count):
            self.by_number[number] = Label(number, kind, ident, parent)
        return self.by_number[first]

    def __getitem__(self, number: int) -> Label:
        return self.by_number[number]


@dataclass(frozen=True, slots=True)
class Action:
    """One audited action. ``kind``: e an exec, s a system call without exec; ``pid`` in the initial namespace."""

    workload: int
    label: int
    seq: int
    kind: str
    pid: int

    @property
    def ns_key(self) -> NsKey:
        """Under which :func:`read_namespaces` keeps what this process saw."""
        return (self.workload, self.label, self.seq, self.kind)


_HEADER: Final = rb"^type=%s msg=audit\((\d+\.\d{3}:\d+)\): "


def read_actions(log: bytes, token: str) -> dict[EventId, Action]:
    """All actions of run ``token`` in audit text ``log``, in order.

    An exec is recognised by EXECVE's a1 alone: the command lines of runtimes hold the same words elsewhere.
    """
    pids = re.compile(_HEADER % b"SYSCALL" + rb".* pid=(\d+) ", re.M)
    pid_of = {match[1]: int(match[2]) for match in pids.finditer(log)}
    execs = re.compile(
        _HEADER % b"EXECVE" + rb'argc=\d+ a0=\S+ a1="%s" a2="(\d+)" a3="(\d+)" a4="(\d+)"' % token.encode(), re.M
    )
    number = b"%x" % int(token[:8], 16)
    calls = re.compile(
        _HEADER % b"SYSCALL" + rb"arch=\S+ syscall=\d+ success=no exit=-22 a0=%s a1=(\w+) a2=(\w+) a3=(\w+) " % number,
        re.M,
    )
    found: list[tuple[int, bytes, Action]] = []
    for match in execs.finditer(log):
        event, workload, label, seq = match.groups()
        action = Action(int(workload), int(label), int(seq), "e", pid_of.get(event, -1))
        found.append((match.start(), event, action))
    for match in calls.finditer(log):
        event, *hexes = match.groups()
        label, seq, workload = (int(value, 16) for value in hexes)
        found.append((match.start(), event, Action(workload, label, seq, "s", pid_of.get(event, -1))))
    found.sort()
    return {event.decode(): action for _, event, action in found}


def read_namespaces(lines: Iterable[str], token: str) -> dict[NsKey, dict[str, NsRef]]:
    """What truth.c wrote by out=: namespaces of each action, by type; what it could not stat is left out."""
    seen: dict[NsKey, dict[str, NsRef]] = {}
    for line in lines:
        run, workload, label, seq, kind, *numbers = line.split()
        if run != token:
            continue
        device, *inodes = map(int, numbers)
        refs = {name: (device, inode) for name, inode in zip(NS_TYPES, inodes, strict=True) if inode}
        # with /proc of a foreign pid namespace a process does not see its own entry
        if refs:
            seen[int(workload), int(label), int(seq), kind] = refs
    return seen


def shared_pids(actions: Iterable[Action]) -> int:
    """How many pids served more than one label: shows that a workload did reuse pids between containers."""
    labels: dict[int, set[int]] = {}
    for action in actions:
        labels.setdefault(action.pid, set()).add(action.label)
    return sum(len(found) > 1 for found in labels.values())
