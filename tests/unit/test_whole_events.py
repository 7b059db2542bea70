"""Events handed out whole: each when it has ended, whatever stands between its lines, up to a limit that is told."""

import json
from array import array
from collections.abc import Sequence
from typing import Any

import pytest

from auditns_connector.attribution.attributor import Correlator
from auditns_connector.audittext.insertion import assemble
from auditns_connector.audittext.scanner import InsertionPoints, TextStream
from auditns_connector.pipeline.filters import EventFilter
from auditns_connector.pipeline.text_stage import JSON, NUMERIC, PRETTY, RAW, Enricher
from auditns_connector.vocabulary import audit_text as pt
from tests.unit.world import World

MS = 1_700_000_000_100


def line(kind: str, serial: int, body: str = "", ms: int = MS) -> bytes:
    return f"type={kind} msg=audit({ms // 1000}.{ms % 1000:03d}:{serial}): {body}\n".encode()


def syscall(serial: int, pid: int, ms: int = MS) -> bytes:
    return line("SYSCALL", serial, f'arch=c000003e syscall=1 success=yes exit=0 ppid=1 pid={pid} key="k"', ms)


def end(serial: int, ms: int = MS) -> bytes:
    return line("EOE", serial, ms=ms)


class Run:
    """A pipeline's text side over the made-up world of tests/unit/world.py."""

    def __init__(self, formats: Sequence[str], wanted: EventFilter | None = None, *, limit: int = 1 << 24,
                 most: int = 4096, count: int | None = None,
                 logs: dict[str, bytearray] | None = None) -> None:  # fmt: skip
        world = World()
        world.proc(2, 1, at=1)
        world.proc(7, 1, at=1)
        self.correlator = Correlator(world.model, spellings=[name == NUMERIC for name in formats] or [False])
        self.enricher = Enricher(self.correlator, formats, wanted=wanted, limit=count, logs=logs)
        self.stream = self.enricher.stream = TextStream(whole=True, limit=limit, most=most)
        self.out = dict.fromkeys([*formats, *(logs or {})], b"")

    def take(self, points: InsertionPoints) -> None:
        for name, block in self.enricher.take(points, lambda p: self.correlator.answer(p, 30_000_000_000)).items():
            self.out[name] += block

    def push(self, text: bytes) -> "Run":
        self.take(self.stream.push(text))
        return self

    def flush(self, eof: bool = False) -> "Run":
        self.take(self.stream.flush(eof))
        return self

    @property
    def events(self) -> list[dict[str, object]]:
        return [json.loads(one) for one in self.out[JSON].splitlines()]


def kinds(event: dict[str, object]) -> list[str]:
    records = event["records"]
    assert isinstance(records, list)
    return [record["type"] for record in records]


def divided(serial: int, ms: int = MS) -> bytes:
    """What says that a filter has decided about an event before all of it had come."""
    stamp = f"{ms // 1000}.{ms % 1000:03d}:{serial}"
    return line("CONTAINER_LOST", serial + (3 << 30), f"source=filter cpu=? count=1 from={stamp} to={stamp}", ms)


def test_complete_events_do_not_wait_for_one_that_is_open() -> None:
    run = Run([JSON]).push(syscall(1, 7) + syscall(2, 2) + end(2) + syscall(3, 2) + end(3))
    assert [event["serial"] for event in run.events] == [2, 3]
    run.push(line("CWD", 1, 'cwd="/"') + end(1))
    assert [event["serial"] for event in run.events] == [2, 3, 1]
    assert kinds(run.events[2]) == ["SYSCALL", "CWD"]


def test_three_hundred_events_that_interleave_are_whole_each() -> None:
    order = range(1, 301)
    lines = [
        [syscall(i, 7), line("CWD", i, f'cwd="/{i}"'), line("PATH", i, f'item=0 name="{i}"'), end(i)] for i in order
    ]
    text = b"".join(event[part] for part in range(4) for event in lines)
    run = Run([JSON, RAW]).push(text).flush(True)
    assert [event["serial"] for event in run.events] == list(order)
    assert {tuple(kinds(event)) for event in run.events} == {("SYSCALL", "CWD", "PATH")}
    assert run.out[RAW] == b"".join(b"".join(event) for event in lines)
    assert (run.enricher.events, run.enricher.shown) == (300, 300)


@pytest.mark.parametrize("cut", [1, 7, 1000, 1 << 20])
def test_two_events_of_one_serial_in_different_seconds_are_two(cut: int) -> None:
    text = syscall(5, 7) + line("CWD", 5, "cwd=1", MS + 1000) + end(5) + syscall(5, 2, MS + 1000) + end(5, MS + 1000)
    run = Run([JSON])
    for at in range(0, len(text), cut):
        run.push(text[at : at + cut])
    assert [(event["time"], kinds(event)) for event in run.events] == [
        ("1700000000.100", ["SYSCALL"]),
        ("1700000001.100", ["CWD", "SYSCALL"]),
    ]


def test_events_of_two_hosts_are_two() -> None:
    text = b"node=a " + syscall(1, 7) + b"node=b " + syscall(1, 7) + b"node=a " + end(1) + b"node=b " + end(1)
    assert [event["node"] for event in Run([JSON]).push(text).events] == ["a", "b"]


def test_records_before_their_syscall_are_of_its_event() -> None:
    text = line("AVC", 1, "pid=7") + line("PATH", 1, "item=0") + syscall(1, 7) + line("PROCTITLE", 1, "proctitle=6C")
    run = Run([JSON, RAW]).push(text + end(1))
    assert kinds(run.events[0]) == ["AVC", "PATH", "SYSCALL", "PROCTITLE"]
    assert run.enricher.events == 1


@pytest.mark.parametrize("wanted", [EventFilter(types=["SYSCALL"]), EventFilter(pids=[7]), EventFilter(keys=["k"])])
def test_a_filter_passes_an_event_of_any_size_whole(wanted: EventFilter) -> None:
    text = syscall(1, 7) + b"".join(line("EXECVE", 1, " ".join(f"a{n}=x" for n in range(500))) for _ in range(1000))
    text += line("PROCTITLE", 1, "proctitle=6C") + end(1)
    other = syscall(2, 2).replace(b"SYSCALL", b"AVC").replace(b'"k"', b'"j"') + end(2)
    run = Run([RAW], wanted)
    for at in range(0, len(text), 100_000):
        run.push(text[at : at + 100_000] if at else other + text[:100_000])
    assert run.out[RAW] == text
    assert (run.enricher.events, run.enricher.shown) == (2, 1)


def test_an_event_beyond_the_limit_is_cut_and_says_so_and_nothing_of_it_is_lost() -> None:
    parts = [line("PATH", 1, f'item={n % 10} name="xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"') for n in range(100)]
    run = Run([JSON], limit=1000).push(syscall(1, 7) + b"".join(parts) + end(1)).flush()
    first, *others = run.events
    assert first["truncated"] == {"records": len(kinds(first)), "bytes": len(syscall(1, 7) + b"".join(parts[:11]))}
    assert others
    assert all(event["late"] and event["serial"] == 1 for event in others)
    assert sum(len(kinds(event)) for event in run.events) == 101
    assert run.enricher.events == 1
    assert run.stream.cut == 1


def test_an_event_beyond_the_limit_is_counted_whatever_a_filter_lets_through() -> None:
    """A filter looks at its parts one by one; nothing said so, neither in the output nor beside it."""
    text = syscall(1, 7) + line("CWD", 1, "cwd=" + "x" * 300) * 20 + line("PROCTITLE", 1, "proctitle=00") + end(1)
    run = Run([RAW], EventFilter(types=["PROCTITLE"]), limit=1000).push(text + syscall(2, 7) + end(2)).flush()
    assert run.out[RAW].startswith(divided(1))
    assert run.out[RAW][len(divided(1)) :] in text
    assert (run.stream.cut, run.enricher.divided) == (1, 1)
    whole = Run([RAW], EventFilter(types=["PROCTITLE"])).push(text).flush()
    assert (whole.out[RAW], whole.stream.cut) == (text, 0)


def test_a_filter_cuts_nothing_of_an_event_beyond_the_limit() -> None:
    text = syscall(1, 7) + line("CWD", 1, "cwd=" + "x" * 300) * 20 + end(1)
    for wanted, out in ((EventFilter(types=["SYSCALL"]), text), (EventFilter(types=["CWD"]), text),
                        (EventFilter(types=["PATH"]), divided(1)), (EventFilter(pids=[2]), divided(1))):  # fmt: skip
        run = Run([RAW], wanted, limit=1000)
        for at in range(0, len(text), 400):
            run.push(text[at : at + 400])
        assert run.flush().out[RAW] == out


def test_more_open_events_than_the_limit_cut_the_oldest() -> None:
    run = Run([JSON], most=3).push(b"".join(syscall(n, 7) for n in range(1, 6)))
    assert [(event["serial"], "truncated" in event) for event in run.events] == [(1, True), (2, True)]
    run.push(end(1) + line("CWD", 1, "cwd=1")).flush()
    late = next(event for event in run.events if "late" in event)
    assert (late["serial"], kinds(late)) == (1, ["CWD"])


def test_late_records_go_where_their_event_went() -> None:
    wanted = EventFilter(types=["SYSCALL"])
    run = Run([RAW], wanted).push(syscall(1, 7) + end(1) + line("AVC", 2, "pid=7") + end(2)).flush()
    assert run.out[RAW] == syscall(1, 7) + end(1)
    run.push(line("PROCTITLE", 1, "proctitle=00") + line("SYSCALL", 2, "pid=7") + line("CWD", 3, "cwd=1")).flush()
    assert run.out[RAW] == syscall(1, 7) + end(1) + line("PROCTITLE", 1, "proctitle=00")


def test_late_records_do_not_count_and_have_no_container_put_in() -> None:
    run = Run([JSON], count=3).push(syscall(1, 4711) + end(1) + line("CWD", 1, "cwd=1") + end(1)).flush()
    assert [event["contid"] for event in run.events] == ["?", "?"]
    assert (run.enricher.events, run.enricher.shown) == (1, 1)
    stream = TextStream(whole=True)
    stream.push(syscall(1, 7) + end(1))
    points = stream.push(line("CWD", 1, "x") + end(1))
    assert points.flags[0] & (pt.P_LATE | pt.P_SUBJECT) == pt.P_LATE | pt.P_SUBJECT
    assert (points.pid[0], points.origin[0]) == (7, 0)
    assert assemble(points, array("I", [1]), [b"ours\n"]) == line("CWD", 1, "x") + end(1)


def test_an_idle_event_is_decided_and_those_that_go_on_are_not() -> None:
    stream = TextStream(whole=True)
    stream.at(100)
    stream.push(syscall(1, 7) + syscall(2, 7))
    stream.at(130)
    stream.push(line("CWD", 2, "cwd=1"))
    assert stream.oldest == 100
    points = stream.idle(120)
    assert points.serial[: points.n].tolist() == [1]
    assert stream.oldest == 130
    assert stream.idle(129).n == 0
    points = stream.push(end(2))
    assert (points.serial[0], points.line_n, stream.oldest) == (2, 3, None)


def test_idle_events_are_decided_where_the_text_keeps_its_order() -> None:
    stream = TextStream()
    stream.hold(True)
    stream.at(100)
    stream.push(syscall(1, 7))
    stream.at(130)
    assert stream.push(syscall(2, 7) + end(2)).n == 0
    points = stream.idle(100)
    assert points.serial[: points.n].tolist() == [1, 2]


def test_one_place_for_one_process_though_its_event_was_decided_before_its_syscall_came() -> None:
    stream = TextStream()
    login = line("LOGIN", 1, "pid=7 uid=0 res=1")
    assert stream.push(login).n == 0
    assert stream.flush().n == 1
    points = stream.push(syscall(1, 7) + line("PROCTITLE", 1, "proctitle=00"))
    assert (points.n, points.consumed) == (0, len(syscall(1, 7) + line("PROCTITLE", 1, "proctitle=00")))
    points = stream.push(syscall(1, 8) + end(1))
    assert points.pid[: points.n].tolist() == [8]


def test_whole_events_can_be_asked_for_in_the_middle_of_the_text() -> None:
    stream = TextStream()
    stream.push(syscall(1, 7) + end(1) + syscall(2, 7) + b"type=CW")
    stream.want_whole()
    points = stream.push(b"D msg=audit(1700000000.100:2): cwd=1\n" + end(2))
    assert (points.n, points.line_n, stream.lines) == (1, 3, 5)


def test_a_last_line_without_a_newline_is_a_record() -> None:
    text = line("USER_LOGIN", 1, "pid=7 msg='x'")[:-1]
    for whole in (False, True):
        stream = TextStream(whole=whole)
        assert stream.push(text).n == 0
        points = stream.flush(eof=True)
        assert points.pid[0] == 7
        assert assemble(points, [1], [b"\1ours \0\n"]) == text + b"\nours msg=audit(1700000000.100:1):"


def login(serial: int, pid: int, ms: int = MS) -> bytes:
    return line("LOGIN", serial, f"pid={pid} uid=0 old-auid=4294967295 auid=1000 old-ses=4294967295 ses=9 res=1", ms)


def message(serial: int, pid: int, ms: int = MS) -> bytes:
    return line("USER_LOGIN", serial, f"pid={pid} uid=0 auid=1000 ses=4 msg='op=login res=success'", ms)


@pytest.mark.parametrize("first", [login, message, lambda n, pid: line("SECCOMP", n, f"pid={pid} sig=31")])
def test_a_record_that_mostly_stands_alone_is_of_its_syscalls_event_whatever_stands_between(first: Any) -> None:
    text = first(1, 7) + syscall(2, 2).replace(b'"k"', b'"j"') + syscall(1, 7) + line("PROCTITLE", 2, "proctitle=6C")
    text += line("PROCTITLE", 1, "proctitle=6C") + end(2) + end(1)
    whole = Run([JSON]).push(text).flush(eof=True)
    assert [event["serial"] for event in whole.events] == [2, 1]
    assert kinds(whole.events[1])[1:] == ["SYSCALL", "PROCTITLE"]
    for wanted in (EventFilter(types=["SYSCALL"], pids=[7]), EventFilter(keys=["k"]), EventFilter(types=["PROCTITLE"])):
        run = Run([RAW], wanted).push(text).flush(eof=True)
        assert [one for one in run.out[RAW].splitlines() if b":1)" in one] == [
            one for one in text.splitlines() if b":1)" in one
        ]


def test_three_hundred_logins_that_interleave_are_whole_each() -> None:
    text = b"".join(login(n, 7, MS + n) for n in range(300)) + b"".join(syscall(n, 7, MS + n) for n in range(300))
    text += b"".join(end(n, MS + n) for n in range(300))
    run = Run([JSON]).push(text)
    assert [(event["serial"], kinds(event)) for event in run.events] == [(n, ["LOGIN", "SYSCALL"]) for n in range(300)]


@pytest.mark.parametrize(("more", "ms"), [(pt.PATIENT_LINES, 0), (1, pt.PATIENT_MS)])
def test_a_record_that_stands_alone_is_waited_for_so_long_and_no_longer(more: int, ms: int) -> None:
    run = Run([JSON]).push(message(1, 7) + b"".join(end(n, MS + ms - bool(ms)) for n in range(2, more + 1)))
    assert 1 not in [event["serial"] for event in run.events]
    run.push(end(9999, MS + ms))
    assert 1 in [event["serial"] for event in run.events]


def test_records_that_stand_alone_do_not_fill_the_table_of_open_events() -> None:
    run = Run([JSON]).push(b"".join(message(n, 7) for n in range(10_000))).flush(eof=True)
    assert [event["serial"] for event in run.events] == list(range(10_000))
    assert not any("truncated" in event for event in run.events)


@pytest.mark.parametrize("whole", [True, False])
def test_who_an_event_is_about_may_stand_in_a_later_record(whole: bool) -> None:
    stream = TextStream(whole=whole)
    text = line("MAC_TASK_CONTEXTS", 1, "subj_apparmor=unconfined") + message(1, 7) + line("PATH", 1, "item=0 pid=8")
    points = stream.push(text)
    points = points if points.n else stream.flush(eof=True)
    assert (points.n, points.pid[0], points.recno[0]) == (1, 7, 1)


def test_a_target_alone_says_nothing_of_who_has_struck_it() -> None:
    text = line("OBJ_PID", 1, 'opid=7 ocomm="x"')
    run = Run([RAW, JSON]).push(text).flush(eof=True)
    assert run.out[RAW] == line("CONTAINER_ID", 1, "contid=?") + text or run.out[RAW] == text + line(
        "CONTAINER_ID", 1, "contid=?"
    )
    (event,) = run.events
    (target,) = event["targets"]  # type: ignore[misc]
    assert (event["contid"], target["record"], target["contid"]) == ("?", 1, None)


@pytest.mark.parametrize("wanted", [EventFilter(types=["SYSCALL"]), EventFilter(keys=["k"]), EventFilter(pids=[71])])
def test_a_syscall_that_comes_behind_a_silence_is_shown_though_its_login_was_not_wanted(wanted: EventFilter) -> None:
    run, path = Run([RAW], wanted), line("PATH", 1, "item=0")
    for text in (login(1, 71), syscall(1, 71), path, syscall(2, 71) + end(2)):
        run.push(text).take(run.stream.idle(1 << 60))
    shown = run.out[RAW].split(b"\n")
    assert syscall(1, 71)[:-1] in shown
    assert path[:-1] in shown
    assert sum(b":1): contid=" in one for one in shown) == 1
    assert run.enricher.shown == 2


def test_what_was_not_wanted_with_its_syscall_is_not_wanted_later() -> None:
    run = Run([RAW], EventFilter(types=["PATH"]))
    for text in (syscall(1, 71), line("PATH", 1, "item=0"), end(1)):
        run.push(text).take(run.stream.idle(1 << 60))
    assert run.out[RAW] == divided(1)


def test_what_is_wanted_of_an_event_that_is_too_large_is_shown_with_its_container() -> None:
    run = Run([RAW], EventFilter(types=["PATH"]), limit=2000)
    paths = b"".join(line("PATH", 1, f"item={n} " + "x" * 100) for n in range(40))
    run.push(syscall(1, 71) + line("EXECVE", 1, "a0=" + "x" * 2500) + paths + end(1)).flush(eof=True)
    assert run.out[RAW].startswith(divided(1))
    assert run.out[RAW].count(b"type=PATH") == 40
    assert run.out[RAW].count(b"contid=") == 1


@pytest.mark.parametrize("many", [4_500, 9_000])
def test_more_open_events_than_there_is_room_for_have_one_record_each(many: int) -> None:
    run = Run([RAW], EventFilter(pids=[71]))
    text = [b"".join(made(n) for n in range(many)) for made in
            (lambda n: syscall(n, 71), lambda n: line("PATH", n, "item=0"), end)]  # fmt: skip
    run.push(b"".join(text)).flush(eof=True)
    shown = run.out[RAW].splitlines(keepends=True)
    assert sorted(one for one in shown if b"contid=" not in one) == sorted(b"".join(text).splitlines(keepends=True))
    assert sum(b"contid=" in one for one in shown) == many


SILENT = (syscall(1, 71), line("PATH", 1, 'item=0 name="/x"'), line("PATH", 1, "item=1"), end(1))


@pytest.mark.parametrize("name", [RAW, NUMERIC, JSON, PRETTY])
def test_a_filter_that_had_a_part_of_an_event_says_so_in_every_format(name: str) -> None:
    """What came behind a silence and would have been wanted was neither shown nor said to be missing."""
    run = Run([name], EventFilter(types=["PATH"]))
    for text in SILENT:
        run.push(text).take(run.stream.idle(1 << 60))
    (said,) = run.out[name].splitlines()
    assert (b"UNKNOWN[1343]" if name == NUMERIC else b"CONTAINER_LOST") in said
    assert b"filter" in said
    assert b"1700000000.100:1" in said
    assert run.enricher.divided == 1


@pytest.mark.parametrize(
    "wanted",
    [
        EventFilter(types=["PATH"]),
        EventFilter(types=["SYSCALL"]),
        EventFilter(pids=[71]),
        EventFilter(keys=["no"]),
        None,
    ],
)
@pytest.mark.parametrize("limit", [1 << 24, 100])
def test_nothing_is_said_of_an_event_that_came_at_once_or_went_where_it_was_wanted(
    wanted: EventFilter | None, limit: int
) -> None:
    """A copy of an event, its end alone, and what goes with what was passed on are no rest of which a filter knew
    nothing."""
    run = Run([JSON], wanted)
    run.push(b"".join(SILENT)).push(b"".join(SILENT)).push(end(1)).push(login(2, 7) + login(2, 7)).flush()
    run.push(login(2, 7)).flush(eof=True)
    assert b"CONTAINER_LOST" not in run.out[JSON]
    passed = Run([JSON], EventFilter(types=["SYSCALL"]), limit=limit)
    for text in SILENT:
        passed.push(text).take(passed.stream.idle(1 << 60))
    assert b"CONTAINER_LOST" not in passed.out[JSON]


def test_an_event_that_was_passed_on_goes_on_where_its_syscall_says_whose_it_is() -> None:
    """Its first record has no pid: the rest was judged as an event of its own, and was gone."""
    path, call = line("PATH", 1, "item=0"), syscall(1, 71)
    for wanted, shown in ((EventFilter(types=["PATH"]), [path, call]), (EventFilter(types=["SYSCALL"]), [call])):
        run = Run([RAW], wanted)
        for text in (path, call, line("CWD", 1, "cwd=1"), end(1)):
            run.push(text).take(run.stream.idle(1 << 60))
        found = run.out[RAW].splitlines(keepends=True)
        assert [one for one in found if b"CONTAINER_" not in one] == [*shown, line("CWD", 1, "cwd=1"), end(1)]
        assert (divided(1) in found) is (path not in shown)


def test_each_output_of_its_own_is_told_what_it_has_but_a_part_of() -> None:
    logs = {"a": bytearray(), "b": bytearray()}

    class Rules(EventFilter):
        def keep(self, *args: Any) -> bytearray:
            kept = super().keep(*args)
            logs["a"], logs["b"] = bytearray(kept), bytearray(len(kept))
            return kept

    run = Run([NUMERIC], Rules(types=["SYSCALL"]), logs=logs)
    for text in SILENT:
        run.push(text).take(run.stream.idle(1 << 60))
    assert run.out[NUMERIC].count(b"type=PATH") == run.out["a"].count(b"type=PATH") == 2
    assert b"1343" not in run.out[NUMERIC] + run.out["a"]
    assert run.out["b"] == divided(1).replace(b"CONTAINER_LOST", b"UNKNOWN[1343]")


@pytest.mark.parametrize(
    ("lead", "trail"), [(b"node=a ", b""), (b"Nov 14 22:13:20 web audisp: ", b"\r"), (b'{"MESSAGE":"', b'"}')]
)
def test_what_says_it_has_the_form_of_the_events_records(lead: bytes, trail: bytes) -> None:
    run = Run([RAW], EventFilter(types=["PATH"]))
    for text in SILENT:
        run.push(b"".join([lead, text[:-1].replace(b'"', b'\\"') if b"{" in lead else text[:-1], trail, b"\n"]))
        run.take(run.stream.idle(1 << 60))
    assert run.out[RAW] == lead + divided(1)[:-1] + trail + b"\n"
    again = TextStream(whole=True)
    assert again.push(run.out[RAW]).line_n + again.flush(eof=True).line_n == 1
    assert again.records == 1
