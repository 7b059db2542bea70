"""Text searched from its end: window by window, the events that begin in each, the newest first."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Final

from auditns_connector.audittext.grouping import event_numbers
from auditns_connector.audittext.scanner import InsertionPoints, TextStream
from auditns_connector.query.answers import LogAnswers
from auditns_connector.query.asked import Asked
from auditns_connector.vocabulary.audit_text import AWAITS_MORE, P_CUT, P_LATE

#: of the window before so many bytes are scanned too, to see which events began there
_BEFORE: Final = 1 << 19
#: windows behind one that an event which began in it may go on in: more than the largest that is handed out
_BEHIND: Final = 3
Tests = list[Callable[[bytes], bool]]


class Backwards:
    """The events that ``asked`` wants, by ``answers``; one that is wanted passes all ``tests``, somewhere in the
    windows that it lies in."""

    def __init__(self, tests: Tests, answers: LogAnswers, asked: Asked) -> None:
        self._tests, self._answers, self._asked = tests, answers, asked
        #: events that were handed out before their end
        self.cut = 0

    def events(self, windows: Iterable[bytes]) -> Iterator[bytes]:
        """The text of each of them, the newest first; ``windows`` come from the end of the text."""
        behind: deque[bytes] = deque(maxlen=_BEHIND)
        this: bytes | None = None
        for older in windows:
            if this is not None:
                yield from self._of_window(older, this, behind)
                behind.appendleft(this)
            this = older
        if this is not None:
            yield from self._of_window(b"", this, behind)

    def _of_window(self, older: bytes, this: bytes, behind: "deque[bytes]") -> Iterator[bytes]:
        if not all(any(test(data) for data in (this, *behind)) for test in self._tests):
            return
        before = older[-_BEFORE:]
        before = before[before.find(b"\n") + 1 :] if len(before) < len(older) else before
        found = _Found(len(before), len(before) + len(this), self._answers, self._asked)
        stream = TextStream(whole=True, awaits=AWAITS_MORE)
        for data in (before, this):
            if data:
                found.take(stream, stream.push(data))
        fed = len(before) + len(this)
        for piece in _pieces(behind):
            if fed - stream.pending >= found.end:
                break
            found.take(stream, stream.push(piece))
            fed += len(piece)
        found.take(stream, stream.flush(eof=True))
        self.cut += found.cut
        yield from reversed(found.texts.values())


def _pieces(windows: Iterable[bytes]) -> Iterator[memoryview]:
    return (memoryview(data)[at : at + _BEFORE] for data in windows for at in range(0, len(data), _BEFORE))


class _Found:
    """The events that are wanted and begin between two places of the text."""

    def __init__(self, start: int, end: int, answers: LogAnswers, asked: Asked) -> None:
        self._start, self.end, self._answers, self._asked = start, end, answers, asked
        #: by number of the event
        self.texts: dict[int, bytes] = {}
        #: events that begin there and were handed out before their end
        self.cut = 0

    def take(self, stream: TextStream, points: InsertionPoints) -> None:
        """Look at whole events."""
        if not points.some:
            return
        choice = self._answers.answer(points)
        first, count = event_numbers(points)
        kept = self._asked.keep(points, choice, self._answers, first, count)
        late = {points.event[i]: points.origin[i] for i in range(points.n) if points.flags[i] & P_LATE}
        cut = {points.event[i] for i in range(points.n) if points.flags[i] & P_CUT} if stream.cut else set()
        table, base = self._answers.table, stream.base
        for number, line, lines in zip(table.number, table.first, table.lines, strict=True):
            origin = late.get(number)
            begins = self._start <= base + points.l_off[line] < self.end
            self.cut += begins and origin is None and number in cut
            if origin is not None:
                if origin in self.texts:  # what comes late goes with its event
                    self.texts[origin] += self._text(points, line, lines)
            elif kept[number - first] and begins:
                self.texts[number] = self._text(points, line, lines)

    @staticmethod
    def _text(points: InsertionPoints, line: int, lines: int) -> bytes:
        texts = [points.line(i) for i in range(line, line + lines)]
        return b"".join(text if text.endswith(b"\n") else text + b"\n" for text in texts)
