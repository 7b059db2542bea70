"""``auditns listen`` on this kernel: containers of every kind, the formats, the filters, every way to end."""

import contextlib
import json
import os
import re
import secrets
import shlex
import shutil
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from hashlib import blake2b
from pathlib import Path

import pytest

from auditns_connector.model.runtimes import derive_contid
from auditns_connector.sources.nsid import NsIds
from tests.kernel.programs import (
    AUDITNS,
    TIMEOUT,
    Program,
    auditns,
    contids,
    environment,
    event_of,
    events,
    listening,
    ours,
    until,
    whole_event_of,
)
from tests.kernel.runtimes import Container, Runtimes
from tests.kernel.support import AuditState, auditctl, need, need_tool

pytestmark = pytest.mark.kernel
USER_LOGIN = 1112


@pytest.fixture
def quiet(audit_state: AuditState) -> Iterator[AuditState]:
    """Auditing off and no auditd; put back as everything else. Nobody holds a lease of rules afterwards."""
    need("\npid 0\n" in auditctl("-s"), "no auditd running")
    auditctl("-e", "0")
    yield AuditState.read()
    assert not Path("/run/auditns/rules.json").exists()


def act(word: str, *prefix: str) -> None:
    """Exec /bin/true with ``word`` as its argument, by ``prefix``."""
    command = [shutil.which(prefix[0]) or "", *prefix[1:]] if prefix else []
    subprocess.run([*command, "/bin/true", word], check=True, stdin=subprocess.DEVNULL)


def true(word: str) -> str:
    """What stands in the EXECVE record of ``act(word)``."""
    return f'a0="/bin/true" a1="{word}"'


def plain(lines: list[bytes]) -> list[bytes]:
    """Without records of ours and the EOE, which says nothing but that an event is over and is no part of what is
    filtered."""
    return [line for line in lines if not (ours(line) or line.startswith(b"type=EOE "))]


def serial(line: bytes) -> int:
    """The serial number of a record."""
    return int(line.partition(b"msg=audit(")[2].partition(b")")[0].rpartition(b":")[2])


def sandbox_contid(pid: int, kind: str = "pid") -> str:
    """The contid of the sandbox that is the namespace of ``pid``: BLAKE2b of boot id, type and serial."""
    found = NsIds().ns_id(pid, kind)
    need(found is not None and found.id, "a kernel that gives namespaces a serial")
    assert found is not None
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return str(int.from_bytes(blake2b(f"{boot}/{kind}/{found.id}".encode(), digest_size=8).digest(), "big"))


def expected(container: Container) -> tuple[str, str]:
    """(contid, label for people) of a container."""
    match container.runtime:
        case "runc":
            return str(int(container.name[-64:][:16], 16)), f"docker/{container.name[-64:][:12]}"
        case "podman":
            return str(int(container.id[:16], 16)), f"podman/{container.id[:12]}"
        case "lxc":
            return str(derive_contid("lxc", container.name)), container.name[:40]
        case _:
            return sandbox_contid(container.pid), "pidns/"


def say(container: Container, word: str) -> None:
    """Run ``echo word`` in it; bwrap is entered as its runtime does it, by namespaces."""
    container.exec(["echo", word])


def test_every_runtime_in_every_format(quiet: AuditState, runtimes: Runtimes, tmp_path: Path, token: str) -> None:
    need_tool("runc", "bwrap", "podman", "lxc-start", "unshare")
    words, wanted = {}, {}
    with contextlib.ExitStack() as stack:
        run = {
            name: stack.enter_context(listening(tmp_path / name, "--rules", "--format", name))
            for name in ("raw", "json", "pretty")
        }
        act(f"host-{token}")
        subprocess.run(["unshare", "-n", "-f", "/bin/ls", f"/proc/self/{token}"], capture_output=True)
        for runtime in ("runc", "podman", "lxc", "bwrap", "unshare"):
            name, cgroup = f"auditns-{token}-{runtime}", None
            if runtime == "runc":
                name = secrets.token_hex(32)
                cgroup = f"/docker/{name}"
            container = runtimes.start(runtime, name=name, cgroup=cgroup)
            wanted[runtime] = expected(container)
            words[runtime] = f"{runtime}-{token}"
            say(container, words[runtime])
            for program in run.values():  # a sandbox that has gone before it is asked for has a serial of ours
                until(lambda p=program, r=runtime: words[r].encode() in p.out, f"{runtime}: {program.err}")
            container.stop()
        act(f"last-{token}")
        for program in run.values():
            until(lambda p=program: f"last-{token}".encode() in p.out, f"the last event: {program.err}")
    raw = run["raw"].out
    for runtime, word in words.items():
        assert contids(event_of(raw, f'a0="echo" a1="{word}"')) == [wanted[runtime][0]], runtime
    for word in (f"host-{token}", f"last-{token}", f"/proc/self/{token}"):
        assert contids(event_of(raw, f'a1="{word}"')) == []
    assert not [lines for lines in events(raw).values() if len(contids(lines)) > 1]

    objects = [json.loads(line) for line in run["json"].out.splitlines()]
    assert {found["v"] for found in objects} == {1}
    for runtime, word in words.items():
        (found,) = [o for o in objects if ["echo", word] in [r.get("argv") for r in o["records"]]]
        assert found["contid"] == wanted[runtime][0]
        assert found["container"]["kind"] == ("sandbox" if runtime in ("bwrap", "unshare") else "runtime")
    (host,) = [o for o in objects if ["/bin/true", f"host-{token}"] in [r.get("argv") for r in o["records"]]]
    assert (host["contid"], "container" in host) == (None, False)

    lines = run["pretty"].out.decode().splitlines()
    assert not [line for line in lines if "\x1b" in line]
    for runtime, word in words.items():
        (line,) = [line for line in lines if f"execve echo {word} " in line]
        # by its name where the runtime's files have told it before the event was answered
        assert line.startswith((wanted[runtime][1], f"auditns-{token}-{runtime} ")), line
    assert next(line for line in lines if f"last-{token}" in line).startswith("host ")
    for program in run.values():
        assert re.search(r"auditns: (\d+) of \1 events shown, [1-9]\d* of containers, \d+ unknown, 0 lost", program.err)
    assert AuditState.read() == quiet


@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_it_and_all_is_as_before(quiet: AuditState, tmp_path: Path, sign: signal.Signals) -> None:
    with listening(tmp_path, "--rules") as program:
        assert len(AuditState.read().rules) == len(quiet.rules) + 2
        assert AuditState.read().settings["enabled"] == "1"
        assert program.stop(sign) == 0
    assert f" 0 lost ({sign.name})" in program.err.splitlines()[-1]
    assert "Traceback" not in program.err
    assert AuditState.read() == quiet
    assert not (tmp_path / "control").exists()


def test_a_signal_while_it_starts_leaves_nothing(quiet: AuditState, tmp_path: Path) -> None:
    """As soon as the rules stand, before it has begun to listen."""
    program = Program(tmp_path, ["listen", "--rules", "--control", tmp_path / "control"])
    try:
        until(lambda: len(auditctl("-l").splitlines()) > 1, "the rules are loaded")
        assert program.stop(signal.SIGTERM) == 0
        assert "Traceback" not in program.err
        assert AuditState.read() == quiet
    finally:
        program.kill()


def test_impatience_leaves_nothing(quiet: AuditState, tmp_path: Path) -> None:
    """Several signals in a row."""
    with listening(tmp_path, "--rules") as program:
        for sign in (signal.SIGTERM, signal.SIGINT, signal.SIGTERM, signal.SIGINT):
            program.process.send_signal(sign)
        assert program.wait() == 0
    assert "Traceback" not in program.err
    assert AuditState.read() == quiet


@pytest.mark.parametrize("form", ["raw", "json", "pretty"])
def test_a_closed_pipe_ends_it_and_all_is_as_before(quiet: AuditState, tmp_path: Path, form: str, token: str) -> None:
    reader, writer = os.pipe()
    head = subprocess.Popen(["head", "-1"], stdin=reader, stdout=subprocess.PIPE)
    os.close(reader)
    with listening(tmp_path, "--rules", "--format", form, stdout=writer) as program:
        os.close(writer)
        act(token)
        assert head.communicate(timeout=TIMEOUT)[0].count(b"\n") == 1
        act(token)
        assert program.wait() == 0
    assert program.err.splitlines()[-1].endswith(" 0 lost (output closed)")  # who stops reading has lost nothing
    assert "Traceback" not in program.err
    assert AuditState.read() == quiet


def test_filters_count_and_duration(quiet: AuditState, runtimes: Runtimes, tmp_path: Path, token: str) -> None:
    need_tool("runc", "unshare")
    key = f"auditns-{token}"
    name = secrets.token_hex(32)
    container = runtimes.start("runc", name=name, cgroup=f"/docker/{name}")
    contid = str(int(name[:16], 16))
    options = {
        "all": [],  # started first, ended last: it knows all that the others show
        "contid": ["--contid", hex(int(contid))],
        "others": ["--contid", f"!=unset,{contid}"],
        "runtime": ["--runtime", "docker"],
        "type": ["--type", "EXECVE"],
        "key": ["--key", key],
        "pid": ["--pid", str(os.getpid())],
        "count": ["--runtime", "docker", "--count", "2"],
    }
    number = int(token, 16) >> 1
    rule = ("always,exit", "-F", "arch=b64", "-S", "getpriority", "-F", f"a0={number}", "-k", key)
    auditctl("-a", *rule)
    with contextlib.ExitStack() as stack:
        run = {
            what: stack.enter_context(listening(tmp_path / what, "--rules", "--format", "raw", *args))
            for what, args in options.items()
        }
        act(f"host-{token}")
        act(f"sandbox-{token}", "unshare", "--pid", "--fork")
        for i in range(4):
            say(container, f"docker-{i}-{token}")
        ask = f"import os\ntry: os.getpriority({number}, 0)\nexcept OSError: pass"
        subprocess.run([sys.executable, "-c", ask], check=True)
        with contextlib.suppress(OSError):
            os.getpriority(number, 0)
        act(f"last-{token}")
        assert run["count"].wait() == 0
        # whole: the kernel hands its records over one by one, and who is stopped in between has a part
        for what in ("all", "type"):
            until(lambda what=what: whole_event_of(run[what].out, true(f"last-{token}")), f"the last event of {what}")  # type: ignore[misc]
    # between these all of them listened; others on this host may go on all the while
    began, ended = (serial(event_of(run["all"].out, true(f"{word}-{token}"))[0]) for word in ("host", "last"))
    got = {
        what: {stamp: lines for stamp, lines in events(program.out).items() if began <= serial(lines[0]) <= ended}
        for what, program in run.items()
    }
    known = got["all"]

    def having(what: str) -> set[bytes]:
        return {stamp for stamp, lines in known.items() if what.encode() in b"\n".join(lines)}

    assert got["contid"].keys() == got["runtime"].keys() == having(f" contid={contid}")
    assert all(len(got["contid"].keys() & having(f'a0="echo" a1="docker-{i}-{token}"')) == 1 for i in range(4))
    sandbox = having(f"sandbox-{token}")
    assert got["others"].keys() & sandbox
    assert not got["others"].keys() & (got["contid"].keys() | having(f"host-{token}"))
    assert got["type"].keys() == having("type=EXECVE ")
    assert got["key"].keys() == having(f'key="{key}"')
    assert len(got["key"]) == 2
    assert got["pid"].keys() == having(f" pid={os.getpid()} ")
    assert len(got["pid"]) >= 1
    assert list(got["count"]) == list(got["runtime"])[:2]
    for what, found in got.items():
        for stamp, lines in found.items():
            assert plain(lines) == plain(known[stamp]), what
            # a sandbox gone before its serial could be read has a number of each listener's own
            assert contids(lines) == contids(known[stamp]) or stamp not in got["contid"]
    assert "(count reached)" in run["count"].err
    auditctl("-d", *rule)
    container.stop()
    assert AuditState.read() == quiet


def test_rules_that_somebody_removes_are_loaded_again(quiet: AuditState, tmp_path: Path, token: str) -> None:
    with listening(tmp_path, "--rules", "--format", "raw") as program:
        during = AuditState.read()
        for rule in during.rules:
            if rule not in quiet.rules:
                auditctl("-d", *shlex.split(rule)[1:])
        until(lambda: "loaded again" in program.err, "the message")
        assert AuditState.read() == during
        act(token)
        until(lambda: whole_event_of(program.out, true(token)), "its event")
        auditctl("-e", "0")
        until(lambda: "switched auditing off" in program.err, "the other message")
        assert program.stop() == 0
    assert AuditState.read() == quiet


def test_duration(quiet: AuditState, tmp_path: Path) -> None:
    with listening(tmp_path, "--rules", "--duration", "0.3", "--quiet") as program:
        assert program.wait() == 0
    assert "(duration over)" in program.err.splitlines()[-1]
    assert AuditState.read() == quiet


def test_status_and_a_second_listener(quiet: AuditState, tmp_path: Path, token: str) -> None:
    control = tmp_path / "control"
    with listening(tmp_path / "1", "--rules", "--format", "raw", control=control) as first:
        with listening(tmp_path / "2", "--rules", "--format", "raw", control=control) as second:
            assert "another listener or plugin serves it" in second.err
            act(token, "unshare", "--pid", "--fork")
            until(lambda: contids(whole_event_of(second.out, true(token))), "the second has it")
        until(lambda: contids(whole_event_of(first.out, true(token))), "the first has it too")
        assert len(AuditState.read().rules) == len(quiet.rules) + 2
        done = auditns("status", "--json", "--control", control)
        assert (done.returncode, done.stderr) == (0, b"")
        status = json.loads(done.stdout)
        assert status["v"] == 1
        assert status["events"]["attributed"] >= 1
        assert status["lost"] == 0
        assert {"perf", "audit", "procfs"} <= status["sources"].keys()
        assert status["sinks"]["stdout"]["written_records"] > 3
        lines = auditns("status", "--control", control).stdout.decode().splitlines()
        assert lines[0].startswith("ok: nothing lost, nothing waits; ")
        assert any(re.fullmatch(r"  attributed +\d+", line) for line in lines[lines.index("events") :])
    gone = auditns("status", "--control", control)
    assert (gone.returncode, gone.stdout) == (1, b"")
    assert b"nobody serves" in gone.stderr
    assert AuditState.read() == quiet


def flood(count: int) -> None:
    """Send that many records of a user: more than the queue of a stopped listener can hold."""
    payload = b"x\0"
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 9) as sock:
        message = struct.pack("=IHHII", 16 + len(payload), USER_LOGIN, 1, 1, 0) + payload
        for _ in range(count):
            sock.sendto(message, (0, 0))


def test_lost_records_are_told(quiet: AuditState, tmp_path: Path, token: str) -> None:
    """As CONTAINER_LOST in the stream in every format, in the counters, in the closing line; ausearch shows it."""
    need_tool("ausearch")
    sent = 90_000
    with contextlib.ExitStack() as stack:
        run = {
            form: stack.enter_context(listening(tmp_path / form, "--rules", "--format", form))
            for form in ("raw", "json", "pretty")
        }
        for program in run.values():
            program.process.send_signal(signal.SIGSTOP)
        flood(sent)
        act(f"meanwhile-{token}")
        for program in run.values():
            program.process.send_signal(signal.SIGCONT)
        for form, program in run.items():
            word = f"{form}-{token}"
            until(lambda p=program, w=word: act(w) or w.encode() in p.out, "what comes after")  # type: ignore[misc]
        act(f"last-{token}")
        for program in run.values():
            until(lambda p=program: f"last-{token}".encode() in p.out, "the last event")  # type: ignore[misc]
        counters = json.loads(auditns("status", "--json", "--control", tmp_path / "raw/control").stdout)
    lost = [line for line in run["raw"].out.splitlines() if line.startswith(b"type=CONTAINER_LOST ")]
    assert lost
    assert all(re.search(rb": source=audit cpu=\? count=\d+ from=\d+ to=\d+$", line) for line in lost), lost
    count = sum(int(re.findall(rb"count=(\d+)", line)[0]) for line in lost)
    # every serial from the first to the last is there, or told as lost, never both
    arrived = {serial(line) for line in run["raw"].out.splitlines() if not ours(line)}
    gone = [range(int(a), int(b) + 1) for line in lost for a, b in re.findall(rb"from=(\d+) to=(\d+)", line)]
    missing = {number for span in gone for number in span}
    assert len(missing) == sum(map(len, gone)) == count
    assert arrived | missing == set(range(min(arrived), max(arrived) + 1))
    assert not arrived & missing
    assert counters["sources"]["audit"]["overruns"] >= 1
    assert f", {count} lost (SIGTERM)" in run["raw"].err.splitlines()[-1]
    objects = [json.loads(line) for line in run["json"].out.splitlines()]
    told = [r for o in objects for r in o["records"] if r["type"] == "CONTAINER_LOST"]
    assert sum(record["count"] for record in told) > 0
    assert {record["source"] for record in told} == {"audit"}
    assert "CONTAINER_LOST source=audit" in run["pretty"].out.decode()
    log = tmp_path / "log"
    log.write_bytes(b"".join(line for line in run["raw"].out.splitlines(keepends=True) if b"USER_LOGIN" not in line))
    done = subprocess.run(["ausearch", "-if", str(log), "-i"], capture_output=True, stdin=subprocess.DEVNULL)
    shown = [found for found in done.stdout.split(b"----\n") if b"CONTAINER_LOST" in found]
    assert len(shown) == len(lost)
    assert all(found.count(b"type=") == 1 for found in shown)
    assert AuditState.read() == quiet


def test_ausearch_reads_it_from_a_pipe(quiet: AuditState, tmp_path: Path, token: str) -> None:
    need_tool("ausearch", "unshare")
    with (tmp_path / "interpreted").open("wb") as out:
        ausearch = subprocess.Popen(
            ["ausearch", "-i"], stdin=subprocess.PIPE, stdout=out, stderr=subprocess.DEVNULL, env=environment()
        )
    assert ausearch.stdin is not None
    with (
        listening(tmp_path / "file", "--rules", "--format", "raw") as witness,
        listening(tmp_path, "--rules", "--format", "raw", stdout=ausearch.stdin.fileno()),
    ):
        ausearch.stdin.close()
        act(token, "unshare", "--pid", "--fork")
        until(lambda: whole_event_of(witness.out, true(token)), "the event")
    assert ausearch.wait(TIMEOUT) == 0
    text = (tmp_path / "interpreted").read_text()
    inside = [e for e in text.split("----\n") if f"/bin/true {token}" in e and "contid=" in e]
    assert len(inside) == 1, text
    assert "type=SYSCALL" in inside[0]
    assert "type=EXECVE" in inside[0]
    assert re.search(r"type=(CONTAINER_ID|UNKNOWN\[1340\]) msg=audit\([^)]+\) : contid=\d+", inside[0])


def test_immutable_rules_and_no_root_are_exit_3(root: None, tmp_path: Path) -> None:
    need_tool("setpriv")
    command = ["setpriv", "--reuid", "65534", "--clear-groups", *AUDITNS, "listen", "--control", str(tmp_path / "c")]
    done = subprocess.run(command, capture_output=True, env=environment(), cwd="/")
    need(b"No module named" not in done.stderr, "a project folder that others can read")
    assert (done.returncode, done.stdout) == (3, b"")
    assert done.stderr.count(b"\n") == 1
