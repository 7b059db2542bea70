"""The loop in C does what the pipeline does: the same text comes out, the same is counted, the same losses are said."""

import ast
import fcntl
import os
import random
import re
import selectors
import signal
import socket
import termios
import threading
import time
from array import array
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any

import pytest

from auditns_connector._native import ffi, lib
from auditns_connector.attribution.attributor import Correlator
from auditns_connector.audittext.scanner import InsertionPoints
from auditns_connector.audittext.serials import SerialGap
from auditns_connector.config.options import FileOutput
from auditns_connector.daemon.log import Log
from auditns_connector.host.observer import Observer
from auditns_connector.journal.files import JournalWriter
from auditns_connector.model.outputs import Loss, Query
from auditns_connector.pipeline import loop as loop_module
from auditns_connector.pipeline.coalescing import Coalescer
from auditns_connector.pipeline.filters import EventFilter, parse_contids
from auditns_connector.pipeline.loop import Pipeline
from auditns_connector.pipeline.open_standalone import open_standalone
from auditns_connector.pipeline.text_stage import JSON, PRETTY, RAW, Enricher
from auditns_connector.sinks.file import FileSink
from auditns_connector.sinks.loss import Block
from auditns_connector.sources.intake import SMALL, Limits
from auditns_connector.sources.stdin import StdinSource
from auditns_connector.vocabulary import frames as f

from .sinkhelp import lost_line
from .world import HEX, MS, World


class Rings:
    """Perf without a CPU: the C that drains it is real, and finds nothing; frames come from :meth:`come`."""

    features = frozenset(("task",))

    def __init__(self) -> None:
        self._set = ffi.gc(lib.perf_set_new(), lib.perf_set_free)
        self._counters, self._layout = ffi.new("struct perf_counters *"), ffi.new("struct perf_layout *")
        self._came: list[bytes] = []
        self._kept = b""
        #: up to when drains in C were to look, and looked
        self.looked: list[tuple[int, int]] = []
        #: in place of perf_look
        self.see = ffi.callback("int64_t(struct perf_look *)", self._see)

    def come(self, frames: bytes) -> None:
        self._came.append(frames)

    def _see(self, look: Any) -> int:
        assert lib.perf_look(look) == 0
        self.looked.append((look.upto, look.cut))
        came, self._came = self._came, []
        self._kept = b"".join(came)
        look.frames = ffi.cast("uint8_t *", ffi.from_buffer(self._kept))
        return len(self._kept)

    def watch(self, clock: Any) -> Any:
        about = {"set": self._set, "layout": self._layout, "counters": self._counters, "clock": clock}
        self._look = ffi.new("struct perf_look *", about)
        return self._look

    def look(self, clock: Any) -> tuple[int, bool, bytes]:
        look = self.watch(clock)
        size = self._see(look)
        return look.cut, look.clock_due, self.block(size, look.frames, look.cut)

    def drain(self, cut: int | None = None) -> bytes:
        came, self._came = self._came, []
        self._kept = bytes(len(self._kept))  # as the C does: what was drained before is there no more
        return b"".join(came)

    def block(self, size: int, frames: Any, cut: int | None) -> bytes:
        return bytes(ffi.buffer(frames, size))

    def filenos(self) -> list[int]:
        return []

    def counters(self) -> dict[str, int]:
        return {}

    def refresh(self) -> None:
        pass

    def close(self) -> None:
        pass


class Kept:
    """A sink that keeps all."""

    name, broken, notices = "kept", False, ()

    def __init__(self) -> None:
        self._fd = os.eventfd(0)
        self.text = b""

    def fileno(self) -> int:
        return self._fd

    def write(self, data: Block) -> None:
        self.text += bytes(data)

    def on_ready(self) -> None:
        raise AssertionError("nobody writes to it")

    prompt = False

    def natives(self) -> None:
        """The C is not to write to it."""

    def deadline(self) -> None:
        return None

    def counters(self) -> dict[str, int]:
        return {}

    def flush(self, timeout: float | None) -> bool:
        return True

    def close(self, timeout: float) -> None:
        os.close(self._fd)


def event(serial: int, ms: int, pid: int) -> bytes:
    stamp = b"msg=audit(%d.%03d:%d): " % (ms // 1000, ms % 1000, serial)
    return (
        b"type=SYSCALL %sarch=c000003e syscall=257 success=yes exit=3 ppid=1 pid=%d auid=0 comm=\"x\" key=\"k\"\n"
        b"type=PATH %sitem=0 name=\"/etc/shadow\"\ntype=PROCTITLE %sproctitle=\"x\"\ntype=EOE %s\n"
    ) % (stamp, pid, stamp, stamp, stamp)  # fmt: skip


def text(seed: int, world: World) -> list[tuple[bytes, bytes]]:
    """What comes, piece by piece, and which frames before it: mostly an event each, some cut or together, with a hole,
    a change of the rules, a record that stands alone, processes of which one is not known, and children of one that
    is."""
    chance, pieces, serial, born = random.Random(seed), [], 1000, set()
    now = time.time_ns() // MS - 5
    mono = now * MS - (time.time_ns() - time.monotonic_ns()) - MS
    for number in range(120):
        serial += 2 if number == 100 else 1
        who, frames = chance.choice((100, 100, 100, 2, 2, 999)), b""
        if chance.randrange(3) == 0:
            who = 2000 + number
            born.add(who)
            frames = f.pack(f.K_FORK, f.S_PERF, mono, pid=who, tid=who, ppid=100, ptid=100, payload=world.ns())
        gone = 2000 + number - 20
        if number > 20 and chance.randrange(3) == 0 and gone in born:
            frames += f.pack(f.K_EXIT_SAMPLE, f.S_PERF, mono + 2 * MS, pid=gone, tid=gone)
            frames += f.pack(f.K_EXIT, f.S_PERF, mono + 2 * MS, pid=gone, tid=gone, ppid=100, ptid=100)
        one = event(serial, now, who)
        kind = chance.randrange(12)
        if kind == 0:
            at = chance.randrange(1, len(one))
            pieces += [(frames, one[:at]), (b"", one[at:])]
        elif kind == 1 and pieces:
            before, last = pieces[-1]
            pieces[-1] = (before + frames, last + one)
        elif kind == 2:
            serial += 1
            alone = b"type=USER_CMD msg=audit(%d.%03d:%d): pid=100 uid=0 msg='op=x'\n"
            pieces += [(frames, one), (b"", alone % (now // 1000, now % 1000, serial))]
        elif number == 60:
            serial += 1
            change = b'type=CONFIG_CHANGE msg=audit(%d.%03d:%d): op=add_rule key="k" list=4 res=1\n'
            pieces += [(frames, one), (b"", change % (now // 1000, now % 1000, serial))]
        else:
            pieces.append((frames, one))
    return pieces


def known() -> World:
    """A world that knows two processes, one of them in a container."""
    mono = time.monotonic_ns() / MS
    world = World(real=time.time_ns() - time.monotonic_ns(), boot_id="ab" * 16)
    for pid, place in ((100, f"/docker/{HEX}"), (2, "/")):
        world.proc(pid, 1, at=mono - 3000, start=mono - 3000, cg=place)
    return world


class Host:
    """A pipeline that writes to some sinks, and the other end of the socket that it reads audit text from. Nothing
    waits for a clock: each :meth:`step` is one round."""

    def __init__(
        self, *sinks: Any, native: bool, coalescer: float | None = 0, asks: str = RAW, limits: Limits = SMALL
    ) -> None:
        """``asks``: a format, or "filtered" or "described" text."""
        self.rings, self.world = Rings(), known()
        self.observer = Observer(self.world.model, perf=self.rings)  # type: ignore[arg-type]
        name = asks if asks in (JSON, PRETTY) else RAW
        correlator = Correlator(self.world.model, info=asks == "described")
        wanted = EventFilter(keys=["k"], contids=[parse_contids("!=unknown")]) if asks == "filtered" else None
        self._ours, self.theirs = socket.socketpair()
        self.audit, enricher = StdinSource(self._ours.fileno(), limits), Enricher(correlator, (name,), wanted=wanted)
        self.pipeline = Pipeline(self.observer, correlator, enricher, self.audit, {name: list(sinks)}, Log(quiet=True))
        self.pipeline.text.coalescer = Coalescer(coalescer)
        self.pipeline.text.standalone = open_standalone(
            self.observer, (name,), correlator=correlator, track=True, directory=None
        )
        self.pipeline._register()
        assert self.pipeline._native is not None
        self.standalone = self.pipeline.text.standalone
        self.loop = self.pipeline._native
        self.loop._c.see = self.rings.see
        self._native = native
        #: rounds that the C did, those that it left the answers of, and events that it answered
        self.done, self.asked, self.answered = 0, 0, 0
        #: sizes of the blocks that came back from the C to be written
        self.given: list[int] = []

    @property
    def unread(self) -> int:
        """Bytes of text that nobody has read yet."""
        size = array("i", [0])
        fcntl.ioctl(self._ours, termios.FIONREAD, size)
        return size[0]

    def step(self) -> None:
        """One round, by the C where it may do it."""
        if not self._native or not self.loop.ready():
            self.pipeline.text.read()
            return
        c = self.loop._c
        how = lib.loop_round(c)
        if how == lib.LOOP_DONE:
            self.done += 1
            self.given.append(c.size)
        self.asked += how == lib.LOOP_ASKED
        self.answered += c.answered
        self.loop._go_on(how)

    def come(self, frames: bytes, text: bytes) -> None:
        """Frames are there to be drained, then text comes and is read."""
        self.rings.come(frames)
        if text:
            self.theirs.sendall(text)
        while self.unread:
            self.step()

    def end(self) -> None:
        """The text ends."""
        self.theirs.close()
        while not self.pipeline.text.ended:
            self.step()
        self.pipeline._finish()
        self.let_go()

    def let_go(self) -> None:
        """Close all descriptors."""
        self.observer.close()
        self.audit.close()
        self.pipeline.selector.close()
        self._ours.close()
        self.theirs.close()


def run(
    seed: int, *, native: bool, log: Path | None = None, coalescer: float | None = 0, asks: str = RAW
) -> tuple[bytes, Any, Host]:
    """The text that comes out of a run, into a file if there is a ``log``, and what else is to be seen of it."""
    sink: Any = Kept() if log is None else FileSink(FileOutput(path=str(log), group=""), lost_line)
    host = Host(sink, native=native, coalescer=coalescer, asks=asks)
    for frames, piece in text(seed, host.world):
        host.come(frames, piece)
    host.end()
    status = host.pipeline.status()
    lives = sorted((pid, process.end is None) for pid, process in host.world.model.processes.items())
    seen = status["events"], status["sources"]["audit"], status["queue"], host.standalone.events.next, lives
    return sink.text if log is None else log.read_bytes(), seen, host


def journaled(seed: int, path: Path, *, native: bool) -> tuple[list[Any], Host]:
    """What the journal of a run has, less times."""
    host = Host(Kept(), native=native)
    host.observer.journal = JournalWriter(str(path))
    for frames, piece in text(seed, host.world):
        host.come(frames, piece)
    host.end()
    kinds = (f.K_FORK, f.K_EXIT, f.K_EXIT_SAMPLE, f.K_MARK)
    frames_of = f.iter_frames(path.read_bytes())
    return [(one.kind, one.pid, one.ppid, bytes(one.payload)) for one in frames_of if one.kind in kinds], host


@pytest.mark.parametrize("seed", range(3))
def test_the_journal_is_the_same(seed: int, tmp_path: Path) -> None:
    slow, _ = journaled(seed, tmp_path / "slow", native=False)
    quick, host = journaled(seed, tmp_path / "quick", native=True)
    assert host.answered >= host.done > 40
    assert quick == slow


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("way", ["kept", "file", "gathered"])
def test_what_the_c_does_is_what_the_pipeline_does(seed: int, way: str, tmp_path: Path) -> None:
    slow, slow_seen, _ = run(seed, native=False)
    log, coalescer = tmp_path / "log" if way == "file" else None, 1 if way == "gathered" else 0
    quick, quick_seen, host = run(seed, native=True, log=log, coalescer=coalescer)
    assert host.answered >= host.done > 40
    # a file's thread is given it by the C where it is ready for more
    assert way == "file" or 0 not in host.given
    stamps = re.compile(rb"(?:audit\(|since=)\d+\.\d+:?")  # the two runs are not of the same time
    assert stamps.sub(b"", quick) == stamps.sub(b"", slow)
    assert quick.count(b"contid=") > 60
    assert quick.count(b"CONTAINER_LOST") == 1
    assert quick_seen == slow_seen


#: the two runs are not of the same time
_TIMES: dict[str, str] = {
    JSON: r'"(?:time|start)":"[0-9.]+"|"key":"[^"]*"|since=[0-9.]+|"(since|from|to)":"?[0-9.]+"?',
    PRETTY: r"\d\d\d\d-\d\d-\d\d |\d\d:\d\d:\d\d\.\d\d\d|since=[0-9.]+",
    "filtered": r"(?:audit\(|since=)\d+\.\d+:?",
    "described": r"(?:audit\(|since=)\d+\.\d+:?",
}


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("asks", _TIMES)
def test_the_c_leaves_answers_that_it_cannot_put_in(seed: int, asks: str) -> None:
    """What is asked for beyond one plain text is answered as ever, in rounds of which the C does the rest."""
    slow, slow_seen, _ = run(seed, native=False, asks=asks)
    quick, quick_seen, host = run(seed, native=True, asks=asks)
    # of whole events one that stands alone may go on: until it is idle, those behind it are not the next ones
    assert host.done + host.asked > (40 if asks == "described" else 1)
    if asks not in (JSON, "described"):
        assert (host.done, host.answered) == (0, 0)
    times = re.compile(_TIMES[asks].encode())
    assert times.sub(b"", quick) == times.sub(b"", slow)
    assert quick.count(b"\n") > 60
    assert quick_seen == slow_seen


@pytest.mark.parametrize("asks", _TIMES)
def test_each_round_of_events_that_follow_one_another_is_left_with_its_answer(asks: str) -> None:
    host, now = Host(Kept(), native=True, asks=asks), time.time_ns() // MS - 5
    for serial in range(1000, 1020):
        host.come(b"", event(serial, now, 100))
    assert (host.done if asks in (JSON, "described") else host.asked) > 16
    host.end()


def test_an_answer_that_waits_for_proc_is_the_pipeline_s(quiet: "Quiet") -> None:
    """Where frames have left something open, that is asked before the answer is given."""
    quiet.pipeline.text.correlator.keep_states = True
    assert quiet.loop.ready()
    quiet.observer.model.queries.append(Query("proc", 100))
    quiet.theirs.sendall(event(1004, quiet.now, 100))
    how = lib.loop_round(quiet.loop._c)
    assert how == lib.LOOP_ASKED
    assert not quiet.loop._go_on(how)
    assert not quiet.observer.model.queries
    assert quiet.pipeline.text.enricher.events == 5


def test_events_of_another_host_are_no_step_in_our_serials(quiet: "Quiet") -> None:
    quiet.theirs.sendall(b"".join(b"node=other " + line for line in event(1004, quiet.now, 100).splitlines(True)))
    assert lib.loop_round(quiet.loop._c) == lib.LOOP_UNKNOWN


def test_the_c_waits_and_goes_on_by_itself() -> None:
    """The same with loop_rounds, which waits: the load decides how much of it the C does, but not what comes out."""
    host = Host(Kept(), native=True)
    pieces = text(0, host.world)

    def write() -> None:
        with host.theirs:
            for frames, piece in pieces:
                host.rings.come(frames)
                host.theirs.sendall(piece)

    thread = threading.Thread(target=write)
    thread.start()
    while not host.pipeline.stopping:
        host.pipeline._round()
    thread.join()
    host.end()
    sink = host.pipeline.outputs.by_format[RAW][0]
    assert isinstance(sink, Kept)
    slow, _, _ = run(0, native=False)
    assert sink.text.count(b"type=SYSCALL") == slow.count(b"type=SYSCALL")
    assert sink.text.count(b"CONTAINER_LOST") == 1


class Quiet(Host):
    """A pipeline whose next round may be one of the C, and to which nothing happens but when text is given to it."""

    def __init__(self, limits: Limits = SMALL) -> None:
        super().__init__(Kept(), native=True, limits=limits)
        self.now = time.time_ns() // MS - 5
        for serial in range(1000, 1004):
            self.come(b"", event(serial, self.now, 100))
        assert self.loop.ready()

    def close(self) -> None:
        self.pipeline.outputs.by_format[RAW][0].close(0)
        self.let_go()


@pytest.fixture
def quiet() -> Iterator[Quiet]:
    host = Quiet()
    yield host
    host.close()


def test_a_change_of_the_rules_is_taken_note_of_before_its_event_is_answered(quiet: Quiet) -> None:
    stamp = b"msg=audit(%d.%03d:1004): " % (quiet.now // 1000, quiet.now % 1000)
    change = b'type=CONFIG_CHANGE %sauid=0 ses=1 op=remove_rule key="k" list=4 res=1\n' % stamp
    quiet.come(b"", change + event(1004, quiet.now, 100))
    assert quiet.observer.exec_rules.changes == quiet.pipeline.text.stream.changes == 1
    assert quiet.pipeline.text.enricher.events == 5


def test_a_change_of_the_rules_that_came_alone_is_not_overlooked(quiet: Quiet) -> None:
    stamp = b"msg=audit(%d.%03d:1004): " % (quiet.now // 1000, quiet.now % 1000)
    quiet.come(b"", b'type=CONFIG_CHANGE %sauid=0 ses=1 op=remove_rule key="k" list=4 res=1\n' % stamp)
    assert quiet.pipeline.text.stream.pending
    quiet.come(b"", event(1004, quiet.now, 100))
    quiet.come(b"", event(1005, quiet.now, 100))
    assert quiet.observer.exec_rules.changes == quiet.pipeline.text.stream.changes == 1
    assert quiet.pipeline.text.enricher.events == 6


@pytest.mark.parametrize("whole", [b"", event(1004, time.time_ns() // MS - 5, 100)], ids=["alone", "behind-another"])
def test_an_event_without_its_end_is_waited_for_from_when_it_came(quiet: Quiet, whole: bytes) -> None:
    before = time.monotonic_ns()
    quiet.come(b"", whole + event(1004 + bool(whole), quiet.now, 100).partition(b"\n")[0] + b"\n")
    assert quiet.pipeline.text.stream.pending
    since = quiet.pipeline.text.stream.oldest
    assert since is not None
    assert since >= before
    quiet.come(b"", b"")
    assert quiet.pipeline.text.stream.oldest == since


def test_a_clock_that_was_set_is_told_before_the_answer(quiet: Quiet, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[int] = []
    monkeypatch.setattr(quiet.observer, "tell_clock", lambda: told.append(quiet.pipeline.text.enricher.events))
    quiet.observer.clock.emitted = 0  # as after a journal that begins anew
    quiet.come(b"", event(1004, quiet.now, 100))
    assert told[:1] == [4]


def test_what_is_drained_for_an_answer_comes_behind_what_was_drained_before(quiet: Quiet) -> None:
    mono = quiet.now * MS - (time.time_ns() - time.monotonic_ns())

    def exec_(at: int) -> bytes:
        return f.pack(f.K_EXEC, f.S_PERF, mono + at, pid=100, tid=100, ppid=100, payload=b"/bin/x\0")

    see, blocks = quiet.rings._see, [exec_(1), exec_(2)]

    def drained(look: Any) -> int:
        quiet.rings.come(blocks.pop(0))
        size = see(look)
        if not blocks:  # both rounds are drained: a question comes up, and more has happened by then
            quiet.observer.model.queries.append(Query("proc", 100))
            quiet.rings.come(exec_(3))
        return size

    see_ = ffi.callback("int64_t(struct perf_look *)", drained)
    quiet.loop._c.see = see_
    for serial, who in ((1004, 100), (1005, 999)):
        quiet.theirs.sendall(event(serial, quiet.now, who))
        how = lib.loop_round(quiet.loop._c)
    quiet.loop._go_on(how)
    execs = quiet.observer.model.processes[100].execs
    assert execs is not None
    assert [one.time - mono for one in execs] == [1, 2, 3]


@pytest.mark.parametrize("pause", [0, 3_600_000])
def test_text_gathers_until_somebody_else_is_ready(quiet: Quiet, pause: float) -> None:
    quiet.pipeline.text.coalescer = Coalescer(pause)
    c = quiet.loop._c
    c.coalescer, c.epoll = quiet.pipeline.text.coalescer.c, quiet.pipeline.selector._own.fileno()
    c.end, c.hold = time.monotonic_ns() + 3600 * 1_000_000_000, 3600 * 1_000_000_000
    quiet.theirs.sendall(event(1004, quiet.now, 100))
    other = os.eventfd(0)
    quiet.pipeline.selector.register(other, selectors.EVENT_READ, lambda: None)
    came = threading.Timer(0.01 if pause else 3600, lambda: os.eventfd_write(other, 1))  # nobody where nothing waits
    came.start()
    assert lib.loop_rounds(c) == (lib.LOOP_OTHER if pause else lib.LOOP_DONE)
    assert c.answered == (0 if pause else 1)
    came.cancel()
    came.join()
    quiet.pipeline.selector.unregister(other)
    os.close(other)


def test_whoever_else_is_ready_is_not_overlooked(quiet: Quiet) -> None:
    other, called = os.eventfd(1), []
    quiet.pipeline.selector.register(other, selectors.EVENT_READ, lambda: called.append(1))
    for text_ in (b"", event(1004, quiet.now, 100)):
        if text_:
            quiet.theirs.sendall(text_)
        assert quiet.loop.ready()
        called.clear()
        quiet.pipeline.selector.poll_once(60, quiet.loop.wait)  # does not wait: somebody is ready
        assert called == [1]
    quiet.pipeline.selector.unregister(other)
    os.close(other)


# -- the gates: each part of the program that the C knows nothing of has the loop yield


class Broken(Kept):
    broken = True


class Waiting(Kept):
    def deadline(self) -> float:  # type: ignore[override]
        return time.monotonic() + 3600


class Followed:
    """A stream, an event writer, a journal: something that is there."""

    done = False

    def needs_python_loop(self) -> bool:
        return True


def put_sink(quiet: Quiet, sink: Kept) -> None:
    quiet.pipeline.replace(quiet.pipeline.text.correlator, quiet.pipeline.text.enricher, {RAW: [sink]})  # type: ignore[list-item]


GATES: dict[str, Callable[[Quiet], object]] = {
    "another source of kernel events": lambda q: setattr(q.observer, "connector", Followed()),
    "rings inside pid namespaces": lambda q: q.observer.insiders.update({7: Followed()}),
    "frames are shown to somebody": lambda q: setattr(q.observer, "tap", lambda frames: None),
    "somebody must know each moment": lambda q: q.observer.followed.append(lambda cut: None),
    "addresses of packets are asked for": lambda q: q.world.model.packets.want(1),
    "namespaces come from audit records": lambda q: setattr(q.observer, "ns_source", "audit"),
    "the model has something to say": lambda q: q.world.model.outputs.append(Loss("perf", 0, 1, 0, 0)),
    "the configuration is to be read again": lambda q: setattr(q.pipeline, "_hup", True),
    "the end": lambda q: q.pipeline._on_signal(signal.SIGTERM, None),
    "kernel events are shown": lambda q: setattr(q.pipeline.text, "events", Followed()),
    "streams": lambda q: setattr(q.pipeline.text, "streams", Followed()),
    "a sink whose reader has gone": lambda q: put_sink(q, Broken()),
    "a sink that waits": lambda q: put_sink(q, Waiting()),
    "a hole in the serials": lambda q: q.standalone.events.missing.append(SerialGap(1, 1, 1, 0, 0)),
    "the text has ended": lambda q: setattr(q.pipeline.text, "ended", True),
    "no perf": lambda q: setattr(q.observer, "perf", None),
    "no serial was seen": lambda q: setattr(q.observer.exec_rules, "_next", None),
    "so many events are wanted": lambda q: setattr(q.pipeline.text.enricher, "limit", 5),
    "the table may not apply frames": lambda q: setattr(q.world.model, "packs", False),
    "another serial comes next": lambda q: q.observer.exec_rules.passed(5000),
}


@pytest.mark.parametrize("name", GATES)
def test_the_loop_yields(quiet: Quiet, name: str) -> None:
    perf = quiet.observer.perf
    GATES[name](quiet)
    assert not quiet.loop.ready()
    # the stand-ins are nothing that can be closed
    quiet.observer.connector = None
    quiet.observer.perf = perf


def test_one_gate_for_all() -> None:
    """Each part that has a say is asked, and there is nobody else with one."""
    host = Quiet()
    host.pipeline.text.streams = host.pipeline.text.events = Followed()  # type: ignore[assignment]
    asked = {type(part).__name__ for part in host.loop._parts}
    host.close()
    root = Path(loop_module.__file__).parents[1]
    owners = {
        node.name
        for path in root.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ClassDef)
        and any(isinstance(one, ast.FunctionDef) and one.name == "needs_python_loop" for one in node.body)
    }
    assert owners - {"Part", "AnswerTaker", "Streams", "EventWriter"} == asked - {"Followed"}


def test_somebody_who_must_know_each_moment_is_called_before_each_answer(quiet: Quiet) -> None:
    answered: list[int] = []
    quiet.observer.followed.append(lambda cut: answered.append(quiet.pipeline.text.enricher.events))
    for serial in range(1004, 1008):
        quiet.come(b"", event(serial, quiet.now, 100))
    assert answered == [4, 5, 6, 7]


def test_calls_that_audit_names_are_looked_for_before_each_answer(
    quiet: Quiet, monkeypatch: pytest.MonkeyPatch
) -> None:
    quiet.observer.ns_source = "audit"
    looked: list[list[int]] = []
    take = quiet.observer.take_calls

    def take_calls(points: InsertionPoints, nodes: Collection[bytes]) -> None:
        looked.append(points.serial[: points.n].tolist())
        take(points, nodes)

    monkeypatch.setattr(quiet.observer, "take_calls", take_calls)
    for serial in range(1004, 1008):
        quiet.come(b"", event(serial, quiet.now, 100))
    assert looked == [[1004], [1005], [1006], [1007]]


@pytest.mark.parametrize("rtype", [b"DAEMON_START", b"DAEMON_END", b"UNKNOWN[1299]"])
def test_auditd_counts_its_own_events_by_itself(quiet: Quiet, rtype: bytes) -> None:
    """Its serial is no step in the kernel's: the C leaves such an event to the pipeline, however well it fits."""
    stamp = b"msg=audit(%d.%03d:1004): " % (quiet.now // 1000, quiet.now % 1000)
    quiet.theirs.sendall(b"type=%s %sop=x pid=100 res=success\n" % (rtype, stamp) + event(1005, quiet.now, 100))
    assert lib.loop_round(quiet.loop._c) == lib.LOOP_UNKNOWN
    assert quiet.loop._c.answered == 0
    quiet.loop._go_on(lib.LOOP_UNKNOWN)
    assert not quiet.loop.ready()  # the kernel's 1004 has not come
    for serial, ms in ((1004, quiet.now - 1), (1006, quiet.now)):
        quiet.theirs.sendall(event(serial, ms, 100))
        quiet.pipeline.text.read()
    assert quiet.loop.ready()
    quiet.theirs.sendall(event(1007, quiet.now, 100))
    assert lib.loop_round(quiet.loop._c) == lib.LOOP_DONE  # else it would be for another reason


def test_a_hole_in_the_serials_is_left_to_the_pipeline(quiet: Quiet) -> None:
    quiet.theirs.sendall(event(1005, quiet.now, 100))
    assert lib.loop_round(quiet.loop._c) == lib.LOOP_UNKNOWN


def test_a_hole_between_events_is_left_to_the_pipeline(quiet: Quiet) -> None:
    quiet.theirs.sendall(event(1004, quiet.now, 100) + event(1006, quiet.now, 100))
    assert lib.loop_round(quiet.loop._c) == lib.LOOP_UNKNOWN


@pytest.mark.parametrize("order", [(1005, 1004), (1004, 1006, 1005), (1004, 990, 1005)])
def test_an_order_that_does_not_begin_and_end_with_its_serials_is_left_to_the_pipeline(
    quiet: Quiet, order: tuple[int, ...]
) -> None:
    """What would be newest, and what comes next, is then not what the last event says."""
    quiet.theirs.sendall(b"".join(event(serial, quiet.now, 100) for serial in order))
    assert lib.loop_round(quiet.loop._c) == lib.LOOP_UNKNOWN


def test_events_of_several_processes_may_have_another_order_in_between(quiet: Quiet) -> None:
    quiet.theirs.sendall(b"".join(event(serial, quiet.now, 100) for serial in (1004, 1006, 1005, 1007)))
    assert lib.loop_round(quiet.loop._c) == lib.LOOP_DONE
    quiet.loop.settle()
    standalone = quiet.pipeline.text.standalone
    assert standalone is not None
    assert (standalone.events.next, standalone.events.missing, standalone.events.incomplete) == (1008, [], False)


def test_frames_that_the_table_does_not_take_are_applied_behind_those_that_it_took(quiet: Quiet) -> None:
    now, before = time.monotonic_ns(), quiet.observer.counters["frames_bytes"]
    born = f.pack(f.K_FORK, f.S_PERF, now, pid=3000, tid=3000, ppid=100, ptid=100, payload=quiet.world.ns())
    moved = f.pack(f.K_ATTACH, f.S_PERF, now + 1, tid=3000, cgroup=5, payload=b"/a\0")
    gone = f.pack(f.K_EXIT_SAMPLE, f.S_PERF, now + 2, pid=3000, tid=3000)
    gone += f.pack(f.K_EXIT, f.S_PERF, now + 2, pid=3000, tid=3000)
    quiet.rings.come(born + moved + gone)
    quiet.theirs.sendall(event(1004, quiet.now, 100))
    how = lib.loop_round(quiet.loop._c)
    assert how == lib.LOOP_UNKNOWN
    assert quiet.loop._c.applied == len(born)
    quiet.loop._go_on(how)
    assert quiet.observer.counters["frames_bytes"] - before == len(born + moved + gone)
    process = quiet.world.model.processes[3000]
    assert (process.start, process.end) == (now, now + 2)
    assert process.cgroups is not None
    assert process.cgroups.path(0) == "/a"
