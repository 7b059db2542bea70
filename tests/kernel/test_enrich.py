"""``auditns enrich``: live against this host, and offline from a journal, on good and on bad input."""

import os
import random
import re
import secrets
import socket
import subprocess
import time
from pathlib import Path

import pytest

from tests.kernel.programs import (
    AUDITNS,
    TIMEOUT,
    auditns,
    by_name,
    contids,
    environment,
    events,
    listening,
    ours,
    until,
    whole_event_of,
)
from tests.kernel.runtimes import Runtimes
from tests.kernel.support import AuditState, auditctl, need, need_tool
from tests.property.audit_text import stream

pytestmark = [pytest.mark.kernel, pytest.mark.usefixtures("root")]


def record(pid: int, at: float, serial: int = 1, node: str = "", **more: object) -> bytes:
    """One SYSCALL record of ``pid`` stamped ``at`` seconds since 1970."""
    head = f"{f'node={node} ' if node else ''}type=SYSCALL msg=audit({at:.3f}:{serial}):"
    fields = {"syscall": 257, "ppid": 1, **more}
    said = " ".join(f"{name}={value}" for name, value in fields.items())
    return f'{head} arch=c000003e {said} success=yes exit=0 pid={pid} comm="sleep" key=(null)\n'.encode()


def plain(text: bytes) -> bytes:
    """``text`` without the records of ours."""
    return b"".join(line for line in text.splitlines(keepends=True) if not ours(line))


def enrich(text: bytes, *args: str | Path) -> bytes:
    """Its output for ``text`` on stdin; nothing but our records is added."""
    done = auditns("enrich", *args, stdin=text)
    nothing = b"no audit record" in done.stderr and b"0 of 0 events" in done.stderr
    assert done.returncode == int(nothing), done.stderr
    assert b"Traceback" not in done.stderr
    return by_name(done.stdout)


def told(text: bytes, serial: int) -> list[str]:
    """The answers for the event with that serial."""
    (lines,) = [lines for stamp, lines in events(text).items() if stamp.endswith(b":%d)" % serial)]
    return contids(lines)


def test_live_only_what_is_known_is_told(runtimes: Runtimes) -> None:
    need_tool("runc")
    name = secrets.token_hex(32)
    before = time.time() - 1
    container = runtimes.start("runc", name=name, cgroup=f"/docker/{name}")
    time.sleep(0.05)
    now, here, right = time.time(), socket.gethostname(), [str(int(name[:16], 16))]
    with open("/proc/stat", encoding="ascii") as file:
        boot = next(int(line.split()[1]) for line in file if line.startswith("btime"))
    pid, gone = container.pid, subprocess.Popen(["/bin/true"])
    gone.wait()
    text = (
        record(pid, now, 1)
        + record(pid, before, 2)  # the pid's holder of today was not there yet
        + record(pid, boot - 1000, 3)  # another boot
        + record(pid, now, 4, node="elsewhere")
        + record(pid, now, 5, node=here)
        + record(os.getpid(), now, 6)
        + record(gone.pid, now, 7)
        + record(2**22 + 1, now, 8)  # no such pid
        + record(1, now, 9)
        + record(1, boot - 1000, 10)
        + record(os.getpid(), now, 11, node="elsewhere")
    )
    out = enrich(text)
    assert plain(out) == text
    unknown: list[str] = ["?"]
    assert [told(out, n) for n in range(1, 12)] == [
        right, unknown, unknown, unknown, right, [], unknown, unknown, [], unknown, unknown,
    ]  # fmt: skip


def test_live_from_auditd_like_log_formats(runtimes: Runtimes, tmp_path: Path) -> None:
    """ENRICHED fields behind 0x1D and their names do not mislead; several files are one input."""
    need_tool("runc")
    name = secrets.token_hex(32)
    pid = runtimes.start("runc", name=name, cgroup=f"/docker/{name}").pid
    time.sleep(0.05)
    text = record(pid, time.time(), 1).rstrip(b"\n") + b"\x1dARCH=x86_64 SYSCALL=openat pid=1\n"
    (tmp_path / "1").write_bytes(text)
    (tmp_path / "2").write_bytes(record(pid, time.time(), 2))
    done = auditns("enrich", tmp_path / "1", tmp_path / "2", "--record-names", "numeric")
    assert plain(done.stdout) == text + (tmp_path / "2").read_bytes()
    assert [told(done.stdout, 1), told(done.stdout, 2)] == [[str(int(name[:16], 16))]] * 2
    assert done.stdout.count(b"type=UNKNOWN[1340] ") == 2


@pytest.fixture
def recorded(audit_state: AuditState, runtimes: Runtimes, tmp_path: Path, token: str) -> tuple[bytes, Path]:
    """(what a listener showed, its journal): containers that came and went while it listened."""
    need_tool("runc", "unshare")
    need("\npid 0\n" in auditctl("-s"), "no auditd running")
    journal = tmp_path / "journal"
    with listening(tmp_path / "run", "--rules", "--format", "raw", "--journal", journal) as program:
        name = secrets.token_hex(32)
        container = runtimes.start("runc", name=name, cgroup=f"/docker/{name}")
        for i in range(3):
            container.exec(["sh", "-c", f"/bin/true {i}-{token} & /bin/true again-{i}-{token}; wait"])
            subprocess.run(["unshare", "-p", "-f", "/bin/sh", "-c", f"/bin/true {i}-{token}; /bin/true"], check=True)
        container.stop()
        subprocess.run(["/bin/true", f"last-{token}"], check=True)
        until(lambda: whole_event_of(program.out, f'a1="last-{token}"'), "the last event")
    found = [contids(lines) for lines in events(program.out).values()]
    assert sum(map(bool, found)) > 10
    return program.out, journal


def test_a_replay_says_the_same_to_the_byte(recorded: tuple[bytes, Path], tmp_path: Path) -> None:
    live, journal = recorded
    text = plain(live)
    first = enrich(text, "--journal", journal)
    assert first == b"".join(line for line in live.splitlines(keepends=True) if not alone(line, live))
    assert enrich(text, "--journal", journal) == first
    for form in ("json", "pretty"):
        out = enrich(text, "--journal", journal, "--format", form, "--ns", "all", "--info")
        assert out == enrich(text, "--journal", journal, "--format", form, "--ns", "all", "--info")
        assert out.count(b"\n") == len(events(text))
    # in pieces, in another order of events, and filtered, each event is told the same
    half = text.index(b"\n", len(text) // 2) + 1
    halves = text[:half], text[half:]
    (tmp_path / "1").write_bytes(halves[0])
    (tmp_path / "2").write_bytes(halves[1])
    parts = auditns("enrich", "--journal", journal, tmp_path / "1", tmp_path / "2")
    assert plain(parts.stdout) == text
    some = list(events(first).items())[5:15]
    asked = b"".join(line + b"\n" for _, lines in some for line in lines if not ours(line))
    assert events(enrich(asked, "--journal", journal)) == dict(some)


def alone(line: bytes, text: bytes) -> bool:
    """Whether ``line`` is an event of our own in ``text``."""
    stamp = line.partition(b"msg=")[2].partition(b"):")[0]
    return ours(line) and all(ours(other) for other in text.splitlines() if stamp + b"):" in other)


def test_a_journal_knows_nothing_of_other_hosts_and_times(recorded: tuple[bytes, Path]) -> None:
    live, journal = recorded
    here = [line for lines in events(live).values() if contids(lines) for line in lines if b"type=SYSCALL" in line]
    line = here[-1] + b"\n"
    stamp = line.partition(b"msg=audit(")[2].partition(b")")[0]
    ago = line.replace(stamp, b"1000000000.000:" + stamp.rpartition(b":")[2])
    ahead = line.replace(stamp, b"%d.000:99999999" % (time.time() + 100_000))
    for text in (b"node=elsewhere " + line, ago, ahead):
        out = enrich(text, "--journal", journal)
        assert plain(out) == text
        assert contids(out.splitlines()) == ["?"], text
    mine = b"node=" + socket.gethostname().encode() + b" " + line
    assert contids(enrich(mine, "--journal", journal).splitlines()) == contids(
        enrich(line, "--journal", journal).splitlines()
    )


def test_a_journal_cut_short_or_damaged(recorded: tuple[bytes, Path], tmp_path: Path) -> None:
    live, journal = recorded
    text, data, whole = plain(live), journal.read_bytes(), enrich(plain(live), "--journal", journal)
    right = {stamp: contids(lines) for stamp, lines in events(whole).items()}
    damaged = tmp_path / "damaged"
    rng = random.Random(len(data))
    for size in (len(data) - 1, len(data) - 60, len(data) // 2 + 3, len(data) // 5 + 1):
        damaged.write_bytes(data[:size])
        done = auditns("enrich", "--journal", damaged, stdin=text)
        if size < len(data) - 60 and done.returncode:  # the cut is in the first block, of which nothing can be trusted
            assert (done.returncode, done.stdout, done.stderr.count(b"\n")) == (1, b"", 1), done.stderr
            assert str(damaged).encode() in done.stderr
            continue
        assert done.returncode == 0, done.stderr
        assert b"cut short" in done.stderr
        assert plain(done.stdout) == text
        # what a recording without its end leaves open is unknown, never another container
        for stamp, lines in events(done.stdout).items():
            assert contids(lines) in (right[stamp], ["?"] * max(1, len(contids(lines)))), lines
    broken = [b"", b"\0" * 4096, b"type=SYSCALL msg=audit(1.000:1): pid=1\n", rng.randbytes(5000), data[8:]]
    at = len(data) // 2
    broken += [data[:at] + rng.randbytes(300) + data[at + 300 :] for _ in range(3)]
    for content in broken:
        damaged.write_bytes(content)
        done = auditns("enrich", "--journal", damaged, stdin=text)
        assert b"Traceback" not in done.stderr
        if done.returncode == 0:
            assert plain(done.stdout) == text
        else:
            assert (done.returncode, done.stderr.count(b"\n")) == (1, 1), done.stderr
            assert str(damaged).encode() in done.stderr
    for content in broken[:4]:
        damaged.write_bytes(content)
        assert auditns("enrich", "--journal", damaged, stdin=text).returncode == 1


def test_bad_input_comes_out_as_it_went_in() -> None:
    rng = random.Random(2)
    event = record(os.getpid(), time.time())
    for text in (
        b"",
        b"\n\n",
        event[:-1],  # no newline at its end
        event[: len(event) // 2],
        b"\0" * 100_000,
        rng.randbytes(300_000),
        event.replace(b"SYSCALL", b"S" * 500_000),
        b"type=SYSCALL msg=audit(99999999999999999999.999:18446744073709551616): pid=99999999999\n" * 3,
        b"".join(stream(seed) for seed in range(40)),
        b"".join(sorted(stream(41).splitlines(keepends=True), key=lambda line: rng.random())),
    ):
        out = enrich(text)
        assert without_added(out, by_name(text)), text[:200]


def without_added(out: bytes, text: bytes) -> bool:
    """Whether ``out`` is ``text`` with nothing but whole CONTAINER_ID lines put in."""
    lines, at = out.splitlines(keepends=True), 0
    wanted = text.splitlines(keepends=True)
    for line in lines:
        if at < len(wanted) and line == wanted[at]:
            at += 1
        elif at == len(wanted) - 1 and line == wanted[at] + b"\n":
            at += 1  # an unterminated last line that one of ours follows
        elif re.search(rb"type=CONTAINER_ID (msg=)?audit\(", line) is None:  # without msg= where printk's are
            return False
    return at == len(wanted)


def test_its_own_output_is_not_enriched_again(recorded: tuple[bytes, Path]) -> None:
    live, journal = recorded
    once = enrich(plain(live), "--journal", journal)
    assert enrich(once, "--journal", journal) == once
    again = events(enrich(once))
    assert all(again[stamp] == lines for stamp, lines in events(once).items() if contids(lines))


@pytest.mark.parametrize(
    ("args", "complaint"),
    [
        (["/nonexistent/file"], "/nonexistent/file: No such file or directory"),
        (["/"], "/: Is a directory"),
        (["/proc/self/mem"], "/proc/self/mem: Input/output error"),
        (["--journal", "/nonexistent/journal"], "cannot read the journal /nonexistent/journal: No such file"),
    ],
)
def test_what_cannot_be_read(args: list[str], complaint: str) -> None:
    done = auditns("enrich", *args)
    assert (done.returncode, done.stdout) == (1, b"")
    assert done.stderr.decode().startswith(f"auditns: {complaint}")
    assert done.stderr.count(b"\n") == 1


def test_a_full_disk_is_told() -> None:
    text = record(os.getpid(), time.time()) * 1000
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [*AUDITNS, "enrich"], input=text, stdout=full, stderr=subprocess.PIPE, env=environment(), timeout=TIMEOUT
        )
    assert done.returncode == 1
    assert b"No space left on device" in done.stderr
    assert b"Traceback" not in done.stderr


def test_a_pipe_closed_in_mid_event(tmp_path: Path) -> None:
    """The reader goes away while there is more: no error, no endless wait, no traceback."""
    text = tmp_path / "text"
    text.write_bytes(b"".join(record(os.getpid(), time.time(), n) for n in range(20_000)))
    reader, writer = os.pipe()
    with (tmp_path / "err").open("wb") as err:
        process = subprocess.Popen([*AUDITNS, "enrich", str(text)], stdout=writer, stderr=err, env=environment())
    os.close(writer)
    assert len(os.read(reader, 1000)) == 1000
    os.close(reader)
    assert process.wait(TIMEOUT) == 0
    assert b"Traceback" not in (tmp_path / "err").read_bytes()


def test_a_writer_that_ends_in_mid_event() -> None:
    """What is there is told, unterminated line included."""
    text = record(os.getpid(), time.time())
    half = text + text[:40]
    done = subprocess.Popen(
        [*AUDITNS, "enrich"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=environment(),
    )
    assert done.stdin is not None
    done.stdin.write(half[:50])
    done.stdin.flush()
    time.sleep(0.05)
    assert done.communicate(half[50:], timeout=TIMEOUT)[0] == half
    assert done.returncode == 0
