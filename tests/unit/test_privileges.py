"""What is kept of root's privileges, and children that are given some back."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from auditns_connector._native import lib
from auditns_connector.daemon import privileges
from auditns_connector.sinks.spawner import Spawner
from auditns_connector.vocabulary.capabilities import NAMES, NUMBERS, mask, names_in

DROP = """
import json, sys
from auditns_connector.daemon import privileges
privileges.keep_only(sys.argv[1:])
print(json.dumps(privileges.held()))
"""
STATUS = """#!/bin/sh
grep -E '^(CapEff|CapBnd|CapAmb|NoNewPrivs):' /proc/self/status > "$1.new"; mv "$1.new" "$1"; exec sleep 60
"""
root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: an ordinary user has nothing to give up")


def dropped(*more: str) -> dict[str, object]:
    done = subprocess.run([sys.executable, "-c", DROP, *more], capture_output=True, text=True, check=True)
    found: dict[str, object] = json.loads(done.stdout)
    return found


@root
def test_what_is_kept() -> None:
    before = set(privileges.held()["effective"])
    for more in ((), ("CAP_CHOWN", "CAP_DAC_OVERRIDE")):
        found = dropped(*more)
        assert set(found["effective"]) == before & {*privileges.NEEDED, *more}  # type: ignore[call-overload]
        assert set(found["bounding"]) <= {*privileges.NEEDED, *more}  # type: ignore[call-overload]
        assert found["no_new_privs"] is True


def test_an_ordinary_user_keeps_what_he_has() -> None:
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            if os.geteuid() == 0:
                os.setuid(65534)
            privileges.keep_only()
            os.write(writer, json.dumps(privileges.held()).encode())
        finally:
            os._exit(0)
    os.close(writer)
    with open(reader, "rb") as said:
        assert json.load(said)["no_new_privs"] is False
    os.waitpid(child, 0)


def test_names_of_capabilities() -> None:
    last = int(Path("/proc/sys/kernel/cap_last_cap").read_text())
    assert len(NAMES) > last, "the kernel has capabilities without a name here"
    assert names_in(mask(("CAP_CHOWN", "CAP_SYS_ADMIN"))) == ["CAP_CHOWN", "CAP_SYS_ADMIN"]
    assert names_in(1 << 63) == ["CAP_63"]
    header = Path("/usr/include/linux/capability.h")
    if header.exists():
        found = [line.split() for line in header.read_text().splitlines() if line.startswith("#define CAP_")]
        given = {words[1]: int(words[2]) for words in found if len(words) > 2 and words[2].isdecimal()}
        assert {name: NUMBERS.get(name) for name in given} == given


@contextlib.contextmanager
def spawner(*argv: str, capabilities: tuple[str, ...] = ()) -> Iterator[Spawner]:
    made = Spawner(argv, capabilities)
    try:
        yield made
    finally:
        made.close()


def ended(of: Spawner, pid: int) -> int:
    while (status := of.reap(pid)) is None:
        time.sleep(0.01)
    return os.waitstatus_to_exitcode(status)


@root
@pytest.mark.parametrize("capabilities", [(), ("CAP_SETUID", "CAP_SETGID")])
def test_a_child_has_what_is_configured(tmp_path: Path, capabilities: tuple[str, ...]) -> None:
    program = tmp_path / "program"
    program.write_text(STATUS)
    program.chmod(0o755)
    with spawner(str(program), str(tmp_path / "out"), capabilities=capabilities) as made, open("/dev/null") as null:
        child = made.start(null.fileno(), 2)
        os.close(child.pidfd)
        while not (tmp_path / "out").exists():
            time.sleep(0.01)
        status = dict(line.split(":\t") for line in (tmp_path / "out").read_text().splitlines())
        held = set(privileges.held()["effective"])
        assert set(names_in(int(status["CapEff"], 16))) == held & set(capabilities)
        assert set(names_in(int(status["CapBnd"], 16))) <= set(capabilities)
        assert (status["CapAmb"].strip("0"), status["NoNewPrivs"]) == ("", "0")
        assert made.reap(child.pid) is None
        made.signal(child.pid, signal.SIGKILL)
        assert ended(made, child.pid) == -signal.SIGKILL


def test_a_program_that_is_not_there() -> None:
    with spawner("/nonexistent/program") as made:
        for _ in range(2):
            with pytest.raises(FileNotFoundError):
                made.start(0, 2)


def test_only_its_own_children_can_be_meant() -> None:
    with spawner("/bin/true") as made:
        for pid in (0, -1, 1, os.getpid()):
            with pytest.raises(OSError, match=r"Invalid argument|No child"):
                made.signal(pid, signal.SIGKILL)
            with pytest.raises(OSError, match=r"Invalid argument|No child"):
                made.reap(pid)


def test_requests_that_make_no_sense() -> None:
    with spawner("/bin/true") as made:
        for request in (b"", b"x", bytes(12), bytes(4000), (99).to_bytes(4, "little") + bytes(8)):
            if request:  # an empty one is its end
                made._sock.send(request)
                assert int.from_bytes(made._sock.recv(100)[:4], "little") != 0
        with open("/dev/null") as null:
            child = made.start(null.fileno(), 2)
        os.close(child.pidfd)
        assert ended(made, child.pid) == 0


def test_it_ends_with_the_program_that_it_serves(tmp_path: Path) -> None:
    code = (
        "import os, sys; from auditns_connector.sinks.spawner import Spawner\n"
        "print(Spawner(('/bin/true',)).pid, flush=True); os.kill(os.getpid(), 9)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    pid = int(done.stdout)
    while os.path.exists(f"/proc/{pid}") and "zombie" not in Path(f"/proc/{pid}/status").read_text():
        time.sleep(0.01)


def test_too_many_arguments() -> None:
    with pytest.raises(OSError, match="Invalid argument"):
        Spawner(("/bin/true", *["x"] * lib.SPAWNER_STRINGS))
