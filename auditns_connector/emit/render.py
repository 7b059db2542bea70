"""Events as objects: JSON lines and lines for people, out of answered points."""

import functools
import operator
import re
from array import array
from collections.abc import Hashable, Iterator, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Final, NamedTuple

from auditns_connector._native import ffi, lib
from auditns_connector.attribution.clone_result import children_of
from auditns_connector.attribution.entry_fields import entry_object
from auditns_connector.attribution.identity import described, holder_of
from auditns_connector.attribution.lookup import NOBODY
from auditns_connector.audittext import own_records as text
from auditns_connector.audittext.heads import LineHead, read_head
from auditns_connector.audittext.insertion import RecordTexts
from auditns_connector.audittext.scanner import InsertionPoints
from auditns_connector.emit import json_objects as jsonout
from auditns_connector.emit import pretty
from auditns_connector.emit.fields import Fields, argv_of, parse
from auditns_connector.emit.json_native import JsonLines, OfRows
from auditns_connector.emit.people import SILENT_OF_CALL, SILENT_OF_EXEC, People
from auditns_connector.emit.said_of_rows import SaidOfRows
from auditns_connector.vocabulary import audit_text as pt
from auditns_connector.vocabulary import record_types as rectypes
from auditns_connector.vocabulary.values import CData, JsonObject

if TYPE_CHECKING:
    from auditns_connector.attribution.attributor import Correlator
    from auditns_connector.emit.redaction import Redaction
    from auditns_connector.model.process import Process, State

JSON: Final = "json"
_MAX_TEXTS: Final = 20_000
#: so few points are answered one by one as quickly
_FEW: Final = 16


class View(NamedTuple):
    """One event of an answer: numbers of its lines and of its points."""

    lines: list[int]
    subject: int | None
    targets: list[int]
    #: records that came when their event had been handed out already
    late: bool = False
    #: handed out before its end
    cut: bool = False


def views(points: InsertionPoints, keep: bytes | bytearray | None = None, first: int = 0) -> Iterator[View | int]:
    """The events, which must be whole ones, in their order; of a foreign line (not with ``keep``) its number."""
    lines: dict[int, list[int]] = {}
    order: list[tuple[int, int]] = []
    for i, number in enumerate(points.l_event[: points.line_n]):
        if number == pt.LINE_FOREIGN:
            if keep is None:
                order.append((number, i))
        elif number in lines:
            lines[number].append(i)
        elif keep is None or (0 <= number - first < len(keep) and keep[number - first]):
            lines[number] = [i]
            order.append((number, i))
    subjects: dict[int, list[int]] = {}
    targets: dict[int, list[int]] = {}
    for i, (number, flags) in enumerate(zip(points.event[: points.n], points.flags[: points.n], strict=True)):
        (targets if flags & pt.P_TARGET else subjects).setdefault(number, []).append(i)
    for number, i in order:
        if number == pt.LINE_FOREIGN:
            yield i
            continue
        of = subjects.get(number, [])
        flags = functools.reduce(operator.or_, (points.flags[i] for i in of), 0)
        late, cut = bool(flags & pt.P_LATE), bool(flags & pt.P_CUT)
        yield View(lines[number], of[0] if of else None, targets.get(number, []), late, cut)


_ESCAPE: Final = re.compile(rb"\\([^u])", re.DOTALL)
_MEANT: Final = {b"n": b"\n", b"r": b"\r", b"t": b"\t", b"b": b"\b", b"f": b"\f"}


class Record(NamedTuple):
    """A record's line in its parts; ``size`` is that of the body as it stands there."""

    head: LineHead
    kind: str
    body: bytes
    size: int


def read_line(line: bytes) -> Record:
    """The parts of a line that is a record."""
    head = read_head(line)
    if head is None:
        raise ValueError("not a record")
    body = _ESCAPE.sub(lambda m: _MEANT.get(m[1], m[1]), head.body) if head.escaped else head.body
    kind = head.kind.decode("utf-8", "backslashreplace")
    if kind[:1].isdecimal() and head.number in rectypes.NAMES:
        kind = rectypes.NAMES[head.number]  # the kernel's log has numbers
    return Record(head, kind, body, len(head.body))


def _records(read: Sequence[tuple[int, Record]]) -> list[tuple[str, Fields]]:
    """Kind and fields of an event's records; the arguments of all EXECVE stand in the first."""
    execs = [record for number, record in read if number == rectypes.EXECVE]
    argv = argv_of([record.body for record in execs], sum(record.size for record in execs))
    found = []
    for number, record in read:
        name = rectypes.name(number) if number else record.kind
        first = bool(execs) and record is execs[0]
        fields = parse(record.body, name, argv if number == rectypes.EXECVE else None, first)
        if fields or first or number != rectypes.EXECVE:
            found.append((record.kind, fields))
    return found


def _spoken_of(points: InsertionPoints, lines: list[int]) -> list[int]:
    """Of the lines of an event those that a line for people can speak of: with a system call no capabilities and no
    title, and beside a program with its arguments no files."""
    kinds = {points.l_type[i]: i for i in lines}
    if rectypes.SYSCALL not in kinds:
        return lines
    silent = SILENT_OF_CALL
    if rectypes.EXECVE in kinds and b" a0=" in points.line(kinds[rectypes.EXECVE]):
        silent = SILENT_OF_CALL | SILENT_OF_EXEC
    return [i for i in lines if points.l_type[i] not in silent]


class Renderer:
    """Writes answered points as JSON or for people; what was answered is taken from ``correlator.states``."""

    def __init__(
        self,
        correlator: "Correlator",
        colour: bool = False,
        lines: "pretty.Pretty | None" = None,
        redact: "Redaction | None" = None,
    ) -> None:
        """``lines`` makes those for people; where there are none, plain ones, in ``colour`` if wanted. ``redact`` takes
        what nobody is to read out of command lines."""
        self._redact = redact if redact else None
        self._correlator = correlator
        self._lines = lines if lines is not None else pretty.Pretty(colour=colour)
        self._json = JsonLines()
        self._people = People(correlator, self._lines, self._who_of, self._redact)
        #: what is said of a process in JSON, numbered
        #: by number of the event, whose the records of ours in the text are that stand alone
        self._alone: dict[int, State] = {}
        self._texts = RecordTexts()
        #: number for each state, less its time, of which nothing is said
        self._said: dict[Hashable, int] = {}
        #: and what is said of processes that are rows
        self._of_rows = SaidOfRows(self._who_of)
        self._starts: CData = ffi.NULL
        #: and of those of whom the text says it, by the place of their states in ``said``
        self._of_texts = array("I", [0])
        self._texts_said: Sequence[State] = ()
        self._generation = 0
        #: what :meth:`of_rows` gave last
        self._native: OfRows | None = None
        #: what the clones among the points in hand returned
        self._children: dict[int, int] = {}
        self._pids: list[int] = []

    def render(
        self,
        name: str,
        points: InsertionPoints,
        keep: bytes | bytearray | None = None,
        first: int = 0,
        *,
        lasting: bool = True,
    ) -> bytes | memoryview:
        """One line for each event; ``name`` is "json" or "pretty". What is not ``lasting`` holds until the next
        call."""
        self._alone = {alone.event: alone.state for alone in self._correlator.alone(points)}
        if name == JSON and self._redact is None:
            who = self._who_numbers(points)
            alone = array("I", chain.from_iterable((event, self._say(of, 0)) for event, of in self._alone.items()))
            out = self._json.lines(points, who, self._children, self._texts, keep, first, alone, self._starts)
            return bytes(out) if lasting else out
        if name != JSON:
            self._lines.begin()
            return self._people.events(points, keep, first, self._alone)
        return self.reference(name, points, keep, first)

    def of_rows(self) -> "OfRows":
        """Has the C make JSON of events that rows answer; it holds until others are rendered."""
        self._refresh()
        numbers = self._of_rows.c(self._correlator.model)
        if self._native is None:
            self._native = OfRows(self._json.c, numbers)
        self._native.use(self._texts)
        return self._native

    def _refresh(self) -> None:
        """Number anew what is said where containers are called otherwise now, or it is much."""
        if self._generation != self._correlator.generation or self._texts.count > _MAX_TEXTS:
            self._generation = self._correlator.generation
            self._texts.clear()
            self._said.clear()
            self._of_rows.clear()
            del self._of_texts[1:]

    def _who_numbers(self, points: InsertionPoints) -> "array[int]":
        """For each point the number of what is said of its process."""
        correlator = self._correlator
        self._refresh()
        self._children = self._made(points, correlator.states.rows)
        who = array("I", bytes(4 * points.n))
        self._starts = self._of_rows.number(correlator.states.rows, who, correlator.model, self._texts)
        self._number_said(who)
        self._number_others(points, who)
        return who

    def _number_said(self, who: "array[int]") -> None:
        """Number what is said of those of whom the text says it."""
        states, numbers = self._correlator.states, self._of_texts
        if states.texts is None:
            return
        if states.said is not self._texts_said:
            self._texts_said = states.said
            del numbers[1:]
        numbers.extend(self._say(state, 0) for state in states.said[len(numbers) :])
        lib.said_spread(
            states.texts, len(who), ffi.from_buffer("uint32_t[]", numbers), ffi.from_buffer("uint32_t[]", who)
        )

    def _number_others(self, points: InsertionPoints, who: "array[int]") -> None:
        """Number what is said of those that no row answered for."""
        states, say = self._correlator.states, self._say
        left, numbers = ffi.new("uint32_t[]", max(points.n, 1)), ffi.from_buffer("uint32_t[]", who)
        count = lib.row_texts_left(points.c, numbers, left) if points.n else 0
        if count > _FEW:  # of nobody the same is said whatever the process
            shared = array("I", (say(state, 0) if state is NOBODY else 0 for state in states.found))
            which, of = (ffi.from_buffer("uint32_t[]", column) for column in (states.which, shared))
            count = lib.row_texts_others(left, count, which, of, numbers)
        said: dict[tuple[int, int], int] = {}
        for i in ffi.unpack(left, count) if count else ():
            one = states.which[i], points.pid[i]
            if one not in said:
                said[one] = say(states.found[one[0]], one[1])
            who[i] = said[one]

    def _say(self, state: "State", pid: int) -> int:
        """The number of what is said of process ``pid`` in ``state``: as it is when that is said first."""
        process = holder_of(self._correlator.model, pid, state)
        whose = None if process is None else (pid, process.start, process.cgroups)
        key = state.container, state.nsset, state.origin, state.login, state.entry, whose
        said = self._said.get(key)
        if said is None:
            text = jsonout.describe(self._describe(state, process=process)).encode("ascii")
            said = self._said[key] = self._texts.add(text)
        return said

    def _made(self, points: InsertionPoints, rows: CData = None) -> dict[int, int]:
        """Whom the clones among ``points`` made; ``rows`` have answered some of them."""
        return children_of(points, self._correlator.model, rows=rows)

    def reference(
        self, name: str, points: InsertionPoints, keep: bytes | bytearray | None = None, first: int = 0
    ) -> bytes:
        """The same as :meth:`render`, in Python throughout."""
        out = []
        self._lines.begin()
        self._children, self._pids = self._made(points), points.pid[: points.n].tolist()
        for view in views(points, keep, first):
            if isinstance(view, int):
                line = points.line(view).rstrip(b"\n")
                if line:
                    out.append(
                        jsonout.foreign(line)
                        if name == JSON
                        else pretty.foreign(line.decode("utf-8", "backslashreplace"))
                    )
                continue
            wanted = view.lines if name == JSON else _spoken_of(points, view.lines)
            read = [(points.l_type[i], read_line(points.line(i))) for i in wanted]
            records = _records([(number, record) for number, record in read if number != rectypes.EOE])
            if not records:
                continue
            if self._redact is not None:
                self._redact.records(records)
            head = read[0][1].head
            alone = self._alone.get(points.l_event[view.lines[0]])
            subject = jsonout.HOST if view.subject is None else self._who(view.subject)
            who = subject if alone is None else self._describe(alone)
            more: JsonObject = {"late": True} if view.late else {}
            if view.cut:
                size = sum(points.l_len[i] for i in view.lines)
                more["truncated"] = {"records": len(view.lines), "bytes": size}
            targets = [(points.recno[i], points.pid[i], self._who(i)) for i in view.targets]
            if name == JSON:
                out.append(jsonout.event(head.ms, head.serial, head.node, who, targets, records, more))
            else:
                node = head.node.decode("utf-8", "backslashreplace")
                out.append(self._lines.event(pretty.Event(head.ms, head.serial, node, who, targets, records)))
        return b"".join(out)

    def line(self, name: str, line: bytes, state: "State | None" = None) -> bytes:
        """An event of our own, given as lines of audit text; ``state`` is that of its process."""
        read = [read_line(one) for one in line.splitlines(keepends=True)]
        records = [(record.kind, parse(record.body, record.kind)) for record in read]
        head = read[-1].head
        contid = records[0][1].get("contid")
        who = jsonout.Who(contid if isinstance(contid, str) and contid != text.UNSET else None)
        if state is not None:
            who = self._describe(state)
            if who.container is not None and state.container is not None and state.container.labels:
                who = who._replace(container={**who.container, "labels": state.container.labels})
        if name == JSON:
            return jsonout.event(head.ms, head.serial, head.node, who, (), records)
        self._lines.begin()
        node = head.node.decode("utf-8", "backslashreplace")
        out = self._lines.event(pretty.Event(head.ms, head.serial, node, who, (), records))
        self._lines.shown()
        return out

    def shown(self) -> None:
        """What was rendered last has been shown."""
        self._lines.shown()

    def _who(self, i: int) -> jsonout.Who:
        state = self._correlator.states[i]
        return self._describe(state, self._children.get(i), holder_of(self._correlator.model, self._pids[i], state))

    def _describe(self, state: "State", child: int | None = None, process: "Process | None" = None) -> jsonout.Who:
        who = self._who_of(state)
        if process is not None:
            who = who._replace(process=described(self._correlator.model, process, state))
        return who if child is None else who._replace(exit_pid=child)

    def _who_of(self, state: "State") -> jsonout.Who:
        model = self._correlator.model
        container = state.container
        ns: JsonObject | None = None
        if state.nsset is not None and self._correlator.ns != "off":
            ns = {
                kind: None if about is None else {**about, "serial": f"{about['serial']:x}"}
                for kind, about in model.namespaces.describe(state.nsset).items()
            }
        if container is None:
            return jsonout.Who(None, None, ns)
        contid = model.containers.text(container)
        if contid == "?":
            return jsonout.Who(contid, None, ns)
        about = {
            "kind": container.kind,
            "runtime": container.runtime,
            "id": container.id,
            "name": container.name,
            "pod": container.pod,
            "namespace": container.namespace,
            "pod_uid": container.pod_uid,
            "role": container.role,
            "image": container.image,
            "origin": state.origin,
        }
        login = {} if state.login is None else {"cauid": state.login.uid, "cses": state.login.session}
        entry = None if state.entry is None else entry_object(model, state.entry)
        return jsonout.Who(contid, {field: what for field, what in about.items() if what} | login, ns, entry=entry)
