"""A file enriched by the C alone, as far as that goes, is what the pipeline makes of it."""

import os
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from auditns_connector._native import lib
from auditns_connector.cli import main
from auditns_connector.pipeline import file_loop
from auditns_connector.pipeline.file_loop import FileLoop
from auditns_connector.vocabulary import frames as f
from tests.bench.enrich import journal

REAL = 1_795_000_000
FIRST = journal.UPTIME + 10_000_000_000
#: serials up to here were answered by the run
KNOWN = 3000


def event(number: int, pid: int, *, call: int = 257, day: int = 0) -> str:
    ms = REAL * 1000 + number // 20 - day * 86_400_000
    stamp = f"msg=audit({ms // 1000}.{ms % 1000:03d}:{number}):"
    return (
        f"type=SYSCALL {stamp} arch=c000003e syscall={call} success=yes exit=3 ppid=1 pid={pid} auid=0 uid=0 ses=1 "
        f'comm="cat" exe="/usr/bin/cat" key="open"\ntype=CWD {stamp} cwd="/"\n'
        f'type=PATH {stamp} item=0 name="/etc/hostname"\ntype=PROCTITLE {stamp} proctitle=636174\ntype=EOE {stamp} \n'
    )


def log(seed: int) -> str:
    """Mostly of processes that the journal knows, each asked about more than once."""
    chance, out = random.Random(seed), []
    for number in range(1, KNOWN + 200):
        pid = journal.FIRST_PID + chance.randrange(300)
        kind = chance.randrange(400)
        if kind == 0:
            out.append("no record at all\n" * chance.randrange(1, 4))
        elif kind == 1:
            out.append(event(number, 4_000_000))
        elif kind == 2:
            out.append(event(number, pid, day=1))
        elif kind == 3:
            out.append(f"type=USER_CMD msg=audit({REAL}.000:{number}): pid={pid} uid=0 msg='op=x'\n")
        elif kind == 4:
            out.append(
                event(number, pid).replace(
                    "type=EOE", f"type=UNKNOWN[1340] msg=audit({REAL}.000:9): contid=4\ntype=EOE"
                )
            )
        elif kind == 5:
            one, other = event(number, pid).splitlines(True), event(number + 5000, pid).splitlines(True)
            out += [line for pair in zip(one, other, strict=True) for line in pair]
        elif kind == 6:
            out.append("x" * chance.choice((5_000, 70_000)) + "\n")
        else:
            out.append(event(number, pid, call=chance.choice((257, 257, 56, 59))))
    text = "".join(out)
    return text if seed % 2 else text[:-1]


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("journal") / "journal"
    everything = (1).to_bytes(8, "little") + KNOWN.to_bytes(8, "little")
    with open(path, "wb") as out:
        out.write(journal.hello(REAL * 1_000_000_000 - FIRST, journal.UPTIME))
        out.writelines(journal.population(300, 20, journal.UPTIME))
        out.write(f.pack(f.K_MARK, f.S_PIPELINE, FIRST + 1_000_000_000, payload=everything))
    return path


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How the calls of the C ended."""
    found: list[int] = []
    run: Callable[..., int] = FileLoop.run

    def noted(self: FileLoop, fd: int, unended: bool) -> int:
        found.append(run(self, fd, unended))
        return found[-1]

    monkeypatch.setattr(FileLoop, "run", noted)
    return found


def enriched(capfdbinary: Any, *args: str) -> tuple[bytes, bytes]:
    """What is written, and what is told of it."""
    assert main.run(["enrich", *args]) == 0
    out = capfdbinary.readouterr()
    return out.out, out.err


@pytest.mark.parametrize("block", [300, 4096, file_loop.BLOCK])
@pytest.mark.parametrize("seed", range(4))
def test_a_file_is_enriched_as_its_blocks_are(
    seed: int, block: int, recorded: Path, tmp_path: Path, runs: list[int], monkeypatch: pytest.MonkeyPatch,
    capfdbinary: Any,
) -> None:  # fmt: skip
    path = tmp_path / "log"
    path.write_text(log(seed))
    monkeypatch.setattr("auditns_connector.pipeline.text_input._BLOCK", 8192)
    monkeypatch.setattr(file_loop, "BLOCK", block)
    quick = enriched(capfdbinary, "--journal", str(recorded), str(path))
    assert runs.count(lib.FILE_ASKED) > 3
    assert len(runs) > runs.count(lib.FILE_ASKED)
    monkeypatch.setattr(FileLoop, "ready", lambda self: False)
    runs.clear()
    assert enriched(capfdbinary, "--journal", str(recorded), str(path)) == quick
    assert not runs
    assert quick[0].count(b"contid=") > KNOWN


def test_an_output_that_takes_little_at_once_gets_all(recorded: Path, tmp_path: Path) -> None:
    """A descriptor that came to us so does not block: what it does not take is written when it can."""
    path = tmp_path / "log"
    path.write_text("".join(event(number, journal.FIRST_PID + number % 300) for number in range(1, KNOWN)))
    command = [sys.executable, "-m", "auditns_connector.cli.main", "enrich", "--journal", str(recorded), str(path)]
    whole = subprocess.run(command, capture_output=True, check=True).stdout
    read, write = os.pipe()
    os.set_blocking(write, False)
    with subprocess.Popen(command, stdout=write, stderr=subprocess.DEVNULL) as program:
        os.close(write)
        with open(read, "rb") as text:
            assert text.read() == whole
    assert program.returncode == 0
