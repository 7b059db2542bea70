"""Streams of ordinary users, for containers of theirs and for nobody else's; rootless Podman as the README has it."""

import contextlib
import json
import os
import pwd
import secrets
import shlex
import shutil
import signal
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import pytest

from auditns_connector.control.server import ask
from tests.kernel import cgroupfs
from tests.kernel.programs import auditns, environment, event_of, until, whole_event_of
from tests.kernel.streamkit import listening, stream
from tests.kernel.support import AuditState, auditctl, need, need_tool
from tests.kernel.test_plugin import Plugin

pytestmark = [pytest.mark.kernel, pytest.mark.usefixtures("usable_null")]
USER: Final = 1000
OTHER: Final = 1001
#: argv: a word, a file whose coming ends it. In a user and pid namespace of the first user's a process of another one's
#: (whom root maps there) makes a user and a pid namespace of its own, and programs run in both
NESTED: Final = r"""
import ctypes, os, subprocess, sys, time
libc = ctypes.CDLL(None, use_errno=True)
ready, mapped = os.pipe(), os.pipe()
def within(flags, run):
    assert libc.unshare(flags) == 0, os.strerror(ctypes.get_errno())
    pid = os.fork()
    if pid == 0:
        run()
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
def again(word):
    while not os.path.exists(sys.argv[2]):
        subprocess.run(["/bin/true", word + "-" + sys.argv[1]], check=True)
        time.sleep(0.1)
def outer():
    pid = os.fork()
    if pid == 0:
        os.setresgid(1, 1, 1)
        os.setresuid(1, 1, 1)
        within(0x30000000, lambda: again("foreign"))
        os._exit(0)
    again("around")
    assert os.waitpid(pid, 0)[1] == 0
pid = os.fork()
if pid == 0:
    os.setresgid(1000, 1000, 1000)
    os.setresuid(1000, 1000, 1000)
    assert libc.unshare(0x10000000) == 0
    os.write(ready[1], b"x")
    os.read(mapped[0], 1)
    within(0x20000000, outer)
    os._exit(0)
os.read(ready[0], 1)
for name in ("uid_map", "gid_map"):
    with open(f"/proc/{pid}/{name}", "w") as file:
        file.write("0 1000 1\n1 1001 1\n")
os.write(mapped[1], b"x")
assert os.waitpid(pid, 0)[1] == 0
"""


def as_user(uid: int, *argv: str | Path) -> list[str]:
    return ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups", *map(str, argv)]


def run(*argv: str | Path, **more: Any) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        list(map(str, argv)), capture_output=True, text=True, env=environment(), timeout=180, check=False, **more
    )


def python() -> str:
    """An interpreter that others than root can get at; the commands need no more than the standard library."""
    found = shutil.which("python3", path="/usr/bin:/usr/local/bin") or ""
    need(found, "python3 in /usr/bin")
    return found


def by_user(uid: int, base: Path, do: str, *args: str) -> "subprocess.CompletedProcess[str]":
    command = (python(), "-m", "auditns_connector.cli.main", "stream", do, *args, "--control", base / "control")
    return run(*as_user(uid, *command), cwd="/")


def made(uid: int, base: Path, *args: str) -> Path:
    done = by_user(uid, base, "create", *args)
    assert done.returncode == 0, done.stderr
    return Path(done.stdout.partition(": ")[2].strip())


def read(uid: int, base: Path, name: str, word: str = "") -> str:
    """What a reader gets that comes again and again for a moment, until ``word`` has come."""
    text = ""

    def come() -> bool:
        nonlocal text
        done = by_user(uid, base, "read", name, "--duration", "1")
        assert done.returncode == 0, done.stderr
        text += done.stdout
        return word in text

    until(come, f"{word} in the stream {name}")
    return text


def add(base: Path, *args: str) -> bool:
    """Whether a stream was made; more than a few requests a second are refused."""
    return by_user(USER, base, "create", *args).returncode == 0


def own(word: str, uid: int = USER, stop: Path | None = None) -> list[str]:
    """A sandbox of a user's own: ``word`` is run there at its start and after a while; or until there is ``stop``."""
    script = f"/bin/true {word}; sleep 1; /bin/true {word}"
    if stop is not None:
        script = f"while [ ! -e {stop} ]; do /bin/true {word}; sleep 0.1; done"
    return as_user(uid, "unshare", "-Urpf", "--mount-proc", "sh", "-c", script)


@pytest.fixture
def home() -> Iterator[Path]:
    """The home of the user, with the root file system of a container in it."""
    need_tool("podman", "runc", "busybox", "setpriv")
    with contextlib.suppress(KeyError):
        pwd.getpwuid(USER)
        top = Path("/var/tmp") / f"auditns-{secrets.token_hex(8)}"
        for folder in ("bin", "proc", "sys", "dev", "tmp", "etc", "run"):
            (top / "root" / folder).mkdir(parents=True)
        shutil.copy(shutil.which("busybox") or "", top / "root/bin/busybox")
        for name in ("sh", "true", "sleep", "cat"):
            (top / "root/bin" / name).symlink_to("busybox")
        for path in (top, *top.rglob("*")):
            os.chown(path, USER, USER, follow_symlinks=False)
        yield top
        run(*podman(top, "rm", "-f", "-t", "0", "web"))
        for file in top.rglob("pause.pid"):  # podman's own, which keeps its user namespace
            with contextlib.suppress(ProcessLookupError, ValueError):
                os.kill(int(file.read_text()), signal.SIGTERM)
        subprocess.run(["rm", "-rf", "--", top], check=False)
        return
    need(False, f"a user with the uid {USER}")


def podman(home: Path, *words: str | Path) -> list[str]:
    return as_user(
        USER, "env", f"HOME={home}", f"XDG_RUNTIME_DIR={home}", "podman", "--runtime", "runc", "--cgroup-manager",
        "cgroupfs", *words,
    )  # fmt: skip


def test_the_example_of_the_readme_rootless(quiet: AuditState, base: Path, home: Path, token: str) -> None:
    limits = ("--network", "none", "--ulimit", "nofile=1024:1024", "--ulimit", "nproc=4096:4096")
    with listening(base):
        where = made(USER, base, "web", "--name", "web")
        assert where == base / "users" / str(USER) / "web"
        mount = f"{where}:/run/auditns/streams/web:ro"
        done = run(
            *podman(home, "run", "-d", "--name", "web", *limits, "-v", mount, "--rootfs", home / "root", "sleep", "600")
        )
        assert done.returncode == 0, done.stderr
        inside = podman(home, "exec", "web")
        run(*inside, "/bin/true", f"before-{token}")
        # nothing is held before root has given it room, and the user cannot take any
        assert by_user(USER, base, "set", "web", "--backlog-limit", "9").returncode == 3
        assert (shown_to(base, "web")["held_records"], by_user(USER, base, "read", "web").stdout) == (0, "")
        stream(base, "set", "web", "--user", str(USER), "--backlog-limit", "1000")
        until(
            lambda: run(*inside, "cat", f"/etc/shadow-{token}") and shown_to(base, "web")["held_records"],
            "an event of the container",
        )
        # a stranger is not let in, wherever he asks
        for do in ("read", "show", "remove", "set"):
            refused = by_user(OTHER, base, do, "web", *(("--pause",) if do == "set" else ()))
            assert refused.returncode in (1, 3), (do, refused.stdout)
        assert by_user(OTHER, base, "list").stdout == ""
        assert run(*as_user(OTHER, python(), "-c", READ, where), cwd="/").stdout == "[]\n"
        # in the container: its root, who is the user
        pid = run(*podman(home, "inspect", "-f", "{{.State.Pid}}", "web")).stdout.strip()
        entered = ("nsenter", "-t", pid, "-p", "-U", "-S", "0", "-G", "0")
        state = run(*entered, python(), "-m", "auditns_connector.cli.main", "stream", "show", "--json", "--dir", where)
        assert json.loads(state.stdout)["backlog_limit"] == 1000, state.stderr
        assert run(*entered, python(), "-c", SEND, where).stdout == "EBUSY EPERM\n"
        text = read(USER, base, "web", f"/etc/shadow-{token}")
        list_of_root = json.loads(stream(base, "list", "--json"))["streams"]
        stream(base, "remove", "web", "--user", str(USER))
        assert not where.exists()
    assert f'a0="cat" a1="/etc/shadow-{token}"' in text
    assert f"before-{token}" not in text
    syscall = next(line for line in text.splitlines() if line.startswith("type=SYSCALL") and 'comm="cat"' in line)
    fields = dict(word.split("=", 1) for word in syscall.split() if "=" in word)
    assert (fields["uid"], fields["auid"], fields["ses"]) == ("0", "4294967295", "4294967295")
    assert 0 < int(fields["pid"]) < 200
    assert [(s["user"], s["stream"], s["allowance"]) for s in list_of_root] == [(USER, "web", 1000)]


READ: Final = """
import sys
from auditns_connector.streams import client
try:
    print(list(client.read(sys.argv[1], follow=False)))
except Exception as error:
    print("[]")
"""
SEND: Final = """
import sys
from auditns_connector.streams import client
found = []
for call in (lambda: client.send(sys.argv[1], "USER_CMD", "x"), lambda: client.login(sys.argv[1], 7, None, 1)):
    try:
        call()
    except Exception as error:
        found.append(str(error).rpartition("(")[2].rstrip(")"))
print(*found)
"""


def containers_of(base: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = ask(str(base / "control"), {"op": "contid-list"})["containers"]
    return found


def shown_to(base: Path, name: str, uid: int = USER) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(by_user(uid, base, "show", name, "--json").stdout)
    return found


def start(*argv: str) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(list(argv), env=environment(), stdin=subprocess.DEVNULL, cwd="/")


@contextlib.contextmanager
def in_cgroup(path: str, argv: Sequence[str]) -> Iterator[None]:
    before = cgroupfs.folders(cgroupfs.first(path))
    try:
        running = start(*cgroupfs.command_in(path, argv))
        try:
            yield
        finally:  # nothing stays in it, whatever became of the test
            ended = running.wait(180)
        assert ended == 0
    finally:
        cgroupfs.remove_new(cgroupfs.first(path), before)


def test_nobody_elses(quiet: AuditState, base: Path, token: str) -> None:
    need_tool("setpriv", "unshare", "nsenter")
    ident = secrets.token_hex(32)
    slice_of = "/user.slice/user-{0}.slice/user@{0}.service/user.slice/libpod-{1}.scope"
    guest = shlex.join(own(f"guest-{token}", stop=base / "stop"))
    roots = f"while [ ! -e {base}/stop ]; do /bin/true roots-{token}; sleep 0.1; done"
    alone = shlex.join([*own(f"alone-{token}")[:-1], f"sleep 0.5; /bin/true alone-{token}; sleep 0.3"])
    quotas = ("--user-streams", "64", "--user-quota", f"{USER}=100000", "--user-quota", f"{OTHER}=100000")
    with listening(base, *quotas) as program:
        made(USER, base, "all", "--name", "*", "--backlog-limit", "50000")
        with (
            in_cgroup(f"/docker/{ident}", ["sh", "-c", f"{guest} & wait"]),
            in_cgroup(slice_of.format(USER, ident), own(f"scope-{token}", stop=base / "stop")),
            in_cgroup(slice_of.format(OTHER, ident[::-1]), own(f"strangers-{token}", OTHER, base / "stop")),
        ):
            running = [
                start(*argv)
                for argv in (
                    own(f"mine-{token}", stop=base / "stop"),
                    own(f"others-{token}", OTHER, base / "stop"),
                    ["unshare", "-pf", "sh", "-c", roots],
                    as_user(USER, "unshare", "-Ur", "sh", "-c", f"/bin/true nopid-{token}"),
                    [python(), "-c", NESTED, token, str(base / "stop")],
                )
            ]
            try:
                until(lambda: whole_event_of(program.out, f"roots-{token}"), "an event of one of them")
                # every container of the host by its identifier, when all have come
                until(lambda: len(containers_of(base)) > 5, "the containers")
                listed = containers_of(base)
                for n, about in enumerate(listed):
                    contid = about["contid"].rpartition("^")[2]
                    until(
                        lambda n=n, c=contid: add(base, f"c{n}", "--contid", c, "--backlog-limit", "1000"), "a stream"
                    )
                his = ("mine", "scope", "around")
                until(lambda: all(f"{word}-{token}" in " ".join(texts(base)) for word in his), "his own")
                until(lambda: event_of(program.out, f'a1="foreign-{token}"'), "what is another's inside")
            finally:  # they run until then
                (base / "stop").touch()
                ended = [one.wait(180) for one in running]
            assert ended == [0] * 5
        # the guest's namespaces are all that is left of a container
        with in_cgroup(f"/docker/{secrets.token_hex(32)}", ["sh", "-c", f"{alone} &"]):
            until(lambda: whole_event_of(program.out, f'a1="alone-{token}"'), "its event")
        # root of the host enters the user's container: his doings are none of the user's
        waiting = start(*own(f"held-{token}")[:-1], f"/bin/true held-{token}; sleep 600")
        children = Path(f"/proc/{waiting.pid}/task/{waiting.pid}/children")
        until(lambda: children.read_text().split(), "its first process")
        pid = children.read_text().split()[0]
        try:
            until(lambda: whole_event_of(program.out, f"held-{token}"), "its event")
            assert run("nsenter", "-t", pid, "-p", "/bin/true", f"entered-{token}").returncode == 0
            assert run("nsenter", "-t", pid, "-p", "-U", "/bin/true", f"joined-{token}").returncode == 0
        finally:
            os.kill(int(pid), signal.SIGKILL)
            waiting.wait()
        assert start(*own(f"end-{token}")).wait(180) == 0
        until(
            lambda: shown_to(base, "all")["counters"]["events"] and f"end-{token}" in " ".join(texts(base)), "the end"
        )
        text, everything = " ".join(texts(base)), program.out.decode(errors="replace")
    words = ("mine", "scope", "held", "joined", "around")
    assert [word for word in words if f"{word}-{token}" not in text] == []
    foreign = ("guest", "alone", "strangers", "others", "roots", "nopid", "foreign", "entered")
    assert [word for word in foreign if f"{word}-{token}" not in everything] == []
    assert [word for word in foreign if f"{word}-{token}" in text] == []


#: what was read of each base
_READ: dict[Path, list[str]] = {}


def texts(base: Path) -> list[str]:
    """All that the user's streams have given so far."""
    found = _READ.setdefault(base, [])
    for one in json.loads(by_user(USER, base, "list", "--json").stdout)["streams"]:
        found.append(read(USER, base, one["stream"]))
    return found


FLOOD: Final = r"""
import array, json, os, socket, sys
from auditns_connector.state.paths import beside
control, words = sys.argv[1], [b"", b"{", b"\xff" * 9000, b"[" * 8000, b'{"op":"stream","do":"list"}',
    b'{"op":"stream","do":"create","name":"../../x","options":{"name":["*"]}}', b'{"op":"status"}', b'{"op":7}']
refused = 0
for n in range(3000):
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    sock.settimeout(10)
    try:
        sock.connect(beside(control, "user"))
        if n % 3:
            sock.sendmsg([words[n % len(words)]], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [0]))])
        if n % 5 == 0 and n % 3 or n % 750 == 0:  # who says nothing is hung up on after some seconds
            sock.recv(65536)
    except OSError:
        refused += 1
    if n % 7:
        sock.close()
    else:
        globals().setdefault("kept", []).append(sock)
pid = os.fork()
if pid == 0:  # one that is gone when its request is read, and one that is another program then
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    sock.connect(beside(control, "user"))
    sock.send(b'{"op":"stream","do":"create","name":"ghost","options":{"name":["*"]}}')
    os._exit(0)
os.waitpid(pid, 0)
pid = os.fork()
if pid == 0:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    sock.connect(beside(control, "user"))
    sock.set_inheritable(True)
    sock.send(b'{"op":"stream","do":"list"}')
    os.execv("/bin/true", ["true"])
os.waitpid(pid, 0)
"""


def test_a_flood_of_a_user_hinders_nobody(quiet: AuditState, base: Path, token: str) -> None:
    with listening(base) as program:
        made(USER, base, "web", "--name", "*")
        flood = [start(*as_user(USER, python(), "-c", FLOOD, base / "control")) for _ in range(4)]
        for n in range(20):
            assert run("/bin/true", f"meanwhile-{n}-{token}").returncode == 0
            assert auditns("status", "--json", "--control", base / "control").returncode == 0
            # another user, whose turn comes all the same
        assert made(OTHER, base, "mine", "--name", "x")
        assert [one.wait(600) for one in flood] == [0] * 4
        until(lambda: whole_event_of(program.out, f"meanwhile-19-{token}"), "the last event")
        status = json.loads(auditns("status", "--json", "--control", base / "control").stdout)
        for n in range(20):
            assert event_of(program.out, f"meanwhile-{n}-{token}")
        fds = len(os.listdir(f"/proc/{program.process.pid}/fd"))
        until(lambda: by_user(USER, base, "list").returncode == 0, "the user's turn")
        names = [s["stream"] for s in json.loads(stream(base, "list", "--json"))["streams"]]
    assert status["users"]["refused"] > 100
    assert status["lost"] == 0
    assert fds < 200
    assert sorted(names) == ["mine", "web"]  # the one that had gone has made nothing


LIST: Final = """
import sys
from auditns_connector.control.server import ask
print(ask(sys.argv[1], {"op": "stream", "do": "list"}).get("error"))
"""


def test_in_a_user_namespace_or_a_container_nobody_is_a_user(quiet: AuditState, base: Path) -> None:
    command = (python(), "-c", LIST, base / "user")
    with listening(base):
        assert run(*as_user(USER, *command), cwd="/").stdout == "None\n"
        for inside in (["unshare", "-Ur"], ["unshare", "-U"], ["unshare", "-Urpf"]):
            assert run(*as_user(USER, *inside, *command), cwd="/").returncode == 1  # hung up on
        assert run("unshare", "-pf", *as_user(USER, *command), cwd="/").stdout == "EPERM\n"
        assert run(*command, cwd="/").stdout == "EINVAL\n"  # root has the control socket


def test_streams_of_users_with_the_plugin(quiet: AuditState, base: Path, launcher: Path, token: str) -> None:
    need_tool("auditd")
    auditctl("-e", "1")
    auditctl("-a", "always,exit", "-F", "arch=b64", "-S", "execve", "-k", f"auditns-{token}")
    plugin = Plugin(base / "auditd", launcher)  # which takes that directory from others
    plain = f'control = "{base}/control"\n[output.file]\npath = "{plugin.log}"\n[users]\n'
    plugin.toml.write_text(plain + f"streams = 2\n[users.quota]\n{USER} = 500\n")
    plugin.toml.chmod(0o640)
    with plugin.auditd.serving():
        plugin.answers(f"ready-{token}")
        made(USER, base, "web", "--name", "*", "--backlog-limit", "500")
        assert start(*own(f"mine-{token}")).wait(180) == 0
        assert start(*own(f"others-{token}", OTHER)).wait(180) == 0
        until(lambda: shown_to(base, "web")["held_records"], "events")
        until(lambda: whole_event_of(plugin.read(), f'a1="others-{token}"'), "all of them")
        assert [by_user(USER, base, "create", name, "--name", "x").returncode for name in ("b", "c")] == [0, 3]
    # it comes back, with what it may hold
    with plugin.auditd.serving():
        plugin.answers(f"again-{token}")
        assert shown_to(base, "web")["backlog_limit"] == 500
        assert start(*own(f"late-{token}")).wait(180) == 0
        until(lambda: shown_to(base, "web")["held_records"], "events")
        until(lambda: whole_event_of(plugin.read(), f'a1="late-{token}"'), "all of them")
        text = read(USER, base, "web", f"late-{token}")
        plugin.toml.write_text(plain + "streams = 0\n")
        plugin.auditd.hup()
        until(lambda: not (base / "user").exists(), "the new configuration")
        assert not (base / "users" / str(USER)).exists()
    assert f"late-{token}" in text
    assert f"others-{token}" not in text
