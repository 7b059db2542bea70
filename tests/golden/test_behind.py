"""A run that answers 25 seconds late: whoever held a pid then is meant, not who holds it now. Each exec says in its
arguments whose it is."""

import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Final

from auditns_connector.journal.files import ranges
from auditns_connector.vocabulary import frames as f
from tests.kernel.programs import auditns, contids, events
from tests.unit.world import HEX, World, contid

Check = Callable[[str, bytes], None]
SECONDS: Final = 60
LATE: Final = 25_000
#: each is held by another process ten times a second
PIDS: Final = (500, 501, 502)
_START: Final = 1_700_000_000_000


def history() -> tuple[bytes, bytes]:
    """The journal of the run, and the text that it was given."""
    world, text = World(node="h"), []
    world.proc(100, 1, at=1, cg=f"/docker/{HEX}")
    world.fork(1, 200, 2, pid=4026540001)
    serial, waiting = 1, []
    for tenth in range(10 * SECONDS):
        at = 100 * tenth + 100
        for turn, pid in enumerate(PIDS):
            which = (tenth + turn) % 3
            parent, word = ((1, "host"), (100, "docker"), (200, "sandbox"))[which]
            world.fork(parent, pid, at + turn)
            world.exec(pid, at + 10 + turn, "/bin/true")
            text.append(execve(at + 10 + turn - 4, serial, pid, parent, f"{word}-{serial}"))
            serial += 1
        for turn, pid in enumerate(PIDS):
            world.exit(pid, at + 60 + turn)
        waiting.append((at + LATE, serial - len(PIDS), serial - 1))
        while waiting and waiting[0][0] <= at + 90:
            mark(world, at + 90, *waiting.pop(0)[1:], oldest=at + 90 - LATE)
    for when, first, last in waiting:
        mark(world, max(when, at + 91), first, last, oldest=max(when, at + 91) - LATE)
    return b"".join(world.log), b"".join(text)


def mark(world: World, at: int, first: int, last: int, *, oldest: int) -> None:
    """Events up to ``last`` are answered at ``at``; who ended a second before the oldest of them is forgotten."""
    expire = max(oldest - 1000, 1) * 1_000_000
    payload = ranges(list(range(first, last + 1)))
    world.put(f.K_MARK, at, f.S_PIPELINE, arg=expire, payload=payload)


def execve(at: int, serial: int, pid: int, ppid: int, word: str) -> bytes:
    stamp = f"msg=audit({(_START + at) // 1000}.{(_START + at) % 1000:03d}:{serial}):"
    call = f"type=SYSCALL {stamp} arch=c000003e syscall=59 success=yes exit=0 a0=0 a1=0 a2=0 a3=0 items=1 ppid={ppid}"
    lines = (
        f'{call} pid={pid} auid=0 uid=0 comm="true" exe="/bin/true" key=(null)',
        f'type=EXECVE {stamp} argc=2 a0="/bin/true" a1="{word}"',
        f'type=PATH {stamp} item=0 name="/bin/true" inode=1 nametype=NORMAL',
        f"type=PROCTITLE {stamp} proctitle=00",
    )
    return b"".join(line.encode() + b"\n" for line in lines)


def test_answers_that_come_25_seconds_late_are_those_of_the_time_asked_for(tmp_path: Path, golden: Check) -> None:
    journal, text = history()
    (tmp_path / "run.journal").write_bytes(journal)
    (tmp_path / "audit.log").write_bytes(text)
    options = ("--record-names", "symbolic", "--journal", tmp_path / "run.journal")
    done = auditns("enrich", *options, tmp_path / "audit.log")
    assert done.returncode == 0, done.stderr
    told: Counter[tuple[str, str]] = Counter()
    sandboxes = set()
    for lines in events(done.stdout).values():
        word = re.search(rb'a1="(\w+)-\d+"', b"\n".join(lines))
        assert word is not None
        found = contids(lines)
        if found == ["?"]:
            kind = "unknown"
        elif word[1] == b"sandbox":
            sandboxes.update(found)
            kind = "right" if len(found) == 1 and found != [contid(HEX)] else "wrong"
        else:
            kind = "right" if found == ([contid(HEX)] if word[1] == b"docker" else []) else "wrong"
        told[word[1].decode(), kind] += 1
    assert told == {(word, "right"): 10 * SECONDS for word in ("host", "docker", "sandbox")}
    assert len(sandboxes) == 1
    golden(
        "behind.answers", b"".join(line + b"\n" for line in done.stdout.splitlines() if b"CONTAINER_ID" in line)[:4096]
    )
