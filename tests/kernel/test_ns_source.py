"""The degrees of fallback on the running kernel, each by shutting the better ones off; and the view of events."""

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from auditns_connector.host.namespace_source import BLIND
from tests.kernel.programs import auditns, listening, until
from tests.kernel.support import AuditState, auditctl, need, need_tool

pytestmark = [pytest.mark.kernel, pytest.mark.usefixtures("root")]

EXAMPLE = ("unshare", "-n", "-f", "ls", "-l", "/proc/self/ns/net")


def example() -> tuple[int, int]:
    """Run the command of the proposal: its pid, and the inode of the namespace it made."""
    need_tool("unshare")
    with subprocess.Popen(EXAMPLE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        shown = child.stdout.read()
    return child.pid, int(shown.rpartition("[")[2].rstrip("]\n"))


def ended(pid: int, out: bytes) -> bool:
    """The exit of ``pid`` has been told, in either format."""
    if f"exit: pid={pid}\n".encode() in out:
        return True
    return re.search(rb'"event":"exit",[^}]*"pid":%d,' % pid, out) is not None


def objects(out: bytes) -> list[dict[str, Any]]:
    return [json.loads(line) for line in out.splitlines()]


def test_events_of_the_example_in_the_order_of_the_proposal(tmp_path: Path) -> None:
    with listening(tmp_path, "--events") as program:
        pid, inode = example()
        until(lambda: ended(pid, program.out), "the exit of the process")
    lines = iter(program.out.decode().splitlines())
    own = os.stat("/proc/self/ns/net").st_ino
    for pattern in (
        rf"fork: ppid={os.getpid()} pid={pid}",
        rf"exec: pid={pid}",
        rf"ns: pid={pid} type=net reason=unshare old_inum={own} inum={inode} source=perf",
        rf"fork: ppid={pid} pid=\d+",
        r"exec: pid=\d+",
        r"exit: pid=\d+",
        rf"exit: pid={pid}",
    ):
        assert any(re.fullmatch(pattern, line) for line in lines), (pattern, program.out)
    assert ", 0 lost (" in program.err


def test_events_as_objects_with_filters(tmp_path: Path) -> None:
    with listening(tmp_path, "--events", "--format", "json", "--type", "ns", "--type", "exit") as program:
        pid, inode = example()
        until(lambda: ended(pid, program.out), "the exit of the process")
    told = [event for event in objects(program.out) if event["pid"] == pid]
    assert [event["event"] for event in told] == ["ns", "exit"]
    change = told[0]
    assert (change["nstype"], change["reason"], change["inum"]) == ("net", "unshare", inode)
    assert change["contid"] is None
    assert change["serial"] != change["old_serial"]


def test_events_end_after_a_count(tmp_path: Path) -> None:
    with listening(tmp_path, "--events", "--type", "fork", "--count", "3") as program:
        for _ in range(5):
            subprocess.run(["true"], check=True)
        assert program.wait() == 0
    assert len(program.out.splitlines()) == 3


@pytest.mark.parametrize(
    "options",
    [
        ("--format", "raw"),
        ("--rules",),
        ("--key", "k"),
        ("--contid", "1"),
        ("--type", "SYSCALL"),
        ("--perf", "off", "--ns-source", "perf"),
        ("--connector", "off", "--ns-source", "nm"),
    ],
)
def test_options_that_do_not_go_together(options: tuple[str, ...]) -> None:
    done = auditns("listen", "--events", "--format", "pretty", *options)
    assert done.returncode in (2, 3), done.stderr
    assert done.stderr.startswith(b"auditns: "), done.stderr


def test_a_stock_kernel_has_no_proc_event_nm() -> None:
    need(b'"nm": true' not in auditns("doctor", "--json").stdout, "a stock kernel")
    done = auditns("listen", "--events", "--ns-source", "nm")
    assert done.returncode == 3
    assert b"PROC_EVENT_NM" in done.stderr


def sandbox(tmp_path: Path, *options: str) -> tuple[dict[int, set[str | None]], list[dict[str, Any]], str, int, int]:
    """What ``listen --events`` says of a sandbox that lives a moment, and of a process of the host."""
    with listening(tmp_path, "--events", "--format", "json", *options) as program:
        with subprocess.Popen(["unshare", "-fp", "sh", "-c", "sleep 2; :"]) as outer:
            host = subprocess.Popen(["sleep", "1"])
            host.wait()
        until(lambda: ended(outer.pid, program.out), "the exit of the process")
    told = objects(program.out)
    contids: dict[int, set[str | None]] = {}
    for event in told:
        if "pid" in event:
            contids.setdefault(event["pid"], set()).add(event["contid"])
    inner = next(event["pid"] for event in told if event["event"] == "fork" and event["ppid"] == outer.pid)
    assert contids[host.pid] <= {None, "?"}
    assert contids[outer.pid] <= {None, "?"}
    assert None not in contids[inner]
    return contids, told, program.err, inner, host.pid


def test_proc_alone(tmp_path: Path) -> None:
    contids, told, err, inner, host = sandbox(tmp_path, "--ns-source", "procfs")
    assert BLIND["procfs"] in err
    assert {event["source"] for event in told if event["event"] == "ns"} <= {"procfs"}
    assert any(event["event"] == "ns" and event["pid"] == inner and event["nstype"] == "pid" for event in told)
    assert None in contids[host]


def test_audit_records_then_proc(tmp_path: Path, audit_state: AuditState) -> None:
    need("\npid 0\n" in auditctl("-s"), "no auditd running")
    auditctl("-e", "1")
    auditctl("-a", "always,exit", "-F", "arch=b64", "-S", "unshare,setns", "-k", "auditns-test")
    try:
        with listening(tmp_path, "--events", "--ns-source", "audit") as program:
            act = "import ctypes, time; ctypes.CDLL(None).unshare(0x04000000); time.sleep(2)"
            child = subprocess.Popen(["python3", "-c", act])
            child.wait()
            until(lambda: ended(child.pid, program.out), "the exit of the process")
    finally:
        auditctl("-d", "always,exit", "-F", "arch=b64", "-S", "unshare,setns", "-k", "auditns-test")
    assert BLIND["audit"] in program.err
    assert re.search(rf"ns: pid={child.pid} type=uts reason=unshare .* source=procfs", program.out.decode())


def test_no_source_of_events_at_all(tmp_path: Path) -> None:
    """/proc is polled: what lives long enough is known."""
    from auditns_connector.attribution.lookup import find
    from auditns_connector.host.open_sources import host_observer

    observer, notices = host_observer(perf="off", connector="off")
    try:
        assert any(BLIND["procfs"] in notice for notice in notices)
        observer.start()
        observer.sync()
        model = observer.model
        with subprocess.Popen(["sleep", "30"]) as host:
            found = []
            for _ in range(3):
                subprocess.run(["sleep", "0.3"], check=True)
                found.append(observer.sync())
            assert find(model, host.pid, -1, [found[1]], found[2]).container is None
            host.kill()
        assert find(model, host.pid, -1, [found[2] + 50_000_000], found[2] + 100_000_000).container is not None
    finally:
        observer.close()


def test_the_doctor_names_it() -> None:
    told = json.loads(auditns("doctor", "--json").stdout)
    finding = next(one for one in told["findings"] if one["id"] == "namespace-source")
    assert "changes of namespaces are seen by" in finding["text"]
    assert "not seen:" in finding["text"]
