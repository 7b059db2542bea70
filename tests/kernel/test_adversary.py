"""Processes made to be taken for others, on this kernel: numbers used again by choice, births into a cgroup, threads
that exec or enter namespaces, forks in a vfork, targets of signals and traces. What is audited says whose it is."""

import re
import secrets
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.kernel import cgroupfs
from tests.kernel.programs import Program, contids, events, listening, until, whole_event_of
from tests.kernel.support import AuditState, auditctl, need_tool

pytestmark = pytest.mark.kernel
TURNS: Final = 12
#: a signal says whose its target is
TO_HOST, TO_CONTAINER = 10, 12


@pytest.fixture(scope="module")
def adversary(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program."""
    need_tool("gcc")
    program = tmp_path_factory.mktemp("adversary") / "adversary"
    source = Path(__file__).with_name("adversary.c")
    subprocess.run(["gcc", "-O2", "-pthread", "-o", program, source], check=True)
    return program


@pytest.fixture
def pids() -> list[int]:
    """Two numbers that nobody has now, and nobody is given soon."""
    newest = int(Path("/proc/sys/kernel/ns_last_pid").read_text())
    most = int(Path("/proc/sys/kernel/pid_max").read_text())
    free = (number for number in range(newest - 300, 300, -1) if not Path(f"/proc/{number}").exists())
    later = (number for number in range(most - 300, newest, -1) if not Path(f"/proc/{number}").exists())
    found = later if newest < 1000 else free
    return [next(found), next(found)]


@pytest.fixture
def container() -> Iterator[str]:
    """The name of a container, whose cgroups are there."""
    name = secrets.token_hex(32)
    before = cgroupfs.folders("/docker")
    cgroupfs.make(f"/docker/{name}")
    yield name
    cgroupfs.remove_new("/docker", before)


def unified(path: str) -> str:
    """The folder of a cgroup in the v2 hierarchy."""
    return next(f"{top}{path}" for top, kind, _ in cgroupfs.hierarchies() if kind == "cgroup2")


def wrapped(where: str, name: str, *command: str | Path) -> list[str]:
    """``command``, run on the host, in the container's cgroup or in a sandbox."""
    words = [str(word) for word in command]
    if where == "docker":
        return cgroupfs.command_in(f"/docker/{name}", words)
    return ["unshare", "-p", "-f", "--mount-proc", *words] if where == "sandbox" else words


def wrong(run: Program, word: str, where: str, name: str) -> list[tuple[str, list[str]]]:
    """Execs of ``true`` with ``word`` that are not answered as ``where`` says."""
    expected = {"host": [], "docker": [str(int(name[:16], 16))]}
    found = []
    for lines in events(run.out).values():
        said = re.search(rf'a1="({word}-[\w-]*)"'.encode(), b"\n".join(lines))
        if said is None:
            continue
        answer = contids(lines)
        right = answer == expected[where] if where in expected else len(answer) == 1 and answer != expected["docker"]
        if not right:
            found.append((said[1].decode(), answer))
    return found


def test_who_execs_in_whatever_way_is_who_it_was(
    quiet: AuditState, adversary: Path, container: str, tmp_path: Path, token: str
) -> None:
    need_tool("unshare")
    wheres = ("host", "docker", "sandbox")
    with listening(tmp_path / "run", "--rules", "--format", "raw", "--no-lifecycle") as run:
        for turn in range(TURNS):
            for where in wheres:
                word = f"{where}-{token}-{turn}"
                for words in (("vfork",), ("thread",), ("double",), ("setns-thread", "/proc/self/ns/net")):
                    subprocess.run(wrapped(where, container, adversary, *words, word), check=True)
        subprocess.run(["/bin/true", f"end-{token}"], check=True)
        until(lambda: whole_event_of(run.out, f"end-{token}"), "the last event")
        for where in wheres:
            assert run.out.count(f'a1="{where}-{token}-'.encode()) == 5 * TURNS, where
            assert wrong(run, f"{where}-{token}", where, container) == []


def test_a_number_that_is_given_away_by_choice_is_that_of_its_holder_then(
    quiet: AuditState, adversary: Path, container: str, pids: list[int], tmp_path: Path, token: str
) -> None:
    inside = unified(f"/docker/{container}")
    with listening(tmp_path / "run", "--rules", "--format", "raw", "--no-lifecycle") as run:
        for turn in range(4 * TURNS):
            for number, pid in enumerate(pids):
                where = ("host", "docker")[(turn + number) % 2]
                word = f"{where}-{token}-{turn}"
                command = [str(adversary), "settid", str(pid), inside if where == "docker" else "-", word]
                subprocess.run(command, check=True)
        subprocess.run(["/bin/true", f"end-{token}"], check=True)
        until(lambda: whole_event_of(run.out, f"end-{token}"), "the last event")
        for where in ("host", "docker"):
            assert run.out.count(f'a1="{where}-{token}-'.encode()) == 4 * TURNS
            assert wrong(run, f"{where}-{token}", where, container) == []


def test_the_target_of_a_signal_is_who_had_the_number_then(
    quiet: AuditState, adversary: Path, container: str, pids: list[int], tmp_path: Path, token: str
) -> None:
    inside, key = unified(f"/docker/{container}"), f"adversary-{token}"
    rule = ["-a", "always,exit", "-F", "arch=b64", "-S", "kill,ptrace", "-F", f"exe={adversary}", "-k", key]
    with listening(tmp_path / "run", "--rules", "--format", "raw", "--no-lifecycle") as run:
        auditctl(*rule)
        try:
            for turn in range(4 * TURNS):
                for number, pid in enumerate(pids):
                    to_container = (turn + number) % 2
                    where = inside if to_container else "-"
                    signal = str(TO_CONTAINER if to_container else TO_HOST)
                    subprocess.run([adversary, "target", str(pid), where, signal], check=True)
            subprocess.run(["/bin/true", f"end-{token}"], check=True)
            until(lambda: whole_event_of(run.out, f"end-{token}"), "the last event")
        finally:
            auditctl("-d", *rule[1:])
        text = run.out
    told: dict[str, list[list[str]]] = {"host": [], "docker": []}
    for lines in events(text).values():
        whole = b"\n".join(lines)
        said = re.search(rb"syscall=62 .* a1=([0-9a-f]+) ", whole)
        if key.encode() in whole and said is not None and int(said[1], 16) in (TO_HOST, TO_CONTAINER):
            told["docker" if int(said[1], 16) == TO_CONTAINER else "host"].append(contids(lines))
    assert told == {"host": [[]] * 4 * TURNS, "docker": [[str(int(container[:16], 16))]] * 4 * TURNS}
