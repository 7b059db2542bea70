"""Who is whose child when the kernel's events begin to come, and what becomes of that while /proc is read."""

import os
from pathlib import Path

import pytest

from auditns_connector.host.adoption import with_parents
from auditns_connector.sources.parents import NOT_READ, Child, Parents, read_parents
from auditns_connector.vocabulary import frames as f
from auditns_connector.vocabulary.namespaces import ALL_ORDER

MS = 1_000_000
TICK = 1_000_000_000 // os.sysconf("SC_CLK_TCK")


def answer(pid: int, ppid: int, start: int) -> bytes:
    """The PROCESS frame of one that was read."""
    payload = f.PROCESS_PAYLOAD.pack(*[0] * (len(ALL_ORDER) + 1), 0, 0, 0, 0, ord("S"), 0)
    return f.pack(f.K_PROCESS, f.S_PROCFS, 90 * MS, pid=pid, tid=pid, ppid=ppid, arg=start * MS, payload=payload)


def said(events: bytes, block: bytes, known: Parents) -> dict[int, int]:
    """What the frames of ``block``, read until 100 ms, say of the parents before."""
    (found,) = with_parents(events, [(100 * MS, block)], known)
    assert found[0] == 100 * MS
    assert [frame._replace(ptid=0) for frame in f.iter_frames(found[1])] == list(f.iter_frames(block))
    return {frame.pid: frame.ptid for frame in f.iter_frames(found[1])}


def ended(pid: int, at: int, tid: int = 0) -> bytes:
    return f.pack(f.K_EXIT, f.S_PERF, at * MS, pid=pid, tid=tid or pid)


def test_who_was_adopted_has_the_parent_that_it_had() -> None:
    known = Parents(50 * MS, {7: Child(5, 10 * MS), 8: Child(1, 10 * MS)})
    assert said(b"", answer(7, 1, 10) + answer(8, 1, 10), known) == {7: 5, 8: 0}


def test_another_one_with_that_number_has_nothing_of_it() -> None:
    known = Parents(50 * MS, {7: Child(5, 10 * MS)})
    assert said(b"", answer(7, 1, 75), known) == {7: 0}


@pytest.mark.parametrize(
    ("events", "wanted"),
    [
        (b"", 0),
        (ended(5, 80), f.UNPROVEN_PARENT),
        (ended(5, 80, tid=6), f.UNPROVEN_PARENT),  # it may be the last of its threads
        (ended(5, 101), 0),  # not until all was read
        (ended(7, 80, tid=9), 0),  # a thread of its own
        (f.pack(f.K_FORK, f.S_PERF, 70 * MS, pid=5, tid=5, ppid=1, ptid=1) + ended(5, 80), 0),  # it is younger
        (f.pack(f.K_FORK, f.S_PERF, 70 * MS, pid=5, tid=6, ppid=5, ptid=5) + ended(5, 80), f.UNPROVEN_PARENT),
        (f.pack(f.K_LOST, f.S_PERF, 70 * MS, arg=1), f.UNPROVEN_PARENT),
    ],
)
def test_of_one_born_meanwhile_whoever_ended_may_be_the_parent(events: bytes, wanted: int) -> None:
    assert said(events, answer(7, 1, 55), Parents(50 * MS, {})) == {7: wanted}


def test_one_that_shared_our_namespaces_is_left_as_it_is() -> None:
    assert said(ended(5, 80), answer(7, 1, 30), Parents(50 * MS, {})) == {7: 0}
    assert said(ended(5, 80), answer(7, 1, 45), Parents(50 * MS, {})) == {7: f.UNPROVEN_PARENT}  # it is told in ticks


def test_an_answer_that_is_an_object_is_said_so_too() -> None:
    payload = b'{"pid":7,"ppid":1,"start":%d}' % (10 * MS)
    block = f.pack(f.K_PROC, f.S_PROCFS, 90 * MS, pid=7, tid=7, payload=payload)
    assert said(b"", block, Parents(50 * MS, {7: Child(5, 10 * MS)})) == {7: 5}
    empty = f.pack(f.K_PROC, f.S_PROCFS, 90 * MS, pid=7, tid=7, payload=b'{"pid":7,"ppid":null,"start":null}')
    assert said(b"", empty, Parents(50 * MS, {7: Child(5, 10 * MS)})) == {7: 0}


# -- reading


def process(root: Path, who: str, ppid: int, ticks: int, session: int = 0, **inodes: int) -> None:
    """A process as /proc has it."""
    space = root / who / "ns"
    space.mkdir(parents=True)
    for name, inode in {"pid": 1, "user": 2, **inodes}.items():
        (space / name).symlink_to(f"{name}:[{inode}]")
    (root / who / "stat").write_text(f"{who} (a) b) (c) S {ppid} 0 {session} {' 0' * 15} {ticks} 0\n")


def test_only_those_in_namespaces_of_their_own_are_read(tmp_path: Path) -> None:
    process(tmp_path, "self", 1, 1)
    process(tmp_path, "5", 1, 2)
    process(tmp_path, "6", 5, 3, pid=9)
    process(tmp_path, "7", 6, 4, user=8)
    (tmp_path / "8").mkdir()  # it is gone
    (tmp_path / "meminfo").touch()
    found = read_parents(["pid"], str(tmp_path))
    assert found.of == {6: Child(5, 3 * TICK)}
    assert found.all == {5}
    assert read_parents(["pid", "user"], str(tmp_path)).of.keys() == {6, 7}
    assert NOT_READ.all == frozenset()


@pytest.mark.parametrize(
    ("session", "above", "proven"),
    [(3, 3, True), (6, 3, True), (4, 3, False), (4, 1, False)],
    ids=["its-parents", "its-own", "anothers", "of-init"],
)
def test_who_was_adopted_before_shows_by_its_session(session: int, above: int, proven: bool, tmp_path: Path) -> None:
    process(tmp_path, "self", 1, 1)
    process(tmp_path, "5", 1, 2, above)
    process(tmp_path, "6", 5, 3, session, pid=9)
    found = read_parents(["pid"], str(tmp_path))
    assert found.of == {6: Child(5 if proven else f.UNPROVEN_PARENT, 3 * TICK)}
    assert found.all == ({5} if proven else set())
    told = said(b"", answer(6, 5, 3 * TICK // MS), found)
    assert told == {6: 0 if proven else f.UNPROVEN_PARENT}


def test_of_one_whose_parent_ended_meanwhile_that_stays(tmp_path: Path) -> None:
    process(tmp_path, "self", 1, 1)
    process(tmp_path, "6", 5, 3, 4, pid=9)
    assert read_parents(["pid"], str(tmp_path)).of == {6: Child(5, 3 * TICK)}


def test_here_it_is_as_the_scan_has_it() -> None:
    assert os.getpid() not in read_parents(["pid", "user"]).of
