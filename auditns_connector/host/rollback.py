"""A scan of /proc brought back to the moment from which the kernel's events are in hand. Pure.

A scan takes time, and what it reads is later than the events that come meanwhile: a process may have been born, moved
or gone since. So each answer is *rolled back* by the events between that moment and the reading, and the events are
applied behind it, in their order, as if /proc had been read whole at that moment:

* who was born since is left out: its FORK tells of it;
* who entered other namespaces since has unknown ones of the types that its call could change, the others as read;
* who was moved to another cgroup since has unknown ones;
* who has ended since, and so was not read, is as its children were at their birth: a child has its creator's cgroups,
  and its namespaces but for those that its clone made (kernel/fork.c copy_process; a pid namespace may be that of the
  creator's children only, so nothing but the initial one tells where the creator lives).

What stays unknown is filled by the answer itself, taken at its own time between the events. An answer during whose
reading the process changed tells nothing: it is to be asked for again.
"""

from bisect import insort
from collections.abc import Iterable, Iterator, Sequence
from operator import itemgetter
from typing import Final, NamedTuple

from auditns_connector.host.scan_frames import (
    ENDS,
    HAS_CGROUP,
    NO_START,
    NONE,
    TYPE_FLAGS,
    Answer,
    Event,
    answers,
    merged,
    process_frame,
    read_events,
)  # fmt: skip
from auditns_connector.model.apply.perf import CLONE_INTO_CGROUP
from auditns_connector.vocabulary import frames as f
from auditns_connector.vocabulary.namespaces import CLONE_NEWPID, INITIAL_INODES, PID, TIME
from auditns_connector.vocabulary.timing import SAME_START

#: what perf must tell for a state to be brought back by its events
NEEDS: Final = frozenset(("namespaces", "newtask", "attach", "exit_sample"))
_OF_A_ROW: Final = f.PROCESS_PAYLOAD
_ZOMBIE: Final = b"ZXx"


class Rolled(NamedTuple):
    """``before``: answers as of the moment; ``since``: the events since, with answers between them that complete
    states; ``ask``: processes to be asked about again."""

    before: bytes
    since: bytes
    ask: list[int]


class _Life:
    """One holder of a pid: from its birth (0: it was there before the moment) to the next holder's."""

    __slots__ = (
        "answer",
        "born",
        "cgroup",
        "changes",
        "children",
        "comm",
        "depth",
        "gone",
        "inodes",
        "pid",
        "sure",
        "tids",
    )

    def __init__(self, pid: int, born: int) -> None:
        self.pid = pid
        self.born = born
        self.answer: Answer | None = None
        #: nothing of it changed while it was read
        self.sure = True
        #: times at which its namespaces or cgroups changed
        self.changes: list[int] = []
        #: (thread, whether it was born since) of its other threads that came or went
        self.tids: list[tuple[int, bool]] = []
        self.gone = False
        # as of the event that is being undone: 0 and None are not known
        self.inodes: tuple[int, ...] = NONE
        self.children = 0
        self.cgroup: bytes | None = None
        self.comm = b""
        #: in how many pid namespaces it has a number; 0: not read
        self.depth = 0

    @property
    def whole(self) -> bool:
        """Its namespaces and its cgroups are known."""
        return self.cgroup is not None and all(self.inodes[:TIME])


def roll_back(moment: int, events: bytes, blocks: Iterable[tuple[int, bytes]], *, whole: bool) -> Rolled | None:
    """The scan ``blocks`` as of ``moment`` (CLOCK_MONOTONIC ns), from which on ``events`` (frames in order, of perf and
    others) are all there are.

    Each block comes with a time at which it had been read. ``whole`` says that no process has another source:
    then those that have ended since are worked out as well. ``None`` where events are missing.
    """
    history, found = read_events(moment, events)
    if history is None:
        return None
    return _Undoing(moment, history, list(answers(blocks)), whole=whole).result(found)


class _Undoing:
    """Takes back ``events``, newest first, from what ``shown`` has."""

    def __init__(self, moment: int, events: Sequence[Event], shown: Sequence[Answer], *, whole: bool) -> None:
        self._moment = moment
        self._events = events
        self._shown = shown
        self._whole = whole
        #: holders of the pids that events name, oldest first
        self._lives: dict[int, list[_Life]] = {}
        #: by thread and birth: the flags of the clone that made it
        self._cloned: dict[tuple[int, int], int] = {}
        #: by process: when the oldest child that names it as its parent was born
        self._elder: dict[int, int] = {}
        self._ask: dict[int, None] = {}

    def result(self, since: bytes) -> Rolled:
        """All of it; ``since`` are the frames to come behind."""
        for event in self._events:
            self._note(event)
        before: list[bytes] = []
        late: list[tuple[int, bytes]] = []
        for answer in self._shown:
            if answer.start < self._moment:
                self._elder[answer.parent] = min(answer.start, self._elder.get(answer.parent, answer.start))
            if self._place(answer):
                continue
            if self._moment < answer.start < NO_START:
                late.append((answer.time, answer.frame))  # no event has shown its birth
            else:
                before.append(self._stamped(answer.frame))
        ordered = sorted([*self._events, *self._readings()], key=itemgetter(0))
        for event in reversed(ordered):
            self._undo(event)
        for lives in self._lives.values():
            for life in lives:
                if life.born == 0:
                    before.append(self._as_of(life))
                # born of somebody who is in doubt since a loss: only the answer says where it is
                wanted = not life.whole or (life.born and not self._whole)
                if life.answer is not None and life.sure and wanted:
                    late.append((life.answer.time, life.answer.frame))
            if not lives[-1].whole and not lives[-1].gone:
                self._ask[lives[-1].pid] = None
        return Rolled(b"".join(before), merged(since, late), list(self._ask))

    # -- forwards: who is who

    def _life(self, pid: int) -> _Life:
        lives = self._lives.setdefault(pid, [])
        if not lives:
            lives.append(_Life(pid, 0))
        return lives[-1]

    def _note(self, event: Event) -> None:
        time, kind, pid, tid = event.time, event.kind, event.pid, event.tid
        if kind == f.K_FORK:
            self._life(event.ppid)
            if pid == event.ppid:
                self._life(pid).tids.append((tid, True))
            else:
                self._lives.setdefault(pid, []).append(_Life(pid, time))
        elif kind == f.K_NEWTASK:
            lives = self._lives.get(tid)
            if lives:
                self._cloned[tid, lives[-1].born] = event.flags
        elif kind == f.K_ATTACH:
            self._life(tid).changes.append(time)
        elif kind == f.K_NAMESPACES and tid == pid:
            self._life(pid).changes.append(time)
        elif kind == f.K_EXEC and event.ppid != pid:
            self._life(pid).changes.append(time)  # another thread has become the leader
        elif kind in ENDS:
            life = self._life(pid)
            life.gone = life.gone or tid == pid
            if tid != pid and kind == f.K_EXIT and (tid, True) not in life.tids:
                life.tids.append((tid, False))

    def _place(self, answer: Answer) -> bool:
        """Give ``answer`` to the holder that it is about; False where no event names its pid."""
        lives = self._lives.get(answer.pid)
        if lives is None:
            return False
        ends = [*(later.born for later in lives[1:]), None]
        fits = [life for life, end in zip(lives, ends, strict=True) if self._may_show(answer, life, end)]
        sure = len(fits) == 1 and not any(answer.time <= time <= answer.until for time in fits[0].changes)
        for life in fits:
            life.sure = sure
            if len(fits) == 1:
                life.answer = answer
        if not sure:
            self._ask[answer.pid] = None
        return True

    def _may_show(self, answer: Answer, life: _Life, until: int | None) -> bool:
        if life.born > answer.until or (until is not None and until < answer.time):
            return False
        if answer.start == NO_START:
            return True
        if life.born:
            return abs(life.born - answer.start) <= SAME_START
        return answer.start <= self._moment

    def _readings(self) -> Iterator[Event]:
        """The answers that were given to a holder, as events."""
        for lives in self._lives.values():
            for life in lives:
                if life.answer is not None and life.sure:
                    yield Event(life.answer.time, f.K_PROCESS, life.pid, life.pid, 0, NONE, life.born)

    # -- backwards

    def _at(self, pid: int, time: int) -> _Life | None:
        """Who held ``pid`` at ``time``."""
        lives = self._lives.get(pid) or ()
        return next((life for life in reversed(lives) if life.born <= time), None)

    def _undo(self, event: Event) -> None:
        time, kind, tid = event.time, event.kind, event.tid
        if kind == f.K_PROCESS:
            self._read_back(next(life for life in self._lives[event.pid] if life.born == event.flags))
            return
        life = self._at(tid, time)
        if life is None:
            return
        if kind == f.K_FORK and event.pid != event.ppid:
            above = self._at(event.ppid, time)
            if above is not None:
                self._born(life, above, event)
        elif kind == f.K_ATTACH:
            life.cgroup = None
        elif kind == f.K_NAMESPACES and tid == event.pid:
            pairs = zip(event.inodes, TYPE_FLAGS, strict=True)
            life.inodes, life.children = tuple(0 if flag & event.flags else ino for ino, flag in pairs), 0
        elif kind == f.K_EXEC and event.ppid != event.pid:
            life.inodes, life.children = NONE, 0

    def _read_back(self, life: _Life) -> None:
        frame = life.answer.frame if life.answer is not None else b""
        if len(frame) < f.HEADER_SIZE or frame[4] != f.K_PROCESS:
            return  # a large one, as JSON: it is used as it is or not at all
        values = _OF_A_ROW.unpack_from(frame, f.HEADER_SIZE)
        life.inodes = tuple(own or ino for own, ino in zip(life.inodes, values[:8], strict=True))
        life.children, life.depth = values[8], values[10]
        tids, nspids, cgroup_size, comm_size, _, present = values[9:]
        at = f.HEADER_SIZE + _OF_A_ROW.size + 4 * (tids + nspids)
        life.comm = frame[at : at + comm_size]
        if present & HAS_CGROUP and life.cgroup is None:
            life.cgroup = frame[at + comm_size : at + comm_size + cgroup_size]

    def _born(self, child: _Life, above: _Life, event: Event) -> None:
        """At the birth of ``child``: what it shows of its creator at that time."""
        flags = self._cloned.get((event.pid, event.time), 0)
        inodes = event.inodes if any(event.inodes) else child.inodes
        shown = [0 if flag & flags else ino for ino, flag in zip(inodes, TYPE_FLAGS, strict=True)]
        shown[TIME] = 0
        # a new pid namespace lies in the one that its creator lives in
        outermost = flags & CLONE_NEWPID and child.depth == 2
        if shown[PID] != INITIAL_INODES["pid"]:
            shown[PID] = INITIAL_INODES["pid"] if outermost else 0
        above.inodes = tuple(own or other for own, other in zip(above.inodes, shown, strict=True))
        if above.cgroup is None and not flags & CLONE_INTO_CGROUP:
            above.cgroup = child.cgroup
        above.comm = above.comm or child.comm
        child.inodes = tuple(ino or own for ino, own in zip(event.inodes, child.inodes, strict=True))

    # -- out

    def _stamped(self, frame: bytes) -> bytes:
        """``frame`` with the moment for its time."""
        return frame[:8] + self._moment.to_bytes(8, "little") + frame[16:]

    def _as_of(self, life: _Life) -> bytes:
        """The frame that shows ``life`` at the moment."""
        answer = life.answer
        if answer is not None and life.sure and not life.changes and not life.tids and not life.gone:
            return self._stamped(answer.frame)
        if answer is not None and answer.frame[4] == f.K_PROCESS:
            return self._changed(life, answer.frame)
        if self._whole and life.sure and any(life.inodes):
            start = max(0, self._elder.get(life.pid, self._moment) - 1)  # it is reported before its children
            return process_frame(
                life.pid, self._moment, start=start, inodes=life.inodes, cgroup=life.cgroup, comm=life.comm
            )
        return process_frame(life.pid, self._moment)  # it lives, and the scan has nothing else of it

    def _changed(self, life: _Life, frame: bytes) -> bytes:
        ppid, ptid, dev, start = f.HEADER.unpack_from(frame)[7:]
        tids, nspids, _, _, state, _ = _OF_A_ROW.unpack_from(frame, f.HEADER_SIZE)[9:]
        at = f.HEADER_SIZE + _OF_A_ROW.size
        numbers = [int.from_bytes(frame[at + 4 * i : at + 4 * i + 4], "little") for i in range(tids + nspids)]
        born = {tid for tid, new in life.tids if new}
        threads = [tid for tid in numbers[:tids] if tid not in born]
        for tid, new in life.tids:
            if not new and tid not in threads:
                insort(threads, tid)
        if threads and life.pid not in threads:
            insort(threads, life.pid)
        if life.gone and state in _ZOMBIE:
            state = ord("S")
        return process_frame(
            life.pid, self._moment, ppid=ppid, ptid=ptid, start=start, dev=dev, inodes=life.inodes,
            children=life.children, cgroup=life.cgroup, comm=life.comm, state=state, tids=threads,
            nspids=numbers[tids:],
        )  # fmt: skip
