"""A listener that reads /proc in the middle of anything, against one that read it in no time when it subscribed."""

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from hypothesis import example, given
from hypothesis import strategies as st

from auditns_connector.host.adoption import with_parents
from auditns_connector.host.rollback import roll_back
from auditns_connector.model.containers import UNKNOWN
from auditns_connector.sources.parents import Child, Parents
from auditns_connector.vocabulary import frames as f
from auditns_connector.vocabulary.namespaces import ALL_ORDER, FLAGS, INITIAL_INODES_618
from tests.examples import examples
from tests.unit.world import HEX, MS, World

STEP: Final = 200
#: types of namespaces that make sandboxes
PID_ALONE: Final = ("pid",)
PID_AND_USER: Final = ("pid", "user")
FEATURES: Final = ["newtask", "exec_sample", "exit_sample", "attach", "namespaces"]
_DOCKER: Final = f"/docker/{HEX}"
_INITIAL: Final = dict(INITIAL_INODES_618)
OPS: Final = ("fork", "fork", "fork", "chain", "chain", "sandbox", "exit", "attach", "net", "user", "thread", "exec")


@dataclass
class Task:
    """A process as the kernel has it."""

    start: int
    ppid: int
    ns: dict[str, int]
    cgroup: str = "/"
    threads: list[int] = field(default_factory=list)
    #: the first of its pid namespace, without which nobody lives there
    init: bool = False
    #: how deep its pid namespace lies below the host's
    depth: int = 0


class Kernel:
    """Runs a script of operations; has for each step the frames that perf tells and the processes as they then are."""

    def __init__(self, script: list[tuple[str, int]], types: Sequence[str] = PID_ALONE) -> None:
        self.types = types
        self.world = World(features=FEATURES, sandbox_types=list(types))
        self.tasks = {1: Task(0, 0, dict(_INITIAL)), 10: Task(0, 1, dict(_INITIAL))}
        self.world.proc(10, 1)
        self.next, self.inode = 11, 4026540000
        self.steps: list[tuple[bytes, dict[int, Task]]] = []
        self.before = {pid: replace(task) for pid, task in self.tasks.items()}
        #: (step, process) of each move
        self.moves: list[tuple[int, int]] = []
        #: steps in which somebody left a namespace for a new one
        self.unshared: list[int] = []
        for number, (op, who) in enumerate(script):
            before = len(self.world.log)
            self._do(op, who, (number + 1) * STEP)
            tasks = {pid: replace(task, threads=list(task.threads)) for pid, task in self.tasks.items()}
            self.steps.append((b"".join(self.world.log[before:]), tasks))

    def unsure(self, first: int) -> set[int]:
        """Where somebody moved from step ``first`` on, or left a namespace that may have shown that he made another
        one: all outside the host's pid namespace, for it may be his."""
        moved = any(step >= first for step in [*(step for step, _ in self.moves), *self.unshared])
        return self.elsewhere(first) if moved else set()

    def parents(self, step: int) -> Parents:
        """Who was whose child behind ``step``, of those outside the host's pid namespace."""
        tasks = self.steps[step - 1][1] if step else self.before
        outside = {pid: task for pid, task in tasks.items() if task.ns["pid"] != _INITIAL["pid"]}
        children = {pid: Child(task.ppid, task.start) for pid, task in outside.items()}
        return Parents((step * STEP + STEP // 2) * MS, children)

    def elsewhere(self, first: int) -> set[int]:
        """Who lives outside the host's pid namespace at some time from step ``first`` on."""
        tasks = [item for _, step in self.steps[first - 1 :] for item in step.items()]
        return {pid for pid, task in tasks if task.ns["pid"] != _INITIAL["pid"]}

    def undone(self, seen: int, first: int) -> set[int]:
        """The namespaces, of types that make sandboxes, of those who came to a container's cgroup, by birth or by a
        move, and left it again behind step ``seen`` and before step ``first``: that leaves no trace but in the
        events."""
        found = set()
        for step, pid in self.moves:
            task, before = self.steps[step - 1][1][pid], self.steps[seen - 1][1] if seen else self.before
            was = before[pid].cgroup if pid in before else "/"
            if seen < step < first and task.cgroup == was == "/":
                found |= {task.ns[name] for name in self.types}
        return found - {_INITIAL[name] for name in self.types}

    def _do(self, op: str, who: int, at: int) -> None:
        world, pids = self.world, sorted(self.tasks)
        pid = pids[who % len(pids)]
        task = self.tasks[pid]
        if op in ("fork", "chain", "sandbox"):
            self._fork(op, pid, at)
        elif op == "exit" and pid > 10 and not task.init:
            self._exit(pid, at)
        elif op == "attach" and pid > 1:
            self.moves.append((at // STEP, pid))
            task.cgroup = _DOCKER if task.cgroup == "/" else "/"
            world.attach(pid, task.cgroup, at)
        elif op in ("net", "user") and pid > 1:
            self.inode += 1
            self.unshared.append(at // STEP)
            task.ns = {**task.ns, op: self.inode}
            world.put(f.K_UNSHARE, at, pid=pid, tid=pid, arg=FLAGS[op])
            world.unshare(pid, at, **task.ns)
        elif op == "thread" and pid > 1:
            task.threads.append(self.next)
            world.thread(pid, self.next, at)
            self.next += 1
        elif op == "exec" and pid > 1 and not task.threads:
            world.exec(pid, at)

    def _fork(self, op: str, pid: int, at: int) -> None:
        creator, child = self.tasks[pid], self.next
        self.next += 1
        ns, flags = dict(creator.ns), 0
        if op == "sandbox":
            self.inode += 1
            ns["pid"], flags = self.inode, FLAGS["pid"]
        self.world.fork(pid, child, at, **ns)
        if flags:
            self.world.put(f.K_NEWTASK, at, tid=child, arg=flags)
        self.tasks[child] = Task(at * MS, pid, ns, creator.cgroup, init=bool(flags), depth=creator.depth + bool(flags))
        if op == "chain" and pid > 10 and not creator.init:
            self._exit(pid, at + 1)

    def _exit(self, pid: int, at: int) -> None:
        for tid in (*self.tasks[pid].threads, pid):
            self.world.exit(pid, at, tid)
        space = self.tasks.pop(pid).ns["pid"]
        reaper = next((one for one, task in self.tasks.items() if task.init and task.ns["pid"] == space), 1)
        for task in self.tasks.values():
            task.ppid = reaper if task.ppid == pid else task.ppid


def answer(pid: int, task: Task, time: int) -> bytes:
    """The PROCESS frame of a process that is read at ``time`` (ms)."""
    text = f"0::{task.cgroup}\n".encode()
    tids = sorted((pid, *task.threads)) if task.threads else []
    numbers = [*tids, pid, *[99] * task.depth]
    inodes = [task.ns.get(name, 0) for name in ALL_ORDER]
    head = f.PROCESS_PAYLOAD.pack(*inodes, task.ns.get("time", 0), len(tids), 1 + task.depth, len(text), 1, ord("S"), 1)
    return f.pack(
        f.K_PROCESS, f.S_PROCFS, time * MS, pid=pid, tid=pid, ppid=task.ppid, cgroup=4, arg=task.start,
        payload=head + struct.pack(f"<{len(numbers)}i", *numbers) + b"c" + text,
    )  # fmt: skip


def started(kernel: Kernel, first: int, reads: list[int], earlier: int = 0) -> World:
    """A listener that has subscribed before step ``first`` (counted from 1) and then read each process that there was
    at one of ``reads`` (0: when it subscribed). So many steps ``earlier`` it has read who is whose child."""
    moment = first * STEP - STEP // 2
    blocks = []
    for turn, pid in enumerate(range(1, kernel.next)):
        step = reads[turn % len(reads)] or first - 1
        tasks = kernel.steps[step - 1][1] if step else kernel.before
        if pid in tasks:
            time = step * STEP + STEP // 2
            blocks.append(((time + 1) * MS, answer(pid, tasks[pid], time)))
    events = b"".join(block for block, _ in kernel.steps[first - 1 :])
    blocks = with_parents(events, blocks, kernel.parents(max(first - 1 - earlier, 0)))
    rolled = roll_back(moment * MS, events, blocks, whole=True)
    assert rolled is not None
    world = World(features=FEATURES, sandbox_types=["pid"])
    world.model = World(features=FEATURES, sandbox_types=["pid"]).model
    for arg, block in ((1, rolled.before), (2, rolled.since)):
        edge = f.pack(f.K_RESYNC, f.S_PROCFS, moment * MS, arg=arg)
        world.model.apply(edge + block)
    world.now = kernel.world.now
    return world


def scripts() -> st.SearchStrategy[tuple[list[tuple[str, int]], int, list[int]]]:
    script = st.lists(st.tuples(st.sampled_from(OPS), st.integers(0, 30)), min_size=4, max_size=25)

    def cut(steps: list[tuple[str, int]]) -> st.SearchStrategy[tuple[list[tuple[str, int]], int, list[int]]]:
        def read(first: int) -> st.SearchStrategy[tuple[list[tuple[str, int]], int, list[int]]]:
            reads = st.lists(st.integers(first, len(steps)), min_size=1, max_size=6)
            return st.tuples(st.just(steps), st.just(first), reads)

        return st.integers(1, len(steps)).flatmap(read)

    return script.flatmap(cut)


def answers(kernel: Kernel, world: World, first: int) -> list[tuple[int, int, str | None, str | None]]:
    """(pid, step, what the one who read in no time says, what ``world`` says) for all who lived from ``first`` on."""
    ideal = started(kernel, first, [0])
    found = []
    for step in range(first, len(kernel.steps) + 1):
        at = step * STEP + STEP // 2
        for pid in kernel.steps[step - 1][1]:
            found.append((pid, step, label(ideal, pid, at), label(world, pid, at)))
    return found


def label(world: World, pid: int, at: int) -> str | None:
    """As :meth:`World.who`, but a sandbox by its inode: minted serials are given in the order of asking."""
    container = world.state(pid, at).container
    sandbox = container.sandbox if container is not None and container is not UNKNOWN else None
    return f"{sandbox.type}:[{sandbox.ino}]" if sandbox is not None else world.who(pid, at)


Run = tuple[list[tuple[str, int]], int, list[int]]


#: whoever made a sandbox, and was moved into a container's cgroup then, ends while /proc is read
MAKER_ENDS_MEANWHILE: Final[Run] = (
    [("fork", 0), ("chain", 2), ("sandbox", 8), ("exit", 0), ("fork", 0), ("attach", 12), ("fork", 0), ("fork", 0),
     ("chain", 2)], 7, [9],
)  # fmt: skip
#: whoever made a sandbox leaves the user namespace that it shares with that while /proc is read
SHARED_NO_LONGER: Final[Run] = ([("fork", 0), ("user", 1), ("sandbox", 1), ("attach", 1), ("user", 1)], 5, [5])


#: the same, of a sandbox that was moved out of the container's cgroup
MAKER_ENDS_UNREAD: Final[Run] = (
    [("fork", 0), ("fork", 0), ("attach", 2), ("sandbox", 2), ("attach", 4), ("fork", 0), ("exit", 2)], 6, [7],
)  # fmt: skip


@examples(100)
@given(scripts(), st.integers(0, 3))
@example(MAKER_ENDS_MEANWHILE, 0)
@example(MAKER_ENDS_UNREAD, 0)
@example(MAKER_ENDS_UNREAD, 2)
def test_a_listener_that_starts_in_the_middle_is_never_wrong(run: Run, earlier: int) -> None:
    """Than one that read /proc in no time."""
    script, first, reads = run
    kernel = Kernel(script)
    found = answers(kernel, started(kernel, first, reads, earlier), first)
    assert [row for row in found if row[3] not in (row[2], "?")] == []


def test_whoever_lost_its_parent_while_proc_was_read_is_not_the_adopters() -> None:
    """A process in a container's cgroup makes a pid namespace, of which the first process is moved to the host's
    cgroup, and ends before it is read: process 1 has adopted the other then. Whose that is nothing shows."""
    script, first, reads = MAKER_ENDS_UNREAD
    kernel = Kernel(script)
    true = kernel.world.who(13, 5 * STEP)
    assert true is not None
    for earlier in (0, 1, 2):  # read before it was born, there is nothing to tell that 1 was not the parent
        world = started(kernel, first, reads, earlier)
        assert {world.who(13, step * STEP + STEP // 2) for step in (6, 7)} <= {true, "?"}
    kernel = Kernel([step for step in script if step != ("exit", 2)])
    assert started(kernel, first, [6]).who(13, 6 * STEP + STEP // 2) == "?"  # so does the maker as it is now


@examples(100)
@given(scripts())
@example(SHARED_NO_LONGER)
def test_whoever_was_read_is_known_from_the_reading_on(run: Run) -> None:
    script, first, reads = run
    kernel = Kernel(script)
    found = answers(kernel, started(kernel, first, reads), first)
    read = {pid: reads[turn % len(reads)] for turn, pid in enumerate(range(1, kernel.next))}
    seen = {pid for pid, step in read.items() if pid in kernel.steps[step - 1][1]}
    # nobody shows where one was that has moved before it was read, nor whose its pid namespace is
    seen -= kernel.unsure(first)
    there = kernel.steps[first - 2][1] if first > 1 else kernel.before
    if not set(there) <= seen:  # nor does who has made a pid namespace and is gone
        seen -= kernel.elsewhere(first)
    late = [row for row in found if row[3] == "?" != row[2] and row[0] in seen and row[1] >= read[row[0]]]
    assert late == []


def test_a_chain_of_forks_is_known_from_the_subscription_on() -> None:
    """Each is born of the one before it, which ends: only the last of them is there to be read."""
    kernel = Kernel([("attach", 1), ("fork", 1), *[("chain", 99)] * 20])
    found = answers(kernel, started(kernel, 5, [20]), 5)
    assert len(found) > 30
    assert [row for row in found if row[2] != row[3]] == []
    assert {row[2] for row in found} == {None, kernel.world.who(10, STEP * 20)}


def test_who_moved_while_the_scan_was_made_was_elsewhere_before() -> None:
    for op, before in (("thread", "?"), ("fork", None)):  # a child shows where its creator was
        kernel = Kernel([("fork", 1), (op, 1), ("attach", 1), ("fork", 1)])
        world = started(kernel, 2, [4])
        container = kernel.world.who(10, 4 * STEP)
        assert container is not None
        assert [world.who(10, step * STEP + STEP // 2) for step in (2, 3)] == [before, container]
        assert [world.who(11, step * STEP + STEP // 2) for step in (2, 3)] == [None, None]


def test_events_that_are_missing_leave_the_scan_as_it_is() -> None:
    lost = f.pack(f.K_LOST, f.S_PERF, 5, arg=1)
    assert roll_back(1, lost, [], whole=True) is None


def test_an_answer_during_whose_reading_the_process_moved_is_asked_for_again() -> None:
    read = answer(10, Task(0, 1, dict(_INITIAL), _DOCKER), 100)
    moved = f.pack(f.K_ATTACH, f.S_PERF, 101 * MS, tid=10, cgroup=5, payload=_DOCKER.encode() + b"\0")
    rolled = roll_back(50 * MS, moved, [(102 * MS, read)], whole=True)
    assert rolled is not None
    assert rolled.ask == [10]
    frame = next(f.iter_frames(rolled.before))
    assert not any(f.PROCESS_PAYLOAD.unpack_from(frame.payload)[:8])
    assert frame.pid == 10


@given(st.lists(st.binary(max_size=120), max_size=5))
def test_frames_of_any_content_are_taken(payloads: list[bytes]) -> None:
    kinds = (f.K_FORK, f.K_NAMESPACES, f.K_ATTACH, f.K_EXIT, f.K_EXEC, f.K_NEWTASK)
    events = b"".join(
        f.pack(kinds[number % 6], f.S_PERF, 10 + number, pid=5, tid=5, ppid=number % 3 + 4, payload=payload)
        for number, payload in enumerate(payloads)
    )
    rolled = roll_back(5, events, [(12, answer(5, Task(0, 1, dict(_INITIAL)), 0))], whole=False)
    assert rolled is not None
    assert len(list(f.iter_frames(rolled.since))) >= len(payloads)


def after_a_loss(kernel: Kernel, first: int, missing: int, reads: list[int]) -> World:
    """A listener that has seen all but the last ``missing`` steps before step ``first``, and then reads /proc."""
    moment = first * STEP - STEP // 2
    seen = max(first - 1 - missing, 0)
    world = World(features=FEATURES, sandbox_types=list(kernel.types))
    world.proc(10, 1)
    for block, _ in kernel.steps[:seen]:
        world.model.apply(block)
    lost = f.pack(f.K_LOST, f.S_PERF, (moment - 20) * MS, arg=9, cgroup=(seen * STEP + STEP // 2) * MS)
    world.model.apply(lost)
    blocks = []
    for turn, pid in enumerate(range(1, kernel.next)):
        step = reads[turn % len(reads)]
        if pid in kernel.steps[step - 1][1]:
            time = step * STEP + STEP // 2
            blocks.append(((time + 1) * MS, answer(pid, kernel.steps[step - 1][1][pid], time)))
    events = b"".join(block for block, _ in kernel.steps[first - 1 :])
    rolled = roll_back(moment * MS, events, blocks, whole=False)
    assert rolled is not None
    for arg, block in ((1, rolled.before), (2, rolled.since)):
        world.model.apply(f.pack(f.K_RESYNC, f.S_PROCFS, moment * MS, arg=arg) + block)
    world.now = kernel.world.now
    return world


#: its creator's move was lost, and it was born before /proc said anything of either
BORN_IN_DOUBT: Final[Run] = (
    [("fork", 0), ("fork", 0), ("fork", 0), ("attach", 2), ("fork", 2), ("chain", 2)], 5, [6],
)  # fmt: skip

#: whoever made a sandbox was moved into a container's cgroup behind that; neither was seen
MAKER_MOVED: Final[Run] = ([("sandbox", 1), ("attach", 1), ("fork", 0), ("fork", 0)], 3, [3])
#: the first process of a sandbox was moved into a container's cgroup; one that it had made before was not
SANDBOX_MOVED: Final[Run] = (
    [("fork", 0), ("fork", 0), ("fork", 0), ("fork", 0), ("chain", 2), ("sandbox", 0), ("exit", 0), ("exit", 0),
     ("exit", 0), ("fork", 20), ("attach", 6), ("fork", 0)], 12, [12],
)  # fmt: skip
#: the same of a sandbox that was made within the loss
NEW_SANDBOX_MOVED: Final[Run] = ([("sandbox", 0), ("fork", 0), ("fork", 2), ("attach", 7), ("fork", 0)], 5, [5])
#: the same where that move was seen, but nobody knew yet where the sandbox had been made
SEEN_TO_MOVE: Final[Run] = (
    [("fork", 0), ("fork", 0), ("exit", 2), ("chain", 2), ("sandbox", 2), ("exit", 2), ("fork", 2), ("attach", 2),
     ("fork", 0)], 3, [8],
)  # fmt: skip
#: a sandbox was a container's for a while: the way there was lost, the way back was seen before it was read
WAY_BACK: Final[Run] = ([("sandbox", 0), ("fork", 0), ("attach", 2), ("fork", 0), ("attach", 2)], 4, [5])
#: whoever made a sandbox within another one was born unseen and has ended: the first process there is the parent
MAKER_GONE: Final[Run] = (
    [("sandbox", 0), ("fork", 0), ("fork", 2), ("sandbox", 4), ("fork", 0), ("chain", 18)], 5, [6],
)  # fmt: skip
#: the first process of a sandbox within another one was a container's by its cgroup for a while, and read meanwhile
NESTED: Final[Run] = (
    [("fork", 0), ("sandbox", 0), ("sandbox", 3), *[("fork", 0)] * 5, ("attach", 4), ("attach", 24)], 4, [9],
)  # fmt: skip
#: the same, and both ways were lost
THERE_AND_BACK: Final[Run] = ([("sandbox", 0), ("attach", 2), ("attach", 20), ("fork", 0)], 4, [4])
#: it came into a container's cgroup unseen, and ended unread; its child left that again before it was read, as was seen
CHILD_MOVED_BACK: Final[Run] = (
    [("fork", 0), ("chain", 2), ("chain", 8), ("exit", 0), ("fork", 0), ("fork", 0), ("fork", 0), ("chain", 2),
     *[("exit", 0)] * 5, ("attach", 21), ("fork", 0), ("fork", 0), ("exit", 0), ("exit", 0), ("exit", 4), ("chain", 10),
     ("fork", 0), ("fork", 0), ("attach", 6)], 15, [23],
)  # fmt: skip


@examples(100)
@given(scripts(), st.integers(1, 8))
@example(BORN_IN_DOUBT, 1)
@example(MAKER_MOVED, 2)
@example(SANDBOX_MOVED, 2)
@example(NEW_SANDBOX_MOVED, 4)
@example(SEEN_TO_MOVE, 1)
@example(WAY_BACK, 1)
@example(MAKER_GONE, 2)
@example(NESTED, 1)
@example(THERE_AND_BACK, 2)
@example(CHILD_MOVED_BACK, 1)
def test_after_a_loss_no_answer_is_wrong(run: Run, missing: int) -> None:
    assert wrong_after_a_loss(run, missing, PID_ALONE) == []


#: it made its user namespace somewhere, before events told of its cgroup
MADE_SOMEWHERE: Final[Run] = ([("user", 1), ("user", 1), ("attach", 1), ("attach", 1)], 1, [3])
#: a pid namespace that was made within the loss in somebody's user namespace; its maker has ended, and 1 is the parent
MAKER_OF_ANOTHER_USER_NAMESPACE: Final[Run] = (
    [("user", 1), ("fork", 1), ("fork", 0), ("sandbox", 2), ("chain", 2)], 5, [5],
)  # fmt: skip
#: the same, and nobody else is left in that user namespace
ALONE_IN_USER_NAMESPACE: Final[Run] = (
    [("fork", 0), ("user", 26), ("sandbox", 2), *[("exit", 0)] * 5, ("fork", 0), ("chain", 7)], 4, [10],
)  # fmt: skip
#: whoever made it, behind the loss, was in doubt: it had left a container's cgroup within that
MAKER_IN_DOUBT: Final[Run] = (
    [("fork", 0), *[("exit", 0)] * 6, ("attach", 8), ("attach", 8), ("chain", 8), ("sandbox", 14), ("fork", 0)],
    10, [11],
)  # fmt: skip
#: it was a container's for a while, of which only the way back was seen, and ended unread: its child is left
OWNER_MOVED_BACK: Final[Run] = (
    [*[("fork", 0)] * 10, ("exit", 0), ("exit", 0), ("exit", 2), ("exit", 2), ("user", 4), ("attach", 14),
     ("attach", 14), *[("fork", 0)] * 5, ("chain", 4)], 17, [23],
)  # fmt: skip

#: the first process of a sandbox came into a container's cgroup and made another there, both unseen; it leaves the
#: sandbox, or ends, and is never read
LEFT_IN_DOUBT: Final[Run] = (
    [("fork", 0), ("user", 2), ("attach", 2), ("fork", 2), ("attach", 3), ("user", 2), ("exit", 2), ("fork", 0)],
    5, [8],
)  # fmt: skip
ENDED_IN_DOUBT: Final[Run] = (
    [("fork", 0), ("user", 2), ("attach", 2), ("fork", 2), ("attach", 3), ("exit", 2), ("fork", 0)], 5, [7],
)  # fmt: skip


@examples(200)
@given(scripts(), st.integers(1, 8))
@example(LEFT_IN_DOUBT, 2)
@example(ENDED_IN_DOUBT, 2)
@example(MADE_SOMEWHERE, 1)
@example(MAKER_OF_ANOTHER_USER_NAMESPACE, 1)
@example(ALONE_IN_USER_NAMESPACE, 2)
@example(MAKER_IN_DOUBT, 1)
@example(CHILD_MOVED_BACK, 1)
@example(OWNER_MOVED_BACK, 1)
def test_after_a_loss_no_answer_is_wrong_where_user_namespaces_make_sandboxes(run: Run, missing: int) -> None:
    assert wrong_after_a_loss(run, missing, PID_AND_USER) == []


def wrong_after_a_loss(run: Run, missing: int, types: Sequence[str]) -> list[tuple[int, int, str | None, str | None]]:
    """(pid, step, what is true, what is said) where that is neither true nor unknown."""
    script, first, reads = run
    kernel = Kernel(script, types)
    world, wrong = after_a_loss(kernel, first, missing, reads), []
    undone = kernel.undone(max(first - 1 - missing, 0), first)  # /proc has nothing of it to tell
    for step in range(first, len(kernel.steps) + 1):
        at = step * STEP + STEP // 2
        for pid, task in kernel.steps[step - 1][1].items():
            said, true = label(world, pid, at), label(kernel.world, pid, at)
            if said not in (true, "?") and undone.isdisjoint(task.ns[name] for name in types):
                wrong.append((pid, step, true, said))
    return wrong


def test_a_chain_of_forks_is_known_again_after_a_loss() -> None:
    kernel = Kernel([("attach", 1), ("fork", 1), *[("chain", 99)] * 20])
    world = after_a_loss(kernel, 8, 3, [18])
    for step in range(19, 23):
        at, told = step * STEP + STEP // 2, []
        for pid in kernel.steps[step - 1][1]:
            told.append((label(kernel.world, pid, at), label(world, pid, at)))
        assert [true for true, _ in told] == [said for _, said in told]
        assert {true for true, _ in told} == {None, kernel.world.who(10, at)}
