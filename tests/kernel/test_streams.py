"""Streams on this kernel: what a container is shown against what it sees, messages and logins from inside."""

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from auditns_connector.control.server import ask
from auditns_connector.streams import client
from tests.kernel.programs import TIMEOUT, auditns, contids, environment, event_of, ours, until, whole_event_of
from tests.kernel.runtimes import Runtimes
from tests.kernel.streamkit import enter, listening, read_until, read_up_to, shown, start, stream, syscalls
from tests.kernel.support import AuditState, auditctl, need

pytestmark = [pytest.mark.kernel, pytest.mark.usefixtures("usable_null")]
#: each line: number, parent's number, user and group as the process itself sees them
SCRIPT = """i=0; while [ $i -lt 60 ]; do
sh -c 'echo $$ $PPID $(id -u) $(id -g) >> /tmp/log'; /bin/true; i=$((i+1)); done
echo end >> /tmp/log; exec sleep 600"""


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

        nspid = Path(f"/proc/{container.pid}/status").read_text().partition("NSpid:")[2].split("\n")[0].split()
        lines = read_up_to(base, "web", 'a0="sleep" a1="600"').decode().splitlines()
        status = shown(base, "web")
        counters = json.loads(auditns("status", "--json", "--control", base / "control").stdout)["streams"]
        inside = syscalls(lines)

        def outside() -> dict[str, dict[str, str]]:
            return syscalls(program.out.decode(errors="replace").splitlines())

        until(lambda: inside.keys() <= outside().keys(), "the same events in the host's output")
        host = outside()
        seen = [tuple(line.split()) for line in log.read_text().splitlines()[:-1]]
    assert len(seen) == 60
    told = {(f["pid"], f["ppid"], f["uid"], f["gid"]) for f in inside.values()}
    assert len([line for line in seen if line not in told]) <= 1  # 1 of 100 may have no number, none a wrong one
    # every number of the host reads the same all along, and as the kernel says where that can be asked
    names: dict[str, set[str]] = {}
    for serial, fields in inside.items():
        names.setdefault(host[serial]["pid"], set()).add(fields["pid"])
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
        until(lambda: f":{serial}): contid={contid}".encode() in program.out, "whose message it is")

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
        text = ""

        def heard() -> bool:
            nonlocal text
            text += enter(container, *run, "read", "--dir", str(where)).stdout
            return "op=stream-send" in text

        until(heard, "the message in the stream")
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
        lines = read_up_to(base, "web", 'a1="logged-in"').decode().splitlines()
        assert len([line for line in lines if "source=stream-paused" in line]) == 1
        found = [f for f in syscalls(lines).values() if f["auid"] == "1000"]
        assert found
        assert {f["ses"] for f in found} == {"5"}

        # nobody else may say so: not the host, not a user inside who is not root
        with pytest.raises(Exception, match="EPERM"):
            client.login(str(where), 7)
        low = ["nsenter", "-t", str(container.pid), "-p", "-U", "-S", "5", "-G", "5"]
        refused = subprocess.run(
            [*low, *inner, "login", "--dir", str(where), "--uid", "7"],
            capture_output=True, text=True, env=environment(), timeout=TIMEOUT,
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


def test_what_the_host_does_to_it_is_told_without_who_did_it(
    quiet: AuditState, base: Path, monkeypatch: pytest.MonkeyPatch, token: str
) -> None:
    with listening(base) as program, Runtimes(base / "rt") as started:
        (base / "rt").chmod(0o755)
        stream(base, "create", "web", "--runtime", "docker", "--backlog-limit", "1000")
        stream(base, "create", "all", "--runtime", "docker", "--backlog-limit", "1000", "--view", "host")
        container = start(base, "runc", monkeypatch, started, ["sleep", "600"])
        until(lambda: shown(base, "web")["counters"]["events"] >= 1, "its first program")
        auditctl("-a", "always,exit", "-F", "arch=b64", "-S", "kill", "-F", f"key={token}")
        os.kill(container.pid, signal.SIGCONT)
        signalled = (f'key="{token}"', f"opid={container.pid}")
        until(lambda: whole_event_of(program.out, *signalled), "the signal in the host's output")
        auditctl("-d", "always,exit", "-F", "arch=b64", "-S", "kill", "-F", f"key={token}")
        host = whole_event_of(program.out, *signalled)
        inside = read_until(base, "web", f'key="{token}"')
        whole = read_until(base, "all", f'key="{token}"')
    fields = [dict(w.split("=", 1) for w in line.decode().split() if "=" in w) for line in inside]
    assert [f["type"] for f in fields] == ["SYSCALL", "OBJ_PID", "UNKNOWN[1340]", "EOE"]
    actor, target = fields[:2]
    assert (actor["pid"], actor["ppid"], actor["uid"], actor["auid"], actor["ses"]) == (
        "0", "0", "65534", "4294967295", "4294967295",
    )  # fmt: skip
    assert (actor["comm"], actor["exe"], actor["tty"], actor["a1"]) == ("(null)", "(null)", "(none)", "12")
    assert (target["opid"], target["ouid"], target["ocomm"]) == ("1", "0", '"sleep"')
    plain = [[line.rstrip() for line in lines if not ours(line)] for lines in (whole, host)]
    assert plain[0] == plain[1]
    assert contids(whole) == contids(host)


@pytest.mark.parametrize("sign", [signal.SIGTERM, signal.SIGKILL])
def test_who_is_who_inside_outlives_a_restart(
    sign: signal.Signals, quiet: AuditState, base: Path, monkeypatch: pytest.MonkeyPatch, token: str
) -> None:
    where, log = base / "streams/web", base / "log"
    python = shutil.which("python3", path="/usr/bin:/usr/local/bin") or ""
    need(python, "python3 in /usr/bin")
    log.touch()
    log.chmod(0o666)
    login = f"{python} -m auditns_connector.cli.main stream login --dir {where} --uid 1000 --session 5"
    with contextlib.ExitStack() as stack:
        first = stack.enter_context(listening(base, "--info"))
        started = stack.enter_context(Runtimes(base / "rt"))
        (base / "rt").chmod(0o755)
        stream(base, "create", "web", "--runtime", "docker", "--backlog-limit", "1000", "--mode", "0666")
        container = start(base, "runc", monkeypatch, started, ["sleep", "600"])
        command = ["nsenter", "-t", str(container.pid), "-p", "-U", "-S", "0", "-G", "0", "sh"]
        shell = subprocess.Popen(command, stdin=subprocess.PIPE, env=environment(), text=True)
        stack.callback(shell.wait)
        assert shell.stdin is not None
        stack.callback(shell.stdin.close)

        def run(text: str) -> None:
            print(text, file=shell.stdin, flush=True)

        run(f"{login} && echo in >> {log}; sleep 500 & echo $! >> {log}")
        until(lambda: len(log.read_text().splitlines()) == 2, "the login")
        sleeper = log.read_text().split()[1]
        first.process.send_signal(sign)
        first.process.wait(TIMEOUT)
        time.sleep(0.02)  # /proc tells starts in ticks of 10 ms
        run(f"sh -c 'while :; do sleep 0.02; /bin/true born-{token}; done' & echo $! >> {log}")
        until(lambda: len(log.read_text().splitlines()) == 3, "a process started meanwhile")
        second = stack.enter_context(listening(base, "--info"))
        until(lambda: whole_event_of(second.out, f'a1="born-{token}"'), "born")
        run(f"sh -c 'echo $$ >> {log}; exec /bin/true late-{token}'; kill $! {sleeper}; echo end >> {log}")
        until(lambda: log.read_text().endswith("end\n"), "the shell's commands")
        for word in ("born", "late"):
            until(lambda word=word: whole_event_of(second.out, f'a1="{word}-{token}"'), word)  # type: ignore[misc]
        outside = event_of(second.out, f'a1="late-{token}"')
        text = read_up_to(base, "web", f'a1="late-{token}"')
        late, born = (event_of(text, f'a1="{word}-{token}"') for word in ("late", "born"))
    assert b" cauid=1000 cses=5" in b"\n".join(outside)
    # nobody saw who made the one started meanwhile: whose login its children have is not known
    for lines, auid, ses in ((late, b"1000", b"5"), (born, b"4294967295", b"4294967295")):
        assert b" auid=%s " % auid in lines[0]
        assert b" ses=%s " % ses in lines[0]
        assert b" uid=0 " in lines[0]
    assert f" pid={log.read_text().split()[3]} ".encode() in late[0]
    assert f" ppid={log.read_text().split()[2]} ".encode() in born[0]


def test_a_stream_of_another_user_wants_the_right_to_make_it(quiet: AuditState, tmp_path: Path) -> None:
    for options, ok in (([], False), (["--other-users"], True)):
        base = tmp_path / f"l{len(options)}"
        base.mkdir()
        with listening(base, *options):
            create = (
                "stream",
                "create",
                "other",
                "--contid",
                "7",
                "--owner",
                "1000:1000",
                "--control",
                base / "control",
            )
            done = auditns(*create)
            assert (done.returncode == 0, b"--other-users" in done.stderr) == (ok, not ok), done.stderr
            held = ask(str(base / "control"), {"op": "status"})["status"]["privileges"]
            assert ("CAP_CHOWN" in held["bounding"], held["no_new_privs"]) == (ok, True)
