"""Streams on this kernel: what a container is shown against what it sees, messages and logins from inside."""

import contextlib
import json
import os
import re
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from auditns_connector.streams import client
from tests.kernel import runtimes as rt
from tests.kernel.programs import Program, auditns, environment, until
from tests.kernel.runtimes import Container, Runtimes
from tests.kernel.support import AuditState, auditctl, need, need_tool

pytestmark = pytest.mark.kernel
DOCKER = "/docker/" + "ab12" * 16
#: each line: number, parent's number, user and group as the process itself sees them
SCRIPT = """i=0; while [ $i -lt 60 ]; do
sh -c 'echo $$ $PPID $(id -u) $(id -g) >> /tmp/log'; /bin/true; i=$((i+1)); done
echo end >> /tmp/log; exec sleep 600"""


@pytest.fixture
def quiet(audit_state: AuditState) -> AuditState:
    need("\npid 0\n" in auditctl("-s"), "no auditd running")
    auditctl("-e", "0")
    return audit_state


@pytest.fixture(autouse=True)
def usable_null(quiet: AuditState) -> Iterator[None]:
    """Runtimes open /dev/null as the container's root, who must be let in; on some machines only root is.

    Behind ``quiet``, that is under the lock: another run must not take it back meanwhile."""
    mode = stat.S_IMODE(os.stat("/dev/null").st_mode)
    os.chmod("/dev/null", 0o666)
    yield
    os.chmod("/dev/null", mode)


@pytest.fixture
def base() -> Iterator[Path]:
    """A directory that root of a user namespace can get at."""
    path = Path(tempfile.mkdtemp(prefix="auditns-streams-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path, ignore_errors=True)


@contextlib.contextmanager
def listening(base: Path, *more: str) -> Iterator[Program]:
    program = Program(base / "listen", ["listen", "--rules", "--format", "raw", "--control", base / "control", *more])
    try:
        yield program.ready()
    finally:
        program.process.terminate()
        program.wait()


def stream(base: Path, do: str, *args: str) -> str:
    done = auditns("stream", do, *args, "--control", base / "control")
    assert done.returncode == 0, done.stderr
    return done.stdout.decode()


def shown(base: Path, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(stream(base, "show", name, "--json"))
    return found


def read(base: Path, name: str) -> list[str]:
    return b"".join(client.read(str(base / "streams" / name), follow=False)).decode().splitlines()


def start(base: Path, kind: str, monkeypatch: pytest.MonkeyPatch, started: Runtimes, argv: list[str]) -> Container:
    """A container with a user namespace: its 0 is the host's 100000 (groups: 200000)."""
    need_tool("busybox", *rt.TOOLS[kind])
    plain, make = rt._oci_config, rt._make_rootfs

    def rootfs(top: Path) -> None:
        make(top)
        subprocess.run(["chown", "-R", "100000:200000", str(top)], check=True)

    def config(top: Path, argv: list[str], cgroup: str) -> dict[str, Any]:
        found: dict[str, Any] = plain(top, argv, cgroup)
        found["linux"]["namespaces"].append({"type": "user"})
        found["linux"]["uidMappings"] = [{"containerID": 0, "hostID": 100000, "size": 65536}]
        found["linux"]["gidMappings"] = [{"containerID": 0, "hostID": 200000, "size": 65536}]
        return found

    monkeypatch.setattr(rt, "_make_rootfs", rootfs)
    if kind == "runc":
        monkeypatch.setattr(rt, "_oci_config", config)
        return started.start("runc", argv, cgroup=DOCKER)
    started.podman_run = ["--uidmap", "0:100000:65536", "--gidmap", "0:200000:65536"]
    return started.start("podman", argv)


def syscalls(lines: list[str]) -> dict[str, dict[str, str]]:
    """Serial -> fields of the SYSCALL record."""
    found = {}
    for line in lines:
        if line.startswith("type=SYSCALL "):
            found[re.search(r":(\d+)\):", line)[1]] = dict(w.split("=", 1) for w in line.split() if "=" in w)  # type: ignore[index]
    return found


@pytest.mark.parametrize("kind", ["runc", "podman"])
def test_every_number_is_the_one_seen_inside(
    kind: str, quiet: AuditState, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime = "docker" if kind == "runc" else "podman"
    with listening(base) as program, Runtimes(base / "rt") as started:
        (base / "rt").chmod(0o755)
        stream(base, "create", "web", "--runtime", runtime, "--backlog-limit", "20000")
        container = start(base, kind, monkeypatch, started, ["sh", "-c", SCRIPT])
        log = base / "rt" / container.name / "tmp/log"
        until(lambda: log.exists() and log.read_text().endswith("end\n"), "the script's end")

        until(lambda: shown(base, "web")["counters"]["events"] >= 120, "its events")
        nspid = Path(f"/proc/{container.pid}/status").read_text().partition("NSpid:")[2].split("\n")[0].split()
        status = shown(base, "web")
        counters = json.loads(auditns("status", "--json", "--control", base / "control").stdout)["streams"]
        lines = read(base, "web")
        inside, outside = syscalls(lines), syscalls(program.out.decode(errors="replace").splitlines())
        seen = [tuple(line.split()) for line in log.read_text().splitlines()[:-1]]
    assert len(seen) == 60
    told = {(f["pid"], f["ppid"], f["uid"], f["gid"]) for f in inside.values()}
    assert len([line for line in seen if line not in told]) <= 1  # 1 of 100 may have no number, none a wrong one
    # every number of the host reads the same all along, and as the kernel says where that can be asked
    names: dict[str, set[str]] = {}
    for serial, fields in inside.items():
        names.setdefault(outside[serial]["pid"], set()).add(fields["pid"])
    assert names[nspid[0]] == {nspid[-1]}
    hidden = [pid for pid, called in names.items() if "0" in called]
    assert len(hidden) * 100 <= len(names), (hidden, counters, sorted(names.items()))
    assert {len(called) for pid, called in names.items() if pid not in hidden} == {1}
    # nothing of the host's is left
    for fields in inside.values():
        assert (fields["ses"], fields["auid"]) == ("4294967295", "4294967295")
        assert {fields[key] for key in ("uid", "euid", "fsuid", "gid", "egid")} <= {"0"}
    text = "\n".join(lines)
    assert "100000" not in text
    assert "200000" not in text
    assert "\x1d" not in text
    assert "cgroup" not in text
    assert "conmon" not in text
    assert str(base) not in text
    assert status["counters"]["lost_records"] == 0
    assert inside


def enter(container: Container, *argv: str) -> subprocess.CompletedProcess[str]:
    """Run a program of the host's inside the container's pid and user namespace: it counts as the container's."""
    command = ["nsenter", "-t", str(container.pid), "-p", "-U", "-S", "0", "-G", "0", *argv]
    return subprocess.run(command, capture_output=True, text=True, env=environment(), timeout=30)


def test_from_inside(quiet: AuditState, base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    where = base / "streams" / "web"
    other = base / "streams" / "other"
    with listening(base, "--info") as program, Runtimes(base / "rt") as started:
        (base / "rt").chmod(0o755)
        owner = ["--mode", "0666", "--backlog-limit", "1000"]
        stream(base, "create", "web", "--runtime", "docker", "--message-limit", "3", *owner)
        stream(base, "create", "other", "--runtime", "podman", *owner)
        container = start(base, "runc", monkeypatch, started, ["sleep", "600"])
        # an interpreter that others than root can get at, and a program that needs no more than the standard library
        python = shutil.which("python3", path="/usr/bin:/usr/local/bin") or ""
        need(python, "python3 in /usr/bin")
        inner = [python, "-m", "auditns_connector.cli.main", "stream"]
        run = inner

        # messages: stamped with who it really is, encoded, in both outputs
        forged = "x' uid=0 contid=7\ntype=SYSCALL msg=audit(1.0:1): pid=1"
        done = enter(container, *run, "send", "--dir", str(where), "--type", "USER_CMD", forged)
        assert done.returncode == 0, done.stderr
        until(lambda: b"op=stream-send" in program.out, "the message")
        line = next(x for x in program.out.decode().splitlines() if "op=stream-send" in x)
        assert f"data={forged.encode().hex().upper()}" in line
        assert " uid=100000 " in line.partition("msg='")[0]
        assert not re.search(r"contid=7\b", program.out.decode())
        serial = re.search(r"audit\([0-9.]+:(\d+)\)", line)[1]  # type: ignore[index]
        contid = str(int("ab12" * 4, 16))
        assert f":{serial}): contid={contid}" in program.out.decode()

        # refused: types of the kernel's, too many, and whatever is not asked of a stream
        for kind in ("SYSCALL", "CONFIG_CHANGE", "USER", "CONTAINER_ID"):
            refused = enter(container, *run, "send", "--dir", str(where), "--type", kind, "x")
            assert (refused.returncode, refused.stdout) == (1, ""), kind
        for request in ({"op": "rules"}, {"op": "stream", "do": "list"}, {"op": "create"}, {}, {"op": ["x"]}):
            code = f"from auditns_connector.streams import client; client.request({str(where)!r}, {request!r})"
            assert "EINVAL" in enter(container, python, "-c", code).stderr
        # another container's stream takes neither its words nor its ears
        assert enter(container, *run, "send", "--dir", str(other), "--type", "USER_CMD", "x").returncode == 3
        assert enter(container, *run, "read", "--dir", str(other)).stdout == ""
        assert shown(base, "other")["counters"]["refused"] == 1

        # its own events, by its own numbers, and its own state
        text = enter(container, *run, "read", "--dir", str(where)).stdout
        assert "op=stream-send" in text
        assert " uid=0 " in next(x for x in text.splitlines() if "op=stream-send" in x)
        state = json.loads(enter(container, *run, "show", "--dir", str(where), "--json").stdout)
        assert state["backlog_limit"] == 1000
        assert enter(container, *run, "set", "--dir", str(where), "--pause").returncode == 0
        assert json.loads(enter(container, *run, "show", "--dir", str(where), "--json").stdout)["paused"] is True
        assert enter(container, *run, "set", "--dir", str(where), "--resume").returncode == 0
        assert enter(container, *run, "set", "--dir", str(where), "--backlog-limit", "9").returncode == 3

        # a login: of the parent, once, inherited
        script = " && ".join(
            [
                " ".join([*inner, "login", "--dir", str(where), "--uid", "1000", "--session", "5"]),
                "/bin/true logged-in",
                "! " + " ".join([*inner, "login", "--dir", str(where), "--uid", "0"]),
            ]
        )
        done = enter(container, "sh", "-c", script)
        assert done.returncode == 0, done.stderr
        assert "once" in done.stderr
        until(lambda: b"cauid=1000 cses=5" in program.out, "the login in CONTAINER_INFO")
        found = [f for f in syscalls(read(base, "web")).values() if f["auid"] == "1000"]
        assert found
        assert {f["ses"] for f in found} == {"5"}

        # nobody else may say so: not the host, not a user inside who is not root
        with pytest.raises(Exception, match="EPERM"):
            client.login(str(where), 7)
        low = ["nsenter", "-t", str(container.pid), "-p", "-U", "-S", "5", "-G", "5"]
        refused = subprocess.run(
            [*low, *inner, "login", "--dir", str(where), "--uid", "7"],
            capture_output=True, text=True, env=environment(), timeout=30,
        )  # fmt: skip
        assert refused.returncode == 3, refused.stderr


def test_kept_across_a_restart(quiet: AuditState, base: Path) -> None:
    with listening(base):
        stream(base, "create", "web", "--runtime", "docker", "--backlog-limit", "10", "--label", "a=b")
        folder = (base / "streams/web").stat().st_ino
    assert (base / "streams/web").stat().st_ino == folder
    with listening(base):
        found = shown(base, "web")
        assert (found["runtime"], found["label"], found["backlog_limit"]) == (["docker"], ["a=b"], 10)
        assert (base / "streams/web").stat().st_ino == folder
        stream(base, "set", "web", "--backlog-limit", "20", "--overflow", "drop-newest")
        assert shown(base, "web")["backlog_limit"] == 20
        stream(base, "remove", "web")
        assert auditns("stream", "show", "web", "--control", base / "control").returncode == 1
        for name in ("../x", "a/b", ".private", "web/../../x"):
            bad = auditns("stream", "create", name, "--runtime", "docker", "--control", base / "control")
            assert bad.returncode == 1
            assert b"not allowed" in bad.stderr
    assert not (base / "streams/web").exists()
