"""The C scanner against the reference in Python, and what both promise."""

import random
import re
from array import array
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from auditns_connector.audittext.insertion import RecordTexts, assemble
from auditns_connector.audittext.scanner import InsertionPoints, Scanner, TextStream
from auditns_connector.vocabulary import audit_text as points
from auditns_connector.vocabulary import record_types as rectypes
from tests.examples import examples
from tests.reference import audittext

from .audit_text import NAMES, stream

TAILS = [
    b'\1type=CONTAINER_ID \0 contid=1 x="y"\n',
    b"",
    b"\1type=CONTAINER_ID \0 contid=2\n\1type=NS_INFO \0 netns=1\n",
]
PLAIN = ("ms", "serial", "flags", "pid", "ppid", "sysno", "arch", "exit", "rtype", "recno", "event", "origin")


def take(found: InsertionPoints, base: int) -> list[dict[str, Any]]:
    """The ready points with their texts in place of spans, offsets counted from ``base``."""
    out = []
    for i in range(found.n):
        point = {name: getattr(found, name)[i] for name in PLAIN}
        point |= {"at": found.at[i] + base, "line_off": found.line_off[i] + base}
        point |= {"hdr": found.header(i), "node": found.node(i), "lead": found.lead(i)}
        point["trail"] = found.bytes_at(found.trail_off[i], found.trail_len[i])
        point |= {"aux1": found.comm(i), "aux2": found.path(i), "key": found.key(i)}
        out.append(point)
    return out


def run_c(
    pieces: list[bytes],
    flush_at: int | None = None,
    whole: bool = False,
    ahead: int = 1,
    patient: bool = True,
    hold: bool = False,
    at_end: bool = False,
    awaits: int = points.AWAITS_NOTHING,
) -> tuple[list[dict[str, Any]], list[Any], bytes]:
    """Points, lines and output of a stream that comes in these pieces, each scanned in ``ahead`` parts."""
    text = TextStream(capacity=64, whole=whole, patient=patient, at_end=at_end, awaits=awaits)
    text.hold(hold)
    tails = RecordTexts(TAILS)
    found, lines, out, base = [], [], [], 0
    seen: set[int] = set()

    def collect(ready: InsertionPoints) -> None:
        nonlocal base
        found.extend(take(ready, base))
        for i in range(ready.line_n):
            off = ready.l_off[i] + base
            line = audittext.Line(off, ready.l_event[i], ready.l_type[i], off + ready.l_len[i])
            if whole or off not in seen:  # those that are still needed are shown again
                lines.append(line)
                seen.add(off)
        out.append(assemble(ready, array("I", [s % 4 for s in ready.serial[: ready.n]]), tails))
        base += ready.released

    for i, piece in enumerate(pieces):
        if i == flush_at:
            collect(text.flush())
        for part in range(ahead):
            text.put(piece[len(piece) * part // ahead : len(piece) * (part + 1) // ahead])
            if part + 1 < ahead:
                text.ahead()
        collect(text.filled(0))
    collect(text.flush(eof=True))
    assert text.pending == 0
    return found, lines, b"".join(out)


def run_reference(
    pieces: list[bytes],
    flush_at: int | None = None,
    whole: bool = False,
    patient: bool = True,
    hold: bool = False,
    at_end: bool = False,
    awaits: int = points.AWAITS_NOTHING,
) -> audittext.Reference:
    reference = audittext.Reference(whole, patient, hold=hold, at_end=at_end, awaits=awaits)
    for i, piece in enumerate(pieces):
        if i == flush_at:
            reference.push(b"", points.MODE_FLUSH)
        reference.push(piece)
    reference.push(b"", points.MODE_EOF)
    return reference


def shown(point: audittext.Point) -> dict[str, Any]:
    """The reference's point as :func:`take` shows one."""
    out = dict(vars(point))
    if len(point.trail) > 1:  # it lies in a string of JSON
        out |= {name: out[name].replace(b'\\"', b'"') for name in ("aux1", "aux2", "key")}
    return out


def compare(
    pieces: list[bytes],
    flush_at: int | None = None,
    whole: bool = False,
    patient: bool = True,
    hold: bool = False,
    at_end: bool = False,
    awaits: int = points.AWAITS_NOTHING,
) -> bytes:
    found, lines, out = run_c(pieces, flush_at, whole, patient=patient, hold=hold, at_end=at_end, awaits=awaits)
    reference = run_reference(pieces, flush_at, whole, patient, hold, at_end, awaits)
    assert found == [shown(point) for point in reference.points]
    assert [line for line in lines if line.event != points.LINE_FOREIGN] == [
        line for line in reference.lines if line.event != points.LINE_FOREIGN
    ]
    text = b"".join(pieces)
    picks = [point.serial % 4 for point in reference.points]
    assert out == audittext.assemble(text, reference.points, picks, TAILS, reference.lines)
    return out


def cut(text: bytes, rng: random.Random) -> list[bytes]:
    spots = sorted(rng.randrange(len(text) + 1) for _ in range(rng.randrange(5)))
    return [text[a:b] for a, b in zip([0, *spots], [*spots, len(text)], strict=True)]


@examples(400)
@given(st.integers(0, 1 << 48))
@example(5005446)  # a second of one digit in the time of a syslog line
@example(140854106406506)  # half a line behind a target that waits for a record of ours
@example(167345186997114)  # a control character behind a record in JSON
def test_grammar_same_as_reference_at_any_cut(seed: int) -> None:
    text = stream(seed)
    rng = random.Random(seed)
    compare([text])
    compare(cut(text, rng), at_end=bool(seed % 2))
    assert compare([text], hold=True) == compare(cut(text, rng), hold=True)
    compare(cut(text, rng), whole=True, at_end=bool(seed % 3))
    compare(cut(text, rng), whole=bool(seed % 2), patient=False)


@examples(300)
@given(st.integers(0, 1 << 48), st.sampled_from([points.AWAITS_HERE, points.AWAITS_MORE]))
def test_late_records_of_ours_same_as_reference_at_any_cut(seed: int, awaits: int) -> None:
    rng, more = random.Random(seed), points.AWAITS_MORE
    lines = stream(seed).splitlines(keepends=True)
    text = b"".join(
        lines.pop(rng.randrange(min(len(lines), 4))) for _ in range(len(lines))
    )  # they come in some disorder
    compare([text], awaits=awaits)
    compare(cut(text, rng), at_end=bool(seed % 2), awaits=awaits)
    assert compare([text], hold=True, awaits=more) == compare(cut(text, rng), hold=True, awaits=more)
    compare(cut(text, rng), whole=True, at_end=bool(seed % 3), awaits=awaits)
    assert compare([text], whole=True, awaits=more) == compare(cut(text, rng), whole=True, awaits=more)


@examples(150)
@given(st.integers(0, 1 << 48), st.booleans())
def test_what_is_scanned_ahead_is_decided_later_as_if_it_had_come_then(seed: int, whole: bool) -> None:
    pieces = cut(stream(seed), random.Random(seed))
    assert run_c(pieces, whole=whole, ahead=3) == run_c(pieces, whole=whole)


@examples(150)
@given(st.integers(0, 1 << 48))
@example(42329992512442)  # half a line behind a target that waits for a record of ours
@example(271476500600947)
@example(140854106406506)
def test_grammar_same_as_reference_with_a_flush_between(seed: int) -> None:
    pieces = cut(stream(seed), random.Random(seed))
    compare(pieces, flush_at=len(pieces) // 2)


STAMPS = st.tuples(
    st.sampled_from(["1", "12", "1700000000", "1700000001", "17000000000", "170000000000", "", "1x", "17000000001"]),
    st.sampled_from([".", ".", ".", "", ":", "0."]),
    st.sampled_from(["000", "001", "999", "12", "1234", "", "1a2"]),
    st.sampled_from([":1", ":12345678", ":123456789", ":99999999999999999999", ":", "1", ":1x"]),
    st.sampled_from(["):", "):", "): ", ")", ""]),
)


@examples(300)
@given(st.lists(STAMPS, min_size=1, max_size=8))
def test_stamps_after_one_another_same_as_reference(stamps: list[tuple[str, ...]]) -> None:
    text = "".join(f"type=AVC msg=audit({''.join(stamp)}\ntype=CWD msg=audit({''.join(stamp)}\n" for stamp in stamps)
    compare([text.encode()])


FIELDS = ("arch=c000003e", "syscall=59", "success=yes", "exit=-2", "ppid=5", "pid=77", "comm=c1", "key=k1")
OTHERS = ("pid=", "key", "comm", "cap=1", "kind=2", "mode=3", "per=4", "msg='pid=6", "msg=x", "exe=/bin/ls", "a", "",
          "\x1d", "\x1dkey=k2", "comm=c2\x1dkey=k3", "auid=4294967295", "tty=(none)")  # fmt: skip


@examples(300)
@given(st.integers(0, 6), st.lists(st.sampled_from([*FIELDS, *OTHERS]), max_size=20))
def test_words_in_any_order_same_as_reference(first: int, words: list[str]) -> None:
    body = " ".join([*FIELDS[:first], *words])
    compare([f"type=SYSCALL msg=audit(1.000:1): {body}\ntype=LOGIN msg=audit(1.000:2):{body}\n".encode()])


@examples(150)
@given(st.lists(st.binary(max_size=60), max_size=8))
@example([b"type=SYSCALL msg=audit(1.000:1):", b"\n"])
@example([b"\n\n\0\n"])
def test_arbitrary_bytes_same_as_reference(pieces: list[bytes]) -> None:
    compare(pieces)


@pytest.mark.parametrize("at", [0, 1, 2, 3])
def test_a_title_in_front_of_its_call_ends_nothing(at: int) -> None:
    """Records of ours were seen in front of a title, which so ends an event at the end of a block: but not its own."""
    ends = b"type=SYSCALL msg=audit(1.000:1): syscall=1 pid=5\ntype=PROCTITLE msg=audit(1.000:1): proctitle=00\n"
    call, title = ends.replace(b":1)", b":2)").splitlines(keepends=True)
    other = b"type=SYSCALL msg=audit(1.000:3): syscall=1 pid=5\n"
    lines = [ends, title, call, other]
    pieces = [b"".join(lines[:at]), b"".join(lines[at:])]
    stream, count = TextStream(capacity=100, patient=True), 0
    for piece in pieces:
        count += stream.push(piece).n
    assert count + stream.flush(eof=True).n == 3


@examples(150)
@given(st.integers(0, 1 << 48))
def test_output_less_ours_is_the_input(seed: int) -> None:
    text = stream(seed)
    marked = TextStream(capacity=100, patient=True)
    tails = RecordTexts([b"#ours#\1\0\n"])
    out = b""
    pieces = [*cut(text, random.Random(seed))]
    for piece in [*pieces, None]:
        ready = marked.flush(eof=True) if piece is None else marked.push(piece)
        out += assemble(ready, [1] * ready.n, tails)
    assert re.sub(rb"(?:\n#ours#[^\n]*)+\Z|#ours#[^\n]*\n", b"", out) == text
    assert out.count(b"#ours#") == len(run_reference(pieces).points)


@examples(150)
@given(st.integers(0, 1 << 48))
def test_keep_writes_the_lines_of_the_kept_events(seed: int) -> None:
    text = stream(seed)
    # everything in one piece, so that all event numbers are in one answer
    ready = Scanner(whole=True).feed(text, points.MODE_EOF)
    reference = run_reference([text], whole=True, patient=False)
    keep = bytes(i % 3 == 0 for i in range(100))
    picks = [s % 4 for s in ready.serial[: ready.n]]
    assert assemble(ready, picks, TAILS, keep) == audittext.assemble(
        text, reference.points, picks, TAILS, reference.lines, keep
    )


@examples(200)
@example(156)  # an event with more than MAX_SPAN of others' text in it
@given(st.integers(0, 1 << 48))
def test_whole_events_come_in_one_answer(seed: int) -> None:
    text = stream(seed)
    found = TextStream(capacity=100, whole=True, patient=True)
    seen: set[int] = set()
    total, out = 0, b""
    for piece in [*cut(text, random.Random(seed)), None]:
        ready = found.flush(eof=True) if piece is None else found.push(piece)
        now = {event for event in ready.l_event[: ready.line_n] if event < points.LINE_LATE}
        assert not now & seen
        assert {event for event in ready.event[: ready.n] if event < points.LINE_LATE} <= now
        seen |= now
        total += ready.n
        out += assemble(ready, array("I", [s % 4 for s in ready.serial[: ready.n]]), TAILS)
    assert total == len(run_reference([text], whole=True).points)
    assert out == run_c([text], whole=True)[2]


def test_cut_at_every_offset() -> None:
    text = stream(7) + stream(11)
    whole = compare([text])
    for i in range(len(text)):
        assert run_c([text[:i], text[i:]])[2] == whole


def test_byte_by_byte() -> None:
    text = stream(3)
    compare([text[i : i + 1] for i in range(len(text))])
    assert compare([text[i : i + 1] for i in range(len(text))], hold=True) == compare([text], hold=True)


@pytest.mark.parametrize("size", [8970, 65535, 65536, 65537, 10 << 20])
def test_long_lines_pass_whole_and_in_pieces(size: int) -> None:
    head = b"type=SYSCALL msg=audit(1700000000.001:5): pid=7 "
    tail = b"type=PROCTITLE msg=audit(1700000000.001:5): proctitle=6C\n"
    text = head + b"x" * (size - len(head) - 1) + b"\n" + tail
    pieces = [text[i : i + 50_000] for i in range(0, len(text), 50_000)]
    assert compare(pieces) == compare([text])
    found = run_reference([text]).points
    assert [point.pid for point in found] == ([7] if size <= points.MAX_LINE else [-1])


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("size", [65536, 65537, 131072, 131073, 300_000])
@pytest.mark.parametrize("end", [b"\n", b""])
def test_a_line_too_long_has_the_same_pieces_wherever_reads_cut_it(whole: bool, size: int, end: bytes) -> None:
    """They are lines of their own for people and in JSON; together they are one that is no record."""
    before, after = stream(3), stream(5) if end else b""
    text = before + b"type=CWD msg=audit(1700000000.001:5): ".ljust(size - len(end), b"x") + end + after
    reference = run_reference([text], whole=whole)
    counts = set()
    for step in (len(text), 65536, 9_999):
        pieces = [text[i : i + step] for i in range(0, len(text), step)]
        _, lines, _ = run_c(pieces, whole=whole)
        foreign = [line for line in lines if line.event == points.LINE_FOREIGN]
        assert foreign == [line for line in reference.lines if line.event == points.LINE_FOREIGN]
        assert max(line.end - line.off for line in lines) <= points.MAX_LINE
        compare(pieces, whole=whole)
        counted = TextStream(whole=whole)
        for piece in pieces:
            counted.push(piece)
        counted.flush(eof=True)
        counts.add(counted.foreign)
    assert len(counts) == 1


@pytest.mark.parametrize("hold", [False, True])
def test_what_follows_a_record_of_ours_after_a_silence_gets_no_second_one(hold: bool) -> None:
    """The event was decided with the record of ours alone in it; nothing is put in behind that either."""
    ours = b"type=CONTAINER_ID msg=audit(1700000000.001:5): contid=7\n"
    call = b"type=SYSCALL msg=audit(1700000000.001:5): arch=c000003e syscall=62 success=yes pid=7\n"
    target = b"type=OBJ_PID msg=audit(1700000000.001:5): opid=8 ocomm=x\n"
    for pieces in ([ours, call + target], [call + ours, target], [call, ours, target], [call, ours + target]):
        for flush_at in range(1, len(pieces)):
            compare(pieces, flush_at, hold=hold)
            found = run_c(pieces, flush_at, hold=hold)[0]
            behind = [point for point in found if point["line_off"] > b"".join(pieces).index(ours)]
            assert behind
            assert all(point["flags"] & points.P_OWN for point in behind)


@pytest.mark.parametrize("cut_at", [0, 1, 20, 40])
def test_a_target_whose_record_of_ours_comes_with_the_next_read_gets_no_second_one(cut_at: int) -> None:
    """Its subject was handed out; other events are open, and the line may come in halves."""
    call = b"type=SYSCALL msg=audit(1700000000.00%d:%d): arch=c000003e syscall=62 success=yes pid=7\n"
    target = b"type=OBJ_PID msg=audit(1700000000.001:1): opid=8 ocomm=x\n"
    ours = b"type=CONTAINER_ID msg=audit(1700000000.001:1): contid=7 record=2\n"
    title = b"type=PROCTITLE msg=audit(1700000000.001:1): proctitle=6C\n"
    head = call % (0, 9) + call % (1, 1) + call % (2, 3) + target
    pieces = [head, ours[: cut_at // 2], ours[cut_at // 2 : cut_at], ours[cut_at:] + title]
    compare(pieces)
    (found,) = [point for point in run_c(pieces)[0] if point["flags"] & points.P_TARGET]
    assert found["flags"] & points.P_OWN


@pytest.mark.parametrize("cut_at", [0, 1, 30, 1000])
def test_a_file_has_no_second_record_where_ours_stands_behind_the_end(cut_at: int) -> None:
    """By name beside audit 3.x it does, where an event has no PROCTITLE."""
    text = b"".join(
        b"type=SYSCALL msg=audit(1700000000.001:%d): pid=7\ntype=EOE msg=audit(1700000000.001:%d): \n"
        b"type=CONTAINER_ID msg=audit(1700000000.001:%d): contid=7\n" % (i, i, i)
        for i in (1, 2)
    )
    end = text.index(b"type=CONTAINER_ID") + cut_at
    compare([text[:end], text[end:]], hold=True)
    assert [point["flags"] & points.P_OWN for point in run_c([text[:end], text[end:]], hold=True)[0]] == [
        points.P_OWN
    ] * 2


def test_many_open_events_are_bounded() -> None:
    text = b"".join(b"type=AVC msg=audit(1700000000.001:%d): pid=%d\n" % (i, i) for i in range(3000))
    stream_ = TextStream()
    assert stream_.push(text).n == 3000 - points.MAX_OPEN
    assert compare([text], hold=True) == compare([text[:1000], text[1000:]], hold=True)
    compare([text[:1000], text[1000:]])


def test_every_type_name_is_known_to_c() -> None:
    names = [*rectypes.NUMBERS, *NAMES, *(f"UNKNOWN[{n}]" for n in rectypes.NAMES)]
    text = b"".join(b"type=%b msg=audit(1.000:%d): x\n" % (name.encode(), i) for i, name in enumerate(names))
    lines = run_c([text])[1]
    assert [line[2] for line in lines] == [rectypes.number(name) for name in names]
