"""audisp-auditns under the real auditd: how it is started, what it survives, all its outputs at once."""

import contextlib
import grp
import json
import os
import random
import re
import secrets
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.kernel.auditd import Auditd
from tests.kernel.programs import (
    PLUGIN,
    auditns,
    by_name,
    contids,
    environment,
    event_of,
    events,
    ours,
    until,
    whole_event_of,
)
from tests.kernel.runtimes import Runtimes
from tests.kernel.support import AuditState, auditctl, need, need_tool
from tests.kills import SEVERAL, judge

pytestmark = pytest.mark.kernel


class Plugin:
    """The plugin under an auditd of its own, its files below ``top``."""

    def __init__(self, top: Path, launcher: Path, **settings: str) -> None:
        self.top = top
        self.log = top / "log/audit.log"
        self.toml = top / "auditns.toml"
        self.auditd = Auditd(top, **settings)
        self.auditd.add_plugin("auditns", str(launcher), "--config", str(self.toml))

    def configure(self, text: str = "", output: str = "") -> None:
        """Write the configuration: ``text`` before, ``output`` after [output.file]."""
        file = f'[output.file]\npath = "{self.log}"\n{output}\n'
        self.toml.write_text(f'control = "{self.top}/control"\n{text}\n{file}')
        self.toml.chmod(0o640)

    @property
    def pid(self) -> int:
        """The plugin's process; 0 while there is none."""
        return next(iter(self.auditd.children()), 0)

    def counters(self) -> dict[str, Any]:
        """What ``auditns status --json`` tells of it."""
        found: dict[str, Any] = json.loads(auditns("status", "--json", "--control", self.top / "control").stdout)
        return found

    def read(self) -> bytes:
        """What is in the log and its rotated predecessors."""
        while True:
            files = sorted(
                self.log.parent.glob(f"{self.log.name}*"), key=lambda p: -int(p.suffix[1:].replace("log", "0"))
            )
            with contextlib.suppress(FileNotFoundError):  # they are being rotated
                return by_name(b"".join(path.read_bytes() for path in files))

    def size(self) -> int:
        """How many bytes these have."""
        return sum(path.stat().st_size for path in self.log.parent.glob(self.log.name + "*"))

    def answers(self, word: str) -> None:
        """Wait until it tells the container of a sandbox: it knows the host then."""
        try:
            until(lambda: act(word, sandbox=True) or contids(event_of(self.read(), true(word))), "a first answer")
        except TimeoutError as error:
            raise AssertionError(f"{error}\n{self._standstill(word)}") from error

    def _standstill(self, word: str) -> str:
        """Where the events are that have come no further, and what each program does meanwhile."""
        told = [f"{path}: {path.stat().st_size} bytes" for path in self.log.parent.glob("*")]
        told.append(f"auditd: {self.auditd.told[-1000:]}")
        raw = self.auditd.log.read_bytes() if self.auditd.log.exists() else b""
        told.append(f"auditd's log: {len(raw)} bytes, {raw.count(true(word).encode())} of ours, the end {raw[-300:]!r}")
        told.append(f"the first answer: {event_of(self.read(), true(word))}")
        for pid in self.auditd.children():
            for task in Path(f"/proc/{pid}/task").iterdir():
                told.append(f"{pid}/{task.name}: " + "; ".join((task / what).read_text() for what in ("stat", "stack")))
        told.append(auditctl("-s"))
        return "\n".join(told)


def act(word: str, *, sandbox: bool = False) -> None:
    """Exec /bin/true with ``word`` as its argument, on the host or in a pid namespace of its own."""
    prefix = [shutil.which("unshare") or "unshare", "--pid", "--fork"] if sandbox else []
    subprocess.run([*prefix, "/bin/true", word], check=True, stdin=subprocess.DEVNULL)


def true(word: str) -> str:
    """What stands in the EXECVE record of ``act(word)``."""
    return f'a0="/bin/true" a1="{word}"'


@pytest.fixture
def audited(audit_state: AuditState, token: str) -> str:
    """Auditing on and execs recorded under a key of this run; no auditd yet."""
    need_tool("auditd", "auditctl", "unshare")
    need("\npid 0\n" in auditctl("-s"), "no auditd running")
    auditctl("-e", "1")
    auditctl("-b", "8192")
    key = f"auditns-{token}"
    auditctl("-a", "always,exit", "-F", "arch=b64", "-S", "execve", "-F", f"key={key}")
    return key


def status(pid: int) -> dict[str, str]:
    """/proc/PID/status."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def signals(mask: str) -> set[int]:
    """The numbers in a signal set of /proc/PID/status."""
    return {n + 1 for n in range(64) if int(mask, 16) >> n & 1}


def busy_container(runtimes: Runtimes, token: str) -> str:
    """Start a container that runs true(1) again and again; its identifier."""
    need_tool("runc")
    name = secrets.token_hex(32)
    loop = f"while sleep 0.02; do /bin/true {token}; done"
    runtimes.start("runc", ["sh", "-c", loop], name=name, cgroup=f"/docker/{name}")
    return str(int(name[:16], 16))


def test_killed_it_comes_back_and_never_says_wrong(
    audited: str, runtimes: Runtimes, tmp_path: Path, launcher: Path, token: str
) -> None:
    """A container that lives on through it all is told right or as unknown, never as the host or another."""
    right = [busy_container(runtimes, token)]
    plugin = Plugin(tmp_path, launcher)
    plugin.configure()

    def told() -> dict[bytes, list[str]]:
        """The answers for the container's own execs, by stamp."""
        found = {}
        for stamp, lines in events(plugin.read()).items():
            if any(b"type=SYSCALL" in line for line in lines) and true(token).encode() in b"".join(lines):
                found[stamp] = contids(lines)
        return found

    with plugin.auditd.serving():
        until(lambda: list(told().values()).count(right) > 5, "it answers")
        first = plugin.pid
        found = status(first)
        assert Path(f"/proc/{first}/environ").read_bytes() == b""
        assert signals(found["SigBlk"]) == set()
        assert not signals(found["SigIgn"]) & {signal.SIGHUP, signal.SIGTERM, signal.SIGCHLD}
        assert {signal.SIGHUP, signal.SIGTERM} <= signals(found["SigCgt"])
        os.kill(first, signal.SIGKILL)
        until(lambda: plugin.pid not in (0, first), "auditd starts it again")
        before = len(told())
        until(lambda: list(told().values())[before:].count(right) > 5, "it answers again")
        assert signals(status(plugin.pid)["SigBlk"]) == set()
    # "?" are those that had ended before it, new as it was, could look at them
    answers = list(told().values())
    assert all(answer in (right, ["?"]) for answer in answers), answers


def test_a_restart_keeps_the_journal(audited: str, tmp_path: Path, launcher: Path, token: str) -> None:
    """The log of before and after is enriched by both journals as it was live; their directory is made."""
    plugin = Plugin(tmp_path, launcher)
    journal = tmp_path / "journals/journal"
    plugin.configure(f'[journal]\npath = "{journal}"')
    with plugin.auditd.serving():
        plugin.answers(f"warm-{token}")
        act(f"before-{token}", sandbox=True)
        until(lambda: contids(whole_event_of(plugin.read(), true(f"before-{token}"))), "it answers")
        (mine,) = contids(event_of(plugin.read(), true(f"before-{token}")))

        def replayed() -> bytes:
            return auditns("enrich", "--journal", journal, stdin=plugin.auditd.log.read_bytes()).stdout

        until(lambda: contids(event_of(replayed(), true(f"before-{token}"))) == [mine], "it is written", pause=0.5)
        first = plugin.pid
        os.kill(first, signal.SIGKILL)
        until(lambda: act(f"noise-{token}") or plugin.pid not in (0, first), "auditd starts it again")
        plugin.answers(f"again-{token}")
        act(f"after-{token}", sandbox=True)
        until(lambda: contids(whole_event_of(plugin.read(), true(f"after-{token}"))), "it answers again")
    assert sorted(file.name for file in journal.parent.iterdir()) == ["journal", "journal.1"]
    raw, live = plugin.auditd.log.read_bytes(), plugin.read()
    names = ("--journal", f"{journal}.1", "--journal", str(journal))
    told = auditns("enrich", *names, stdin=raw).stdout
    assert auditns("enrich", *names, stdin=raw).stdout == told
    assert b"".join(line + b"\n" for line in told.splitlines() if not ours(line)) == raw
    for word in ("before", "after"):
        assert contids(event_of(told, true(f"{word}-{token}"))) == contids(event_of(live, true(f"{word}-{token}")))


def test_lost_kernel_events_are_told_and_nothing_wrong_is_said(
    audited: str, runtimes: Runtimes, tmp_path: Path, launcher: Path, token: str
) -> None:
    """With rings far too small for a storm of forks: a CONTAINER_LOST, uncertain answers, then right ones again."""
    right = [busy_container(runtimes, token)]
    plugin = Plugin(tmp_path, launcher)
    plugin.configure('[sources]\nperf_buffer = "64K"')

    def answers() -> list[list[str]]:
        found = events(plugin.read()).values()
        mine = [lines for lines in found if true(token).encode() in b"".join(lines)]
        return [contids(lines) for lines in mine]

    with plugin.auditd.serving():
        until(lambda: answers().count(right) > 5, "it answers")
        os.kill(plugin.pid, signal.SIGSTOP)
        storm = "import os\nfor _ in range(3000):\n if not os.fork(): os._exit(0)\n os.wait()"
        subprocess.run([sys.executable, "-c", storm], check=True)
        os.kill(plugin.pid, signal.SIGCONT)
        until(lambda: b"type=CONTAINER_LOST " in plugin.read(), "the loss is told")
        before = len(answers())
        until(lambda: answers()[before:].count(right) > 5, "it answers again")
        status = plugin.counters()
    lost = [line for line in plugin.read().splitlines() if line.startswith(b"type=CONTAINER_LOST ")]
    assert any(re.search(rb": source=perf cpu=\d+ count=\d+ from=\d+\.\d{3} to=\d+\.\d{3}$", line) for line in lost), (
        lost
    )
    assert status["sources"]["perf"]["lost"] > 0
    assert status["lost"] >= status["sources"]["perf"]["lost"]
    assert status["sources"]["procfs"]["resyncs"] >= 2
    assert all(answer in (right, ["?"]) for answer in answers()), answers()


def test_all_outputs_at_once(audited: str, tmp_path: Path, launcher: Path, token: str) -> None:
    """ENRICHED records with node=; a file that rotates, a socket with readers that come and go, and a child."""
    need_tool("laurel", "ausearch")
    child = tmp_path / "child"
    child.write_text(f"#!/bin/sh\nexec cat > {tmp_path}/copy\n")
    child.chmod(0o750)
    plugin = Plugin(tmp_path, launcher, log_format="ENRICHED", name_format="HOSTNAME")
    path = tmp_path / "s"
    plugin.configure(
        "lifecycle = false",
        f"""max_size = "64K"
keep = 99
[output.socket]
enabled = true
path = "{path}"
[output.child]
enabled = true
argv = ["{child}"]
""",
    )
    with plugin.auditd.serving(), contextlib.ExitStack() as stack:
        plugin.answers(f"warm-{token}")
        readers = [stack.enter_context(Reader(path)) for _ in range(3)]
        until(lambda: plugin.counters()["sinks"]["socket"]["readers"] == 3, "all have been let in")
        act(f"one-{token}", sandbox=True)
        for reader in readers:
            reader.until(true(f"one-{token}"))
        readers[0].close()  # leaves, with and without having read all
        act(f"two-{token}", sandbox=True)
        late = stack.enter_context(Reader(path))
        until(lambda: plugin.counters()["sinks"]["socket"]["readers"] == 3, "one has left, one has come")
        act(f"three-{token}", sandbox=True)
        for reader in (*readers[1:], late):
            reader.until(true(f"three-{token}"))
        for i in range(60):
            act(f"{'x' * 200}-{i}-{token}")
        act(f"last-{token}", sandbox=True)
        until(lambda: whole_event_of((tmp_path / "copy").read_bytes(), true(f"last-{token}")), "the child has it all")
        until(lambda: whole_event_of(plugin.read(), true(f"last-{token}")), "the file has it all")
        counters = plugin.counters()
        assert counters["sinks"].keys() == {"file", "socket", "child"}
        info = plugin.log.stat()
        assert stat.S_IMODE(info.st_mode) == 0o640
        assert (info.st_uid, info.st_gid) == (0, grp.getgrnam("adm").gr_gid)
        assert stat.S_IMODE(path.stat().st_mode) == 0o660
    assert plugin.log.with_name("audit.log.1").stat().st_size <= 64 << 10
    written, copied = plugin.read(), (tmp_path / "copy").read_bytes()
    node = b"node=" + socket.gethostname().encode() + b" type="
    lines = written.splitlines()
    first = next(i for i, line in enumerate(lines) if not ours(line))
    assert all(line.startswith(node) for line in lines[first:])
    assert written.count(b"\x1dARCH=") > 60
    for word in ("one", "two", "three", "last"):
        mine = contids(event_of(written, true(f"{word}-{token}")))
        assert re.fullmatch(r"\d{5,20}", *mine)
        # in quotes where LAUREL would take them for hexadecimal
        assert [each.strip('"') for each in contids(event_of(copied, true(f"{word}-{token}")))] == mine
        for reader in {"one": readers, "three": [*readers[1:], late]}.get(word, ()):
            assert contids(event_of(reader.text, true(f"{word}-{token}"))) == mine
    assert b"type=CONTAINER_" not in copied
    assert b"type=UNKNOWN[13" not in written
    # without our records, file and child have what auditd itself has logged
    raw = plugin.auditd.log.read_bytes()
    for text in (written, copied):
        plain = [line for line in text.splitlines() if not ours(line) and b" type=EOE " not in line]
        at = raw.splitlines().index(plain[0])
        assert plain == raw.splitlines()[at : at + len(plain)]


class Reader:
    """One reader of the plugin's socket."""

    def __init__(self, path: Path) -> None:
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._sock.connect(str(path))
        self._sock.settimeout(0.2)
        self.text = b""

    def until(self, word: str) -> None:
        """Read until an event with ``word`` is there as a whole."""
        deadline = time.monotonic() + 120
        while not whole_event_of(self.text, word):
            assert time.monotonic() < deadline, f"never came: {word}"
            with contextlib.suppress(TimeoutError):
                self.text += self._sock.recv(1 << 16)

    def close(self) -> None:
        """Leave."""
        self._sock.close()

    def __enter__(self) -> "Reader":
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def test_laurel_as_the_child(audited: str, tmp_path: Path, launcher: Path, token: str) -> None:
    """LAUREL refuses names it does not know; it takes what the child is given, our records in their events."""
    need_tool("laurel")
    config = tmp_path / "laurel.toml"
    directory = tmp_path / "laurel"
    directory.mkdir(mode=0o700)
    config.write_text(f'directory = "{directory}"\nuser = "root"\n[auditlog]\nfile = "l.json"\nsize = 100000000\n')
    plugin = Plugin(tmp_path, launcher)
    laurel = shutil.which("laurel")
    plugin.configure(output=f'[output.child]\nenabled = true\nargv = ["{laurel}", "--config", "{config}"]\n')
    with plugin.auditd.serving():
        plugin.answers(f"warm-{token}")
        act(f"inside-{token}", sandbox=True)
        log = directory / "l.json"
        until(lambda: log.exists() and f"inside-{token}" in log.read_text(), "LAUREL has written it")
        until(lambda: contids(whole_event_of(plugin.read(), true(f"inside-{token}"))), "the file has it")
    (right,) = contids(event_of(plugin.read(), true(f"inside-{token}")))
    found = [json.loads(line) for line in log.read_text().splitlines() if f"inside-{token}" in line]
    (event,) = [e for e in found if e["EXECVE"]["ARGV"] == ["/bin/true", f"inside-{token}"]]
    assert event["UNKNOWN[1340]"][0]["contid"] == right
    assert "parse" not in log.read_text()


def test_a_plugin_told_itself_to_read_its_configuration(
    audited: str, tmp_path: Path, launcher: Path, token: str
) -> None:
    """A HUP to it alone: a bad file keeps the old (see test_install for what it says), a good one is used."""
    plugin = Plugin(tmp_path, launcher)
    plugin.configure()
    with plugin.auditd.serving():
        plugin.answers(f"warm-{token}")
        pid = plugin.pid
        plugin.configure('record_names = "both"')
        os.kill(pid, signal.SIGHUP)
        act(f"old-{token}", sandbox=True)
        until(lambda: contids(whole_event_of(plugin.read(), true(f"old-{token}"))), "it goes on")
        assert b" origin=" not in plugin.read()
        plugin.configure('info = true\n[filter.exclude]\ncontid = ["unset"]')
        os.kill(pid, signal.SIGHUP)
        until(lambda: act(f"new-{token}", sandbox=True) or b" origin=" in plugin.read(), "the new one is used")
        act(f"host-{token}")
        act(f"last-{token}", sandbox=True)
        until(lambda: whole_event_of(plugin.read(), true(f"last-{token}")), "it goes on")
        assert not event_of(plugin.read(), true(f"host-{token}"))
        assert plugin.pid == pid


def test_a_hup_while_it_is_behind(audited: str, tmp_path: Path, launcher: Path, token: str) -> None:
    """What had piled up, kernel events and text, is answered as it happened, by the new configuration."""
    plugin = Plugin(tmp_path, launcher)
    plugin.configure()
    with plugin.auditd.serving():
        plugin.answers(f"warm-{token}")
        pid = plugin.pid
        os.kill(pid, signal.SIGSTOP)
        try:
            for number in range(10):
                act(f"in-{number}-{token}", sandbox=True)
                act(f"out-{number}-{token}")
                # forks alone, which audit does not record
                subprocess.run(["sh", "-c", "i=0; while [ $i -lt 300 ]; do (:); i=$((i+1)); done"], check=True)
            plugin.configure("info = true")
            os.kill(pid, signal.SIGHUP)
        finally:
            os.kill(pid, signal.SIGCONT)
        until(lambda: act(f"new-{token}", sandbox=True) or b" origin=" in plugin.read(), "the new one is used")
        act(f"last-{token}")
        until(lambda: whole_event_of(plugin.read(), true(f"last-{token}")), "it goes on")
        assert plugin.pid == pid
    text = plugin.read()
    inside = [contids(event_of(text, true(f"in-{number}-{token}"))) for number in range(10)]
    assert all(len(one) == 1 and one != ["?"] for one in inside), inside
    assert len({one[0] for one in inside}) == 10
    for number in range(10):
        assert event_of(text, true(f"out-{number}-{token}"))
        assert contids(event_of(text, true(f"out-{number}-{token}"))) == []
    assert not event_of(text, "type=CONTAINER_LOST")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("record_names = 'both'", "record_names"),
        ("nonsense = 1", "nonsense"),
        ("[output.file\n", "line 1"),
        ("[output.child]\nenabled = true\nargv = ['cat']", "argv"),
        ("[journal]\nmax_size = '64X'", "max_size"),
    ],
)
def test_check_config(root: None, tmp_path: Path, text: str, complaint: str) -> None:
    toml = tmp_path / "auditns.toml"
    toml.write_text(text)
    toml.chmod(0o640)
    command = [*PLUGIN, "--config", str(toml), "--check-config"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment())
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"audisp-auditns: {toml}: ")
    assert complaint in done.stderr
    toml.write_text("")
    done = subprocess.run(command, capture_output=True, text=True, env=environment())
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{toml}: good\n", "")


def test_a_reader_that_stalls_holds_nobody_up(audited: str, tmp_path: Path, launcher: Path, token: str) -> None:
    """A child that does not read loses records of its own; auditd, the file and the host go on."""
    child = tmp_path / "child"
    child.write_text(f"#!{sys.executable}\nimport time\ntime.sleep(1000)\n")
    child.chmod(0o750)
    plugin = Plugin(tmp_path, launcher)
    plugin.configure(output=f'[output.child]\nenabled = true\nargv = ["{child}"]\nqueue = "64K"\n')
    with plugin.auditd.serving():
        plugin.answers(f"warm-{token}")
        code = (
            f"import os\nfor i in range(600): os.posix_spawn('/bin/true', ['/bin/true', '{token}' + 'x' * 300], {{}})"
        )
        subprocess.run([sys.executable, "-c", code], check=True)
        act(f"last-{token}", sandbox=True)
        until(lambda: contids(whole_event_of(plugin.read(), true(f"last-{token}"))), "the file has it")
        counters = plugin.counters()
        assert counters["sinks"]["child"]["dropped_records"] > 0
        assert counters["sinks"]["file"]["dropped_records"] == 0
        assert "\nlost 0\n" in auditctl("-s") or counters["lost"] > 0


@pytest.mark.parametrize(("kills", "seed"), SEVERAL)
def test_killed_under_load_it_tells_once_what_is_missing(
    audited: str, tmp_path: Path, launcher: Path, token: str, kills: int, seed: int
) -> None:
    """By SIGKILL at random moments: every event of auditd's log is in ours, once and whole, or in the one record that
    the next run begins with. While it is not there its text waits in auditd's queue, which drops single records when it
    is full: so kills wait until there is room."""
    plugin = Plugin(tmp_path, launcher, max_restarts="1000")
    plugin.configure("lifecycle = false", "max_size = 0")
    chance = random.Random(seed)
    with plugin.auditd.serving():
        plugin.answers(f"warm-{token}")
        load = subprocess.Popen(["sh", "-c", f"while :; do /bin/true {token}; done"], stdin=subprocess.DEVNULL)
        try:
            for _ in range(kills):
                size = plugin.size()
                until(lambda: plugin.size() > size + 20_000, "it writes", 180)  # noqa: B023 - called at once
                time.sleep(chance.random() / 5)
                until(lambda: int(plugin.auditd.queue()["current plugin queue depth"]) < 40_000, "auditd has room", 180)
                before = plugin.pid
                os.kill(before, signal.SIGKILL)
                until(lambda: plugin.pid not in (0, before), "auditd starts it again", 180)  # noqa: B023 - called at once
            size = plugin.size()
            until(lambda: plugin.size() > size + 20_000, "it writes", 180)
        finally:
            load.kill()
            load.wait()
        plugin.answers(f"last-{token}")
        assert plugin.auditd.queue()["plugin queue overflow detected"] == "no", "auditd has dropped records by itself"
    assert "Traceback" not in plugin.auditd.told
    judge(plugin.auditd.log.read_bytes(), plugin.read(), kills)
