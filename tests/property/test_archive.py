"""The archive gives back what went in, for any bytes at all; holders and terms are what the readable forms say."""

import contextlib
import itertools
import random
import re
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from auditns_connector._native import ffi, lib
from auditns_connector.archive import filling as filling_module
from auditns_connector.archive import seal as seal_module
from auditns_connector.archive.collector import Collector
from auditns_connector.archive.index_terms import KINDS, Term
from auditns_connector.archive.reader import Archive, Wanted
from auditns_connector.attribution.text_answers import TextAnswers
from auditns_connector.audittext.scanner import Scanner
from auditns_connector.model.containers import Containers
from auditns_connector.model.namespaces import Namespaces
from auditns_connector.model.places import UNKNOWN
from auditns_connector.pipeline.text_stage import Enricher
from auditns_connector.query.answers import LogAnswers
from auditns_connector.query.asked import Asked, Options
from auditns_connector.query.logs import archived as with_archive
from auditns_connector.query.logs import files
from auditns_connector.query.names import Names
from auditns_connector.query.search import Search, Shown
from auditns_connector.vocabulary import archive as numbers
from auditns_connector.vocabulary import audit_text as pt
from auditns_connector.vocabulary.audit_text import MODE_EOF
from tests.examples import examples
from tests.reference.index_terms import terms_of
from tests.unit.archive_help import seal

from .audit_text import stream

pytest.importorskip("zstandard")

PIECES = [
    b'type=SYSCALL msg=audit(1700000000.010:1): arch=c000003e syscall=59 success=yes pid=7 exe="/bin/x" key=plain',
    b'type=EXECVE msg=audit(1700000000.010:1): argc=2 a0="/bin/x" a1=2F6574632F7061737377642E a10="y" a1[0]="no"',
    b"type=SOCKADDR msg=audit(1700000000.010:1): saddr=020000350A0000010000000000000000",
    b"type=SOCKADDR msg=audit(1700000000.010:1): saddr=0A00003500000000000000000000000000000000000000010000",
    b"type=SOCKADDR msg=audit(1700000000.010:1): saddr=01002F72756E2F782E736F636B0000",
    b"type=CONTAINER_ID msg=audit(1700000000.010:1): record=1 contid=4,^2,^1",
    b"type=CONTAINER_ID msg=audit(1700000000.010:1): record=2 contid=9",
    b"type=CONTAINER_ID msg=audit(1700000000.010:1): contid=?",
    b"type=CONTAINER_ID msg=audit(1700000000.020:2): contid=4",
    b"type=CONTAINER_ID msg=audit(1700000000.020:2): contid=18446744073709551616",
    b"type=OBJ_PID msg=audit(1700000000.010:1): opid=59 ocomm=6C73",
    b"type=USER_CMD msg=audit(1700000000.020:2): pid=100 uid=0 auid=7 msg='exe=\"/bin/sudo\" addr=10.0.0.7 res=failed'",
    b"type=NETFILTER_PKT msg=audit(1700000000.030:3): mark=0x1 saddr=10.1.1.1 daddr=10.1.1.2 proto=6",
    b"type=CONTAINER_ID msg=audit(1700000000.030:3): contid=2,^1,3",
    b"type=CONTAINER_ID msg=audit(1700000000.030:3): contid=2,^1,3,+57",
    b"type=CONTAINER_ID msg=audit(1700000000.030:3): contid=2,+57,3",
    b"type=CONTAINER_ID msg=audit(1700000000.030:3): contid=2,+",
    b"type=CONTAINER_ID msg=audit(1700000000.030:3): contid=2,+12345678",
    b"type=CONTAINER_ID msg=audit(1700000000.030:3): contid=+57",
    b"type=NS_INIT msg=audit(1700000000.040:9): pid=4 contid=77,^7 nstype=net",
    b"type=CONTAINER_OP msg=audit(1700000000.041:8): op=drop opid=7 contid=-1 old-contid=3,^2",
    b"node=h1 type=PATH msg=audit(1700000000.010:1): item=0 name=\"/etc/a/\" inode=1",
    b'type=CWD msg=audit(1700000000.010:1): cwd="/srv/a"',
    b"type=CWD msg=audit(1700000000.010:1): cwd=2F7372762F6220",
    b"type=CWD msg=audit(1700000000.010:1): cwd=(null)",
    b'type=PATH msg=audit(1700000000.010:1): item=1 name="../x//y/./z/" inode=1',
    b'type=PATH msg=audit(1700000000.010:1): item=1 name="//../../x/.y/..z/..." inode=1',
    b'type=PATH msg=audit(1700000000.010:1): item=1 name="../../.." inode=1',
    b'type=PATH msg=audit(1700000000.010:1): item=1 name="." inode=1',
    b"type=PATH msg=audit(1700000000.010:1): item=1 name=782F2E2E2F790A inode=1",
    b'type=AVC msg=audit(1700000000.010:1): avc: denied { read } for pid=9 path="/a//b" name="c" comm="x"',
    b"type=PROCTITLE msg=audit(1700000000.010:1): proctitle=00",
    b'type=CONTAINER_INFO msg=audit(1700000000.010:1): contid=4 runtime="docker" entry=ab:7:9 entry-how=setns',
    b"no record",
    b"",
]  # fmt: skip
TEXT = st.one_of(
    st.integers(0, 1 << 32).map(stream),
    st.lists(st.sampled_from(PIECES), max_size=12).map(b"\n".join),
    st.lists(st.sampled_from(PIECES), max_size=12).map(lambda lines: b"".join(line + b"\n" for line in lines)),
    st.binary(max_size=200),
)


@pytest.fixture(autouse=True)
def small_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    """Segments that are cut often."""
    monkeypatch.setattr(seal_module, "LEAST_SEGMENT", 1)
    monkeypatch.setattr(filling_module, "_STEP", 64)


@examples(20)
@given(st.lists(TEXT, min_size=1, max_size=3), st.sampled_from([512, 5000, 1 << 20]))
def test_the_text_comes_back(texts: list[bytes], size: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        paths = []
        for i, text in enumerate(texts):
            paths.append(Path(folder, f"log.{i}"))
            paths[-1].write_bytes(text)
        seal(Path(folder, "a"), paths, size=size, say=lambda text: None)
        with Archive(f"{folder}/a") as archive:
            found = b"".join(bytes(part) for part in archive.texts())
            assert archive.notices == []
            # files without a record keep their order, and all stand behind those that have one
            assert len(found) == sum(map(len, texts))
            assert all(text in found for text in texts)
            spread = [bytes(event.text) for event in archive.events()]
            ends = sum(not text.endswith(b"\n") for text in texts if text)
            assert found.replace(b"\n", b"") == b"" or spread
            assert sorted(b"".join(spread).replace(b"\n", b"")) == sorted(found.replace(b"\n", b""))
            assert sum(map(len, spread)) - len(found) >= 0 or ends


def collected(text: bytes) -> tuple[Collector, Scanner]:
    collector = Collector(max(len(text), 1))
    collector.buffer[: len(text)] = text
    scanner = Scanner(whole=True, patient=True)
    points = scanner.feed(memoryview(collector.buffer)[: len(text)], MODE_EOF)
    collector.take(points, 0)
    assert points.consumed == len(text)
    return collector, scanner


def lines_of(collector: Collector, number: int) -> list[bytes]:
    c = collector._c
    e = c.event[number]
    pieces = [c.piece[i] for i in range(e.piece, e.piece + e.pieces)]
    return b"".join(bytes(collector.buffer[p.off : p.off + p.len]) for p in pieces).splitlines(keepends=True)


@examples(150)
@given(TEXT)
def test_terms_are_those_of_the_reference(text: bytes) -> None:
    if b"\r" in text or b"{" in text or b"audit: type=" in text:
        return  # what stands around a record has its own tests
    collector, _ = collected(text)
    c = collector._c
    for number in range(c.events):
        e = c.event[number]
        if c.group[e.group].holder == numbers.HOLDER_TEXT:
            continue
        found = {c.term[i] for i in range(e.term, e.term + e.terms)}
        lines = [line for line in b"".join(lines_of(collector, number)).split(b"\n") if line]
        wanted = terms_of(lines)
        assert {Term(kind, value).hash() for kind, value in wanted} == found, (wanted, lines)


@examples(150)
@given(TEXT)
def test_holders_are_those_that_the_text_tells(text: bytes) -> None:
    collector, scanner = collected(text)
    points, answers, c = scanner.points, TextAnswers(), collector._c
    groups = {c.by_number[i]: c.group[c.event[c.by_number[i]].group] for i in range(c.numbers)}
    for i in range(points.n):
        if not points.flags[i] & (pt.P_SUBJECT | pt.P_NETFILTER) or points.flags[i] & pt.P_LATE:
            continue
        group = groups[c.by_number[points.event[i] - c.first_number]]
        state = answers.answer(points, i, Containers(Namespaces()))
        contid = bytes(ffi.buffer(c.text + group.contid_off, group.contid_len)).decode()
        if state is None:
            assert group.holder in (numbers.HOLDER_HOST, numbers.HOLDER_UNKNOWN)
            assert not contid
        elif state.container is None:
            assert group.holder == numbers.HOLDER_HOST
        elif state.container is UNKNOWN or "?" in state.container.text:
            assert group.holder in (numbers.HOLDER_UNKNOWN, numbers.HOLDER_CONTAINER, numbers.HOLDER_SEVERAL)
        elif group.holder == numbers.HOLDER_CONTAINER:
            assert contid == state.container.text
        else:
            assert group.holder == numbers.HOLDER_SEVERAL


@examples(30)
@given(st.integers(0, 1 << 32))
def test_what_is_there_is_found(seed: int) -> None:
    """No filter denies a term that an event has."""
    text = stream(seed)
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "log").write_bytes(text)
        seal(Path(folder, "a"), [Path(folder, "log")], size=1 << 20)
        collector, _ = collected(text)
        with Archive(f"{folder}/a") as archive:
            everything = [{ref.number for ref in refs} for refs in archive.candidates()]
            segment = archive._segment(1)
            if segment is None:
                return
            rng, terms = random.Random(seed), collector._c.terms
            for term in [rng.randrange(terms) for _ in range(20 if terms else 0)]:
                found = segment.pick(([collector._c.term[term]], [1]))
                assert found
                assert set(found) <= everything[0]


STAMP = re.compile(rb"audit\(([^)]*)\)")


def searched(path: str, options: Options, archive: str = "") -> list[bytes]:
    """The lines that a search finds, sorted: where nothing marks its end, an archive has an event where it begins."""
    found: list[bytes] = []
    answers = LogAnswers(Names())
    asked = Asked(options, answers)

    def deliver(block: memoryview | bytes) -> bool:
        found.append(bytes(block))
        return True

    enricher = Enricher(answers, ("raw",), wanted=asked, lasting=False)
    search = Search(answers, asked, Shown(answers, enricher, "raw", deliver).take, deliver)
    with contextlib.ExitStack() as stack:
        text = stack.enter_context(files([path]))._replace(ours=True)
        if archive:
            text = stack.enter_context(with_archive(text._replace(files=()), archive))
        assert search.prepare(text, names=False)
        search.forwards(text, learn=False)
        assert text.archive is None or text.archive.notices == []
    return sorted(b"".join(found).split(b"\n"))


def is_scattered(text: bytes) -> bool:
    """Whether records of one event stand apart."""
    stamps = [found[1] if (found := STAMP.search(line)) else b"" for line in text.splitlines()]
    runs = [stamp for stamp, _ in itertools.groupby(stamps)]
    return len(set(runs)) < len(runs)


@examples(60)
@given(
    st.integers(0, 1 << 32),
    st.sampled_from([
        Options(), Options(contids=["unset"]), Options(contids=["4"]), Options(contids=["!=4"]),
        Options(contids=["unknown"]), Options(pids=["59"]), Options(types=["PATH"]), Options(types=["!=SYSCALL"]),
        Options(values={"success": ["yes"]}), Options(values={"uid": ["!=0"]}), Options(since=1_700_000_000_000),
    ]),
)  # fmt: skip
def test_an_archive_has_what_is_found_in_its_text(seed: int, options: Options) -> None:
    text = stream(seed).replace(b"\r", b"")
    text += b"" if text.endswith(b"\n") else b"\n"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "log")
        path.write_bytes(text)
        seal(Path(folder, "a"), [path], size=1 << 20, keep=True)
        if options != Options() and is_scattered(text):
            return  # what came late of another process, or of what is forgotten, is judged by itself in text
        assert searched(str(path), options, f"{folder}/a") == searched(str(path), options)


def test_kinds_are_all_there() -> None:
    assert sorted(KINDS.values()) == list(range(1, len(KINDS) + 1))
    assert lib.archive_term(KINDS["pid"], b"1", 1) != lib.archive_term(KINDS["uid"], b"1", 1)
    assert list(Wanted()) == [None, None, None, None, ()]
