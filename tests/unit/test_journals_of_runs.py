"""Journals of several runs read together: what happened between the runs, and on another boot, is unknown."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from auditns_connector.attribution import attributor
from auditns_connector.attribution.attributor import Correlator
from auditns_connector.audittext.scanner import InsertionPoints, TextStream
from auditns_connector.errors import AuditnsError, DecodeError
from auditns_connector.journal.files import JournalWriter, ranges
from auditns_connector.journal.reader import JournalReader
from auditns_connector.model.places import MINTED
from auditns_connector.pipeline.filters import EventFilter
from auditns_connector.pipeline.offline import ReplayAnswers
from auditns_connector.pipeline.text_stage import JSON, RAW, Enricher
from auditns_connector.vocabulary import frames as f
from auditns_connector.vocabulary.namespaces import INDEX
from tests.unit.world import HEX, World, contid


def record(ms: int, serial: int, pid: int = 100) -> bytes:
    return b"type=SYSCALL msg=audit(1700000%03d.%03d:%d): arch=c000003e syscall=82 success=yes pid=%d\n" % (
        *divmod(ms, 1000), serial, pid,
    )  # fmt: skip


def run(began: int, *, alive: bool = True, sandboxes: Sequence[int] = (), **hello: Any) -> list[bytes]:
    """The frames of a run from ``began`` to 100 ms later; process 100 is in a Docker container, or not there; there are
    sandboxes of these processes, too short for the kernel to be asked for their ids."""
    world = World(**{"run": began, **hello})
    frames = []
    world.put(f.K_RESYNC, at=began, source=f.S_PROCFS, arg=1)
    world.proc(1, 0, at=began)
    if alive:
        world.proc(100, 1, at=began, start=1, cg=f"/docker/{HEX}")
    world.put(f.K_RESYNC, source=f.S_PROCFS, arg=2)
    for pid in sandboxes:
        world.fork(1, pid, began + 20, pid=4026540000 + pid)
        inst = world.model.processes[pid].state.nsset.inst[INDEX["pid"]]  # type: ignore[union-attr]
        world.exit(pid, began + 40)
        world.put(
            f.K_NSID, source=f.S_PROCFS, ppid=inst.index, cgroup=inst.number, payload=inst.ino.to_bytes(8, "little")
        )
    world.put(f.K_MARK, at=began + 100, source=f.S_PIPELINE, payload=ranges([began]))
    hello_frame = f.pack(f.K_HELLO, f.S_PIPELINE, began * 1_000_000, payload=payload(world.log[0]))
    clock = f.pack(f.K_CLOCK, f.S_PIPELINE, began * 1_000_000, arg=next(f.iter_frames(world.log[1])).arg)
    frames += [hello_frame, clock, *world.log[2:]]
    return frames


def payload(frame: bytes) -> bytes:
    (only,) = f.iter_frames(frame)
    return bytes(only.payload)


def write(path: Path, frames: list[bytes]) -> str:
    path.write_bytes(b"".join(frames))
    return str(path)


def told(paths: list[str], text: bytes) -> list[str]:
    """The answer for each record of ``text``; "" for the host."""
    with ReplayAnswers(paths) as answers:
        correlator, stream = Correlator(answers.model, nodes=answers.nodes), TextStream()
        enricher = Enricher(correlator, [RAW])
        stream.hold(True)

        def take(points: InsertionPoints) -> bytes:
            return b"".join(enricher.take(points, lambda p: answers.answer(correlator, p)).values())

        out = take(stream.push(text)) + take(stream.flush(eof=True))
    found: list[str] = []
    for line in out.decode().splitlines():
        if line.startswith("type=SYSCALL"):
            found.append("")
        else:
            found[-1] = line.partition(" contid=")[2]
    return found


@pytest.fixture
def first(tmp_path: Path) -> str:
    return write(tmp_path / "first", run(1000))


def test_between_two_runs_nobody_knows(first: str, tmp_path: Path) -> None:
    second = write(tmp_path / "second", run(60_000, alive=False))
    text = record(1050, 1000) + record(30_000, 1001) + record(60_050, 60_000)
    assert told([first, second], text) == [contid(HEX), "?", "?"]


def test_who_lives_through_both_is_known_in_both(first: str, tmp_path: Path) -> None:
    second = write(tmp_path / "second", run(60_000))
    text = record(1050, 1000) + record(30_000, 1001) + record(60_050, 60_000)
    assert told([first, second], text)[::2] == [contid(HEX), contid(HEX)]


def test_what_rows_of_one_run_say_is_nothing_of_the_next(
    first: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attributor, "_LASTING", -(10**18))  # whoever is asked about becomes a row
    second = write(tmp_path / "second", run(60_000, alive=False))
    text = [record(1080, 1001 + at) for at in range(40)] + [record(60_050, 60_001 + at) for at in range(40)]
    assert told([first, second], b"".join(text)) == [contid(HEX)] * 40 + ["?"] * 40


def test_rows_are_those_of_the_run_that_is_read(first: str, tmp_path: Path) -> None:
    second = write(tmp_path / "second", run(60_000))
    with ReplayAnswers([first, second]) as answers:
        correlator, stream = Correlator(answers.model, nodes=answers.nodes), TextStream()
        for at in (1080, 60_050):
            answers.answer(correlator, stream.push(record(at, at + 1) + record(at, at + 2)))
            assert correlator._rows._model is correlator.model is answers.model
            assert correlator.numbers._model is answers.model


def test_what_a_killed_run_did_not_mark_any_more_is_answered_by_what_it_had_seen(first: str, tmp_path: Path) -> None:
    second = write(tmp_path / "second", run(60_000, alive=False))
    text = record(1080, 1001) + record(60_050, 60_000)
    assert told([first, second], text) == [*told([first], record(1080, 1001)), "?"] == [contid(HEX), "?"]


def test_a_sandbox_is_called_the_same_with_the_journal_of_a_former_run(tmp_path: Path) -> None:
    first = write(tmp_path / "first", run(1000, sandboxes=[200, 201, 202], mint_next=MINTED + 1))
    second = write(tmp_path / "second", run(60_000, sandboxes=[200, 201], mint_next=MINTED + 1001))
    text = record(60_030, 60_000, pid=201)
    (alone,) = told([second], text)
    assert alone not in ("", "?")
    assert told([first, second], text) == [alone]


def test_the_order_of_the_names_does_not_matter(first: str, tmp_path: Path) -> None:
    second = write(tmp_path / "second", run(60_000))
    text = record(1050, 1000) + record(60_050, 60_000)
    assert told([second, first], text) == told([first, second], text) == [contid(HEX), contid(HEX)]


def test_a_rotated_journal_has_no_gap(tmp_path: Path) -> None:
    one = write(tmp_path / "one", run(1000))
    two = write(tmp_path / "two", run(2000, run=1000))
    assert told([one, two], record(1500, 7)) == [contid(HEX)]


def test_journals_of_two_boots_are_refused(first: str, tmp_path: Path) -> None:
    other = write(tmp_path / "other", run(1500, boot_id="c"))
    with pytest.raises(DecodeError, match="of another boot"):
        JournalReader([first, other])


def test_the_former_run_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "made" / "journal"
    for number in range(4):
        writer = JournalWriter(str(path), keep=2, former="keep")
        writer.write(run(number)[0])
        writer.close()
    JournalWriter(str(path), keep=2, former="keep").close()
    JournalWriter(str(path), keep=2, former="keep").close()  # an empty one is not worth keeping
    kept = {file.name: file.read_bytes() for file in path.parent.iterdir()}
    frames = {
        name: b"".join(f.pack(*frame[:2], frame.time, payload=frame.payload) for frame in f.iter_frames(data)
                       if frame.kind != f.K_CHECK)
        for name, data in kept.items()
    }  # fmt: skip
    assert frames == {"journal": b"", "journal.1": run(3)[0], "journal.2": run(2)[0]}
    assert path.parent.stat().st_mode & 0o777 == 0o750


def test_what_is_no_journal_is_not_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "audit.log"
    path.write_bytes(record(1, 1))
    for former in ("keep", "overwrite"):
        with pytest.raises(AuditnsError, match=r"audit\.log: it holds something else"):
            JournalWriter(str(path), former=former)
    assert path.read_bytes() == record(1, 1)


def test_a_former_journal_is_overwritten_where_that_is_wanted(first: str) -> None:
    JournalWriter(first).close()
    assert Path(first).read_bytes() == b""


def long_run() -> list[bytes]:
    """The frames of a run of five minutes that answers an event a second, whose serials are from 1000 on; pid 7 is held
    by the host and by a Docker container in turn."""
    world = World()
    world.proc(100, 1, at=1, cg=f"/docker/{HEX}")
    for second in range(300):
        at = 1000 * second + 100
        world.fork((1, 100)[second % 2], 7, at)
        world.put(f.K_MARK, at=at + 50, source=f.S_PIPELINE, payload=ranges([1000 + second]))
        world.exit(7, at + 500)
    return world.log


def text_of(serial: int, step: int = 1) -> bytes:
    return b"".join(record(1000 * second + 120, serial + step * second, 7) for second in range(300))


def answered(path: str, text: bytes) -> tuple[list[str], int]:
    """The answers of ``text``, and how many events were found to be of another host."""
    with ReplayAnswers([path]) as answers:
        correlator, stream = Correlator(answers.model, nodes=answers.nodes), TextStream()
        found = []
        for take in (lambda: stream.push(text), lambda: stream.flush(eof=True)):
            points = take()
            choice, tails = answers.answer(correlator, points), correlator.tails[0]
            for number in choice:
                tail = bytes(tails._text[tails._off[number - 1] : tails._off[number]]) if number else b""
                found.append(tail.partition(b" contid=")[2].strip().decode() or "host")
        return found, answers.foreign


def test_the_log_of_another_host_of_the_same_time_gets_no_answer(tmp_path: Path) -> None:
    """It has no node= in front, and its serials are others."""
    path = write(tmp_path / "journal", long_run())
    own = ["host", contid(HEX)] * 150
    assert answered(path, text_of(1000)) == (own, 0)
    for serial, step in ((5_000_000, 1), (1, 0), (2_000_000, 7), (10, 1)):
        found, foreign = answered(path, text_of(serial, step))
        wrong = [(mine, theirs) for mine, theirs in zip(own, found, strict=True) if theirs != "?"]
        assert len(wrong) < 35, (serial, step)  # as many seconds as a run may be behind
        assert foreign > 260, (serial, step)


def test_events_of_another_host_are_counted_once_each(tmp_path: Path) -> None:
    """And not each place in them: targets, and what comes of them late."""
    target = b"type=OBJ_PID msg=audit(1700000100.120:5000000): opid=7 ocomm=x\n"
    path = write(tmp_path / "journal", long_run())
    text = b"".join([record(100_120, 5_000_000, 7), target, target, record(101_120, 5_000_001, 7), target])
    assert answered(path, text)[1] == 2


def named_run() -> list[bytes]:
    """A run in which the name of a container is read when its first event is answered already."""
    world = World(run=0)
    world.proc(7, 1, at=100, start=90, cg=f"/docker/{HEX}")
    world.put(f.K_MARK, at=200, source=f.S_PIPELINE, payload=ranges([1]))
    request = {"op": "names", "key": [["docker", HEX]], "names": {"name": "web"}, "labels": {}}
    world.put(f.K_REGISTER, at=210, source=f.S_CONTROL, payload=json.dumps(request).encode())
    world.put(f.K_MARK, at=400, source=f.S_PIPELINE, payload=ranges([2]))
    return world.log


def in_blocks(form: str, answers: ReplayAnswers, text: bytes, size: int) -> bytes:
    """What comes of the events of containers called web in ``text``, which comes in blocks of ``size`` bytes."""
    correlator = Correlator(answers.model, info=True)
    enricher = Enricher(correlator, [form], wanted=EventFilter(names=["web"]))
    stream = enricher.stream = TextStream(whole=True, patient=True)

    def take(points: InsertionPoints) -> bytes:
        return b"".join(enricher.take(points, lambda p: answers.answer(correlator, p)).values())

    blocks = [take(stream.push(text[at : at + size])) for at in range(0, len(text), size)]
    return b"".join([*blocks, take(stream.flush(eof=True))])


@pytest.mark.parametrize("form", [JSON, RAW])
def test_a_container_has_its_name_in_whatever_blocks_text_comes(form: str, tmp_path: Path) -> None:
    path = write(tmp_path / "journal", named_run())
    lines = [record(150, 1, 7), record(350, 2, 7)]
    text = b"".join(line + line.replace(b"SYSCALL", b"EOE") for line in lines)
    outs = []
    for size in (1, len(text) // 2, len(text)):
        with ReplayAnswers([path]) as answers:
            outs.append(in_blocks(form, answers, text, size))
    assert outs[0].count(b"web") == 2
    assert outs == [outs[0]] * 3


def test_the_log_of_another_time_or_boot_gets_no_answer(tmp_path: Path) -> None:
    path = write(tmp_path / "journal", long_run())
    for later in (-7200_000, 7200_000, 86_400_000 * 300):
        text = b"".join(
            b"type=SYSCALL msg=audit(%d.120:%d): arch=c000003e syscall=82 success=yes pid=7\n"
            % (1_700_000_000 + later // 1000 + second, 1000 + second)
            for second in range(300)
        )
        assert set(answered(path, text)[0]) == {"?"}


def test_events_that_the_run_has_missed_are_of_its_host_all_the_same(tmp_path: Path) -> None:
    frames = long_run()
    path = write(tmp_path / "journal", [frame for number, frame in enumerate(frames) if number % 3 or not marks(frame)])
    assert answered(path, text_of(1000)) == (["host", contid(HEX)] * 150, 0)


def marks(frame: bytes) -> bool:
    (only,) = f.iter_frames(frame)
    return only.kind == f.K_MARK
