"""What became of the events of a pass: auditd's own log is the truth, ours is held against it."""

import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from tests.bench.accuracy.score import UNKNOWN, UNKNOWN_ANSWER, WRONG, Answer, Score, score
from tests.bench.accuracy.subjects import contid_of
from tests.bench.accuracy.truth import HOST, Action, EventId, Label, Labels

_LINE: Final = re.compile(rb"^(?:node=\S+ )?type=([^ ]+) msg=audit\((\d+\.\d{3}:(\d+))\): ?(.*)")
_MESSAGE: Final = re.compile(rb"^type=USER msg=audit\((\d+\.\d{3}:\d+)\): pid=(\d+) .*op=storm-message seq=(\d+)", re.M)
_CONTAINER_ID: Final = (b"CONTAINER_ID", b"UNKNOWN[1340]")
_CONTAINER_LOST: Final = (b"CONTAINER_LOST", b"UNKNOWN[1343]")
#: of these a loss is no loss of audit's records
_OTHERS: Final = (b"lifecycle", b"perf", b"connector", b"table")
#: and of these it puts answers about processes in doubt
_OF_PROCESSES: Final = (b"perf", b"connector", b"table")
_TIME: Final = re.compile(rb"\d+\.\d{3}")
#: a stamp is so much late at most (ms)
_LATE: Final = 100
#: the number of the workload that the messages count as
MESSAGES: Final = -1


class Told(NamedTuple):
    """What a log of ours says: the answer for each wanted event in it, the spans of serials told as lost, and those of
    time (ms) in which events of the kernel, or what was known of processes, were."""

    answers: dict[EventId, Answer]
    lost: list[tuple[int, int]]
    doubt: list[tuple[int, float]]


class Outcome(NamedTuple):
    """``events``: those in auditd's log; ``here``: those of them in ours; ``untold``: neither there nor told lost;
    ``unexplained``: unknown, and no loss was told that explains it."""

    events: int
    here: int
    untold: int
    wrong: int
    unknown: int
    unexplained: int
    examples: list[str]


def messages(log: bytes) -> dict[EventId, Action]:
    """The messages in auditd's log, as actions of the host."""
    return {
        match[1].decode(): Action(MESSAGES, HOST, int(match[3]), "m", int(match[2])) for match in _MESSAGE.finditer(log)
    }


def read(path: Path, wanted: set[EventId]) -> Told:
    """Read our text line by line: in a storm most of it is none of ``wanted``."""
    answers: dict[EventId, Answer] = {}
    lost: list[tuple[int, int]] = []
    doubt: list[tuple[int, float]] = []
    with path.open("rb") as lines:
        for line in lines:
            match = _LINE.match(line)
            if match is None:
                continue
            kind, event, rest = match[1], match[2].decode(), match[4]
            if kind in _CONTAINER_LOST:
                lost += _spans(rest)
                doubt += _doubts(rest)
            elif event in wanted:
                answer = answers.setdefault(event, Answer())
                if kind in _CONTAINER_ID and b" record=" not in b" " + rest:
                    answer.container = rest.partition(b"contid=")[2].split()[0].decode()
    return Told(answers, lost, doubt)


def _fields(rest: bytes) -> dict[bytes, bytes]:
    return {name: value for name, _, value in (word.partition(b"=") for word in rest.split())}


def _doubts(rest: bytes) -> Iterator[tuple[int, float]]:
    """The times (ms since 1970) of which something is in doubt for a loss: whom it concerns is known for sure only when
    an event of his own, or /proc, confirms it; who was forgotten ended between the two times."""
    fields = _fields(rest)
    source, first = fields.get(b"source"), fields.get(b"from", b"")
    if source in _OF_PROCESSES and _TIME.fullmatch(first):
        last = fields.get(b"to", b"") if source == b"table" else b""
        yield _ms(first), _ms(last) if _TIME.fullmatch(last) else math.inf


def _ms(stamp: bytes) -> int:
    return int(stamp.replace(b".", b""))


def _spans(rest: bytes) -> Iterator[tuple[int, int]]:
    """The serials between which a loss of audit's records lies; from and to are serials or stamps."""
    fields = _fields(rest)
    if fields.get(b"source") in _OTHERS:
        return
    ends = [fields.get(name, b"").rpartition(b":")[2] for name in (b"from", b"to")]
    if all(end.isdigit() for end in ends):
        yield int(ends[0]), int(ends[1])


def judge(actions: dict[EventId, Action], told: Told, labels: Labels) -> Outcome:
    """Hold what a log of ours says against what happened."""

    def name_of(label: Label) -> str | None:
        return contid_of(label.ident)

    absent = [event for event in actions if event not in told.answers]
    serials = [int(event.partition(":")[2]) for event in absent]
    untold = sum(not any(low <= serial <= high for low, high in told.lost) for serial in serials)
    scored: Score = score(actions, told.answers, labels, name_of, {})
    counts = scored.total.containers
    wrong = counts[WRONG] + counts["missing"]
    unknown = [
        _ms(event.partition(":")[0].encode()) for event, one in told.answers.items() if one.container == UNKNOWN_ANSWER
    ]
    unexplained = sum(not any(low - _LATE <= at <= high + _LATE for low, high in told.doubt) for at in unknown)
    return Outcome(len(actions), len(told.answers), untold, wrong, counts[UNKNOWN], unexplained, scored.examples)
