"""Records of ours far behind the end of their event, others' lines between: the event is the container's they name."""

import contextlib
import json
import os
import re
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from auditns_connector.archive.reader import Archive, Wanted
from auditns_connector.attribution.attributor import Correlator
from auditns_connector.audittext.scanner import InsertionPoints, TextStream
from auditns_connector.pipeline import text_input
from auditns_connector.pipeline.filters import EventFilter, join_contids
from auditns_connector.pipeline.text_input import TextInput
from auditns_connector.pipeline.text_stage import JSON, NUMERIC, PRETTY, RAW, Enricher
from auditns_connector.query import windows
from auditns_connector.vocabulary.audit_text import AWAITS_HERE, PATIENT_LINES, PATIENT_MS
from tests.unit import archive_help
from tests.unit.queries import Ask, asked
from tests.unit.world import HEX, World

__all__ = ["asked"]
MS = 1_700_000_000_100
#: a whole one
CONTAINER_LINE = re.compile("type=CONTAINER_ID .*\n")
NAMES = ("CONTAINER_ID", "UNKNOWN[1340]")


def line(kind: str, serial: int, body: str = "", ms: int = MS, node: str = "") -> str:
    return f"{node}type={kind} msg=audit({ms // 1000}.{ms % 1000:03d}:{serial}): {body}\n"


def call(serial: int, pid: int, ms: int = MS, node: str = "") -> str:
    body = f'arch=c000003e syscall=59 success=yes exit=0 ppid=1 pid={pid} comm="sh" exe="/bin/sh" key="k"'
    return line("SYSCALL", serial, body, ms, node)


def title(serial: int, ms: int = MS, node: str = "") -> str:
    return line("PROCTITLE", serial, "proctitle=6C73", ms, node)


def ours(serial: int, contid: int, ms: int = MS, node: str = "", name: str = "CONTAINER_ID", record: int = 0) -> str:
    return line(name, serial, f"record={record} " * bool(record) + f"contid={contid}", ms, node)


def by_title(node: str, name: str, between: str) -> str:
    return call(1, 71, node=node) + title(1, node=node) + between + ours(1, 4, node=node, name=name)


def by_eoe(node: str, name: str, between: str) -> str:
    cwd = line("CWD", 1, 'cwd="/"', node=node)
    return call(1, 71, node=node) + cwd + line("EOE", 1, node=node) + between + ours(1, 4, node=node, name=name)


def by_title_and_eoe(node: str, name: str, between: str) -> str:
    end = title(1, node=node) + between + line("EOE", 1, node=node)
    return call(1, 71, node=node) + end + between.replace(":2)", ":5)") + ours(1, 4, node=node, name=name)


def by_message(node: str, name: str, between: str) -> str:
    return line("USER_CMD", 1, "pid=71 uid=0 msg='x'", node=node) + between + ours(1, 4, node=node, name=name)


def by_message_with_call(node: str, name: str, between: str) -> str:
    message = ours(9, 7, name=name) + line("USER_CMD", 1, "pid=71 uid=0 msg='x'", node=node)
    sent = call(1, 71, node=node) + title(1, node=node)
    return call(9, 79) + message + between + sent + between.replace(":2)", ":5)") + ours(1, 4, node=node, name=name)


def by_record(node: str, name: str, between: str) -> str:
    event = call(1, 71, node=node) + line("OBJ_PID", 1, "opid=72", node=node) + title(1, node=node)
    first = ours(1, 4, node=node, name=name, record=1)
    return event + between + first + between.replace(":2)", ":5)") + ours(1, 5, node=node, name=name, record=2)


def by_two(node: str, name: str, between: str) -> str:
    """Two containers', and one of the host's."""
    text = call(1, 71, node=node) + call(3, 73, node=node) + title(1, node=node) + between + title(3, node=node)
    return text + line("USER_CMD", 6, "pid=2 uid=0 msg='y'") + ours(1, 4, node=node, name=name) + ours(3, 6, node=node)


TEXTS = [by_title, by_eoe, by_title_and_eoe, by_message, by_message_with_call, by_record, by_two]
BETWEEN = call(2, 2) + title(2)


@pytest.fixture(params=[(make, node, name) for make in TEXTS for node in ("", "node=h9 ") for name in NAMES],
                ids=lambda one: f"{one[0].__name__}-{one[1].strip()}-{one[2]}")  # fmt: skip
def text(request: pytest.FixtureRequest) -> str:
    make, node, name = request.param
    made: str = make(node, name, BETWEEN)
    return made


class Watched:
    """Nothing is."""

    def filenos(self) -> list[int]:
        return []

    def drain(self) -> None:
        pass


class Enriched:
    """What ``enrich`` makes of a text, of which all processes but 2 are known to nobody."""

    def __init__(self, form: str, wanted: EventFilter | None = None) -> None:
        world = World()
        world.proc(2, 1, at=1)
        self.correlator = Correlator(world.model)
        self.enricher = Enricher(self.correlator, [form], wanted=wanted)
        self.stream = self.enricher.stream = TextStream(whole=self.enricher.whole, awaits=AWAITS_HERE)
        self.out = b""

    def take(self, points: InsertionPoints) -> bool:
        for block in self.enricher.take(points, lambda p: self.correlator.answer(p, 30_000_000_000)).values():
            self.out += block
        return True

    def read(self, *paths: Path) -> "Enriched":
        TextInput(self.stream, self.take, Watched()).run([str(path) for path in paths])
        return self

    def push(self, pieces: Sequence[str], *, file: bool = False) -> "Enriched":
        self.stream.hold(file)
        self.stream.await_ours(more=file)
        for piece in pieces:
            self.take(self.stream.push(piece.encode()))
        self.take(self.stream.flush(eof=True))
        return self

    @property
    def objects(self) -> list[dict[str, Any]]:
        return [json.loads(one) for one in self.out.splitlines()]


def check(events: Sequence[dict[str, Any]]) -> None:
    """Event 1 is of container 4, 3 of 6, the others are the host's; and each is there once."""
    assert sorted(event["serial"] for event in events) == sorted({event["serial"] for event in events})
    assert not any("late" in event for event in events)
    found = {event["serial"]: event["contid"] for event in events}
    held = {1: "4", 3: "6", 9: "7"}
    assert found == {serial: held.get(serial) for serial in found}
    assert 1 in found
    for target in (target for event in events for target in event.get("targets", [])):
        assert target["contid"] == "5"


@contextlib.contextmanager
def fifo(tmp_path: Path, text: str) -> Iterator[Path]:
    path = tmp_path / "fifo"
    os.mkfifo(path)
    writer = threading.Thread(target=lambda: path.write_text(text))
    writer.start()
    yield path
    writer.join()


def test_enrich_of_a_file(tmp_path: Path, text: str) -> None:
    path = tmp_path / "log"
    path.write_text(text)
    check(Enriched(JSON).read(path).objects)
    assert Enriched(RAW).read(path).out.decode() == text
    shown = Enriched(PRETTY).read(path).out.decode().splitlines()
    assert any(one.split()[0] == "4" for one in shown)
    wanted = EventFilter(contids=join_contids(["4"]))
    mine = "".join(one for one in text.splitlines(keepends=True) if ":1)" in one)
    assert Enriched(RAW, wanted).read(path).out.decode() == mine


def test_enrich_of_a_pipe(tmp_path: Path, text: str) -> None:
    with fifo(tmp_path, text) as path:
        assert Enriched(RAW).read(path).out.decode() == text


def test_enrich_of_a_pipe_in_json(tmp_path: Path, text: str) -> None:
    with fifo(tmp_path, text) as path:
        check(Enriched(JSON).read(path).objects)


@pytest.mark.parametrize("make", TEXTS)
@pytest.mark.parametrize("form", [JSON, RAW])
def test_a_file_cut_at_every_byte(make: Callable[[str, str, str], str], form: str) -> None:
    text = make("", "CONTAINER_ID", BETWEEN)
    whole = Enriched(form).push([text], file=True).out
    for at in range(1, len(text)):
        assert Enriched(form).push([text[:at], text[at:]], file=True).out == whole
    assert Enriched(form).push(list(text), file=True).out == whole


def cuts(text: str) -> Iterator[list[str]]:
    """The text in two pieces, cut around the end of each line and within it, and in one of each byte and line."""
    ends = [at + 1 for at, one in enumerate(text) if one == "\n"]
    for at in sorted({end + by for end in ends for by in (-20, -1, 0, 1)} - {len(text), len(text) + 1}):
        yield [text[:at], text[at:]]
    yield from (list(text), text.splitlines(keepends=True))


def by_target(node: str, name: str, between: str) -> str:
    """All of ours behind the end, as for tools that want them there."""
    event = call(1, 71, node=node) + line("OBJ_PID", 1, "opid=72", node=node) + title(1, node=node)
    mine = ours(1, 4, node=node, name=name) + ours(1, 5, node=node, name=name, record=2)
    return event + line("EOE", 1, node=node) + between + mine


FIRST = call(20, 80) + ours(20, 7) + title(20)


PIPED = [(make, first, between) for make in [*TEXTS, by_target] for first, between in
         (("", ""), (FIRST, ""), (FIRST, BETWEEN)) if first or make is not by_two]  # fmt: skip


@pytest.mark.parametrize("make", TEXTS)
def test_the_very_first_of_ours_in_a_read_of_its_own_behind_those_of_others(
    make: Callable[[str, str, str], str],
) -> None:
    """Whole events wait for it. Text that is passed on as it comes does not: where others' lines are behind the event
    in one read, and it comes in the next, a second record says ``?``. That is no answer: a reader has the first's.
    """
    text = make("", "CONTAINER_ID", BETWEEN)
    whole = Enriched(JSON).push([text]).out
    seconds = 0
    for pieces in cuts(text):
        assert Enriched(JSON).push(pieces).out == whole
        raw = Enriched(RAW).push(pieces).out.decode()
        lines = raw.splitlines(keepends=True)
        assert "".join(one for one in lines if "contid=?" not in one) == text
        seconds += raw != text
        assert raw == text or not CONTAINER_LINE.search(pieces[0])
        events = Enriched(JSON).push([raw], file=True).objects
        assert {(event["serial"], event["contid"]) for event in events} == {
            (event["serial"], event["contid"]) for event in map(json.loads, whole.splitlines())
        }
    assert seconds or make is by_message_with_call


@pytest.mark.parametrize(("make", "first", "between"), PIPED)
@pytest.mark.parametrize("form", [JSON, RAW])
def test_a_pipe_cut_at_every_line(make: Callable[[str, str, str], str], form: str, first: str, between: str) -> None:
    """Right behind the end of their event, or where some have come before, behind records of others."""
    text = first + make("", "CONTAINER_ID", between)
    whole = Enriched(form).push([text]).out
    assert form != RAW or whole.decode() == text
    for pieces in cuts(text):
        assert Enriched(form).push(pieces).out == whole


@pytest.mark.parametrize("first", ["", FIRST])
@pytest.mark.parametrize(
    "end", [title, lambda serial: line("EOE", serial), lambda serial: title(serial) + line("EOE", serial)]
)
def test_ours_have_their_place_wherever_a_pipe_is_cut(first: str, end: Callable[[int], str]) -> None:
    text = first + call(1, 71) + line("CWD", 1, 'cwd="/"') + end(1) + call(2, 2) + end(2) + call(3, 73) + end(3)
    whole = Enriched(RAW).push([text], file=True).out
    for serial in (1, 3):
        assert (ours(serial, 0).replace("contid=0", "contid=?") + end(serial)).encode() in whole
    for pieces in cuts(text):
        assert Enriched(RAW).push(pieces).out == whole


def test_of_a_pipe_the_end_of_an_event_alone_is_held_back() -> None:
    run, cwd = Enriched(RAW), line("CWD", 1, 'cwd="/"')
    for one in (call(1, 71), cwd):
        run.take(run.stream.push(one.encode()))
        assert run.out.decode().endswith(one)
    for one in (title(1), line("EOE", 1)):
        run.take(run.stream.push(one.encode()))
        assert run.out.decode() == call(1, 71) + cwd
    run.take(run.stream.push(call(2, 2).encode()))
    assert run.out.decode().startswith(call(1, 71) + cwd)
    assert run.out.decode().endswith(title(1) + line("EOE", 1) + call(2, 2))


@pytest.mark.parametrize("between", ["", BETWEEN])
@pytest.mark.parametrize("make", [*TEXTS, by_target])
def test_what_a_pipe_holds_back_goes_when_it_is_silent(make: Callable[[str, str, str], str], between: str) -> None:
    text = make("", "CONTAINER_ID", between)
    for piece, _ in list(cuts(text))[:-2]:
        run, taken = Enriched(RAW), piece[: piece.rfind("\n") + 1]
        run.stream.at(1)
        run.take(run.stream.push(piece.encode()))
        run.take(run.stream.idle(1))
        shown = run.out.decode().splitlines(keepends=True)
        assert "".join(one for one in shown if "contid=?" not in one) == taken
        assert run.stream.oldest is None


def test_plain_text_of_a_pipe_waits_for_no_more_than_the_next_record() -> None:
    run = Enriched(RAW)
    run.take(run.stream.push((call(1, 71) + title(1) + call(2, 2)).encode()))
    assert "contid=?" in run.out.decode()


def test_once_a_pipe_has_shown_some_points_wait_and_what_stands_behind_them() -> None:
    run = Enriched(RAW)
    run.take(run.stream.push(FIRST.encode()))
    second = call(3, 73) + title(3) + call(4, 2)
    run.take(run.stream.push(second.encode()))
    assert run.out.decode() == FIRST + call(3, 73)
    third = ours(3, 6) + title(4)
    run.take(run.stream.push(third.encode()))
    run.take(run.stream.flush(eof=True))
    assert run.out.decode() == FIRST + second + third


def test_a_pipe_that_brings_them_in_a_read_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_input, "HOLD", 1 << 60)  # the silence between the two does not count
    text = by_eoe("", "CONTAINER_ID", "")
    head, seen, run = text[: text.rindex("type=")], threading.Event(), Enriched(RAW)

    def take(points: InsertionPoints) -> bool:
        run.take(points)
        if run.out:
            seen.set()
        return True

    def write() -> None:
        with path.open("w") as file:
            file.write(head)
            file.flush()
            assert seen.wait(60)
            file.write(text[len(head) :])

    path = tmp_path / "fifo"
    os.mkfifo(path)
    writer = threading.Thread(target=write)
    writer.start()
    TextInput(run.stream, take, Watched()).run([str(path)])
    writer.join()
    assert run.out.decode() == text


@pytest.mark.parametrize("form", [JSON, RAW])
@pytest.mark.parametrize(
    ("lines", "ms", "there"),
    [(PATIENT_LINES - 2, 0, True), (PATIENT_LINES, 0, False), (1, PATIENT_MS - 1, True), (1, PATIENT_MS, False)],
)
def test_they_are_waited_for_so_long_and_no_longer(form: str, lines: int, ms: int, there: bool) -> None:
    others = "".join(line("EOE", serial, ms=MS + ms) for serial in range(10, 10 + lines))
    text = call(1, 71) + title(1) + others + ours(1, 4)
    run = Enriched(form).push([text], file=True)
    if form == RAW:
        assert (run.out.decode() == text) is there
    else:
        assert (next(event for event in run.objects if event["serial"] == 1)["contid"] == "4") is there


def test_the_same_text_once_more_is_late_and_no_part_of_the_first() -> None:
    text = by_title("", "CONTAINER_ID", BETWEEN) + line("USER_CMD", 9, "pid=2 uid=0 msg='z'")
    first = [event for event in Enriched(JSON).push([text * 2], file=True).objects if event["serial"] == 1]
    assert [("late" in event, event["contid"]) for event in first[:2]] == [(False, "4"), (True, "?")]
    assert [sum(one["type"] == "SYSCALL" for one in event["records"]) for event in first[:2]] == [1, 1]


def test_search(tmp_path: Path, text: str, asked: Ask) -> None:
    path = tmp_path / "log"
    path.write_text(text)
    check([json.loads(one) for one in asked("search", "--format=json", files=(path,)).splitlines()])
    mine = "".join(one for one in text.splitlines(keepends=True) if ":1)" in one)
    for words in (["--contid=4"], ["--contid=4", "--reverse"], ["--contid=4", "--type=SYSCALL,USER_CMD"],
                  ["--pid=71"], ["--contid=4", "--pid=71"]):  # fmt: skip
        assert asked("search", *words, files=(path,)) == mine
    unset = asked("search", "--contid=unset", files=(path,))
    assert ":1)" not in unset
    assert ":3)" not in unset
    assert unset


def test_containers_show_and_report(tmp_path: Path, text: str, asked: Ask) -> None:
    path = tmp_path / "log"
    path.write_text(text)
    for row in map(json.loads, asked("containers", "--json", files=(path,)).splitlines()):
        if row["contid"] in ("4", "6"):
            assert row["events"] == 1
    life = json.loads(asked("show", "--json", "4", files=(path,)))
    assert "71" in json.dumps(life) or "USER_CMD" in text
    assert '"6"' in asked("report", "--json", files=(path,)) or ":3)" not in text


def test_diff(tmp_path: Path, asked: Ask) -> None:
    path = tmp_path / "log"
    run = line("EXECVE", 1, 'argc=1 a0="only-here"')
    text = call(1, 71) + run + title(1) + BETWEEN + ours(1, 4) + call(7, 77) + ours(7, 6) + title(7)
    path.write_text(text)
    assert "only-here" in asked("show", "4", files=(path,))
    shown = asked("diff", "--all", "4", "6", files=(path,))
    path.write_text(call(1, 71) + run + ours(1, 4) + title(1) + BETWEEN + call(7, 77) + ours(7, 6) + title(7))
    assert asked("diff", "--all", "4", "6", files=(path,)) == shown


def test_an_archive(tmp_path: Path, text: str, asked: Ask) -> None:
    pytest.importorskip("zstandard", reason="the extra archive has it")
    path, archive = tmp_path / "log", tmp_path / "archive"
    path.write_text(text)
    archive_help.seal(archive, [path])
    path.write_text("")
    of = f"--archive={archive}"
    check([json.loads(one) for one in asked("search", "--format=json", of, files=(path,)).splitlines()])
    mine = "".join(one for one in text.splitlines(keepends=True) if ":1)" in one)
    for words in (["--contid=4"], ["--contid=4", "--reverse"], ["--contid=4", "--pid=71"], ["--pid=71"]):
        assert asked("search", *words, of, files=(path,)) == mine
    rows = [json.loads(one) for one in asked("containers", "--json", of, files=(path,)).splitlines()]
    assert {row["contid"]: row["events"] for row in rows}["4"] == 1


@pytest.mark.parametrize("at", [0, 1, 2, 3, 4])
def test_an_archive_whose_last_file_ends_before_them(at: int, tmp_path: Path) -> None:
    pytest.importorskip("zstandard", reason="the extra archive has it")
    lines = by_title("", "CONTAINER_ID", BETWEEN).splitlines(keepends=True)
    first, second, archive = tmp_path / "log.1", tmp_path / "log", tmp_path / "archive"
    first.write_text("".join(lines[:at]))
    second.write_text("".join(lines[at:]))
    archive_help.seal(archive, [first], ahead=second)
    archive_help.seal(archive, [second])
    with Archive(str(archive)) as opened:
        refs = [ref for some in opened.candidates(Wanted()) for ref in some]
        text = "".join(block.text.decode() for block in map(opened.read_block, refs) if block)
    assert sorted(text.splitlines()) == sorted("".join(lines).splitlines())


@pytest.mark.parametrize("size", range(600, 1500, 30))
def test_search_over_the_borders_of_windows(size: int, asked: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(windows, "SIZE", size)
    monkeypatch.setattr(windows, "SIZE_BACK", size)
    text = "".join(
        call(n, 71, MS + n)
        + title(n, MS + n)
        + call(n + 1, 2, MS + n)
        + ours(n, 4 + n % 3, MS + n)
        + title(n + 1, MS + n)
        for n in range(10, 50, 2)
    )
    asked.path.write_text(text)
    for contid in ("4", "5", "6"):
        mine = {n for n in range(10, 50, 2) if str(4 + n % 3) == contid}
        assert set(asked.serials(f"--contid={contid}")) == mine
        assert set(asked.serials(f"--contid={contid}", "--reverse")) == mine
        assert set(asked.serials(f"--contid={contid}", "--pid=71")) == mine
    assert set(asked.serials("--contid=unset")) == set(range(11, 51, 2))
    assert set(asked.serials("--contid=unset", "--reverse")) == set(range(11, 51, 2))


def raw_of_pipe(pieces: Sequence[bytes], *, silent: bool, numeric: bool, at_end: bool) -> bytes:
    """Raw text of a pipe that brings ``pieces``, with a silence behind each or without."""
    world = World()
    world.proc(71, 1, at=1, cg="/docker/" + HEX)
    correlator = Correlator(world.model, spellings=[numeric])
    enricher = Enricher(correlator, [NUMERIC if numeric else RAW], at_end=at_end)
    stream = enricher.stream = TextStream(at_end=at_end, awaits=AWAITS_HERE)
    stream.await_ours(more=False)
    out: list[bytes] = []

    def take(points: InsertionPoints) -> None:
        blocks = enricher.take(points, lambda p: correlator.answer(p, 30_000_000_000))
        out.extend(bytes(block) for block in blocks.values())

    for number, piece in enumerate(pieces, 1):
        stream.at(number)
        take(stream.push(piece))
        if silent:
            take(stream.idle(number))
    take(stream.flush(eof=True))
    return b"".join(out)


def ours_by_event(text: bytes) -> Counter[bytes]:
    return Counter(re.findall(rb"(?:CONTAINER_ID|UNKNOWN\[1340\]) msg=audit\([^:]*:(\d+)\)", text))


@pytest.mark.parametrize(("numeric", "at_end"), [(True, False), (False, False), (False, True)])
def test_a_pipe_has_one_of_ours_for_each_process_wherever_it_is_cut(numeric: bool, at_end: bool) -> None:
    """Each kind of event by its place: plain text in two pieces, with a silence between them or without, and what we
    have written read back (where a silence within an event ends the waiting for ours)."""
    plain = "".join((
        call(1, 71), line("CWD", 1, 'cwd="/"'), line("PATH", 1, "item=0"), title(1),
        line("USER_CMD", 2, "pid=71 uid=0 msg='x'"),
        line("LOGIN", 3, "pid=71 uid=0 res=1"), call(3, 71), title(3),
        line("AVC", 4, 'pid=72 comm="x"'),
        call(5, 71), line("OBJ_PID", 5, 'opid=72 ocomm="x"'), title(5),
        call(6, 72), line("CWD", 6, 'cwd="/"'),
        call(8, 71), title(8),
    )).encode()  # fmt: skip
    enriched = raw_of_pipe([plain], silent=False, numeric=numeric, at_end=at_end)
    whole = ours_by_event(enriched)
    assert whole == {b"1": 1, b"2": 1, b"3": 1, b"4": 1, b"5": 2, b"6": 1, b"8": 1}
    for text, silent in ((plain, False), (plain, True), (enriched, False)):
        for cut in range(0, len(text) + 1, 5):
            out = raw_of_pipe([text[:cut], text[cut:]], silent=silent, numeric=numeric, at_end=at_end)
            assert ours_by_event(out) == whole, (cut, silent)
