"""Registered identifiers on this kernel: what the container identifier patches' own tests ask, and what hooks do."""

import json
import os
import re
import secrets
import shlex
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from auditns_connector import api
from auditns_connector.control.server import ask
from auditns_connector.model.runtimes import derive_contid
from auditns_connector.registration.hook_program import HOOK_PROGRAM
from tests.kernel.printed import PATIENT
from tests.kernel.programs import (
    AUDITNS,
    Program,
    Task,
    auditns,
    by_name,
    contids,
    environment,
    event_of,
    events,
    listening,
    until,
    whole_event_of,
)
from tests.kernel.runtimes import Runtimes
from tests.kernel.support import AuditState, auditctl, need

pytestmark = pytest.mark.kernel
UNSET = 2**64 - 1


@pytest.fixture
def quiet(audit_state: AuditState) -> AuditState:
    need("\npid 0\n" in auditctl("-s"), "no auditd running")
    auditctl("-e", "0")
    return AuditState.read()


def serving(listener: Program) -> Path:
    return listener.directory / "control"


def refused(pid: int, contid: object, control: Path, **more: bool) -> str:
    """The errno's name; "" when it was set."""
    try:
        api.set_contid(pid, str(contid), control=str(control), **more)
    except api.RegistrationError as error:
        return error.name
    return ""


def ops(listener: Program, opid: int) -> list[dict[str, str]]:
    """The CONTAINER_OP records about a process, as their fields."""
    found = []
    for line in listener.out.decode().splitlines():
        if "type=CONTAINER_OP " in line and f" opid={opid} " in line:
            found.append(dict(word.split("=", 1) for word in line.split("): ", 1)[1].split()))
    return found


def test_the_checks_of_the_patches_own_test(quiet: AuditState, tasks: list[Task], tmp_path: Path, token: str) -> None:
    with listening(tmp_path / "l", "--rules", "--format", "raw") as listener:
        control = serving(listener)
        tasks += [Task(), Task(), Task()]
        task, other, busy = tasks
        # a process cannot set its own, nor its parent's
        code = "import os, sys; from auditns_connector import api; api.set_contid(os.getpid(), 1, control=sys.argv[1])"
        done = subprocess.run([sys.executable, "-c", code, control], env=environment(), capture_output=True)
        assert b"RegistrationError: EXDEV" in done.stderr
        command = shlex.join([*AUDITNS, "contid", "set", "PID", "1", "--control", str(control)])
        assert "EBUSY" in busy.run(f"{command.replace('PID', '$$')} 2>&1")  # who asks is its child
        # nor may it have children
        busy.run("sleep 100 &")
        assert refused(busy.pid, 77, control) == "EBUSY"
        busy.run("kill $!; wait $!")

        first = int(token, 16) + 2
        assert auditns("contid", "set", str(task.pid), str(first), "--control", control).stdout == f"{first}\n".encode()
        assert auditns("contid", "get", str(task.pid), "--control", control).stdout == f"{first}\n".encode()
        assert refused(task.pid, first, control) == "EEXIST"
        assert refused(task.pid, first + 1, control) == "EEXIST"
        assert refused(task.pid, UNSET, control) == "EINVAL"
        assert refused(task.pid, UNSET + 1, control) == "ERANGE"
        assert refused(task.pid, "x1", control) == "EINVAL"
        assert refused(2**22 + 1, 1, control) == "ESRCH"
        assert auditns("contid", "set", str(task.pid), "5", "--control", control).returncode == 16
        # the owner puts another task into its container
        assert refused(other.pid, first, control, new=True) == "ENOTUNIQ"
        assert refused(other.pid, first, control) == ""
        task.run(f"/bin/true one-{token}; sh -c '/bin/true two-{token}; :'")
        other.run(f"/bin/true three-{token}")
        until(lambda: whole_event_of(listener.out, f"three-{token}"), "the last event")
        for word in ("one", "two", "three"):
            assert contids(event_of(listener.out, f'a1="{word}-{token}"')) == [str(first)], word
        pids = (task.pid, other.pid)
        task.end()
        assert [c["live"] for c in api.list_containers(control=str(control)) if c["contid"] == str(first)] == [1]
        other.end()
        until(lambda: [op for op in ops(listener, other.pid) if op["op"] == "drop"], "the end")
        told = [(op["op"], op["contid"], op["old-contid"], op.get("error"), op["res"]) for op in ops(listener, pids[0])]
        assert told == [
            ("set", str(first), "-1", None, "1"),
            ("set", str(first), str(first), "EEXIST", "0"),
            ("set", str(first + 1), str(first), "EEXIST", "0"),
            ("set", str(UNSET), str(first), "EINVAL", "0"),
            ("set", "?", str(first), "ERANGE", "0"),
            ("set", "?", str(first), "EINVAL", "0"),
            ("set", "5", str(first), "EEXIST", "0"),
        ]
        (drop,) = [op for op in ops(listener, pids[1]) if op["op"] == "drop"]
        assert (drop["contid"], drop["old-contid"], drop["res"]) == ("-1", str(first), "1")
        (own,) = [op for op in ops(listener, pids[0]) if op["res"] == "1"]
        assert {"pid", "auid", "uid", "tty", "ses", "comm", "exe"} <= set(own)
        assert own["uid"] == "0"
        event = event_of(listener.out, f"op=set opid={pids[0]} ", "res=1")
        assert [line.split(b" ")[0] for line in event] == [b"type=CONTAINER_OP", b"type=NS_INFO"]
        net = os.stat("/proc/self/ns/net").st_ino
        assert f" netino={net}".encode() in event[1]
        assert b"=?" not in event[1]


def test_targets_are_told_apart_from_subjects(quiet: AuditState, tasks: list[Task], tmp_path: Path, token: str) -> None:
    key = f"auditns-{token}"
    auditctl("-a", "always,exit", "-F", "arch=b64", "-S", "kill,ptrace,process_vm_readv", "-F", "a1!=0", "-k", key)
    with listening(tmp_path / "l", "--rules", "--format", "raw") as listener:
        control = serving(listener)
        tasks += [Task(), Task(), Task()]
        for number, task in enumerate(tasks[:2], 1):
            assert refused(task.pid, number, control) == ""
        victim = tasks[1]
        tasks[0].run(f"kill -WINCH {victim.pid}")
        tasks[2].run(f"kill -WINCH {victim.pid}")
        tasks[0].run(f"kill -WINCH {tasks[2].pid}")
        peek = (
            "import ctypes,sys; p=int(sys.argv[1]); c=ctypes.CDLL(None, use_errno=True); "
            "print(c.ptrace(16, p, 0, 0)); import os; os.waitpid(p, 0x40000000); print(c.ptrace(17, p, 0, 0)); "
            "b=(ctypes.c_long*2)(0,1); print(c.process_vm_readv(p, b, 1, b, 1, 0))"
        )
        tasks[0].run(f"{sys.executable} -c {shlex.quote(peek)} {victim.pid}")
        tasks[2].run(f"/bin/true end-{token}")
        until(lambda: whole_event_of(listener.out, f"end-{token}"), "the last event")
        ours = re.compile(rb"type=OBJ_PID .* opid=(%d|%d) " % (victim.pid, tasks[2].pid))  # others send signals too
        signals = [
            lines
            for lines in events(listener.out).values()
            if event_of(b"\n".join(lines), key) and any(ours.search(line) for line in lines)
        ]
        found = [[(line.partition(b" record=")[2].split()[0], line.rpartition(b"=")[2]) for line in lines
                  if b"CONTAINER_ID" in line] for lines in signals]  # fmt: skip
        assert found[:3] == [[(b"1", b"1"), (b"2", b"2")], [(b"2", b"2")], [(b"1", b"1")]]
        # the attach; the kernel gives process_vm_readv no OBJ_PID, so that its event has the subject alone
        assert found[3:] == [[(b"1", b"1"), (b"2", b"2")]]
        assert contids(event_of(listener.out, "syscall=310 ", key)) == ["1"]
        for lines in signals:
            kinds = [line.split(b" ")[0] for line in lines if b"type=NS_INFO" not in line]
            at = kinds.index(b"type=OBJ_PID")
            assert (kinds[at + 1] == b"type=CONTAINER_ID") == (f"opid={victim.pid} ".encode() in lines[at])


def test_a_forged_pid_in_a_users_message_changes_nothing(
    quiet: AuditState, tasks: list[Task], tmp_path: Path, token: str
) -> None:
    with listening(tmp_path / "l", "--rules", "--format", "raw") as listener:
        tasks.append(Task())
        assert refused(tasks[0].pid, 55, serving(listener)) == ""
        tasks[0].run(f"auditctl -m 'pid=1 contid=7 uid=0 word={token}'")
        auditctl("-m", f"pid={tasks[0].pid} contid=55 word=host-{token}")
        until(lambda: whole_event_of(listener.out, f"host-{token}", "type=USER "), "the last message")
        lines = listener.out.splitlines()
        (at,) = [i for i, line in enumerate(lines) if b"type=USER " in line and f"word={token}".encode() in line]
        stamp = lines[at].split(b" msg=")[1].split(b":")[0]
        ids = [line for line in lines if b"CONTAINER_ID" in line and stamp + b":" in line]
        serial = lines[at].split(b"): ")[0].rpartition(b":")[2]
        assert [line.rpartition(b"contid=")[2] for line in ids if b":" + serial + b")" in line] == [b"55"]
        (at,) = [i for i, line in enumerate(lines) if b"type=USER " in line and f"word=host-{token}".encode() in line]
        head = lines[at].split(b"msg=")[1].split(b" ")[0]
        assert not [line for line in lines if b"CONTAINER_ID" in line and head in line]


def test_the_delegated_right_from_a_user_namespace(
    quiet: AuditState, tasks: list[Task], tmp_path: Path, token: str
) -> None:
    with listening(tmp_path / "l", "--rules", "--format", "raw") as listener:
        control = serving(listener)
        tasks += [Task("unshare", "-U", "-r"), Task()]
        inner, outer = tasks
        own = tmp_path / "own" / "control"
        own.parent.mkdir(mode=0o755)
        assert refused(inner.pid, 1, control) == ""
        command = shlex.join([*AUDITNS, "contid", "set", "PID", "ID", "--control", str(own)])

        def set_inside(contid: int, pid: str = "$child") -> str:
            return inner.run(f"{command.replace('PID', pid).replace('ID', str(contid))} 2>&1")

        done = auditns("contid", "delegate", str(inner.pid), "--socket", own, "--control", control)
        assert (done.returncode, done.stdout.decode().strip()) == (0, str(own)), done.stderr
        inner.run("mkfifo F || true; sh <F & child=$!; exec 9>F".replace("F", str(tmp_path / "fifo")))
        assert "EXDEV" in set_inside(9, str(outer.pid))
        assert "EBUSY" in set_inside(9, "$$")  # who asks is its child
        assert set_inside(2) == "2,^1"
        assert "EEXIST" in set_inside(3)
        inner.run(f"echo /bin/true nested-{token} >&9; /bin/true inner-{token}")
        until(lambda: whole_event_of(listener.out, f"nested-{token}"), "the nested event")
        until(lambda: whole_event_of(listener.out, f"inner-{token}"), "the inner event")
        assert contids(event_of(listener.out, f"nested-{token}")) == ["2,^1"]
        assert contids(event_of(listener.out, f"inner-{token}")) == ["1"]
        assert refused(outer.pid, 2, control) == "ENOTUNIQ"
        inner.run("exec 9>&-; wait $child")
        until(lambda: b"op=drop" in listener.out, "the end of the nested one")
        assert b"contid=-1 old-contid=2,^1" in listener.out
        inner.end()
        until(lambda: not own.exists(), "the socket to be taken away")


def test_without_the_right_nobody_in_a_container_sets(quiet: AuditState, tasks: list[Task], tmp_path: Path) -> None:
    with listening(tmp_path / "l", "--rules", "--format", "raw") as listener:
        control = serving(listener)
        tasks.append(Task())
        assert refused(tasks[0].pid, 1, control) == ""
        command = shlex.join([*AUDITNS, "contid", "set", "CHILD", "2", "--control", str(control)])
        said = tasks[0].run(f"sleep 100 & {command.replace('CHILD', '$!')} 2>&1; kill $!")
        assert "EPERM" in said
        said = tasks[0].run(f"unshare -U {command.replace('CHILD', '1')} 2>&1")
        assert "EPERM" in said or "only root" in said


def test_pids_count_in_the_callers_pid_namespace(quiet: AuditState, tasks: list[Task], tmp_path: Path) -> None:
    with listening(tmp_path / "l", "--rules", "--format", "raw") as listener:
        control = serving(listener)
        tasks.append(Task("unshare", "--fork", "--pid", "--mount-proc"))
        (inner,) = tasks
        assert inner.pid == 1
        pid = int(Path(f"/proc/{inner.process.pid}/task/{inner.process.pid}/children").read_text())
        own = tmp_path / "own" / "control"
        own.parent.mkdir(mode=0o755)
        api.delegate(pid, socket=str(own), control=str(control))
        sandbox = api.get_contid(pid, control=str(control)).contid
        command = shlex.join([*AUDITNS, "contid", "set", "CHILD", "2", "--control", str(own)])
        inner.run("sleep 100 & child=$!")
        assert inner.run(f"{command.replace('CHILD', '$child')} 2>&1") == f"2,^{sandbox}"
        said = inner.run(f"{command.replace('CHILD', str(os.getpid()))} 2>&1")
        assert "ESRCH" in said


def test_audit_must_be_on(quiet: AuditState, tasks: list[Task], tmp_path: Path) -> None:
    with listening(tmp_path / "l", "--format", "raw") as listener:
        tasks.append(Task())
        assert refused(tasks[0].pid, 1, serving(listener)) == "ENOPROTOOPT"
        auditctl("-e", "1")
        assert refused(tasks[0].pid, 1, serving(listener)) == ""


def test_registrations_outlive_the_program(quiet: AuditState, tasks: list[Task], tmp_path: Path, token: str) -> None:
    control = tmp_path / "run" / "control"
    control.parent.mkdir(mode=0o755)
    tasks += [Task(), Task()]
    for stop in (signal.SIGTERM, signal.SIGKILL):
        with listening(tmp_path / stop.name, "--rules", "--format", "raw", control=control) as listener:
            if stop == signal.SIGTERM:
                assert refused(tasks[0].pid, 31, control) == ""
            word = f"{stop.name}-{token}"
            tasks[0].run(f"/bin/true {word}")
            until(lambda p=listener, w=word: whole_event_of(p.out, w), "the event")
            assert contids(event_of(listener.out, word)) == ["31"]
            listener.stop(stop)
        tasks[0].run("sleep 100 &")
    auditctl("-D")
    with listening(tmp_path / "last", "--rules", "--format", "raw", control=control) as listener:
        pids = tasks[0].run("jobs -p").split()
        assert [api.get_contid(int(pid), control=str(control)).contid for pid in pids] == ["31", "31"]
        assert api.get_contid(tasks[1].pid, control=str(control)).contid == "unset"
        assert refused(tasks[0].pid, 31, control) in ("EBUSY", "EEXIST")
    state = control.parent / "registrations.json"
    text = json.loads(state.read_text())
    state.write_text(json.dumps({**text, "boot_id": "another"}))
    with listening(tmp_path / "foreign", "--rules", "--format", "raw", control=control) as listener:
        assert "is of another boot: not used" in listener.err
        assert api.get_contid(tasks[0].pid, control=str(control)).contid == "unset"


def test_a_second_program_follows_the_first(quiet: AuditState, tasks: list[Task], tmp_path: Path, token: str) -> None:
    control = tmp_path / "run" / "control"
    control.parent.mkdir(mode=0o755)
    tasks += [Task(), Task(), Task()]
    with listening(tmp_path / "a", "--rules", "--format", "raw", control=control) as first:
        assert refused(tasks[0].pid, 1, control) == ""
        with listening(tmp_path / "b", "--format", "raw", control=control) as second:
            assert "another program serves registrations" in second.err
            assert refused(tasks[1].pid, 2, control) == ""
            for number in (0, 1):
                tasks[number].run(f"/bin/true {number}-{token}")
                until(lambda n=number: contids(whole_event_of(second.out, f'a1="{n}-{token}"')), "its identifier")
                assert contids(event_of(second.out, f'a1="{number}-{token}"')) == [str(number + 1)]
            first.stop()
            until(lambda: "registrations are served here now" in second.err, "the second one to serve")
            auditctl("-e", "1")
            assert refused(tasks[2].pid, 1, control) == ""
            assert api.get_contid(tasks[1].pid, control=str(control)).contid == "2"


def hook(control: Path, *options: str) -> dict[str, list[dict[str, object]]]:
    """Hooks that wait for a busy listener."""
    one = {"path": HOOK_PROGRAM, "args": ["auditns-oci-hook", f"--control={control}", PATIENT, *options]}
    return {"createRuntime": [one], "poststop": [one]}


@pytest.mark.parametrize("runtime", ["runc", "crun", "podman"])
def test_containers_through_the_hook(
    quiet: AuditState, runtimes: Runtimes, tmp_path: Path, token: str, runtime: str
) -> None:
    with listening(tmp_path / "l", "--rules", "--format", "raw", "--info") as listener:
        control = serving(listener)
        name = "web\n'\"\x1d type=USER msg=audit(1.000:1): contid=9"
        if runtime == "podman":
            folder = tmp_path / "hooks.d"
            folder.mkdir(mode=0o755)
            (folder / "auditns.json").write_text(
                json.dumps(
                    {
                        "version": "1.0.0",
                        "hook": hook(control)["createRuntime"][0],
                        "when": {"always": True},
                        "stages": ["createRuntime", "poststop"],
                    }
                )
            )
            runtimes.podman_global = ["--hooks-dir", str(folder)]
            runtimes.podman_run = ["--annotation", f"io.kubernetes.pod.name=pod-{token}"]
        else:
            runtimes.hooks = hook(control)
            runtimes.annotations = {
                "io.kubernetes.container.name": name,
                "io.kubernetes.pod.name": f"pod-{token}",
                "io.kubernetes.pod.namespace": "shop",
                "io.kubernetes.cri.image-name": "registry/x@sha256:" + "0" * 64,
            }
        container = runtimes.start(runtime, name=secrets.token_hex(32) if runtime == "runc" else "")
        wanted = str(derive_contid("podman" if runtime == "podman" else "containerd", container.id))
        container.exec(["echo", f"inside-{token}"])
        found = api.get_contid(container.pid, control=str(control))
        assert (found.contid, found.container["kind"], found.origin) == (wanted, "registered", "registered")
        assert found.container["id"] == container.id
        assert found.container["pod"] == f"pod-{token}"
        if runtime != "podman":
            assert found.container["name"] == name
            assert found.container["namespace"] == "shop"
        container.stop()
        until(lambda: b"op=drop" in listener.out, "its end")
        inside = event_of(listener.out, f'a0="echo" a1="inside-{token}"')
        assert contids(inside) == [wanted]
        (info,) = [line for line in inside if b"CONTAINER_INFO" in line]
        assert f' ctr-id="{container.id}"'.encode() in info
        if runtime != "podman":
            assert b" ctr-name=" + name.encode().hex().upper().encode() + b" " in info
        (op,) = [line for line in listener.out.splitlines() if b"type=CONTAINER_OP" in line and b"op=set" in line]
        assert f" contid={wanted} ".encode() in op
        assert op.endswith(b" res=1")
        assert f"old-contid={wanted}".encode() in event_of(listener.out, "op=drop")[0]
        # what ran as the container's first program, and everything behind it, has the registered id or none is said
        first = event_of(listener.out, 'a0="sleep" a1="600"')
        assert contids(first) == [wanted]


def test_a_start_is_never_broken(runtimes: Runtimes, tmp_path: Path) -> None:
    runtimes.hooks = hook(tmp_path / "nobody", "--timeout=1000")
    assert runtimes.start("runc").pid > 0
    runtimes.hooks = hook(tmp_path / "nobody", "--timeout=1000", "--strict")
    with pytest.raises(RuntimeError, match="error running hook"):
        runtimes.start("runc")


def test_names_of_a_runtime_without_a_hook(quiet: AuditState, runtimes: Runtimes, tmp_path: Path, token: str) -> None:
    with listening(tmp_path / "l", "--rules", "--format", "raw", "--info") as listener:
        container = runtimes.start("podman")
        control = str(serving(listener))
        until(lambda: api.get_contid(container.pid, control=control).container.get("name"), "its name to be read")
        found = api.get_contid(container.pid, control=control).container
        assert (found["kind"], found["runtime"], found["name"]) == ("runtime", "podman", container.name)
        container.exec(["echo", f"named-{token}"])
        until(lambda: whole_event_of(listener.out, f'a0="echo" a1="named-{token}"'), "the event")
        lines = event_of(listener.out, f'a0="echo" a1="named-{token}"')
        assert [line for line in lines if b'ctr-name="%b"' % container.name.encode() in line]


def test_a_replay_decides_as_the_live_run_did(
    quiet: AuditState, runtimes: Runtimes, tasks: list[Task], tmp_path: Path, token: str
) -> None:
    journal = tmp_path / "journal"
    with listening(tmp_path / "l", "--rules", "--format", "raw", "--journal", journal, "--no-lifecycle") as listener:
        control = serving(listener)
        tasks += [Task(), Task()]
        runtimes.hooks = hook(control)
        container = runtimes.start("runc")
        assert refused(tasks[0].pid, 5, control) == ""
        assert refused(tasks[1].pid, 5, control, new=True) == "ENOTUNIQ"
        container.exec(["echo", f"inside-{token}"])
        for task in tasks:
            task.run(f"/bin/true plain-{token}")
        container.stop()
        tasks[0].run(f"/bin/true last-{token}")
        until(lambda: whole_event_of(listener.out, f'a1="last-{token}"'), "the last event")
    lines = [line for line in listener.out.splitlines(keepends=True) if b"type=CONTAINER_OP" not in line]
    lines = [line for line in lines if b"type=NS_INFO" not in line and b"type=CONTAINER_LOST" not in line]
    lines = [line for line in lines if b"type=CONTAINER_INFO" not in line or b": reason=" not in line]
    live = b"".join(lines)
    assert live.count(b"type=CONTAINER_ID") > 5
    text = b"".join(line for line in lines if not line.startswith((b"type=CONTAINER_ID", b"type=CONTAINER_INFO")))
    assert by_name(auditns("enrich", "--journal", journal, stdin=text).stdout) == live


def test_a_process_that_dies_meanwhile_is_never_mistaken(quiet: AuditState, tmp_path: Path, token: str) -> None:
    with listening(tmp_path / "l", "--rules", "--format", "raw") as listener:
        control = serving(listener)
        outcomes = set()
        for number in range(1, 61):
            with subprocess.Popen(["sleep", f"0.00{number % 8}"]) as short:
                outcomes.add(refused(short.pid, number, control))
        assert outcomes <= {"", "ESRCH"}
        until(
            lambda: not [c for c in api.list_containers(control=str(control)) if c["kind"] == "registered"],
            "the end of them all",
        )
        until(lambda: listener.out.count(b"op=set") >= 60, "what became of each")
        text = listener.out.decode()
        assert text.count("op=set") == 60
        until(lambda: listener.out.count(b"op=drop") == text.count(" old-contid=-1 ") - text.count("ESRCH"), "drops")


def test_threads_and_vfork(quiet: AuditState, tmp_path: Path, token: str) -> None:
    code = (
        "import os, sys, threading\n"
        "e = threading.Event()\n"
        "t = threading.Thread(target=e.wait) if sys.argv[1] == 'thread' else None\n"
        "t and t.start()\n"
        "print(os.getpid(), flush=True)\n"
        "sys.stdin.readline()\n"
        "e.set()\n"
        "t and t.join()\n"
        "print('single', flush=True)\n"
        "sys.stdin.readline()\n"
        "import subprocess\n"  # it forks by vfork
        "subprocess.run(['/bin/true', sys.argv[2]])\n"
        "threading.Thread(target=lambda: subprocess.run(['/bin/true', sys.argv[2] + '-thread'])).start()\n"
    )
    with listening(tmp_path / "l", "--rules", "--format", "raw") as listener:
        control = serving(listener)
        command = [sys.executable, "-c", code, "thread", f"vfork-{token}"]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            pid = int(process.stdout.readline())
            assert refused(pid, 8, control) == "EBUSY"
            process.stdin.write("\n")
            assert process.stdout.readline() == "single\n"
            until(lambda: len(os.listdir(f"/proc/{pid}/task")) == 1, "the thread, which has been joined, has left")
            assert refused(pid, 8, control) == ""
            process.stdin.write("\n")
        for word in (f"vfork-{token}", f"vfork-{token}-thread"):
            until(lambda w=word: whole_event_of(listener.out, f'a0="/bin/true" a1="{w}"'), word)
            assert contids(event_of(listener.out, f'a0="/bin/true" a1="{word}"')) == ["8"]


def test_an_identifier_is_not_free_before_its_last_process_is_reaped(
    quiet: AuditState, tasks: list[Task], tmp_path: Path
) -> None:
    code = (
        "import subprocess, sys\n"
        "from auditns_connector import api\n"
        "print('started', flush=True); sys.stdin.readline()\n"
        "child = subprocess.Popen(['sleep', '600'])\n"
        "print(api.set_contid(child.pid, 2, control=sys.argv[1]), child.pid, flush=True)\n"
        "child.kill(); sys.stdin.readline()\n"
        "child.wait(); print('reaped', flush=True); sys.stdin.readline()\n"
    )
    with listening(tmp_path / "l", "--rules", "--format", "raw") as listener:
        control = serving(listener)
        tasks.append(Task())
        command = [sys.executable, "-c", code, control]
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1, env=environment()
        ) as inner:
            assert inner.stdin is not None
            assert inner.stdout is not None
            assert inner.stdout.readline() == "started\n"
            assert refused(inner.pid, 1, control) == ""
            api.delegate(inner.pid, control=str(control))
            inner.stdin.write("\n")
            said, pid = inner.stdout.readline().split()
            assert said == "2,^1"
            until(lambda: f"op=drop opid={pid} ".encode() in listener.out, "the end of the inner one")
            assert refused(tasks[0].pid, 2, control) == "ENOTUNIQ"
            inner.stdin.write("\n")
            assert inner.stdout.readline() == "reaped\n"
            assert refused(tasks[0].pid, 2, control) == ""
            inner.stdin.write("\n")


def test_garbage_and_crowds_do_not_stop_the_listener(quiet: AuditState, tasks: list[Task], tmp_path: Path) -> None:
    with listening(tmp_path / "l", "--rules", "--format", "raw") as listener:
        control = serving(listener)
        tasks.append(Task())
        odd = [
            {"op": "contid-set"}, {"op": "contid-set", "pid": "x", "id": 1}, {"op": "contid-set", "pid": -1, "id": {}},
            {"op": "contid-set", "pid": 1 << 80, "id": "1"}, {"op": "contid-get", "pid": None}, {"op": "contid-hook"},
            {"op": "contid-hook", "pid": tasks[0].pid, "names": {"id": 5}}, {"op": "contid-list", "from": "x"},
            {"op": "contid-delegate", "pid": tasks[0].pid, "socket": "relative"}, {"op": "contid-stopped", "id": []},
            {"op": "contid-delegate", "pid": 0, "socket": "/a\0b"}, {"op": "contid-set", "pid": True, "id": True},
            {"op": "contid-set", "pid": tasks[0].pid, "id": "7" * 30_000}, {"op": "subscribe", "x": 1},
        ]  # fmt: skip
        for request in odd:
            answer = ask(str(control), request)
            assert answer["ok"] is (request["op"] in ("subscribe", "contid-list", "contid-stopped")), (request, answer)
        waiting = []
        for _ in range(10_000):
            sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            sock.connect(str(control))
            sock.send(b'{"op": "contid-set", "pid": 1')
            waiting.append(sock)
            if len(waiting) > 200:
                waiting.pop(0).close()
        assert refused(tasks[0].pid, 3, control) == ""
        for sock in waiting:
            sock.close()
        assert api.get_contid(tasks[0].pid, control=str(control)).contid == "3"
        until(lambda: [op for op in ops(listener, tasks[0].pid) if op["res"] == "1"], "the record")
        assert ops(listener, tasks[0].pid)[-1]["contid"] == "3"
