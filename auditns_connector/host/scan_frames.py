"""The frames of a scan and of the events since, as rollback.py needs them: read, put together, merged. Pure."""

from collections.abc import Iterable, Iterator, Sequence
from operator import itemgetter
from typing import Final, NamedTuple

from auditns_connector.vocabulary import frames as f
from auditns_connector.vocabulary.namespaces import ALL_ORDER, FLAGS

NO_START: Final = (1 << 64) - 1
NONE: Final = (0,) * len(ALL_ORDER)
TYPE_FLAGS: Final = tuple(FLAGS[name] for name in ALL_ORDER)
HAS_CGROUP: Final = 1
ENDS: Final = (f.K_EXIT, f.K_EXIT_SAMPLE)
_ALL: Final = sum(TYPE_FLAGS)
_CALLS: Final = (f.K_UNSHARE, f.K_SETNS)
_TELLING: Final = frozenset((f.K_FORK, f.K_EXEC, f.K_NAMESPACES, f.K_ATTACH, f.K_NEWTASK, *_CALLS, *ENDS))


class Answer(NamedTuple):
    """A PROCESS or PROC frame; what it shows was so at some time from ``time`` to ``until``. ``parent``: whose child it
    was before the events, as far as that is said."""

    time: int
    until: int
    pid: int
    parent: int
    start: int
    frame: bytes


class Event(NamedTuple):
    """A kernel event. ``inodes``: namespaces that it tells; ``flags``: those types that the system call or clone behind
    it may have made or entered."""

    time: int
    kind: int
    pid: int
    tid: int
    ppid: int
    inodes: tuple[int, ...]
    flags: int


def answers(blocks: Iterable[tuple[int, bytes]]) -> Iterator[Answer]:
    """The frames of ``blocks``, each with a time at which it had been read."""
    for until, block in blocks:
        for off, (size, kind, _, _, time, pid, _, ppid, ptid, _, arg) in heads(block):
            start = arg if kind == f.K_PROCESS else NO_START
            yield Answer(time, until, pid, ptid or ppid, start, block[off : off + size])


def heads(frames: bytes) -> Iterator[tuple[int, tuple[int, ...]]]:
    """Where each of ``frames`` begins, and its header."""
    off, end, unpack = 0, len(frames), f.HEADER.unpack_from
    while off < end:
        head = unpack(frames, off)
        yield off, head
        off += head[0]


def read_events(moment: int, events: bytes) -> tuple[list[Event] | None, bytes]:
    """The kernel's events from ``moment`` on that say something (None: some are missing), and all frames to be applied
    behind the scan."""
    found: list[Event] = []
    calls: dict[int, int] = {}
    newborn: dict[int, int] = {}
    kept: list[bytes] = []
    off, end, unpack = 0, len(events), f.HEADER.unpack_from
    while off < end:
        size, kind, source, _, time, pid, tid, ppid, _, _, arg = unpack(events, off)
        body, off = off, off + size
        if kind == f.K_LOST and source == f.S_PERF:
            return None, events
        if time < moment and kind not in (f.K_CGROUP, f.K_LOST):
            continue  # the scan has what came of it
        kept.append(events[body:off])
        if source != f.S_PERF or kind not in _TELLING:
            continue
        inodes = NONE
        if kind in (f.K_NAMESPACES, f.K_FORK) and size >= f.HEADER_SIZE + f.NAMESPACES_PAYLOAD.size:
            inodes = (*f.NAMESPACES_PAYLOAD.unpack_from(events, body + f.HEADER_SIZE)[1:], 0)
        flags = 0
        if kind in _CALLS:
            calls[tid] = arg or _ALL
        elif kind == f.K_NEWTASK:
            flags = arg
        elif kind == f.K_FORK and pid != ppid and not any(inodes):
            newborn[tid] = len(found)
        elif kind == f.K_NAMESPACES:
            flags = calls.pop(tid, 0)
            birth = newborn.pop(tid, None)
            if birth is not None and not flags:
                found[birth] = found[birth]._replace(inodes=inodes)  # reported right behind the FORK
                continue
            flags = flags or _ALL
        found.append(Event(time, kind, pid, tid, ppid, inodes, flags))
    return found, b"".join(kept)


def process_frame(
    pid: int,
    time: int,
    *,
    ppid: int = 0,
    ptid: int = 0,
    start: int = NO_START,
    dev: int = 0,
    inodes: Sequence[int] = NONE,
    children: int = 0,
    cgroup: bytes | None = None,
    comm: bytes = b"",
    state: int = ord("S"),
    tids: Sequence[int] = (),
    nspids: Sequence[int] = (),
) -> bytes:
    """A PROCESS frame, see frames.py; ``cgroup`` None: not known."""
    head = f.PROCESS_PAYLOAD.pack(
        *inodes, children, len(tids), len(nspids), len(cgroup or b""), len(comm), state,
        HAS_CGROUP if cgroup is not None else 0,
    )  # fmt: skip
    numbers = b"".join(number.to_bytes(4, "little") for number in (*tids, *nspids))
    return f.pack(
        f.K_PROCESS, f.S_PROCFS, time, pid=pid, tid=pid, ppid=ppid, ptid=ptid, cgroup=dev, arg=start,
        payload=head + numbers + comm + (cgroup or b""),
    )  # fmt: skip


def merged(frames: bytes, late: list[tuple[int, bytes]]) -> bytes:
    """``frames``, in order, with ``late`` put in between by their times."""
    if not late:
        return frames
    late.sort(key=itemgetter(0))
    out, off, done, unpack = [], 0, 0, f.HEADER.unpack_from
    for time, frame in late:
        while off < len(frames) and (head := unpack(frames, off))[4] <= time:
            off += head[0]
        out += [frames[done:off], frame]
        done = off
    return b"".join([*out, frames[done:]])
