"""Programs that change who runs them, on this kernel: perf tells an exit of a process that lives on (fs/exec.c,
begin_new_exec). It stays who it was, with its exec, what it does later, and its children."""

import contextlib
import json
import os
import secrets
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest

from auditns_connector.host.observer import Observer
from auditns_connector.model.apply.dispatch import Model
from auditns_connector.model.places import UNKNOWN
from auditns_connector.model.process import Process
from auditns_connector.sources.connector import ConnectorSource
from auditns_connector.sources.perf import PerfSource
from auditns_connector.vocabulary import frames as f
from tests.kernel.programs import TIMEOUT, contids, event_of, listening, until, whole_event_of
from tests.kernel.runtimes import Runtimes
from tests.kernel.support import AuditState, need_root, need_tool
from tests.kernel.test_listen import expected

pytestmark = [pytest.mark.kernel, pytest.mark.usefixtures("root")]
USER: Final = 1000
#: struct vfs_cap_data, version 2, effective: cap_net_raw
CAPABILITY: Final = bytes.fromhex("0100000200200000000000000000000000000000")


def set_user_id(program: Path) -> None:
    program.chmod(0o4755)


def set_group_id(program: Path) -> None:
    shutil.chown(program, 0, 42)
    program.chmod(0o2755)


def unreadable(program: Path) -> None:
    program.chmod(0o111)


def capable(program: Path) -> None:
    program.chmod(0o755)
    os.setxattr(program, "security.capability", CAPABILITY)


KINDS: Final = (set_user_id, set_group_id, unreadable, capable)


@pytest.fixture
def busybox() -> Callable[[Path, Callable[[Path], None]], Path]:
    """Makes a busybox in a folder that is run as another one."""
    need_tool("busybox", "setpriv")

    def make(folder: Path, kind: Callable[[Path], None]) -> Path:
        program = folder / f"busybox-{kind.__name__}"
        shutil.copy(shutil.which("busybox") or "", program)
        kind(program)
        return program

    return make


@contextlib.contextmanager
def open_to_all() -> Iterator[Path]:
    """A folder below /var/tmp, which every user may read."""
    top = Path("/var/tmp") / f"auditns-{secrets.token_hex(8)}"
    top.mkdir(mode=0o755)
    try:
        yield top
    finally:
        shutil.rmtree(top)


def as_user(*argv: str | Path) -> list[str]:
    """Run ``argv`` as an ordinary user. A shell lies between, for setpriv itself still has capabilities."""
    user = ["setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups", "sh", "-c", 'exec "$@"', "sh"]
    return [*user, *map(str, argv)]


def script(program: str | Path, word: str) -> list[str]:
    """The exec itself, one of a child, a later one of its own: each with a word of its own."""
    child = f"/bin/busybox true child-{word}; exec {program} env /bin/busybox true last-{word}"
    return [str(program), "sh", "-c", f": first-{word}; {child}"]


def hexed(text: str) -> str:
    return text.encode().hex().upper()


def execs(text: bytes, word: str) -> dict[str, list[str]]:
    """The same; an argument with spaces is in hexadecimal."""
    found = {"first": event_of(text, 'a1="sh" a2="-c"', hexed(f"first-{word}"))}
    for name in ("child", "last"):
        found[name] = event_of(text, f'"{name}-{word}"')
    assert all(found.values()), f"not all of {word} is there: {found}"
    return {name: contids(lines) for name, lines in found.items()}


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_the_same_process_on_the_host_and_in_containers(
    quiet: AuditState,
    runtimes: Runtimes,
    busybox: Callable[[Path, Callable[[Path], None]], Path],
    tmp_path: Path,
    token: str,
    kind: Callable[[Path], None],
) -> None:
    need_tool("runc", "unshare", "chroot")
    with open_to_all() as folder:
        program = busybox(folder, kind)
        name = secrets.token_hex(32)
        with listening(tmp_path / "run", "--rules", "--format", "raw") as run:
            subprocess.run(as_user(*script(program, f"host-{token}")), check=True)
            subprocess.run(["unshare", "-fp", *as_user(*script(program, f"sandbox-{token}"))], check=True)
            container = runtimes.start("runc", name=name, cgroup=f"/docker/{name}")
            root = Path(f"/proc/{container.pid}/root")
            inside = busybox(root / "bin", kind)
            *runc, ident = container.exec_prefix
            user = [*runc, "--user", f"{USER}:{USER}", ident]
            if kind is not capable:  # a container without capabilities cannot run it
                subprocess.run([*user, *script(f"/bin/{inside.name}", f"runc-{token}")], check=True)
            wanted = expected(container)[0]
            container.stop()
            subprocess.run(["/bin/true", f"end-{token}"], check=True)
            until(lambda: whole_event_of(run.out, f"end-{token}"), "the last event")
            text = run.out
    assert execs(text, f"host-{token}") == {"first": [], "child": [], "last": []}
    if kind is not capable:
        assert execs(text, f"runc-{token}") == {name: [wanted] for name in ("first", "child", "last")}
    found = execs(text, f"sandbox-{token}")
    assert found["first"] == found["child"] == found["last"]
    assert found["first"] not in ([], ["?"])
    assert b"CONTAINER_LOST" not in text


@pytest.mark.parametrize("kind", KINDS)
def test_perf_tells_an_exit_that_is_none_and_has_no_sample(
    busybox: Callable[[Path, Callable[[Path], None]], Path], kind: Callable[[Path], None]
) -> None:
    need_root()
    with open_to_all() as folder, PerfSource() as perf:
        program = busybox(folder, kind)
        process = subprocess.Popen(as_user(program, "true"))
        assert process.wait(TIMEOUT) == 0
        seen = [frame.kind for frame in f.iter_frames(perf.drain()) if frame.pid == frame.tid == process.pid]
    ends = [kind for kind in seen if kind in (f.K_EXEC, f.K_EXIT, f.K_EXIT_SAMPLE)]
    assert ends == [f.K_EXEC, f.K_EXEC, f.K_EXIT, f.K_EXEC, f.K_EXIT_SAMPLE, f.K_EXIT]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("more", [[], ["--connector", "on"], ["--connector", "off"]])
def test_no_false_exit_is_shown(
    busybox: Callable[[Path, Callable[[Path], None]], Path],
    tmp_path: Path,
    token: str,
    more: list[str],
    kind: Callable[[Path], None],
) -> None:
    with open_to_all() as folder:
        program = busybox(folder, kind)
        options = ["--events", "--format", "json", "--info", "--type", "exec", "--type", "exit", *more]
        with listening(tmp_path / "run", *options) as run:
            process = subprocess.Popen(as_user(program, "sh", "-c", f": {token}; {program} true; {program} true"))
            assert process.wait(TIMEOUT) == 0
            subprocess.run(["/bin/true"], check=True)

            def told() -> list[str]:
                found = [json.loads(line) for line in run.out.splitlines()]
                return [event["event"] for event in found if event.get("pid") == process.pid]

            until(lambda: "exit" in told(), "the exit")
            seen = told()
    assert seen.count("exit") == 1
    assert seen[-1] == "exit"
    assert "exec" in seen


@pytest.mark.parametrize("heard", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_without_tracepoints_the_connector_or_proc_tells_that_it_lives(
    busybox: Callable[[Path, Callable[[Path], None]], Path], kind: Callable[[Path], None], heard: bool
) -> None:
    need_root()
    with open_to_all() as folder:
        program = busybox(folder, kind)
        model = Model()
        connector = ConnectorSource() if heard else None
        observer = Observer(model, perf=PerfSource(tracepoints=False), connector=connector)
        try:
            observer.start()
            # no move between cgroups is seen: a child that has run a program is known when /proc has answered, and
            # unknown where it is gone before that
            words = "/bin/busybox true; /bin/busybox sh -c 'read line'; :"
            command = as_user(program, "sh", "-c", words)
            process = subprocess.Popen(command, stdin=subprocess.PIPE)
            name = f"/proc/{process.pid}/comm"
            until(lambda: Path(name).read_text().startswith("busybox"), "the program to run")
            until(lambda: observer.sync() and model.alive(process.pid), "the process to be known")
            found = model.processes[process.pid]
            assert found.prev is None
            assert not found.placeholder
            assert found.state.container is None

            def children() -> list[Process]:
                made = [p for p in model.processes.values() if p.creator == (found.pid, found.start)]
                return sorted(made, key=lambda child: child.start)

            def answered() -> bool:
                observer.sync()
                return (
                    len(children()) == 2 and children()[1].comm == b"busybox" and children()[1].state.container is None
                )

            until(answered, "the child that waits")
            process.communicate(b"\n", TIMEOUT)
            # the connector tells an end after whoever waits for it has been woken (kernel/exit.c, do_exit)
            until(lambda: observer.sync() and found.end and process.pid not in model.exits.suspended, "the end")
            assert model.processes[process.pid] is found
            short, waited = children()
            assert waited.state.container is None
            assert short.state.container in (None, UNKNOWN)
            assert short.end is not None
        finally:
            observer.close()
