"""The join: points of audit text in, for each the number of the text to insert there out.

Nothing is read or asked here; what happened before must be in the model when :meth:`Correlator.answer` is called. Most
points are the plain case: one process, in one state for all the time that the stamp may mean. Rows of the process table
answer those by themselves (row_lookup.py); what is left is looked at once for each process and block of text, and
everything that is not plain goes the careful way through attribution/lookup.py.
"""

from array import array
from collections.abc import Collection, Sequence
from typing import Final

from auditns_connector._native import ffi
from auditns_connector.attribution import clone_result as clones
from auditns_connector.attribution import exec_match, identity, lookup, text_answers
from auditns_connector.attribution.objects import Objects, of_packet
from auditns_connector.attribution.plain_holder import plain_holder
from auditns_connector.attribution.record_numbers import NOT_CLEAR, OF_ONE, RecordNumbers
from auditns_connector.attribution.row_lookup import Numbered, RowLookup
from auditns_connector.attribution.states import HOST, PointStates
from auditns_connector.attribution.targets import Strikers
from auditns_connector.attribution.text_answers import Alone, TextAnswers
from auditns_connector.attribution.unfinished import Unfinished
from auditns_connector.audittext.grouping import Groups, pick, take_marked
from auditns_connector.audittext.scanner import InsertionPoints
from auditns_connector.audittext.values import untrusted
from auditns_connector.model.apply.dispatch import Model
from auditns_connector.model.call_order import NUMBERS as CALL_NUMBERS
from auditns_connector.model.places import UNKNOWN
from auditns_connector.model.process import Process, State
from auditns_connector.vocabulary import audit_text as pt
from auditns_connector.vocabulary import record_types as rectypes
from auditns_connector.vocabulary.timing import EPSILON

#: flags of points that need more than the state of a process at a time
NEEDS_LOOKUP: Final = (
    pt.P_TARGET | pt.P_EXEC | pt.P_NETFILTER | pt.P_HAS_TARGET | pt.P_NODE | pt.P_OWN | pt.P_LATE | pt.P_OBJECT
)
#: so many points are grouped by process; fewer are answered sooner one by one
_MANY: Final = 16
#: for so many points rows may well have all answers
_FEW: Final = 64
_MS: Final = 1_000_000
#: in place of a number: the point is left for later
_LEFT: Final = (1 << 32) - 1
_ANY_FLAG: Final = (1 << 32) - 1
#: a process that is held and has been the same for so long may be asked about again, and is worth packing (ns)
_LASTING: Final = 1_000_000_000
_IDLE: Final = State(0, None, None, "observed")
_NOBODY: Final = PointStates(0)


class Correlator:
    """Answers points from ``model``.

    ``spellings`` says how record types are spelled, once for each of :attr:`tails`: False by name, True as UNKNOWN[n]
    (the numbers of an answer hold for all of them); ``ns`` is "off", "containers" or "all" (for whom NS_INFO is added);
    ``info`` adds CONTAINER_INFO, with so many ``parents``; ``nodes`` are the ``node=`` names that mean this host.
    """

    def __init__(
        self,
        model: Model,
        *,
        spellings: Sequence[bool] = (False,),
        ns: str = "off",
        info: bool = False,
        parents: int = 0,
        nodes: Collection[bytes] = (),
    ) -> None:
        self.model = model
        info = info or parents > 0
        self.numbers = RecordNumbers(model, spellings, ns=ns, info=info)
        self.spellings, self.ns, self.info, self._parents = self.numbers.spellings, ns, info, parents
        self.nodes = frozenset(nodes)
        #: texts by number, once for each spelling; and by number the container that the text speaks of
        self.tails, self.holders = self.numbers.tails, self.numbers.holders
        #: what the text says of itself, and where that is not what the evidence says
        self._texts = TextAnswers()
        self.contradicted, self.contradiction = 0, ""
        #: the point whose text the evidence does not contradict, what the text says, and whether it says that alone
        self._agreed: tuple[int, State | None, bool] = (-1, None, False)
        self._objects, self._groups, self._strikers = Objects(), Groups(), Strikers()
        self._rows, self.unfinished = RowLookup(model), Unfinished()
        self.answered = self.attributed = self.unknown = 0
        #: the state found for each point of the last answer, filled when ``keep_states`` is set
        self.states = PointStates(0)
        self.keep_states = False

    def use(self, model: Model) -> None:
        """Answer from ``model`` from now on: what follows is of another run."""
        self.model, self._rows, stamps = model, RowLookup(model), self.next_stamps
        self.next_stamps = stamps
        self.numbers.use(model)
        self.unfinished.clear()

    @property
    def next_stamps(self) -> bool:
        """Whether the text is older than the moments it is answered at: see :func:`exec_match.written_until`."""
        return bool(self._rows.c.next_stamps)

    @next_stamps.setter
    def next_stamps(self, are: bool) -> None:
        self._rows.c.next_stamps = are

    def begin(self, points: InsertionPoints) -> "array[int]":
        """An empty choice for ``points``; to be filled by :meth:`answer` before the next one is begun."""
        self._begin()
        self._strikers.begin()
        self._texts.begin()
        self._objects.begin()
        self.states = PointStates(points.n) if self._keeps else _NOBODY
        return array("I", bytes(4 * points.n))

    def _begin(self) -> None:
        self._rows.begin(dropped=self.numbers.refresh())

    @property
    def generation(self) -> int:
        """Counts how often all texts were dropped, for a container is called otherwise now."""
        return self.numbers.generation

    @property
    def _keeps(self) -> bool:
        """Whether the state of each point is wanted, by others or for CONTAINER_INFO."""
        return self.keep_states or self.info

    def answer_ready(self, points: InsertionPoints, now: int) -> "array[int] | None":
        """:meth:`answer`, where rows answer all; ``None`` where somebody must be looked at."""
        rows = self.ready(now) if points.n <= _FEW and not self.info else None
        if rows is None:
            return None
        choice = self.begin(points)
        if not rows.find_all(points, NEEDS_LOOKUP, now, choice):
            return None
        self.count(points.n, rows.counted(OF_ONE), rows.counted(NOT_CLEAR))
        return choice

    def join_ready(self, points: InsertionPoints, now: int, which: int) -> bytes | memoryview | None:
        """``points`` with what :meth:`answer_ready` has for them put in, of :attr:`tails` those numbered ``which``."""
        rows = self.ready(now) if points.n <= _FEW and not self.info else None
        if rows is None:
            return None
        block = rows.join(points, NEEDS_LOOKUP, now, self.tails[which])
        if block is not None:
            self.count(points.n, rows.counted(OF_ONE), rows.counted(NOT_CLEAR))
        return block

    def count(self, answered: int, attributed: int, unknown: int) -> None:
        """So many points were answered."""
        self.answered += answered
        self.attributed += attributed
        self.unknown += unknown

    def ready(self, now: int, *, objects: bool = False) -> RowLookup | None:
        """The rows, to be asked from ``now`` on until Python takes a frame in; ``None`` where the states are wanted,
        which rows do not say, unless ``objects`` are all that they are wanted for. With :attr:`info` they do not answer
        for what clones have returned."""
        if self._parents or (self.keep_states and not objects):
            return None
        self._begin()
        return self._rows.alone(now)

    def answer(
        self,
        points: InsertionPoints,
        now: int,
        choice: "array[int] | None" = None,
        first: int = 0,
        end: int | None = None,
    ) -> "array[int]":
        """One number of a text in :attr:`tails` for each point, 0 for nothing; ``now``: monotonic ns of the asking.

        With ``choice`` (from :meth:`begin`) only the points from ``first`` up to ``end`` are answered.
        """
        if choice is None:
            choice = self.begin(points)
        n = points.n if end is None else end
        self.model.packets.begin()
        if n - first == 1 and points.flags[first] & NEEDS_LOOKUP and not self._keeps:  # an exec that came alone
            self._answer_with_care(points, first, points.pid[first], points.flags[first], points.ms[first], now, choice)
        else:
            self._answer_all(points, now, choice, first, n)
        if self.info:
            self._say_more(points, choice, first, n)
        kinds = pick(choice if n - first == points.n else choice[first:n], self.numbers.kinds)
        self.count(n - first, kinds.count(OF_ONE), kinds.count(NOT_CLEAR))
        if points.n <= _FEW and not self._keeps:
            self._rows.learn(self.numbers.had)
        return choice

    def _say_more(self, points: InsertionPoints, choice: "array[int]", first: int, n: int) -> None:
        made = clones.children_of(points, self.model, first, n, self.states.rows)
        for i in range(first, n) if self._parents else made:
            state, flags = self.states[i], points.flags[i]
            if i in made or (state.container is not None and not flags & pt.P_OWN):
                more = identity.fields(self.model, points.pid[i], state, self._parents)
                choice[i] = self.numbers.of(state, self._record(points, i, flags), made.get(i), more)

    def _answer_all(self, points: InsertionPoints, now: int, choice: "array[int]", first: int, n: int) -> None:
        """Answer the points from ``first`` up to ``n``."""
        clock, offset = self.model.clock, self.model.clock.offset or 0
        span = points.range(first, n)
        oldest, newest = span.first_ms * _MS, span.last_ms * _MS
        careful = NEEDS_LOOKUP if first < n and clock.steady(oldest, now) and clock.steady(newest, now) else -1
        window = min(self.model.lag, now - newest + offset)
        left: Sequence[int] = range(first, n)
        before = clock.first_real // _MS
        if span.first_ms < before:
            left = self._before(points, before, now, choice, first, n)
        elif careful == NEEDS_LOOKUP and (n - first >= _MANY or (self._keeps and n - first == points.n)):
            left = self._by_process(points, now, choice, first, n, offset, window)
        if left:
            self._one_by_one(points, now, choice, left, offset, window, careful)

    def _before(
        self, points: InsertionPoints, before: int, now: int, choice: "array[int]", first: int, end: int
    ) -> Sequence[int]:
        """Answer the points that are stamped ``before`` (ms) the model begins: by nobody. Returns the others."""
        nobody = self.numbers.plain(lookup.NOBODY)
        rows, states = self._rows.ready(now), self.states if self._keeps else None
        left = rows.find_nobody(points, first, end, NEEDS_LOOKUP, before, nobody, choice, states)
        if self._keeps:
            place, which = len(self.states.found), self.states.which
            self.states.found.append(lookup.NOBODY)
            which[first:end] = array("I", [place]) * (end - first)
            for i in left:
                which[i] = 0
        return left

    def _one_by_one(
        self, points: InsertionPoints, now: int, choice: "array[int]", which: Sequence[int], offset: int, window: int,
        careful: int,
    ) -> None:  # fmt: skip
        for i in which:
            pid, flags, ms = points.pid[i], points.flags[i], points.ms[i]
            process = None if flags & careful else self._plain(pid, ms, ms, offset, window)
            if process is None:
                self._answer_with_care(points, i, pid, flags, ms, now, choice)
                continue
            choice[i] = self.numbers.plain(process.state)
            if self._keeps:
                self.states.put(i, process.state)

    def _answer_with_care(
        self, points: InsertionPoints, i: int, pid: int, flags: int, ms: int, now: int, choice: "array[int]"
    ) -> None:
        """Answer point ``i``, which may be no plain case."""
        if (found := self._full_lookup(points, i, pid, flags, ms, now)) is None:
            return
        choice[i] = self._numbered(points, i, flags, found)
        if self._keeps:
            self.states.put(i, found)

    def _by_process(
        self, points: InsertionPoints, now: int, choice: "array[int]", first: int, end: int, offset: int, window: int
    ) -> Sequence[int]:
        """As :meth:`_one_by_one`, but each process is asked for once, where one answer holds for its points; others'
        are left and returned in their order. What an answer leaves behind matters to the same process alone, but for
        objects: everything behind one is left."""
        groups, keep = self._groups, self._keeps
        # what is kept of rows must not be followed by frames before it is used
        whole = keep and end - first == points.n
        careful, states = _ANY_FLAG if keep and not whole else NEEDS_LOOKUP, self.states if whole else None
        which, count = self._rows.ready(now).find(points, first, end, careful, now, choice, states)
        if not count:
            return ()
        rest: Sequence[int] = ()
        several: set[int] = set()
        numbers = array("I", bytes(4 * groups.find(points, which, count, NEEDS_LOOKUP)))
        resolved: list[State] = []
        lasting: dict[Process, Numbered | None] = {}
        for group, (i, pid, flags, size, low, high) in enumerate(groups.rows()):
            alone = flags & NEEDS_LOOKUP
            if pid in several and not alone & pt.P_OBJECT:
                numbers[group] = _LEFT
                resolved.append(HOST)
                continue
            process = None if alone else self._plain(pid, low, high, offset, window)
            found = None if process is None else process.state
            if alone == pt.P_EXEC and pid > 0:
                times = (low * _MS - offset,)
                found = exec_match.find_only_exec(self.model, pid, times, self._until(points, i, now))
                process = None if found is None else self._rows.holder_in(pid, found)
            if found is not None:
                numbers[group] = number = self.numbers.plain(found)
                if process is not None and (process.row or low * _MS - offset - found.since > _LASTING):
                    lasting[process] = self.numbers.lasting(found, number)
            elif size > 1 and self.ns == "off":
                several.add(pid)
                numbers[group] = _LEFT
            elif size > 1 or (several and alone & pt.P_OBJECT):  # serials of namespaces are given in the points' order
                before = groups.before(i)
                count, rest = before, ffi.unpack(which, count)[before:]
                break
            else:
                found = self._full_lookup(points, i, pid, flags, low, now)
                if found is not None:
                    numbers[group] = number = self._numbered(points, i, flags, found)
                    if alone == pt.P_EXEC and (process := self._rows.holder_in(pid, found)) is not None:
                        lasting[process] = self.numbers.lasting(found, number)
            resolved.append(HOST if found is None else found)
        groups.spread(numbers, count, choice)
        left = take_marked(choice, ffi.unpack(which, count), _LEFT) if several else []
        self._rows.number_all(lasting)
        if keep:
            base = len(self.states.found)
            self.states.found += resolved
            groups.spread(array("I", range(base, base + len(numbers))), count, self.states.which)
        return [*left, *rest]

    def _plain(self, pid: int, low: int, high: int, offset: int, window: int) -> Process | None:
        return plain_holder(self.model, pid, low * _MS - offset, high * _MS - offset, window, ns=self.ns != "off")

    def _until(self, points: InsertionPoints, i: int, now: int) -> int:
        """When the record of point ``i`` was written, at the latest."""
        return exec_match.written_until(points, i, now, self.model) if self.next_stamps else now

    def _numbered(self, points: InsertionPoints, i: int, flags: int, state: State) -> int:
        """The number of what is to be put in at point ``i``: nothing where the event has records of ours already, but
        whose it is counts as well."""
        if not flags & pt.P_OWN:
            return self.numbers.of(state, self._record(points, i, flags))
        number = self.numbers.silent(state.container)
        agreed, said, alone = self._agreed
        if agreed == i:
            self._rows.says(i, number, said, alone=alone)
        return number

    @staticmethod
    def _record(points: InsertionPoints, i: int, flags: int) -> int:
        """The number of the record that an answer belongs to, where the event has more than one process."""
        return points.recno[i] if flags & (pt.P_TARGET | pt.P_HAS_TARGET) else 0

    def _full_lookup(self, points: InsertionPoints, i: int, pid: int, flags: int, ms: int, now: int) -> State | None:
        """The state for a point that is no plain case; ``None`` where nothing is to be said."""
        if flags & pt.P_LATE and not flags & (pt.P_SUBJECT | pt.P_TARGET):
            return None  # an EOE: it is about nobody
        if flags & pt.P_LATE and (answered := self.unfinished.answer(points, i)) is not None:
            return answered
        foreign = bool(flags & pt.P_NODE) and points.node(i) not in self.nodes
        found = lookup.NOBODY if foreign else self._evidence(points, i, pid, flags, ms, now)
        if flags & pt.P_OWN:
            found = self._said(points, i, found)
        if flags & pt.P_OBJECT and pid > 0 and found is not None and found.container is not UNKNOWN:
            self._objects.learn(points, i, found, self.model)
        return found

    def _said(self, points: InsertionPoints, i: int, found: State | None) -> State | None:
        """What the text of point ``i`` says already, or, where that is nothing, what the evidence has ``found``. Where
        they contradict each other the text stays, and it is reported."""
        said = self._texts.answer(points, i, self.model.containers)
        container = None if found is None else found.container
        alone = said is not None and container is UNKNOWN
        self._agreed = i if said is None or said.container is container or alone else -1, said, alone
        if said is None:
            answer = HOST if found is None else found
            return answer._replace(origin=text_answers.JOURNAL) if self.next_stamps else answer
        if names := text_answers.contradiction(said.container, container, self.model.containers):
            self.contradicted += 1
            if self.contradicted == 1:
                event = points.header(i)[4:-1].decode("latin-1")
                self.contradiction = f"{event}: {names[0]} in the text, {names[1]} by the evidence"
        return said

    def alone(self, points: InsertionPoints) -> list[Alone]:
        """The records of ours in the text that are events of their own, which have no point."""
        return self._texts.alone(points, self.model.containers)

    def _nameless(self, points: InsertionPoints, i: int) -> State | None:
        """The state for a record that names no process, by what the record table has for its type."""
        settled = rectypes.of(points.rtype[i]).settled
        if settled == "host" and not points.flags[i] & pt.P_LATE:
            return None
        found = self._objects.answer(points, i, self.model) if settled in ("bpf", "landlock") else None
        return lookup.NOBODY if found is None else found

    def _evidence(self, points: InsertionPoints, i: int, pid: int, flags: int, ms: int, now: int) -> State | None:
        """What the model knows of a point that is no plain case; ``None`` where nothing is to be said."""
        if flags & pt.P_NETFILTER:
            return of_packet(points, i, ms, now, self.model)
        if pid < 0:
            return self._nameless(points, i)
        if pid == 0:
            return _IDLE  # the kernel itself
        model = self.model
        times = model.clock.candidates(ms * 1_000_000, now)
        ppid = points.ppid[i] if flags & pt.P_SYSCALL else -1
        if flags & pt.P_EXEC:
            until = self._until(points, i, now)
            plain = exec_match.find_only_exec(model, pid, times, until)
            if plain is not None:
                return plain
            name, comm = untrusted(points.path(i)), untrusted(points.comm(i))
            return exec_match.find_exec(model, pid, ppid, times, until, name, comm)
        if pid in model.calls.pending and flags & pt.P_SYSCALL:
            process = model.processes.get(pid)
            if process is not None and points.sysno[i] in CALL_NUMBERS.get(points.arch[i], ()):
                model.table.not_before(process, model.calls.consume(process, times, EPSILON))
        return lookup.find(model, pid, ppid, times, now, self._strikers.of(points, i) if flags & pt.P_TARGET else 0)
