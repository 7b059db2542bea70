"""A journal with checksums: whatever byte is changed or missing, no event is given another answer than before."""

import random
import tempfile
from pathlib import Path
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from auditns_connector.attribution.attributor import Correlator
from auditns_connector.audittext.scanner import TextStream
from auditns_connector.errors import DecodeError
from auditns_connector.journal import guard
from auditns_connector.journal.files import JournalWriter, ranges
from auditns_connector.journal.reader import JournalReader
from auditns_connector.pipeline.offline import ReplayAnswers
from auditns_connector.vocabulary import frames as f
from tests.examples import examples
from tests.unit.world import HEX, World

EVENTS = 6


def world() -> World:
    """Containers and processes of the host that come and go; a pid is used again and again."""
    w = World(guard=1)
    w.proc(100, 1, at=1, cg=f"/docker/{HEX}")
    for number in range(EVENTS):
        at = 20 * number + 20
        w.fork((1, 100)[number % 2], 7, at)
        w.exec(7, at + 1)
        w.put(f.K_MARK, at + 10, source=f.S_PIPELINE, payload=ranges([number + 1]))
        w.exit(7, at + 15)
    return w


def text() -> bytes:
    line = b"type=SYSCALL msg=audit(1700000000.%03d:%d): arch=c000003e syscall=59 success=yes pid=7\n"
    return b"".join(line % (20 * number + 20, number + 1) for number in range(EVENTS))


def written(frames: list[bytes]) -> bytes:
    """The file that a writer makes of these, in small blocks."""
    with tempfile.TemporaryDirectory() as folder, mock.patch.object(guard, "BLOCK", 600):
        path = Path(folder) / "journal"
        journal = JournalWriter(str(path))
        for frame in frames:
            journal.write(frame)
        journal.close()
        return path.read_bytes()


GOOD = written(world().log)
TEXT = text()


def answers(path: Path) -> tuple[list[bytes], list[str]]:
    """The answer of each event, and what is told."""
    with ReplayAnswers([str(path)]) as found:
        correlator, stream = Correlator(found.model, nodes=found.nodes), TextStream()
        choice = [*found.answer(correlator, stream.push(TEXT)), *found.answer(correlator, stream.flush(eof=True))]
        tails = correlator.tails[0]
        told = [bytes(tails._text[tails._off[n - 1] : tails._off[n]]) if n else b"" for n in choice]
        return told, found.notices


def right(tmp_path: Path) -> list[bytes]:
    path = tmp_path / "good"
    path.write_bytes(GOOD)
    told, notices = answers(path)
    assert notices == []
    return told


def check(path: Path, data: bytes, wanted: list[bytes]) -> bool:
    """Whether damaged ``data`` is told and gives no other answer; False where it is refused."""
    path.write_bytes(data)
    try:
        told, notices = answers(path)
    except DecodeError as error:
        assert str(path) in str(error)
        return False
    assert notices
    wrong = [pair for pair in zip(told, wanted, strict=True) if pair[0] != pair[1] and b"contid=?" not in pair[0]]
    assert wrong == []
    return True


def test_the_answers_are_of_both_kinds(tmp_path: Path) -> None:
    told = right(tmp_path)
    assert [b"contid=" in line for line in told] == [number % 2 == 1 for number in range(EVENTS)]
    assert not any(b"contid=?" in line for line in told)


def test_no_byte_can_be_changed_unseen(tmp_path: Path) -> None:
    wanted, path, read = right(tmp_path), tmp_path / "journal", 0
    for at in range(len(GOOD)):
        data = bytearray(GOOD)
        data[at] ^= 1 << at % 8 if at % 3 else 0xFF
        read += check(path, bytes(data), wanted)
    assert read > len(GOOD) // 2, "what stands before the damage is used"


def test_nothing_can_be_cut_off_unseen(tmp_path: Path) -> None:
    wanted, path = right(tmp_path), tmp_path / "journal"
    for size in range(1, len(GOOD), 5):
        check(path, GOOD[:size], wanted)


@examples(100)
@given(st.integers(0, 1 << 48))
def test_any_damage_is_seen(seed: int) -> None:
    rng, data = random.Random(seed), bytearray(GOOD)
    for _ in range(rng.choice([1, 1, 2, 4])):
        at, size = rng.randrange(len(data)), rng.randrange(1, 400)
        match rng.randrange(4):
            case 0:
                data[at : at + size] = rng.randbytes(rng.randrange(size))
            case 1:
                del data[at : at + size]
            case 2:
                data[at:at] = data[rng.randrange(len(data)) :][:size]
            case _:
                data[at] ^= 1 << rng.randrange(8)
    with tempfile.TemporaryDirectory() as folder:
        if bytes(data) != GOOD:
            check(Path(folder) / "journal", bytes(data), right(Path(folder)))


def test_blocks_cannot_be_left_out_doubled_or_moved(tmp_path: Path) -> None:
    ends, off = [], 0
    for frame in f.iter_frames(GOOD):
        off += f.HEADER_SIZE + len(frame.payload)
        if frame.kind == f.K_CHECK:
            ends.append(off)
    blocks = [GOOD[start:end] for start, end in zip([0, *ends], ends, strict=False)]
    assert len(blocks) > 4
    wanted, path = right(tmp_path), tmp_path / "journal"
    for number in range(1, len(blocks)):
        left_out = blocks[:number] + blocks[number + 1 :]
        doubled = blocks[: number + 1] + blocks[number:]
        moved = [*blocks[:number], *blocks[number + 1 :], blocks[number]]
        for changed in (left_out, doubled, *([moved] if moved != blocks else [])):
            assert check(path, b"".join(changed), wanted)


def test_a_journal_of_the_first_version_is_read_with_a_notice(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    path.write_bytes(b"".join(frame for frame in world().log).replace(b'"guard": 1', b'"guard": 0'))
    told, notices = answers(path)
    assert told == right(tmp_path)
    assert len(notices) == 1
    assert "no checksums" in notices[0]


def test_a_rotated_file_has_an_end_and_what_follows_a_damaged_one_is_used(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    journal = JournalWriter(str(path), max_size=1000)
    frames = world().log
    for frame in frames:
        journal.write(frame)
    assert journal.rotate()
    journal.write(frames[0])
    journal.close()
    assert JournalReader([f"{path}.1", str(path)]).notices == []
    older = bytearray(Path(f"{path}.1").read_bytes())
    older[-60] ^= 1
    Path(f"{path}.1").write_bytes(older)
    with pytest.raises(DecodeError, match="damaged in its first block"):
        JournalReader([f"{path}.1", str(path)])
