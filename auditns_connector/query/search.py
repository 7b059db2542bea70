"""Text through a filter: windows that lack what a match must have are passed over, of the others whole events are
tested.

A run begins at the window where a match may be. The one before it is scanned with it, for an event may begin there, and
more of them where one event is that long; it ends when all events that began in it have ended. So between two records
of one event no whole window of records of others may lie: what comes that much later is late for everybody.
"""

import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Final

from auditns_connector.archive.reader import Archive
from auditns_connector.audittext.heads import read_head
from auditns_connector.audittext.scanner import InsertionPoints, Scanner, TextStream
from auditns_connector.daemon.terminal import complain
from auditns_connector.errors import AuditnsError
from auditns_connector.matching.native import Needles, NewInfos, has_time
from auditns_connector.pipeline.text_stage import Enricher
from auditns_connector.query import archived, backwards
from auditns_connector.query import windows as w
from auditns_connector.query.answers import LogAnswers
from auditns_connector.query.archived import ArchiveSearch
from auditns_connector.query.asked import Asked
from auditns_connector.query.following import Growing
from auditns_connector.query.logs import Text
from auditns_connector.vocabulary.audit_text import AWAITS_MORE, MODE_EOF
from auditns_connector.vocabulary.timing import HOLD

#: windows before a run that are kept for an event that began in them: more than the largest event that is handed out
_KEPT: Final = 32
#: lines of a window that are looked at for an event that began before it
_LOOKED: Final = 64

Deliver = Callable[[memoryview | bytes], bool]
Take = Callable[[TextStream, InsertionPoints], bool]


class Prefilter:
    """Which windows may hold (part of) an event that is wanted."""

    def __init__(self, asked: Asked, *, named: bool) -> None:
        """``named``: all names of containers are known that will be."""
        found = [Needles(one) for one in asked.needles(named=named)]
        # the one that is likely to be rarest first: it must be in the window itself
        found.sort(key=lambda one: -min(map(len, one.needles)))
        #: each passes where a window has what it must
        self.tests: list[Callable[[bytes], bool]] = [one.stands_in for one in found]
        if asked.since is not None or asked.until is not None:
            since = 0 if asked.since is None else asked.since // 1000
            until = 1 << 40 if asked.until is None else asked.until // 1000
            self.tests.append(lambda data: has_time(data, since, until))

    def marked(self, windows: Iterable[bytes]) -> Iterator[tuple[bytes, bool]]:
        """Each window, and whether it may hold one."""
        former: _Window | None = None
        this: _Window | None = None
        for data in windows:
            later = _Window(data, self.tests)
            if this is not None:
                yield this.data, this.may(former, later)
            former, this = this, later
        if this is not None:
            yield this.data, this.may(former, None)


class _Window:
    """A window, and what is found in it, each looked for once."""

    def __init__(self, data: bytes, tests: list[Callable[[bytes], bool]]) -> None:
        self.data, self._tests = data, tests
        self._has: dict[int, bool] = {}
        self._whole: bool | None = None

    def has(self, test: int) -> bool:
        """Whether it passes, or is nothing but a part of one large event, of which the rest is elsewhere."""
        if test not in self._has:
            self._has[test] = self._tests[test](self.data)
        return self._has[test] or self._is_part()

    def _is_part(self) -> bool:
        if self._whole is None:
            first, last = stamp(self.data), stamp(self.data[self.data.rfind(b"\n", 0, len(self.data) - 1) + 1 :])
            self._whole = first is not None and first == last
        return self._whole

    def may(self, former: "_Window | None", later: "_Window | None") -> bool:
        """Whether an event that passes all may lie in it, and begin or end in its neighbours."""
        if not self._tests:
            return True
        if not self.has(0):
            return False
        near = [one for one in (self, former, later) if one is not None]
        return all(any(one.has(test) for one in near) for test in range(1, len(self._tests)))


def stamp(data: bytes) -> bytes | None:
    """What stands in ``audit(…)`` of the first line of ``data``."""
    line = data[: data.find(b"\n") + 1 or len(data)]
    head = read_head(line)
    return None if head is None else b"%d.%03d:%d" % (*divmod(head.ms, 1000), head.serial)


class Shown:
    """What becomes of whole events: ``enricher``, whose filter is that of the search, makes text of the format ``name``
    ("": none) for ``deliver``, which returns False when nobody wants more."""

    def __init__(self, answers: LogAnswers, enricher: Enricher, name: str, deliver: Deliver) -> None:
        self._answers, self._enricher, self._name, self._deliver = answers, enricher, name, deliver

    def take(self, stream: TextStream, points: InsertionPoints) -> bool:
        """Hand out what is wanted of ``points``; False when nobody wants more."""
        self._enricher.stream = stream
        block = self._enricher.take(points, self._answers.answer).get(self._name)
        if block and not self._deliver(block):
            return False
        return not self._enricher.done


class Search:
    """Runs texts through the filter ``asked``; whole events that may pass it go to ``take``, which returns False when
    nobody wants more. ``plain`` may be given where the text of those that pass is all that is wanted."""

    def __init__(self, answers: LogAnswers, asked: Asked, take: Take, plain: Deliver | None = None) -> None:
        self._answers, self._asked, self._taken, self._plain = answers, asked, take, plain
        self._infos = NewInfos()
        self.failed = False
        #: events that were handed out before their end: their parts were searched one by one
        self.cut = 0
        self._counted: TextStream | None = None
        self._cut_before = 0
        self._single: TextStream | None = None
        #: of a text that is followed, the beginning of its last line; None: it is not
        self._held: bytes | None = None
        #: there is text, but no record in it so far
        self.unread = False
        self._recognised = False

    # -- before the search

    def prepare(self, text: Text, *, names: bool, entries: bool = False) -> bool:
        """Learn what the text says of containers, where their ``names`` are wanted, of ``entries`` in an archive, and
        whether it has records of ours, where that matters; False where it can be read once only, and is learned on the
        way."""
        self._answers.assume = text.ours
        matters = names or self._asked.asks_names
        if text.archive is not None:
            self._answers.assume = True  # who seals has it of the plugin's log, or says so
            self._recognised = True
            if matters:
                archived.learn(text.archive, self._answers.names, entries=entries or self._asked.asks_entries)
        if not matters and (text.ours or not self._asked.asks_silence):
            return True
        if not all(map(_rewinds, text.files)):
            return False
        for data in self._windows(text, tell=False):
            self.learn(data)
            if self._infos.own and not matters:
                break
        self._answers.assume = self._answers.assume or self._infos.own
        return True

    def learn(self, data: bytes) -> None:
        """Take in what ``data``, whole lines, says of containers."""
        self._answers.names.read(self._infos.lines(data))

    # -- the search

    def _take(self, stream: TextStream, points: InsertionPoints) -> bool:
        """Hand on what ``stream`` has decided, and count what it cut."""
        if stream is not self._counted:
            self._counted, self._cut_before = stream, self.cut
        self.cut = self._cut_before + stream.cut
        return self._taken(stream, points)

    def forwards(self, text: Text, *, learn: bool, sealed: bool = True) -> bool:
        """Search ``text`` in its order, the archive's as well unless ``sealed`` is False; ``learn`` of containers on
        the way. False when nobody wants more."""
        if text.archive is not None and sealed and not self._archived(text.archive).forwards():
            return False
        self._asked.host = text.host
        run = self._pass(text, deque(maxlen=_KEPT), learn=learn)
        return run is None or (run.wanted and run.end())

    def _pass(self, text: Text, former: "deque[bytes]", *, learn: bool) -> "_Run | None":
        """Search all files; ``former`` has the last windows then. The run that is going on at the end, if there is one,
        or that ended all."""
        windows = self._windows(text, tell=True)
        if learn:
            windows = self._learning(windows)
        run: _Run | None = None
        for data, wanted in Prefilter(self._asked, named=not learn).marked(windows):
            if run is None and wanted:
                run = _Run(self._take)
                if not all(run.feed(before, wanted=False) for before in _begins(former, data)):
                    return run
            if run is not None:
                if not run.feed(data, wanted=wanted):
                    return run
                if not wanted and run.ended:
                    run = None
            former.append(data)
        return run

    def backwards(self, text: Text) -> bool:
        """Search ``text`` from its end, event by event. False when nobody wants more."""
        self._asked.host = text.host
        tests = Prefilter(self._asked, named=True).tests
        back = backwards.Backwards(tests, self._answers, self._asked)
        for event in back.events(self._windows_back(text)):
            self.cut = back.cut
            if not self._one(event):
                return False
        self.cut = back.cut
        if text.archive is None:
            return True
        return all(self._one(event) for event in self._archived(text.archive).backwards())

    def _one(self, event: bytes | memoryview) -> bool:
        """Hand out one event by itself."""
        if self._single is None:
            self._single = TextStream(whole=True, patient=True)
        stream = self._single
        return self._take(stream, stream.push(event)) and self._take(stream, stream.flush(eof=True))

    def _windows_back(self, text: Text) -> Iterator[bytes]:
        for number in range(len(text.files) - 1, -1, -1):
            path, fd = text.files[number]
            if _rewinds((path, fd)):
                os.lseek(fd, 0, os.SEEK_SET)
            try:
                for data in w.backwards(path, fd, text.start(number)):
                    self._look(data)
                    yield data
            except AuditnsError as error:
                self.failed = True
                complain(f"auditns: {error}; the rest was searched")

    def follow(self, text: Text, reader: int) -> bool:
        """Search ``text``, and then what comes to the last of its files, for as long as somebody reads at the
        descriptor ``reader``. False when nobody wants more."""
        if text.archive is not None and not self._archived(text.archive).forwards():
            return False
        self._asked.host = text.host
        path, fd = text.files[-1]
        pipe = not _rewinds((path, fd))
        former: deque[bytes] = deque(maxlen=_KEPT)
        self._held = b""
        run = self._pass(text._replace(files=text.files[:-1]) if pipe else text, former, learn=True)
        if run is not None and not run.wanted:
            return False
        if run is None:
            run = _Run(self._take)
            if not all(run.feed(before, wanted=False) for before in list(former)[-1:]):
                return False
        growing, stream = Growing(path, fd, reader, self._held or b""), run.stream
        self._held = None
        pieces = growing.pieces(lambda: stream.oldest is not None)
        return all(self._grown(run, piece, dry=growing.dry) for piece in pieces) and run.end()

    def _grown(self, run: "_Run", piece: bytes, *, dry: bool) -> bool:
        """Some more text has come, or none for a while; ``dry``: all that had come was read."""
        now = time.monotonic_ns()
        if piece:
            self.learn(piece)
            run.stream.at(now)
            if not run.feed(piece, wanted=True):
                return False
        oldest = run.stream.oldest
        if not dry or oldest is None or oldest > now - HOLD:
            return True
        return self._take(run.stream, run.stream.idle(now - HOLD))

    def _archived(self, archive: Archive) -> ArchiveSearch:
        return ArchiveSearch(archive, self._answers, self._asked, self._take, self._plain)

    def _learning(self, windows: Iterator[bytes]) -> Iterator[bytes]:
        for data in windows:
            self.learn(data)
            yield data

    def _look(self, data: bytes) -> None:
        """See whether it is audit text at all, until some is."""
        if not self._recognised and data:
            scanner = Scanner()
            scanner.feed(data, MODE_EOF)
            self._recognised = scanner.records > 0
            self.unread = not self._recognised and (self.unread or scanner.foreign > 0)

    def _windows(self, text: Text, *, tell: bool) -> Iterator[bytes]:
        """The windows of all files of a text; of one that cannot be read to its end what there is."""
        last = len(text.files) - 1
        for number, (path, fd) in enumerate(text.files):
            data = b""
            if _rewinds((path, fd)):
                os.lseek(fd, 0, os.SEEK_SET)
            try:
                for data in w.forwards(w.opened(path, fd, text.start(number)), w.SIZE):
                    if not data.endswith(b"\n") and number < last:
                        data += b"\n"  # its last line is never part of the next one's first
                    elif self._held is not None and number == last:
                        data, self._held = data[: (end := data.rfind(b"\n") + 1)], data[end:]
                    self._look(data)
                    yield data
            except AuditnsError as error:
                self.failed = True
                if tell:
                    complain(f"auditns: {error}; what stands before that was searched")


def _rewinds(file: tuple[str, int]) -> bool:
    """Whether it can be read again from its beginning."""
    try:
        os.lseek(file[1], 0, os.SEEK_CUR)
        return True
    except OSError:
        return False


def _begins(former: "deque[bytes]", data: bytes) -> list[bytes]:
    """The windows before ``data`` in which an event may have begun that goes on in it."""
    depth = 1
    while depth < len(former):
        stamps = {stamp(line) for line in former[-depth].split(b"\n", _LOOKED)[:_LOOKED]} - {None}
        if Needles([b"audit(" + one + b")" for one in stamps if one] or [b"\n\n"]).find(data) < 0:
            break
        depth += 1
    return list(former)[-depth:] if former else []


class _Run:
    """Windows that follow one another, as whole events."""

    def __init__(self, take: Take) -> None:
        self.stream = TextStream(whole=True, awaits=AWAITS_MORE)
        self._take = take
        self._fed = self._hot = 0
        #: somebody wants more
        self.wanted = True

    def feed(self, data: bytes, *, wanted: bool) -> bool:
        """One more window; ``wanted``: events that begin in it are of interest."""
        self._fed += len(data)
        if wanted:
            self._hot = self._fed
        self.wanted = self._take(self.stream, self.stream.push(data))
        return self.wanted

    @property
    def ended(self) -> bool:
        """All events of interest have ended."""
        return self._fed - self.stream.pending >= self._hot

    def end(self) -> bool:
        """There is no more text."""
        return self._take(self.stream, self.stream.flush(eof=True))
