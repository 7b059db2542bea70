"""Who came into real containers, what these are called, and where their processes come from."""

import json
import secrets
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from auditns_connector.host.bootstrap import boot_id
from tests.kernel import cgroupfs
from tests.kernel.programs import Program, auditns, contids, event_of, listening
from tests.kernel.runtimes import Container, Runtimes
from tests.kernel.support import AuditState, need, until

UNSET = 4294967295
#: its children have logged in as 1000
SESSION = """
import subprocess, sys
with open("/proc/self/loginuid", "w") as file:
    file.write("1000")
sys.exit(subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL).returncode)
"""


def logged_in(command: Sequence[str]) -> None:
    """Run ``command`` as somebody who has logged in."""
    need(Path("/proc/self/loginuid").read_text().strip() == str(UNSET), "a login uid that is not set yet")
    subprocess.run([sys.executable, "-c", SESSION, *command], check=True, timeout=180)


def objects(program: Program) -> list[dict[str, Any]]:
    return [json.loads(line) for line in program.out.splitlines()]


def ran(program: Program, *words: str) -> dict[str, Any]:
    """The event of an exec with these arguments; empty where there is none yet."""
    for event in objects(program):
        for record in event["records"]:
            if record["type"] == "EXECVE" and record.get("argv") == list(words):
                return event
    return {}


def infos(program: Program, reason: str) -> list[dict[str, Any]]:
    """The stand-alone CONTAINER_INFO for a reason."""
    found = [event for event in objects(program) if event["records"][0].get("reason") == reason]
    return [event for event in found if event["records"][0]["type"] in ("CONTAINER_INFO", "UNKNOWN[1342]")]


def nsenter(container: Container) -> list[str]:
    return ["nsenter", "-t", str(container.pid), "-a"]


@pytest.mark.parametrize("runtime", ["runc", "crun", "podman", "nsenter"])
def test_auid_1000_entered_and_this_is_all_that_was_done_there(
    quiet: AuditState, runtimes: Runtimes, tmp_path: Path, token: str, runtime: str
) -> None:
    with listening(tmp_path / "l", "--rules", "--format", "json") as program:
        container = runtimes.start("runc" if runtime == "nsenter" else runtime)
        enter = nsenter(container) if runtime == "nsenter" else list(container.exec_prefix)
        logged_in([*enter, "sh", "-c", f"/bin/true a-{token}; sh -c '/bin/true b-{token}; :'; :"])
        container.exec(["/bin/true", f"other-{token}"])
        until(lambda: ran(program, "/bin/true", f"other-{token}"), "the last event")
        one, two = (ran(program, "/bin/true", f"{what}-{token}") for what in "ab")
        other = ran(program, "/bin/true", f"other-{token}")
    told = infos(program, "entry")
    entry = one["entry"]
    assert (entry["auid"], entry["from"]) == (1000, "session")
    assert entry["ses"] != UNSET
    assert entry["id"] == f"{boot_id().replace('-', '')}:{entry['pid']}:{entry['start']}"
    assert two["entry"] == entry
    names = [parent["comm"] for parent in entry["parents"]]
    assert names[-1].startswith("python"), "up to the session's first process"
    if runtime == "nsenter":
        assert (entry["how"], entry["comm"], entry["file"].rpartition("/")[2]) == ("setns", "nsenter", "nsenter")
    assert other["entry"]["id"] != entry["id"]
    assert other["entry"]["auid"] == UNSET
    assert [event["entry"]["id"] for event in told].count(entry["id"]) == 1
    # all that was done there is one query
    done = [event for event in program_events(told, program) if event.get("entry", {}).get("auid") == 1000]
    argv = [record.get("argv") for event in done for record in event["records"] if record["type"] == "EXECVE"]
    assert ["/bin/true", f"a-{token}"] in argv
    assert ["/bin/true", f"b-{token}"] in argv
    assert ["/bin/true", f"other-{token}"] not in argv


def program_events(_: object, program: Program) -> list[dict[str, Any]]:
    return objects(program)


#: argv: a folder of cgroup v2, and a program with its arguments: it is born in that cgroup (clone3, CLONE_INTO_CGROUP)
BORN_THERE = """
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
folder = os.open(sys.argv[1], os.O_PATH | os.O_DIRECTORY)
args = (ctypes.c_uint64 * 11)(1 << 33, 0, 0, 0, 17, 0, 0, 0, 0, 0, folder)
pid = libc.syscall(435, args, ctypes.sizeof(args))
assert pid >= 0, os.strerror(ctypes.get_errno())
if pid == 0:
    os.execv(sys.argv[2], sys.argv[2:])
assert os.waitpid(pid, 0)[1] == 0
"""
#: argv likewise: it writes itself to that cgroup
MOVED_THERE = """
import os, sys
with open(f"{sys.argv[1]}/cgroup.procs", "w") as file:
    file.write(str(os.getpid()))
os.execv(sys.argv[2], sys.argv[2:])
"""


@pytest.mark.parametrize(("how", "script"), [("clone", BORN_THERE), ("cgroup", MOVED_THERE)])
def test_who_comes_into_a_container_by_its_cgroup_alone(
    quiet: AuditState, tmp_path: Path, token: str, how: str, script: str
) -> None:
    """No namespace is joined, and no runtime is asked."""
    need(any(kind == "cgroup2" for _, kind, _ in cgroupfs.hierarchies()), "cgroup v2")
    path = f"/auditns-{token}/docker/{secrets.token_hex(32)}"
    try:
        with listening(tmp_path / "l", "--rules", "--format", "json") as program:
            first = subprocess.Popen(cgroupfs.command_in(path, ["/bin/sleep", "600"]))
            folder = next(one for one in cgroupfs.folders(path) if (one / "cgroup.events").exists())
            try:
                until(lambda: str(first.pid) in (folder / "cgroup.procs").read_text().split(), "the first process")
                logged_in([sys.executable, "-c", script, str(folder), "/bin/true", f"in-{token}"])
                logged_in(["/bin/true", f"out-{token}"])
                until(lambda: ran(program, "/bin/true", f"out-{token}"), "the last event")
            finally:
                first.kill()
                first.wait()
            entered, outside = (ran(program, "/bin/true", f"{where}-{token}") for where in ("in", "out"))
        entry = entered["entry"]
        (pid,) = {record["pid"] for record in entered["records"] if record["type"] == "SYSCALL"}
        assert (entry["how"], entry["from"], entry["auid"], entry["pid"]) == (how, "session", 1000, pid)
        assert entered["container"]["id"] == path.rpartition("/")[2]
        assert "entry" not in outside
        assert "container" not in outside
        assert [event["entry"]["id"] for event in infos(program, "entry")] == [entry["id"]]
    finally:
        cgroupfs.remove_new(cgroupfs.first(path), [])


def test_parents_and_keys_of_a_container_s_processes(
    quiet: AuditState, runtimes: Runtimes, tmp_path: Path, token: str
) -> None:
    with listening(tmp_path / "l", "--rules", "--format", "json") as program:
        script = (
            f"sh -c '/bin/true one-{token}; sh -c \"/bin/true two-{token}; :\"; :'; /bin/true top-{token}; sleep 600; :"
        )
        runtimes.start("runc", ["sh", "-c", script])
        until(lambda: ran(program, "/bin/true", f"top-{token}"), "the events")
        one, two, top = (ran(program, "/bin/true", f"{what}-{token}")["process"] for what in ("one", "two", "top"))
    assert [parent["comm"] for parent in two["parents"]] == ["sh", "sh", "sh"]
    assert [parent["comm"] for parent in one["parents"]] == ["sh", "sh"]
    assert [parent["comm"] for parent in top["parents"]] == ["sh"]
    assert all(parent["exe"].endswith("/busybox") for parent in two["parents"]), "each exec of a shell is audited"
    assert not any("exe_from" in parent for parent in two["parents"])
    init = top["parents"][-1]
    assert one["parents"][-1] == two["parents"][-1] == init
    assert len({one["key"], two["key"], top["key"]}) == 3
    syscalls = [event for event in objects(program) if event.get("process", {}).get("key") == one["key"]]
    assert syscalls


def test_a_log_that_is_rotated_explains_itself(
    quiet: AuditState, runtimes: Runtimes, tmp_path: Path, token: str
) -> None:
    log = tmp_path / "log"
    with listening(
        tmp_path / "l", "--rules", "--no-lifecycle", "--format", "raw", "--record-names", "symbolic", "--output", log
    ) as program:
        first, second = runtimes.start("podman"), runtimes.start("runc")
        until(lambda: b"reason=named" in log.read_bytes(), "the names")
        named = next(line for line in log.read_bytes().splitlines() if b"reason=named" in line)
        assert f'runtime="podman" ctr-id="{first.id}"'.encode() in named
        assert b' ctr-name="' in named
        log.rename(tmp_path / "log.1")
        program.process.send_signal(1)
        until(lambda: auditns("status", "--control", program.directory / "control").returncode == 0, "it serves")
        second.exec(["/bin/true", f"new-{token}"])
        until(lambda: log.exists() and f'a1="new-{token}"'.encode() in log.read_bytes(), "the new file")
    lines = log.read_bytes().splitlines()
    told = [line for line in lines if b"reason=present" in line]
    assert lines[: len(told)] == told
    event = event_of(log.read_bytes(), f'a1="new-{token}"')
    (contid,) = contids(event)
    assert [line for line in told if f" contid={contid} ".encode() in line]
    assert [line for line in told if f'ctr-id="{first.id}"'.encode() in line]


def test_names_without_a_listener(runtimes: Runtimes, tmp_path: Path) -> None:
    container = runtimes.start("podman")
    nobody = str(tmp_path / "none")
    for command in (("contid", "list"), ("tree",), ("ns",)):
        done = auditns(*command, "--control", nobody, "--name", container.name, "--json")
        assert done.returncode == 0, done.stderr
        assert container.id in done.stdout.decode(), command
        other = auditns(*command, "--control", nobody, "--name", "nobody-is-called-so", "--json")
        assert container.id not in other.stdout.decode()


def test_a_replay_tells_the_same_of_entries_and_parents(
    quiet: AuditState, runtimes: Runtimes, tmp_path: Path, token: str
) -> None:
    journal, text = tmp_path / "journal", tmp_path / "text"
    with listening(tmp_path / "l", "--rules", "--format", "json", "--journal", journal) as program:
        container = runtimes.start("runc")
        logged_in([*nsenter(container), "sh", "-c", f"/bin/true x-{token}; :"])
        until(lambda: ran(program, "/bin/true", f"x-{token}"), "the event")
    live = ran(program, "/bin/true", f"x-{token}")
    records = [f"msg=audit({live['time']}:{live['serial']}): "]
    text.write_text("".join(audit_line(record, records[0]) for record in live["records"][:2]))
    done = auditns("enrich", "--journal", journal, "--format", "json", text)
    assert done.returncode == 0, done.stderr
    again = json.loads(done.stdout.splitlines()[0])
    assert (again["entry"], again["process"]) == (live["entry"], live["process"])
    assert again["entry"]["auid"] == 1000


def audit_line(record: dict[str, Any], head: str) -> str:
    """A record as audit text, as far as an answer goes by it."""
    quoted: Callable[[Any], Any] = lambda value: f'"{value}"' if isinstance(value, str) and "/" in value else value  # noqa: E731
    fields = {
        name: value for name, value in record.items() if name not in ("type", "argv") and not name.startswith("a")
    }
    more = {"arch": record.get("arch"), "auid": record.get("auid")} if record["type"] == "SYSCALL" else {}
    words = {**more, **fields, **({"comm": f'"{record["comm"]}"'} if "comm" in record else {})}
    return f"type={record['type']} {head}" + " ".join(f"{name}={quoted(value)}" for name, value in words.items()) + "\n"
