"""Podman run by an ordinary user, without cgroups of its own: the engine and its helpers are the host's, each of its
containers is one; and a tree as systemd makes it for PrivateUsers= is the host's."""

import contextlib
import os
import pwd
import re
import secrets
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.kernel import cgroupfs
from tests.kernel.programs import contids, events, listening, until, whole_event_of
from tests.kernel.support import AuditState, need, need_tool

pytestmark = pytest.mark.kernel
USER: Final = 1000
#: argv: a word. A child of it waits in a user namespace of its own, the parent writes its maps, as systemd does
#: (src/core/exec-invoke.c, setup_private_users); the child runs programs there
PRIVATE: Final = r"""
import ctypes, os, subprocess, sys
libc = ctypes.CDLL(None, use_errno=True)
ready, mapped = os.pipe(), os.pipe()
pid = os.fork()
if pid == 0:
    assert libc.unshare(0x10000000) == 0
    os.write(ready[1], b"x")
    os.read(mapped[0], 1)
    assert libc.unshare(0x00020000) == 0
    os.setresuid(0, 0, 0)
    for _ in range(5):
        subprocess.run(["/bin/true", "private-" + sys.argv[1]], check=True)
    os._exit(0)
os.read(ready[0], 1)
for name, text in (("setgroups", "deny"), ("uid_map", "0 0 1"), ("gid_map", "0 0 1")):
    with open(f"/proc/{pid}/{name}", "w") as file:
        file.write(text)
os.write(mapped[1], b"x")
assert os.waitpid(pid, 0)[1] == 0
subprocess.run(["/bin/true", "outside-" + sys.argv[1]], check=True)
"""


@pytest.fixture
def home() -> Iterator[Path]:
    """The home of the user, with the root file system of a container in it."""
    top = Path("/var/tmp") / f"auditns-{secrets.token_hex(8)}"
    for folder in ("bin", "proc", "sys", "dev", "tmp", "etc"):
        (top / "root" / folder).mkdir(parents=True)
    shutil.copy(shutil.which("busybox") or "", top / "root/bin/busybox")
    for name in ("sh", "true", "sleep"):
        (top / "root/bin" / name).symlink_to("busybox")
    for path in (top, *top.rglob("*")):
        os.chown(path, USER, USER, follow_symlinks=False)
    yield top
    for file in top.rglob("pause.pid"):  # podman's own, which keeps its user namespace
        with contextlib.suppress(ProcessLookupError, ValueError):
            os.kill(int(file.read_text()), signal.SIGTERM)
    subprocess.run(["rm", "-rf", "--", top], check=False)


def podman(home: Path, *words: str) -> list[str]:
    """Podman as the user; crun refuses a host that has both versions of cgroups, so it does not see one of them."""
    user = ["setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups", "env"]
    command = [
        *user, f"HOME={home}", f"XDG_RUNTIME_DIR={home}", "podman", "--runtime", "crun", "--cgroup-manager", "cgroupfs",
        "run", "--rm", "--cgroups=disabled", "--network", "none", "--ulimit", "nofile=1024:1024", "--ulimit",
        "nproc=4096:4096", "--rootfs", f"{home}/root", *words,
    ]  # fmt: skip
    hides = "umount /sys/fs/cgroup/unified 2>/dev/null; umount -l /sys/fs/cgroup/unified 2>/dev/null; "
    return ["unshare", "-m", "sh", "-c", hides + 'exec "$@"', "sh", *command]


def test_the_engine_is_the_hosts_and_each_container_is_one(
    quiet: AuditState, home: Path, tmp_path: Path, token: str
) -> None:
    need_tool("podman", "crun", "busybox", "setpriv", "unshare")
    try:
        pwd.getpwuid(USER)
    except KeyError:
        need(False, f"a user with the uid {USER}")
    with listening(tmp_path / "run", "--rules", "--format", "raw", "--no-lifecycle") as run:
        inside = "for i in 1 2 3; do /bin/busybox true one-$0; done; sleep 1; /bin/busybox true one-$0"
        started = [
            subprocess.Popen(podman(home, "/bin/sh", "-c", inside, f"{number}-{token}"), stderr=subprocess.PIPE)
            for number in (1, 2)
        ]
        said = [process.communicate(timeout=180)[1].decode() for process in started]
        assert [process.returncode for process in started] == [0, 0], said
        subprocess.run(["/bin/true", f"end-{token}"], check=True)
        until(lambda: whole_event_of(run.out, f"end-{token}"), "the last event")
        text = run.out
    found: dict[str, set[tuple[str, ...]]] = {}
    engine: list[list[str]] = []
    for lines in events(text).values():
        whole = b"\n".join(lines)
        said_word = re.search(rb'"one-(\d)-%b"' % token.encode(), whole)
        if said_word is not None:
            found.setdefault(said_word[1].decode(), set()).add(tuple(contids(lines)))
        elif re.search(
            rb'type=SYSCALL .* exe="[^"]*/(podman|conmon|newuidmap|newgidmap|catatonit|slirp4netns)"', whole
        ):
            engine.append(contids(lines))
    assert sorted(found) == ["1", "2"]
    assert all(len(told) == 1 for told in found.values()), found
    (one,), (other,) = found["1"], found["2"]
    assert len(one) == len(other) == 1
    assert one != other
    assert ("?",) not in (one, other)
    assert len(engine) > 4
    assert [told for told in engine if told] == []


def engine(home: Path, *words: str) -> str:
    """Podman as the user, with containers that last; its stdout."""
    command = podman(home)
    at = command.index("run")
    done = subprocess.run([*command[:at], *words], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, f"podman {words}: {done.stderr}"
    return done.stdout.strip()


@pytest.mark.nightly
def test_every_way_to_run_something(quiet: AuditState, home: Path, tmp_path: Path, token: str) -> None:
    """As root's Docker in test_dockerd.py. No cgroup tells who they are: each container is one of its own. (Without a
    cgroup Podman makes none in the host's pid namespace; with one it does, in test_systemd_host.py.)"""
    need_tool("podman", "crun", "busybox", "setpriv", "unshare", "nsenter")
    shutil.copy(home / "root/bin/busybox", home / "root/bin/busy")
    options = (
        "run", "-d", "--cgroups=disabled", "--network", "none", "--ulimit", "nofile=1024:1024", "--ulimit",
        "nproc=4096:4096",
    )  # fmt: skip
    root, said = str(home / "root"), {}

    def start(name: str, more: list[str], script: str) -> None:
        engine(home, *options, "--name", name, *more, "--rootfs", root, "/bin/sh", "-c", script)

    def true(name: str, label: str, count: int = 1) -> str:
        """A script that does it; whose it is."""
        said[label] = (name, count)
        return "; ".join([f"/bin/true {label}-{token}"] * count)

    with listening(tmp_path / "run", "--rules", "--format", "raw", "--no-lifecycle") as run:
        start("plain", [], f"{true('plain', 'init', 3)}; sleep 600; :")
        engine(home, "exec", "plain", "/bin/sh", "-c", f"{true('plain', 'exec', 2)}; :")
        engine(home, "exec", "-d", "plain", "/bin/sh", "-c", f"{true('plain', 'detached', 2)}; :")
        pid = engine(home, "inspect", "-f", "{{.State.Pid}}", "plain")
        subprocess.run(["nsenter", "-t", pid, "-a", "/bin/true", f"nsenter-{token}"], check=True)
        said["nsenter"] = "plain", 1
        start("crash", ["--restart=on-failure:2"], f"{true('crash', 'restart')}; exit 1")
        said["restart"] = "crash", 3
        start("healthy", [f"--health-cmd={true('healthy', 'health')}", "--health-interval=disable"], "sleep 600; :")
        engine(home, "healthcheck", "run", "healthy")
        start("privileged", ["--privileged"], f"{true('privileged', 'privileged', 2)}; sleep 600; :")

        def told() -> dict[str, list[list[str]]]:
            found: dict[str, list[list[str]]] = {label: [] for label in said}
            for lines in events(run.out).values():
                ran = re.search(rb'a0="/bin/true" a1="(\w+)-%b"' % token.encode(), b"\n".join(lines))
                if ran is not None:
                    found[ran[1].decode()].append(contids(lines))
            return found

        until(lambda: all(len(told()[label]) >= count for label, (_, count) in said.items()), "every exec")
        engine(home, "rm", "-f", "-t", "0", "plain", "crash", "healthy", "privileged")
        found = told()
    assert {label: len(ones) for label, ones in found.items()} == {label: count for label, (_, count) in said.items()}
    whose: dict[str, set[str]] = {}
    for label, (name, _) in said.items():
        assert all(len(one) == 1 and one != ["?"] for one in found[label]), (label, found[label])
        whose.setdefault(name, set()).update(one[0] for one in found[label])
    # a container that is started again is a new one: without a cgroup nothing says that it is the same
    assert all(len(ids) == 1 for name, ids in whose.items() if name != "crash"), whose
    assert len(set().union(*whose.values())) == sum(map(len, whose.values())), whose


def test_a_service_with_private_users_is_the_hosts(quiet: AuditState, tmp_path: Path, token: str) -> None:
    top = f"/auditns-{token}.slice"
    before = cgroupfs.folders(top)
    command = ["python3", "-c", PRIVATE, token]
    try:
        with listening(tmp_path / "run", "--rules", "--format", "raw", "--no-lifecycle") as run:
            subprocess.run(cgroupfs.command_in(f"{top}/private-{token}.service", command), check=True)
            subprocess.run(["/bin/true", f"end-{token}"], check=True)
            until(lambda: whole_event_of(run.out, f"end-{token}"), "the last event")
            text = run.out
    finally:
        cgroupfs.remove_new(top, before)
    for word, times in (("private", 5), ("outside", 1)):
        told = [contids(lines) for lines in events(text).values() if f'"{word}-{token}"'.encode() in b"\n".join(lines)]
        assert told == [[]] * times, word
