"""Asking an archive: candidates, blocks, order, containers, counts; damage costs its blocks and is told."""

import random
from pathlib import Path

import pytest

from auditns_connector.archive import seal as seal_module
from auditns_connector.archive.catalogue import Catalogue, SegmentRow
from auditns_connector.archive.index_terms import Term
from auditns_connector.archive.reader import Archive, Wanted
from auditns_connector.archive.segment_layout import TRAILER_SIZE

from .archive_help import event, seal, workload

pytest.importorskip("zstandard")


def made(folder: Path, *texts: bytes) -> str:
    for i, text in enumerate(texts):
        (folder / f"log{i}").write_bytes(text)
        seal(folder / "a", [folder / f"log{i}"])
    return str(folder / "a")


def matching(archive: Archive, wanted: Wanted, word: bytes) -> list[bytes]:
    return [one.text for one in archive.events(wanted) if word in one.text]


@pytest.mark.parametrize("contid", range(100, 106))
def test_events_of_one_container_are_in_few_blocks(tmp_path: Path, contid: int) -> None:
    """Whichever it is: blocks begin with any group."""
    text = workload(6000, containers=5)
    with Archive(made(tmp_path, text)) as archive:
        rows = {int(row.contid or 100): row for row in archive.containers()}
        assert sorted(rows) == list(range(100, 106))
        assert rows[contid].events == 1000
        assert rows[contid].records == (4000 if contid > 100 else 3000)
        (refs,) = archive.candidates(Wanted(containers=frozenset([rows[contid].number])))
        (everything,) = archive.candidates()
        assert len(refs) in (2, 3)
        assert len(refs) < len(everything)
        own = [
            block.text[block.starts[i] : block.starts[i + 1]]
            for block in map(archive.read_block, refs)
            if block is not None
            for i in range(block.count)
            if block.containers[i] == rows[contid].number
        ]
        text_of = {"contid": str(contid)} if contid > 100 else {}
        numbers = [n for n in range(1, 6001) if n % 6 == contid - 100]
        assert own == [event(n, name=f"/data/{n % 97}/file-{n}", **text_of) for n in numbers]


def test_all_events_come_in_their_order(tmp_path: Path) -> None:
    text = workload(3000)
    with Archive(made(tmp_path, text)) as archive:
        assert b"".join(one.text for one in archive.events()) == text
        backwards = [one.text for one in archive.events(reverse=True)]
        assert b"".join(reversed(backwards)) == text


@pytest.mark.parametrize(
    ("term", "count"),
    [
        (Term("path", b"/data/5/file-2818"), 1),
        (Term("base", b"file-2818"), 1),
        (Term("pid", b"1017"), 60),
        (Term("contid", b"103"), 500),
        (Term("exe", b"/usr/bin/cat"), 3000),
        (Term("exename", b"cat"), 3000),
        (Term("key", b"open"), 3000),
        (Term("syscall", b"257"), 3000),
        (Term("type", b"1302"), 3000),
        (Term("auid", b"1000"), 3000),
        (Term("path", b"/data/none"), 0),
        (Term("addr", b"10.0.0.1"), 0),
    ],
)
def test_terms_lead_to_their_blocks(tmp_path: Path, term: Term, count: int) -> None:
    with Archive(made(tmp_path, workload(3000))) as archive:
        refs = [ref for refs in archive.candidates(Wanted(terms=((term,),))) for ref in refs]
        words = {"pid": b" pid=%b ", "contid": b"contid=%b\n", "exename": b"/%b", "base": b"/%b", "type": b"PATH"}
        words |= {"key": b'key="%b"', "syscall": b"syscall=%b ", "auid": b"auid=%b "}
        form = words.get(term.kind, b'"%b"')
        word = form % term.value if b"%b" in form else form
        found = matching(archive, Wanted(terms=((term,),)), word)
        assert len(found) == count
        assert bool(refs) >= bool(count)
        if not count:
            assert refs == []


def test_each_set_of_terms_must_be_met(tmp_path: Path) -> None:
    with Archive(made(tmp_path, workload(3000))) as archive:
        here, there, none = Term("base", b"file-7"), Term("base", b"file-2999"), Term("base", b"no")
        blocks = {term: next(archive.candidates(Wanted(terms=((term,),)))) for term in (here, there)}
        assert blocks[here] != blocks[there]
        assert list(archive.candidates(Wanted(terms=((here,), (there,))))) in ([], [[]])
        (either,) = archive.candidates(Wanted(terms=((here, there, none),)))
        assert either == sorted(blocks[here] + blocks[there])


def test_times_and_hosts_lead_to_their_blocks(tmp_path: Path) -> None:
    early = b"".join(event(n, ms=n) for n in range(1, 500))
    late = b"".join(b"node=h2 " + line + b"\n" for n in range(1, 500) for line in event(n, ms=10**7 + n).splitlines())
    with Archive(made(tmp_path, early, late)) as archive:
        first = 1_700_000_000_000
        assert [refs[0].segment for refs in archive.candidates(Wanted(until=first + 10**6))] == [1]
        assert [refs[0].segment for refs in archive.candidates(Wanted(since=first + 10**6))] == [2]
        assert [refs[0].segment for refs in archive.candidates(Wanted(since=first, until=first))] == []
        assert [refs[0].segment for refs in archive.candidates(Wanted(nodes=frozenset([b"h2"])))] == [2]
        assert [refs[0].segment for refs in archive.candidates(Wanted(nodes=frozenset([b""])))] == [1]
        runs = [(run.node, run.low, run.high, run.events) for _, run in archive.serials()]
        assert runs == [(b"", 1, 499, 499), (b"h2", 1, 499, 499)]


def test_counts_of_containers(tmp_path: Path) -> None:
    stamp = "msg=audit(1700000000.001:1):"
    text = (
        f"type=SYSCALL {stamp} arch=c000003e syscall=62 success=no exit=-1 pid=5 ppid=1 auid=7 "
        f'comm="sh" exe="/bin/sh" key="kill"\n'
        f"type=OBJ_PID {stamp} opid=9 ocomm=78\n"
        f"type=CONTAINER_ID {stamp} record=1 contid=4\n"
        f"type=CONTAINER_ID {stamp} record=2 contid=5,^4\n"
        f'type=CONTAINER_INFO {stamp} contid=4 origin=log runtime="docker" ctr-id="abcd" ctr-name="web" image=6120\n'
        "type=CONTAINER_INFO msg=audit(1700000000.002:2147483652): reason=entry contid=4 kind=runtime "
        'runtime="docker" image=6120 entry=ab:7:9 entry-how=setns entry-auid=1000\n'
        "type=LOGIN msg=audit(1700000000.002:2): pid=6 uid=0 old-auid=4294967295 auid=1000 ses=1 res=1\n"
        "type=CONTAINER_ID msg=audit(1700000000.002:2): contid=4\n"
        "type=CONTAINER_LOST msg=audit(1700000000.003:2147483651): source=perf cpu=1 count=17\n"
        "type=USER_CMD msg=audit(1700000000.004:3): pid=7 uid=0 msg='cmd=6C73 res=failed'\n"
        "type=CONTAINER_ID msg=audit(1700000000.004:3): contid=?\n"
    ).encode()
    with Archive(made(tmp_path, text)) as archive:
        rows = {(row.kind, row.contid): row for row in archive.containers()}
        assert set(rows) == {("container", "4"), ("host", ""), ("unknown", "")}
        four = rows["container", "4"]
        assert (four.runtime, four.full_id, four.name, four.image) == ("docker", "abcd", "web", "a ")
        assert (four.events, four.records, four.failures) == (3, 8, 1)
        assert rows["unknown", ""].failures == 1
        found = {(row.container, row.kind, row.value): row.times for row in archive.aggregates()}
        assert found[four.number, "failed", b"kill"] == 1
        assert found[four.number, "syscall", b"c000003e:62"] == 1
        assert found[four.number, "login", b"1000"] == 1
        assert found[four.number, "target", b"5,^4"] == 1
        assert found[rows["host", ""].number, "loss", b"perf"] == 17
        assert found[four.number, "entry", b"setns"] == 1
        assert next(archive.candidates(Wanted(terms=((Term("entry", b"ab:7:9"),),))))
        assert not list(archive.candidates(Wanted(terms=((Term("entry", b"ab:7:8"),),))))
        assert {row.kind for row in archive.aggregates(("key",))} == {"key"}


def test_records_that_contradict_each_other_are_of_nobody(tmp_path: Path) -> None:
    one = event(1, contid="4")
    text = one + one.splitlines(keepends=True)[2].replace(b"contid=4", b"contid=5") + event(2, contid="4")
    with Archive(made(tmp_path, text)) as archive:
        assert {(row.kind, row.contid): row.events for row in archive.containers()} == {
            ("unknown", ""): 1,
            ("container", "4"): 1,
        }


def test_whose_an_event_is_may_stand_apart(tmp_path: Path) -> None:
    """With placement = "apart" a record of ours behind it says it, after whatever came in between."""
    away = 3 << 30
    text = b'type=SECCOMP msg=audit(1700000000.001:1): auid=0 uid=0 pid=7 comm="x" sig=31 arch=c000003e syscall=1\n'
    text += event(2, ms=1)
    text += b"type=CONTAINER_ID msg=audit(1700000000.001:%d): contid=4 event=1700000000.001:1\n" % (1 + away)
    text += b'type=SECCOMP msg=audit(1700000000.002:3): auid=0 uid=0 pid=8 comm="x" sig=31 arch=c000003e syscall=1\n'
    text += b"type=CONTAINER_ID msg=audit(1700000000.002:%d): contid=4 event=1700000000.002:77\n" % (3 + away)
    with Archive(made(tmp_path, text)) as archive:
        rows = {row.contid: row for row in archive.containers()}
        assert {contid: row.events for contid, row in rows.items()} == {"": 2, "4": 2}
        found = {(row.container, row.value): row.times for row in archive.aggregates(("type",))}
        assert found[rows["4"].number, b"1326"] == found[rows[""].number, b"1326"] == 1
        assert found[rows["4"].number, b"1340"] == 2
        assert b"".join(part.tobytes() for part in archive.texts()) == text


def test_ten_thousand_containers_in_one_segment(tmp_path: Path) -> None:
    text = b"".join(event(n, contid=str(1 + n % 10_000)) for n in range(20_000))
    with Archive(made(tmp_path, text)) as archive:
        assert len(archive.segments()) == 1
        rows = archive.containers()
        assert len(rows) == 10_000
        assert {row.events for row in rows} == {2}
        one = next(row for row in rows if row.contid == "777")
        (refs,) = archive.candidates(Wanted(containers=frozenset([one.number])))
        assert len(refs) == 1
        assert b"".join(part.tobytes() for part in archive.texts()) == text


def test_one_container_with_everything(tmp_path: Path) -> None:
    text = b"".join(event(n, contid="5") for n in range(5000))
    with Archive(made(tmp_path, text)) as archive:
        assert [(row.contid, row.events) for row in archive.containers()] == [("5", 5000)]
        assert b"".join(one.text for one in archive.events()) == text


def test_logs_of_other_hosts_and_clocks(tmp_path: Path) -> None:
    """The same contid on two hosts is two containers; a clock that went back changes nothing about the order."""
    lines = []
    for n in range(200):
        node = b"node=h1 " if n % 2 else b"node=h2 "
        lines += [node + line + b"\n" for line in event(n, contid="9", ms=10**6 - n * 1000).splitlines()]
    text = b"".join(lines)
    with Archive(made(tmp_path, text)) as archive:
        assert sorted((row.node, row.contid, row.events) for row in archive.containers()) == [
            (b"h1", "9", 100),
            (b"h2", "9", 100),
        ]
        assert b"".join(one.text for one in archive.events()) == text


def damaged(path: Path, where: int) -> None:
    data = bytearray(path.read_bytes())
    data[where] ^= 0xFF
    path.write_bytes(data)


def test_a_damaged_block_is_told_and_the_others_are_read(tmp_path: Path) -> None:
    path = Path(made(tmp_path, workload(6000)))
    with Archive(str(path)) as archive:
        (refs,) = archive.candidates()
        entry = archive._segment(1).entry(1)  # type: ignore[union-attr]
    damaged(path / "0000000001.zst", entry.offset + entry.table + entry.frame // 2)
    with Archive(str(path)) as archive:
        good = [block for block in map(archive.read_block, refs) if block is not None]
        assert len(good) == len(refs) - 1
        assert len(archive.notices) == 1
        assert "block 1 is damaged" in archive.notices[0]
        text = b"".join(part.tobytes() for part in archive.texts())
        assert len(text) == len(workload(6000)) - entry.size
        assert set(text.splitlines()) <= set(workload(6000).splitlines())


@pytest.mark.parametrize("field", ["size", "events"])
def test_a_block_that_is_not_what_the_index_says_is_told(tmp_path: Path, field: str) -> None:
    """A segment made to mislead: room is made for what the index says, and a block has more."""
    text = workload(6000)
    with Archive(made(tmp_path, text)) as archive:
        segment = archive._segment(1)
        assert segment is not None
        for row in range(segment.blocks):
            setattr(segment._entries[row], field, 1)
        assert b"".join(part.tobytes() for part in archive.texts()) == b""
        assert len(archive.notices) == segment.blocks
        assert all("it is not what the index says" in notice for notice in archive.notices)


@pytest.mark.parametrize("cut", [1, TRAILER_SIZE, TRAILER_SIZE + 5000])
def test_a_segment_without_its_end_costs_little(tmp_path: Path, cut: int) -> None:
    text = workload(6000)
    path = Path(made(tmp_path, text))
    data = (path / "0000000001.zst").read_bytes()
    (path / "0000000001.zst").write_bytes(data[:-cut])
    with Archive(str(path)) as archive:
        assert b"".join(one.text for one in archive.events()) == text
        assert any("its blocks are looked for one by one" in notice for notice in archive.notices)
        (refs,) = archive.candidates(Wanted(terms=((Term("base", b"file-7"),),)))
        assert len(refs) > 1


def test_a_damaged_row_of_a_filter_excludes_nothing(tmp_path: Path) -> None:
    path = Path(made(tmp_path, workload(6000)))
    with Archive(str(path)) as archive:
        trailer = archive._segment(1).trailer  # type: ignore[union-attr]
        assert trailer is not None
    data = bytearray((path / "0000000001.zst").read_bytes())
    end = trailer.index_at + trailer.index_size
    data[end - trailer.index_size // 2 : end] = bytes(trailer.index_size // 2)
    (path / "0000000001.zst").write_bytes(data)
    with Archive(str(path)) as archive:
        for number in range(1, 6000, 300):
            assert matching(archive, Wanted(terms=((Term("base", b"file-%d" % number),),)), b"file-%d" % number)
        assert any("rows of its index are damaged" in notice for notice in archive.notices)


def test_any_damaged_byte_is_found_or_harmless(tmp_path: Path) -> None:
    """Whatever byte of a segment is another one, what is read is text that was there."""
    text = workload(2000)
    path = Path(made(tmp_path, text)) / "0000000001.zst"
    whole, events = path.read_bytes(), set(text.split(b"type=SYSCALL"))
    rng = random.Random(3)
    for _ in range(150):
        damaged(path, rng.randrange(len(whole)))
        with Archive(str(tmp_path / "a")) as archive:
            for refs in archive.candidates(Wanted(terms=((Term("base", b"file-1000"),),))):
                for block in map(archive.read_block, refs):
                    assert block is None or {bytes(one) for one in block.text.split(b"type=SYSCALL")} <= events
        path.write_bytes(whole)


def test_pruned_and_sealed_while_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader sees what was there when it began; what was pruned since is told."""
    from auditns_connector.archive.files import ArchiveFiles
    from auditns_connector.archive.retention import Limits, prune

    monkeypatch.setattr(seal_module, "LEAST_SEGMENT", 1 << 16)
    path = made(tmp_path, *(workload(500, first=500 * n + 1) for n in range(4)))
    with Archive(path) as archive:
        blocks = archive.candidates()
        first = next(blocks)
        with ArchiveFiles(path) as files, files.locked():
            catalogue = seal_module.open_catalogue(files, print)
            assert len(prune(files, catalogue, Limits(max_size=1), 0, print)) == 3
            catalogue.close()
        made(tmp_path, workload(500, first=9000))
        assert archive.read_block(first[0]) is not None
        assert [refs[0].segment for refs in blocks] == [4]
        assert archive.notices == [f"{n:010d}.zst: pruned meanwhile" for n in (2, 3)]


@pytest.mark.parametrize("seen", [0, 1])
def test_a_segment_that_is_entered_while_the_catalogue_is_read_is_there_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seen: int
) -> None:
    """Its file has its name before its row is there; between the two looks the row came."""
    path = made(tmp_path, workload(100), workload(200)[len(workload(100)) :])
    real, looks = Catalogue.segments, []

    def segments(catalogue: Catalogue) -> list[SegmentRow]:
        looks.append(1)
        return real(catalogue)[:seen] if len(looks) == 1 else real(catalogue)

    monkeypatch.setattr(Catalogue, "segments", segments)
    with Archive(path) as archive:
        assert [row.seq for row in archive.segments()] == [1, 2]
        assert archive.notices == []
        assert b"".join(one.text for one in archive.events()) == workload(200)
