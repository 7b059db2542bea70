"""Whose child a process was when the kernel's events began to come. Pure.

/proc shows the parent that a process has while it is read. Where that has ended, an ancestor of it or the first process
of its pid namespace has adopted the child (kernel/exit.c find_new_reaper), and does not show by anything that it made
neither the child nor its namespaces. So who was whose child is read once before the subscription (sources/parents.py),
and said in ``ptid`` of the frames of the scan:

* whoever was read then is the child of that parent, though it may have ended since;
* of a child born between that reading and the subscription nobody's is for sure where a process that was there at the
  subscription ended before the child was read: that may have been the parent;
* who was adopted before shows by another session than its adopter's, where it has not begun one of its own: nobody's
  is for sure then;
* any other parent ended before all events, and who has adopted its children stands for it.
"""

import json
from collections.abc import Iterable
from typing import Final

from auditns_connector.host.scan_frames import ENDS, NO_START, heads
from auditns_connector.sources.parents import Parents
from auditns_connector.vocabulary import frames as f
from auditns_connector.vocabulary.timing import SAME_START, START_TICK

_PTID: Final = 8

Head = tuple[int, ...]


def with_parents(events: bytes, blocks: Iterable[tuple[int, bytes]], parents: Parents) -> list[tuple[int, bytes]]:
    """The frames of the scan ``blocks``, each with a time at which it had been read, with the parents of those who
    have ended since ``parents`` was read; ``events`` are all frames of the kernel's until then."""
    ended = _ended(events)
    return [(until, _block(block, until, parents, ended)) for until, block in blocks]


def _block(block: bytes, until: int, parents: Parents, ended: dict[int, int]) -> bytes:
    out = bytearray(block)
    for off, head in heads(block):
        ppid, start = _shown(head, block[off + f.HEADER_SIZE : off + head[0]])
        parent = _parent(head[5], ppid, start, until, parents, ended)
        if parent:
            f.HEADER.pack_into(out, off, *head[:_PTID], parent, *head[_PTID + 1 :])
    return bytes(out)


def _parent(pid: int, ppid: int, start: int, until: int, parents: Parents, ended: dict[int, int]) -> int:
    """What the frame of a child is to say of the parent before; 0: nothing else than that it has ``ppid``."""
    child = parents.of.get(pid)
    if child is not None and abs(child.start - start) <= SAME_START:
        return child.parent if child.parent != ppid else 0
    if start + START_TICK < parents.taken:
        return 0  # it was in no namespaces of its own then
    another = any(time <= until for other, time in ended.items() if other != pid)
    return f.UNPROVEN_PARENT if another else 0


def _shown(head: Head, payload: bytes) -> tuple[int, int]:
    """Parent and start of the process of a PROCESS or PROC frame."""
    if head[1] == f.K_PROCESS:
        return head[7], head[10]
    said = json.loads(payload.rstrip(b"\0"))
    return said["ppid"] or 0, NO_START if said["start"] is None else said["start"]


def _ended(events: bytes) -> dict[int, int]:
    """Who ended, of those that were born before the first of ``events``, and when its first thread did."""
    born: set[int] = set()
    ended: dict[int, int] = {}
    for _, head in heads(events):
        _, kind, _, _, time, pid, _, ppid, *_ = head
        if kind == f.K_FORK and pid != ppid:
            born.add(pid)
        elif kind == f.K_LOST:
            ended.setdefault(0, time)  # anybody may have
        elif kind in ENDS and pid not in born:
            ended.setdefault(pid, time)
    return ended
