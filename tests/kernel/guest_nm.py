"""What runs inside the guest of test_nm_guest.py: the listener beside real programs; the findings go to the console.

Only the standard library and the package itself are there.
"""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable

from auditns_connector.cli import main
from auditns_connector.control.server import ask
from auditns_connector.errors import AuditnsError
from auditns_connector.sources import connector
from auditns_connector.sources.connector import probe_nm
from tests.kernel.guest_words import tell

TYPES = ("net", "uts", "ipc", "pid", "user", "mnt", "cgroup")


def namespaces() -> dict[str, int]:
    return {name: os.stat(f"/proc/self/ns/{name}").st_ino for name in TYPES}


def listen(name: str, acts: Callable[[], dict[str, object]], *options: str) -> None:
    """Run ``auditns listen --events`` while ``acts`` does something; tell what both say."""
    out = f"/tmp/{name}"
    listener = os.fork()
    if listener == 0:
        for fd, path in ((1, out), (2, out + ".err")):
            os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600), fd)
        sys.stdout = os.fdopen(1, "w", closefd=False)
        sys.stderr = os.fdopen(2, "w", closefd=False)
        sys.argv = ["auditns"]
        code = 1
        try:
            code = main.run(["listen", "--events", "--control", "/run/control", *options])
        except Exception as error:
            print(f"{type(error).__name__}: {error}", file=sys.stderr)
        sys.stderr.flush()
        os._exit(code)
    serves(listener)
    did = acts()
    ask("/run/control", {"v": 1, "op": "status"}, 60.0)  # what has happened by then has been heard of
    time.sleep(0.5)
    os.kill(listener, signal.SIGTERM)
    status = os.waitstatus_to_exitcode(os.waitpid(listener, 0)[1])
    if os.path.exists("/run/control"):
        os.unlink("/run/control")
    with open(out) as lines, open(out + ".err") as said:
        tell(run=name, status=status, events=lines.read(), said=said.read(), did=did)


def serves(listener: int) -> None:
    """Wait until it answers, or has ended."""
    while os.waitid(os.P_PID, listener, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
        with contextlib.suppress(AuditnsError):
            ask("/run/control", {"v": 1, "op": "status"}, 60.0)
            return
        time.sleep(0.05)


def example() -> dict[str, object]:
    """The command of the proposal."""
    with subprocess.Popen(
        ["unshare", "-n", "-f", "ls", "-l", "/proc/self/ns/net"], stdout=subprocess.PIPE, text=True
    ) as child:
        shown = child.stdout.read() if child.stdout is not None else ""
    return {"pid": child.pid, "inode": int(shown.rpartition("[")[2].rstrip("]\n")), "own": namespaces()["net"]}


def sandbox() -> dict[str, object]:
    """A sandbox that lives long enough to be asked for, a short one, and one by clone with a user namespace."""
    child = subprocess.Popen(["unshare", "-fp", "sleep", "8"])
    while not (inner := [int(pid) for pid in os.listdir("/proc") if pid.isdecimal() and parent(pid) == child.pid]):
        time.sleep(0.05)
    time.sleep(0.5)
    short = subprocess.Popen(["unshare", "-fp", "true"])
    short.wait()
    host = subprocess.Popen(["sleep", "4"])
    user = subprocess.Popen(["unshare", "-U", "sleep", "4"])
    host.wait()
    user.wait()
    child.wait()
    return {"outer": child.pid, "inner": inner[0], "short": short.pid, "host": host.pid, "user": user.pid}


def parent(pid: str) -> int:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return int(file.read().rpartition(")")[2].split()[1])
    except OSError:
        return 0


def record() -> None:
    """Tell the datagrams of the example as the kernel sends them."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM, connector.NETLINK_CONNECTOR) as sock:
        sock.bind((0, 1))
        sock.send(connector.request(connector.LISTEN))
        did = example()
        sock.settimeout(1)
        datagrams = []
        with contextlib.suppress(TimeoutError):
            while len(datagrams) < 1000:
                datagrams.append(sock.recv(4096).hex())
        sock.send(connector.request(connector.IGNORE))
    tell(run="raw", did=did, datagrams=datagrams)


before = namespaces()
tell(run="probe", nm=probe_nm(), same=namespaces() == before, kernel=os.uname().release)
listen("auto", example)
listen("nm", example, "--ns-source", "nm")
listen("sandbox", sandbox, "--ns-source", "nm", "--format", "json")
listen("perf", example, "--ns-source", "perf")
record()
listen("procfs", sandbox, "--ns-source", "procfs", "--format", "json")
