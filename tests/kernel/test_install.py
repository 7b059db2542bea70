"""The installed plugin under the real auditd, as auditd.service runs it: /home, /root, /tmp hidden, MDWE."""

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from auditns_connector.deploy import install
from tests.kernel.programs import by_name, whole_event_of
from tests.kernel.support import AuditState, auditctl, need, need_tool, until

pytestmark = pytest.mark.kernel

AUDITD_CONF = """\
local_events = yes
write_logs = yes
log_file = {top}/raw.log
log_group = root
log_format = ENRICHED
flush = NONE
max_log_file = 100
max_log_file_action = IGNORE
space_left = 2
space_left_action = IGNORE
admin_space_left = 1
admin_space_left_action = IGNORE
disk_full_action = IGNORE
disk_error_action = IGNORE
q_depth = 20000
overflow_action = IGNORE
max_restarts = 10
plugin_dir = {top}/etc/audit/plugins.d
"""
# run in a mount namespace of its own
HIDE = "for d in /home /root /tmp /var/tmp; do mount -t tmpfs -o mode=0700 none $d || exit 9; done; "


def hidden(command: str) -> list[str]:
    """A shell command as systemd would run it with PrivateTmp, ProtectHome and MemoryDenyWriteExecute."""
    deny = "import ctypes, os, sys; ctypes.CDLL(None).prctl(65, 1, 0, 0, 0); os.execvp(sys.argv[1], sys.argv[1:])"
    return [sys.executable, "-c", deny, "unshare", "--mount", "sh", "-c", HIDE + command]


class Installed:
    """An installation below /var/lib (not /tmp, which is hidden), with outputs there too. ``syslog``: our /dev/log."""

    def __init__(self, top: Path, syslog: socket.socket) -> None:
        self._syslog = syslog
        self._told = ""
        self.top = top
        self.toml = top / "etc/audit/auditns.toml"
        self.log = top / "log/audit.log"
        self.messages = top / "messages"
        self.auditd: subprocess.Popen[bytes] | None = None

    def configure(self, text: str = "") -> None:
        self.toml.write_text(f'control = "{self.top}/control"\n{text}\n[output.file]\npath = "{self.log}"\n')
        self.toml.chmod(0o640)

    def told(self) -> str:
        """All that auditd wrote and the plugin said to syslog."""
        with contextlib.suppress(BlockingIOError):
            while True:
                self._told += self._syslog.recv(8192).decode() + "\n"
        return self._told + self.messages.read_text(errors="replace")

    def plugins(self) -> list[int]:
        """The plugin processes, by the executable that their interpreter was given."""
        found = []
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            with contextlib.suppress(OSError):
                if str(self.top / "usr/sbin/audisp-auditns").encode() in path.read_bytes().split(b"\0"):
                    found.append(int(path.parent.name))
        return found

    def first_event(self, word: str) -> None:
        """Wait until what is done is in the log; where it is not, say what stands still."""
        try:
            until(lambda: act(word, True) or event(self.log, word), "a first event")
        except TimeoutError as error:
            tasks = [task for pid in self.plugins() for task in Path(f"/proc/{pid}/task").iterdir()]
            told = [f"{task}: {(task / 'stat').read_text()} {(task / 'stack').read_text()}" for task in tasks]
            log = self.log.read_bytes()[-2000:] if self.log.exists() else b"no log"
            raise AssertionError(f"{error}: {self.told()} {told} {log!r} {auditctl('-s')}") from error

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        conf = self.top / "etc/audit/auditd.conf"
        conf.write_text(AUDITD_CONF.format(top=self.top))
        conf.chmod(0o640)
        with self.messages.open("ab") as out:
            self.auditd = subprocess.Popen(
                hidden(f"mount --bind {self.top}/syslog /dev/log && exec auditd -c {conf.parent} -n"),
                stdin=subprocess.DEVNULL, stdout=out, stderr=out, cwd="/",
            )  # fmt: skip
        auditd = self.auditd
        try:
            until(lambda: f"\npid {auditd.pid}\n" in auditctl("-s"), f"auditd registers: {self.told()}")
            yield
        finally:
            auditd.terminate()
            auditd.wait(120)
            until(lambda: not self.plugins(), "the plugin ends with auditd")

    def hup(self) -> None:
        assert self.auditd is not None
        self.auditd.send_signal(signal.SIGHUP)


@pytest.fixture
def installed(root: None, token: str) -> Iterator[Installed]:
    need_tool("auditd", "auditctl", "unshare")
    top = Path(f"/var/lib/auditns-test-{token}")
    device = Path("/dev/log")
    place = not device.exists()
    try:
        if place:
            device.touch()  # something to mount ours on
        install.install(str(top), say=lambda text: None)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as syslog:
            syslog.bind(str(top / "syslog"))
            syslog.setblocking(False)
            made = Installed(top, syslog)
            made.configure()
            yield made
    finally:
        if place:
            device.unlink()
        shutil.rmtree(top, ignore_errors=True)


@pytest.fixture
def audited(audit_state: AuditState, token: str) -> Iterator[str]:
    """Auditing on, with a rule for execve under a key of this run, and no auditd."""
    need("\npid 0\n" in auditctl("-s"), "no auditd running")
    auditctl("-e", "1")
    auditctl("-b", "8192")
    key = f"auditns-{token}"
    rule = ("always,exit", "-F", "arch=b64", "-S", "execve", "-F", f"key={key}")
    auditctl("-a", *rule)
    yield key
    auditctl("-d", *rule)


def act(word: str, sandbox: bool) -> None:
    """Exec /bin/true with ``word`` as its argument, on the host or in a pid namespace of its own."""
    prefix = ["unshare", "--pid", "--fork"] if sandbox else []
    subprocess.run([*prefix, "/bin/true", word], check=True)


def event(log: Path, word: str) -> list[str]:
    """The lines of the event in which /bin/true got ``word``; empty while it is not there whole."""
    lines = whole_event_of(by_name(log.read_bytes()), 'a0="/bin/true"', word) if log.exists() else []
    return [line.decode(errors="surrogateescape") for line in lines]


def test_nothing_under_home_root_or_tmp_is_needed(installed: Installed) -> None:
    launcher = installed.top / "usr/sbin/audisp-auditns"
    command = hidden(f"exec env -i {launcher} --config {installed.toml} --check-config")
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{installed.toml}: good\n", "")


def test_the_plugin_under_auditd(installed: Installed, audited: str, token: str) -> None:
    with installed.running():
        until(installed.plugins, f"auditd starts the plugin: {installed.told()}")
        # what happened before the plugin had seen the host may be unknown; wait until it answers
        installed.first_event(f"warm-{token}")
        act(f"inside-{token}", True)
        act(f"outside-{token}", False)
        until(lambda: event(installed.log, f"outside-{token}"), f"the log: {installed.told()}")
        inside = event(installed.log, f"inside-{token}")
        assert [line for line in inside if re.search(r"type=CONTAINER_ID .* contid=\d+", line)], inside
        assert not [line for line in event(installed.log, f"outside-{token}") if "CONTAINER_ID" in line]

        (pid,) = installed.plugins()
        status = Path(f"/proc/{pid}/status").read_text()
        assert re.search(r"^SigBlk:\t0+$", status, re.M)
        maps = Path(f"/proc/{pid}/maps").read_text()
        assert not [line for line in maps.splitlines() if re.search(r" /(home|root|tmp|var/tmp)/", line)]

        installed.configure("record_names = 7")
        installed.log.rename(installed.log.with_name("moved.log"))
        installed.hup()
        until(lambda: "the former configuration stays in use" in installed.told(), "the complaint")
        until(lambda: act(f"after-{token}", True) or event(installed.log, f"after-{token}"), "the log is opened anew")
        assert [line for line in event(installed.log, f"after-{token}") if "type=CONTAINER_ID" in line]
        assert installed.plugins() == [pid]

        installed.configure('record_names = "numeric"\nsandbox = ["pid", "user"]')
        installed.hup()
        until(lambda: "configuration read again" in installed.told(), "the good news")
        until(lambda: "next start of the plugin" in installed.told(), "what is not yet in use")
        assert "options=sandbox" in installed.told()
        act(f"numeric-{token}", True)
        until(lambda: event(installed.log, f"numeric-{token}"), "the log")
        assert event(installed.log, f"numeric-{token}")
        assert b"type=UNKNOWN[1340] " in installed.log.read_bytes()

        install.uninstall(str(installed.top), say=lambda text: None)
        installed.hup()
        until(lambda: not installed.plugins(), "auditd stops a plugin whose conf has gone")


def test_auditd_restarts_it_after_its_death(installed: Installed, audited: str, token: str) -> None:
    """After a restart by auditd signals arrive blocked; the plugin works all the same."""
    with installed.running():
        installed.first_event(f"first-{token}")
        (pid,) = installed.plugins()
        os.kill(pid, signal.SIGKILL)
        until(lambda: act("noise", False) or installed.plugins() not in ([], [pid]), "a new plugin")
        until(lambda: act(f"second-{token}", True) or event(installed.log, f"second-{token}"), "its first event")
        assert [line for line in event(installed.log, f"second-{token}") if "type=CONTAINER_ID" in line]


def test_what_the_unit_lets_it_have_is_enough(root: None, kernel_lock: None) -> None:
    """Every source opens with the capabilities of auditns.service and no others."""
    need_tool("setpriv")
    unit = (Path(__file__).parents[2] / "audisp/auditns.service").read_text()
    names = re.findall(r"CAP_(\w+)", " ".join(re.findall(r"^CapabilityBoundingSet=(.*)$", unit, re.M)))
    bounding = "--bounding-set=-all," + ",".join(f"+{name.lower()}" for name in names)
    code = """
from auditns_connector.sources.connector import ConnectorSource
from auditns_connector.sources.perf import PerfSource
from auditns_connector.sources.readlog import ReadlogSource
from auditns_connector.auditrules.netlink import AuditControl
from auditns_connector.sources.procfs import Procfs
with ConnectorSource() as connector, PerfSource(pages=16) as perf, ReadlogSource(), AuditControl() as control:
    control.list_rules()
    print(sorted(perf.features), connector.notices, perf.notices, any(Procfs().scan()))
"""
    python = sys.executable
    plain = subprocess.run([python, "-c", code], capture_output=True, text=True)
    bounded = subprocess.run(
        ["setpriv", bounding, "--no-new-privs", python, "-c", code], capture_output=True, text=True
    )
    assert (plain.returncode, plain.stderr) == (0, "")
    assert (bounded.returncode, bounded.stdout, bounded.stderr) == (0, plain.stdout, "")
