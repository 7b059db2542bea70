"""The checks of the container identifier patches' own test once more, on real containers registered by the hook; and
containers that pose as others."""

import concurrent.futures
import contextlib
import json
import re
import secrets
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from auditns_connector import api
from auditns_connector.cli.ocihook import WRAPPER
from auditns_connector.control.server import ask
from auditns_connector.model.runtimes import derive_contid
from tests.kernel import cgroupfs
from tests.kernel.printed import be_patient
from tests.kernel.programs import AUDITNS, Program, Task, auditns, contids, event_of, listening, until, whole_event_of
from tests.kernel.runtimes import Container, Runtimes
from tests.kernel.support import AuditState, auditctl, need_tool
from tests.kernel.test_contid import UNSET, hook, ops, refused, serving
from tests.kernel.test_packets import packet, setup

pytestmark = pytest.mark.kernel
MARK = 0x4D7


@pytest.fixture(params=["runc", "crun", "podman"])
def runtime(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def started(quiet: AuditState, runtimes: Runtimes, tmp_path: Path, runtime: str) -> Iterator["Started"]:
    with listening(tmp_path / "l", "--rules", "--format", "raw") as listener:
        yield Started(runtimes, listener, runtime, tmp_path)


class Started:
    """Two containers of one runtime through the hook, the second in the first one's network namespace."""

    def __init__(self, runtimes: Runtimes, listener: Program, runtime: str, folder: Path) -> None:
        self.listener, self.control, self.runtime = listener, serving(listener), runtime
        runtimes.hooks = hook(self.control)
        hooks = folder / "hooks.d"
        done = auditns("install-hook", "--dir", hooks, "--expect", "none", "--control", self.control)
        assert (done.returncode, done.stdout.decode().strip()) == (0, f"{hooks}/auditns.json"), done.stderr
        be_patient(hooks / "auditns.json")
        runtimes.podman_global = ["--hooks-dir", str(hooks)]
        self.first = self.start(runtimes)
        runtimes.network = f"/proc/{self.first.pid}/ns/net"
        self.second = self.start(runtimes)
        self.ids = [self.contid(container) for container in (self.first, self.second)]

    def start(self, runtimes: Runtimes) -> Container:
        return runtimes.start(self.runtime, name="" if self.runtime == "podman" else secrets.token_hex(32))

    def contid(self, container: Container) -> str:
        return str(derive_contid("podman" if self.runtime == "podman" else "oci", container.id))

    def got(self, pid: int) -> str:
        return api.get_contid(pid, control=str(self.control)).contid

    def seen(self, *words: str) -> list[str]:
        """The identifiers of the event with ``words``, once it is there."""
        until(lambda: whole_event_of(self.listener.out, *words), words[0])
        return contids(event_of(self.listener.out, *words))


def test_written_once_and_the_owner_puts_more_in(started: Started, tasks: list[Task], token: str) -> None:
    listener, control = started.listener, started.control
    one, two = started.ids
    pids = started.first.pid, started.second.pid
    assert [started.got(pid) for pid in pids] == [one, two]
    for again, error in ((one, "EEXIST"), ("5", "EEXIST"), (UNSET, "EINVAL"), (two, "EEXIST"), ("x", "EINVAL")):
        assert refused(pids[0], again, control) == error
    assert started.got(pids[0]) == one
    tasks += [Task(), Task()]
    task, other = tasks
    assert refused(task.pid, one, control, new=True) == "ENOTUNIQ"
    assert refused(task.pid, one, control) == ""
    other.run("sleep 100 &")
    assert refused(other.pid, two, control) == "EBUSY"
    started.first.exec(["sh", "-c", f"/bin/true in-one-{token}; :"])
    started.second.exec(["/bin/true", f"in-two-{token}"])
    task.run(f"/bin/true put-in-{token}")
    assert [started.seen(f'a1="{word}-{token}"') for word in ("in-one", "in-two", "put-in")] == [[one], [two], [one]]
    # the container has not ended while the task lives that was put in
    started.first.stop()
    assert [c["live"] for c in api.list_containers(control=str(control)) if c["contid"] == one] == [1]
    started.second.stop()
    task.end()
    until(lambda: listener.out.count(b"op=drop ") == 2, "their ends")
    told = [(op["op"], op["contid"], op["old-contid"], op.get("error"), op["res"]) for op in ops(listener, pids[0])]
    # its runtime's id told, or a sandbox, until the hook had been there
    assert (told[0][:2], told[0][3:]) == (("set", one), (None, "1"))
    assert told[1:] == [
        ("set", one, one, "EEXIST", "0"),
        ("set", "5", one, "EEXIST", "0"),
        ("set", str(UNSET), one, "EINVAL", "0"),
        ("set", two, one, "EEXIST", "0"),
        ("set", "?", one, "EINVAL", "0"),
    ]
    (end,) = [op for op in ops(listener, task.pid) if op["op"] == "drop"]
    assert (end["contid"], end["old-contid"], end["res"]) == ("-1", one, "1")


def test_targets_filters_and_packets(started: Started, tasks: list[Task], tmp_path: Path, token: str) -> None:
    need_tool("ip", "iptables")
    one, two = started.ids
    key = f"auditns-{token}"
    auditctl("-a", "always,exit", "-F", "arch=b64", "-S", "kill", "-F", "a1!=0", "-k", key)
    started.first.exec(["sh", "-c", "kill -WINCH 1"])
    tasks += [Task(), Task("nsenter", "-t", str(started.first.pid), "-n")]
    host, net = tasks
    assert refused(host.pid, 9, started.control) == ""
    host.run(f"kill -WINCH {started.second.pid}; kill -WINCH $$")
    target = f"opid={started.second.pid} "
    assert started.seen(f"opid={started.first.pid} ", "type=OBJ_PID", key) == [one, one]
    assert started.seen(target, "type=OBJ_PID", key) == ["9", two]
    lines = event_of(started.listener.out, target, "type=OBJ_PID", key)
    records = [line.partition(b" record=")[2].split()[0] for line in lines if b"CONTAINER_ID" in line]
    assert records == [b"1", b"2"]
    with contextlib.ExitStack() as stack:
        terms = (f"={one}", f"!={two},unset,9,unknown", f"{two},9", "unset", f"!={hex(int(one))}")
        shown = [
            stack.enter_context(listening(tmp_path / str(at), "--format", "raw", "--contid", term,
                                          control=started.control)) for at, term in enumerate(terms)
        ]  # fmt: skip
        for container, word in ((started.first, "one"), (started.second, "two")):
            container.exec(["/bin/true", f"{word}-{token}"])
        host.run(f"/bin/true nine-{token}")
        net.run(f"/bin/true host-{token}; /bin/true")
        # an event in each listener behind those looked for
        started.first.exec(["/bin/true", f"end-one-{token}"])
        started.second.exec(["/bin/true", f"end-two-{token}"])
        net.run(f"/bin/true end-host-{token}")
        for listener, last in zip(shown, ("end-one", "end-one", "end-two", "end-host", "end-host"), strict=True):
            until(lambda p=listener, w=last: whole_event_of(p.out, f'a1="{w}-{token}"'), last)
        found = [
            [word for word in ("one", "two", "nine", "host") if event_of(listener.out, f'a1="{word}-{token}"')]
            for listener in shown
        ]
    assert found == [["one"], ["one"], ["two", "nine"], ["host"], ["two", "nine", "host"]]
    setup(net, MARK, "ip addr add 10.213.17.1/32 dev lo")
    packet(started.listener, net, "10.213.17.1", MARK, [f"{one},{two}"])
    started.second.stop()
    packet(started.listener, net, "10.213.17.1", MARK, [one])


def test_the_right_to_nest(started: Started, tasks: list[Task], tmp_path: Path, token: str) -> None:
    one, two = started.ids
    own = tmp_path / "own" / "control"
    own.parent.mkdir(mode=0o755)
    # a shell in the container's namespaces and a user namespace of its own, which can find our program
    inside = ("nsenter", "-t", str(started.first.pid), "-p", "-u", "-i", "-n", "unshare", "-U", "-r")
    tasks += [Task(*inside), Task()]
    shell, outside = tasks
    pid = next(int(path.name) for path in Path("/proc").glob("[0-9]*") if _counts_as(path, shell.pid, started.first))
    assert started.got(pid) == one

    def set_inside(contid: object, number: str = "$child", control: Path = own) -> str:
        command = shlex.join([*AUDITNS, "contid", "set", "PID", str(contid), "--control", str(control)])
        return shell.run(f"{command.replace('PID', number)} 2>&1")

    shell.run(f"mkfifo {tmp_path}/fifo; sh <{tmp_path}/fifo & child=$!; exec 9>{tmp_path}/fifo")
    assert "EPERM" in set_inside(5, control=started.control)  # root of a user namespace is nobody
    api.delegate(pid, socket=str(own), control=str(started.control))
    code = "import os, sys; from auditns_connector import api; api.set_contid(os.getpid(), 5, control=sys.argv[1])"
    assert "RegistrationError: EXDEV" in shell.run(f"{sys.executable} -c {shlex.quote(code)} {own} 2>&1")
    assert "ESRCH" in set_inside(5, str(outside.pid))
    assert "ENOTUNIQ" in set_inside(two)
    assert set_inside(5) == f"5,^{one}"
    assert "EEXIST" in set_inside(6)
    shell.run(f"echo '/bin/true nested-{token}' >&9; /bin/true around-{token}")
    assert started.seen(f'a1="nested-{token}"') == [f"5,^{one}"]
    assert started.seen(f'a1="around-{token}"') == [one]
    assert refused(outside.pid, 5, started.control) == "ENOTUNIQ"
    # an orchestrator inside may use the hook as well
    full_id = secrets.token_hex(32)
    state = json.dumps({"ociVersion": "1.0.2", "id": full_id, "status": "created", "pid": "PID"}).replace(
        '"PID"', "'$hooked'"
    )
    command = shlex.join([*AUDITNS, "oci-hook", "--control", str(own), "--timeout", "60000"])
    assert shell.run(f"sleep 100 & hooked=$!; echo '{state}' | {command} 2>&1") == ""
    get = shlex.join([*AUDITNS, "contid", "get", "PID", "--control", str(own)]).replace("PID", "$hooked")
    assert shell.run(f"{get} 2>&1; kill $hooked; wait $hooked") == f"{derive_contid('oci', full_id)},^{one}"
    shell.run("exec 9>&-; wait $child")
    until(lambda: f"contid=-1 old-contid=5,^{one} ".encode() in started.listener.out, "the end of the nested one")
    failed = [line for line in started.listener.out.splitlines() if b"op=set" in line and b"error=ENOTUNIQ" in line]
    assert [re.search(rb" contid=(\d+) old-contid=(\S+) ", line).groups() for line in failed] == [  # type: ignore[union-attr]
        (two.encode(), one.encode()),
        (b"5", b"-1"),
    ]


@pytest.mark.parametrize("runtime", ["runc", "crun"])
def test_a_hook_called_again_and_again_with_a_hostile_name(
    quiet: AuditState, runtimes: Runtimes, tmp_path: Path, token: str, runtime: str
) -> None:
    name = "\n\"'\x1d type=USER msg=audit(1.000:1): pid=1 contid=7 " + "A" * (1 << 20)
    with listening(tmp_path / "l", "--rules", "--format", "raw", "--info") as listener:
        control = serving(listener)
        one = hook(control, "--strict")["createRuntime"]
        runtimes.hooks = {"prestart": one * 2, "createRuntime": one * 2, "poststop": one * 2}
        runtimes.annotations = {"io.kubernetes.container.name": name, "io.kubernetes.pod.name": "p\0\x1d\x7f\ud800"}
        container = runtimes.start(runtime, name=secrets.token_hex(32))
        wanted = str(derive_contid("oci", container.id))
        container.exec(["/bin/true", f"inside-{token}"])
        until(lambda: whole_event_of(listener.out, f'a1="inside-{token}"'), "the event")
        container.stop()
        until(lambda: b"op=drop " in listener.out, "its end")
        told = [(op["contid"], op.get("error"), op["res"]) for op in ops(listener, container.pid) if op["op"] == "set"]
        assert told == [(wanted, None, "1"), *[(wanted, "EEXIST", "0")] * 3]
        lines = event_of(listener.out, f'a1="inside-{token}"')
        (info,) = [line for line in lines if b"type=CONTAINER_INFO " in line]
        assert f" ctr-name={name.encode()[:512].hex().upper()} ".encode() in info
        assert b" pod=" in info
        for line in listener.out.splitlines():
            assert re.fullmatch(rb"type=[A-Z_]+ msg=audit\([0-9.]+:[0-9]+\):[\x20-\x7e]*", line), line


def test_the_runtime_that_is_shown_for_docker(
    quiet: AuditState, runtimes: Runtimes, tmp_path: Path, token: str
) -> None:
    with listening(tmp_path / "l", "--rules", "--format", "raw") as listener:
        control = serving(listener)
        program = tmp_path / "auditns-runc"
        one = hook(control)["createRuntime"][0]
        shown = WRAPPER.replace("PYTHON", sys.executable)
        program.write_text(shown.replace('{"path": "PROGRAM", "args": ["auditns-oci-hook"]}', repr(one)))
        program.chmod(0o755)
        runtimes.podman_global = ["--runtime", str(program)]
        container = runtimes.start("podman")
        container.exec(["/bin/true", f"wrapped-{token}"])
        found = api.get_contid(container.pid, control=str(control))
        assert (found.contid, found.container["kind"]) == (str(derive_contid("podman", container.id)), "registered")
        container.stop()
        until(lambda: f"op=drop opid={container.pid} ".encode() in listener.out, "its end")


def test_containers_that_start_together_beside_spinners_are_all_registered(
    quiet: AuditState, runtimes: Runtimes, tmp_path: Path
) -> None:
    """40 of them, 8 at once, while 16 processes keep the processors busy: the hook waits for no interpreter's start."""
    with listening(tmp_path / "l", "--rules", "--format", "raw") as listener, contextlib.ExitStack() as stack:
        control = serving(listener)
        runtimes.hooks = hook(control)
        for _ in range(16):
            stack.callback(subprocess.Popen(["sh", "-c", "while :; do :; done"]).kill)
        names = [secrets.token_hex(32) for _ in range(40)]
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            started = list(pool.map(lambda name: runtimes.start("runc", name=name), names))
        listed = {about["id"]: about for about in pages(control)}
    assert [listed.get(name, {}).get("kind") for name in names] == ["registered"] * len(started)


def pages(control: Path) -> Iterator[dict[str, Any]]:
    """All that "contid-list" lists."""
    first: int | None = 0
    while first is not None:
        answer = ask(str(control), {"op": "contid-list", "from": first}, timeout=60)
        yield from answer["containers"]
        first = answer["more"]


def _counts_as(path: Path, number: int, container: Container) -> bool:
    """Whether the process of /proc/PID ``path`` has ``number`` in the pid namespace of ``container``."""
    try:
        space = (path / "ns/pid").readlink() == Path(f"/proc/{container.pid}/ns/pid").readlink()
        return space and (path / "status").read_text().partition("NSpid:")[2].partition("\n")[0].split()[-1] == str(
            number
        )
    except OSError:
        return False  # gone meanwhile


EVIL, VICTIM = "e" * 64, "5" * 64
GROUPS = (f"/docker/{EVIL}", "/auditns-box", "/auditns-hooked")


@pytest.fixture
def no_group_left() -> Iterator[None]:
    """What the test makes of GROUPS is gone at its end, once its containers are."""
    before = {cgroupfs.first(group): cgroupfs.folders(cgroupfs.first(group)) for group in GROUPS}
    yield
    for top, folders in before.items():
        cgroupfs.remove_new(top, folders)


@pytest.mark.parametrize("first", [True, False], ids=["before it runs", "while it runs"])
@pytest.mark.parametrize("group", GROUPS)
@pytest.mark.parametrize("who", ["its init", "one that entered"])
def test_a_container_cannot_pose_as_another(
    quiet: AuditState,
    no_group_left: None,
    runtimes: Runtimes,
    tmp_path: Path,
    token: str,
    group: str,
    who: str,
    first: bool,
) -> None:
    """A container with a part of the cgroup tree of its own makes one there that is called like another container's."""
    name = f"docker-{VICTIM}.scope" if who == "its init" else f"docker/{VICTIM}"
    folders = cgroupfs.make(group)
    runtimes.mounts = [
        {"destination": f"/cg{at}", "type": "bind", "source": str(folder), "options": ["bind", "rw"]}
        for at, folder in enumerate(folders)
    ]
    moves = [f"mkdir -p /cg{at}/{name}; echo 0 > /cg{at}/{name}/cgroup.procs" for at in range(len(folders))]
    posing = "; ".join([*moves, f"/bin/true posing-{token}"])
    waiting = f"until [ -e /go ]; do sleep 0.05; done; {posing}; sleep 600"
    victim = str(derive_contid("docker", VICTIM))
    with listening(tmp_path / "l", "--rules", "--format", "raw") as listener:
        control = str(serving(listener))
        if "hooked" in group:
            runtimes.hooks = hook(Path(control))
        evil = runtimes.start("runc", ["sh", "-c", waiting], cgroup=group)
        runtimes.hooks, runtimes.mounts = {}, []
        if not first:
            runtimes.start("runc", cgroup=f"/docker/{VICTIM}").exec(["/bin/true", f"real-{token}"])
        own = api.get_contid(evil.pid, control=control).contid
        if who == "its init":
            (runtimes.directory / evil.name / "go").touch()
        else:
            evil.exec(["sh", "-c", f"{posing}; :"])
        until(lambda: whole_event_of(listener.out, f'a1="posing-{token}"'), "the one that poses")
        assert any(name in path for path in evil.cgroups().values()) == (who == "its init")
        if first:
            runtimes.start("runc", cgroup=f"/docker/{VICTIM}").exec(["/bin/true", f"real-{token}"])
        until(lambda: whole_event_of(listener.out, f'a1="real-{token}"'), "the real one")
        found = {word: contids(event_of(listener.out, f'a1="{word}-{token}"')) for word in ("posing", "real")}
    assert found["real"] == [victim]
    (chain,) = found["posing"]
    assert chain.split(",^")[-1] == own
    assert chain != victim
