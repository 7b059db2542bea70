"""How our records are spelled and where they stand: by the version of the audit tools, at the end, or apart."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from auditns_connector.attribution.attributor import Correlator
from auditns_connector.audittext.insertion import RecordTexts, assemble
from auditns_connector.audittext.scanner import InsertionPoints, TextStream
from auditns_connector.emit.spelling import Spelling, choose, recorded
from auditns_connector.host.audit_tools import version, version_in
from auditns_connector.pipeline.text_stage import NUMERIC, RAW, Enricher
from tests.property.audit_text import stream
from tests.unit.world import HEX, World

OURS = b"\1type=CONTAINER_ID \0 contid=1\n"
TOOL = b"\x7fELF\0\0usage: %s\0%b\0ausearch version %s\n\0more\0"


@pytest.mark.parametrize(
    ("wanted", "tools", "numeric", "at_end"),
    [
        ("auto", "3.0.9", True, False),
        ("auto", "2.8.5", True, False),
        ("auto", "4.0", False, False),
        ("auto", "10.1.2", False, False),
        ("auto", "", True, False),
        ("symbolic", "3.1.2", False, True),
        ("symbolic", "", False, True),
        ("symbolic", "4.2.1", False, False),
        ("numeric", "4.2.1", True, False),
    ],
)
def test_spelling_goes_by_the_audit_tools(wanted: str, tools: str, numeric: bool, at_end: bool) -> None:
    assert choose(wanted, tools) == Spelling(numeric, at_end, tools)


def test_a_replay_spells_as_the_run_did() -> None:
    run = choose("auto", "4.1")
    assert recorded(run.recorded(), "auto") == run
    assert recorded(run.recorded(), "numeric") == choose("numeric", "4.1")
    assert recorded(choose("numeric", "4.1").recorded(), "auto") == choose("numeric", "4.1")


@pytest.mark.parametrize(
    "hello", [{}, {"audit_tools": "3.0"}, {"audit_tools": 3, "record_names": "numeric"},
              {"audit_tools": "x.y", "record_names": "numeric"}, {"audit_tools": "3.0", "record_names": "auto"}],
)  # fmt: skip
def test_a_journal_that_does_not_say_decides_nothing(hello: dict[str, object]) -> None:
    assert recorded(hello, "auto") is None


@pytest.mark.parametrize(
    ("program", "found"),
    [
        (TOOL.replace(b"%b", b"3.0.9"), "3.0.9"),
        (TOOL.replace(b"%b", b"4.2"), "4.2"),
        (b"a\0audit version = %s\0\0004.1.2\0", "4.1.2"),
        (TOOL.replace(b"%b", b"3.0.9\x004.0"), ""),
        (TOOL.replace(b"%b", b"three"), ""),
        (b"\0003.0.9\0", ""),
        (b"", ""),
    ],
)
def test_the_version_is_read_from_a_tools_file(program: bytes, found: str, tmp_path: Path) -> None:
    assert version_in(program) == found
    (tmp_path / "aureport").write_bytes(program)
    (tmp_path / "ausearch").mkdir()
    assert version(("/nowhere", str(tmp_path))) == found


def decided(source: TextStream, text: bytes) -> Iterator[InsertionPoints]:
    """What the text decides, then what its end does; the points of one are gone with the next."""
    yield source.push(text)
    yield source.flush(eof=True)


def whole(text: bytes, names: str, **options: bool) -> bytes:
    """The text by the whole way; processes 100 and 7 are of a container."""
    made = World()
    made.proc(100, 1, at=1, cg=f"/docker/{HEX}")
    made.fork(100, 7, 2)
    correlator = Correlator(made.model, spellings=(names == NUMERIC,))
    enricher = Enricher(correlator, [names], **options)
    source, out = TextStream(whole=enricher.whole, patient=True, at_end=enricher.at_end), b""
    for points in decided(source, text):
        for block in enricher.take(points, lambda p: correlator.answer(p, 30_000_000_000)).values():
            out += block
    return out


S = b" msg=audit(1700000000.100:5):"
T = b" msg=audit(1700000000.100:6):"
OTHER = b"type=AVC" + T + b" pid=7\n"
KILL = [
    b"type=SYSCALL" + S + b" arch=c000003e syscall=62 success=yes exit=0 ppid=1 pid=100\n",
    b"type=OBJ_PID" + S + b" opid=7\n",
    b"type=PROCTITLE" + S + b" proctitle=00\n",
    b"type=EOE" + S + b"\n",
]


def kinds(text: bytes) -> list[str]:
    return [
        f"{line.split()[0][5:].decode()}:{line.split(b':')[1].split(b')')[0].decode()}" for line in text.splitlines()
    ]


def test_names_beside_old_tools_stand_at_the_end_of_their_event() -> None:
    text = KILL[0] + OTHER + b"".join(KILL[1:])
    assert kinds(whole(text, RAW, at_end=True)) == [
        "SYSCALL:5", "AVC:6", "OBJ_PID:5", "PROCTITLE:5", "CONTAINER_ID:5", "CONTAINER_ID:5", "EOE:5", "CONTAINER_ID:6",
    ]  # fmt: skip


def test_numbers_stand_where_they_belong_whatever_the_tools() -> None:
    assert whole(b"".join(KILL), NUMERIC, at_end=True) == whole(b"".join(KILL), NUMERIC)


@pytest.mark.parametrize("seed", range(40))
def test_what_stands_at_the_end_is_the_same_records(seed: int) -> None:
    text = stream(seed)
    out, there = (
        b"".join(
            assemble(points, [serial % 2 for serial in points.serial[: points.n]], RecordTexts([OURS]))
            for points in decided(TextStream(whole=bool(seed % 3), patient=True, at_end=at_end), text)
        )
        for at_end in (True, False)
    )
    assert sorted(out.split(b"\n")) == sorted(there.split(b"\n"))
    assert [line for line in out.split(b"\n") if b"contid=1" not in line] == [
        line for line in there.split(b"\n") if b"contid=1" not in line
    ]


def test_what_is_kept_is_kept_with_its_records_at_the_end() -> None:
    source = TextStream(whole=True, patient=True, at_end=True)
    source.put(b"".join(KILL) + OTHER)
    points = source.flush(eof=True)
    assert (
        assemble(points, [1, 1, 1], RecordTexts([OURS]), b"\1\0")
        == b"".join(KILL[:3]) + 2 * (b"type=CONTAINER_ID" + S + b" contid=1\n") + KILL[3]
    )


def test_apart_is_an_event_of_its_own_for_kernel_records_without_a_syscall() -> None:
    alone = b"type=SECCOMP" + T + b" pid=7\n"
    user = b"type=USER_CMD msg=audit(1700000000.100:7): pid=7 msg='x'\n"
    login = b"type=LOGIN msg=audit(1700000000.100:8): pid=7 uid=0\n"
    out = whole(b"".join(KILL) + alone + user + login, RAW, apart=True)
    assert kinds(out) == [
        "SYSCALL:5", "CONTAINER_ID:5", "OBJ_PID:5", "CONTAINER_ID:5", "PROCTITLE:5", "EOE:5",
        "SECCOMP:6", f"CONTAINER_ID:{6 + (3 << 30)}", "USER_CMD:7", "CONTAINER_ID:7",
        "LOGIN:8", f"CONTAINER_ID:{8 + (3 << 30)}",
    ]  # fmt: skip
    assert b" event=1700000000.100:6\n" in out
    assert out.count(b"event=") == 2


def test_a_serial_apart_is_counted_modulo_2_to_the_32() -> None:
    out = whole(b"type=SECCOMP msg=audit(1700000000.100:4294967295): pid=7\n", NUMERIC, apart=True)
    assert b"UNKNOWN[1340] msg=audit(1700000000.100:3221225471): contid=" in out
    assert out.endswith(b" event=1700000000.100:4294967295\n")
