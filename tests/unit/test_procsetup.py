"""prepare() in a process started under every bad condition at once, and what it leaves alone."""

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from auditns_connector.daemon import process as procsetup

PACKAGE = str(Path(procsetup.__file__).parents[2])
CODE = """
import sys
sys.path.insert(0, sys.argv[1])
from auditns_connector.daemon import process as procsetup
procsetup.prepare(daemon=sys.argv[2] == "daemon")
import json, os, signal
def row(name):
    lines = open("/proc/self/status").read().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith(name)), 16)
def can_open(fd):
    try:
        return bool(os.fstat(fd))
    except OSError:
        return False
names = [s.name for s in signal.valid_signals() if isinstance(s, signal.Signals) and row("SigIgn:") >> (s - 1) & 1]
report = {
    "blocked": row("SigBlk:"), "ignored": sorted(names), "environment": dict(os.environ), "cwd": os.getcwd(),
    "umask": os.umask(0), "fds": [fd for fd in range(3, 200) if can_open(fd) and os.get_inheritable(fd)],
    "streams": [can_open(f) for f in (0, 1, 2)],
    "encoding": [sys.stderr.encoding, sys.stderr.errors] if sys.stderr else None,
    "stderr": type(sys.stderr).__name__,
}
with open(sys.argv[3], "w") as out:
    json.dump(report, out)
"""


def run(tmp_path: Path, how: str, before: str = "", **more: object) -> dict[str, object]:
    """Run CODE after the Python statements ``before`` have spoiled the process and exec'd it."""
    out = tmp_path / "report"
    argv = [sys.executable, "-IS", "-c", CODE, PACKAGE, how, str(out)]
    spoil = f"import os, signal\n{before}\nos.execve({argv[0]!r}, {argv!r}, env)"
    environment = more.pop("env", {})
    code = f"env = {environment!r}\n{spoil}"
    subprocess.run([sys.executable, "-IS", "-c", code], check=True, timeout=60, **more)  # type: ignore[call-overload]
    report = json.loads(out.read_text())
    assert isinstance(report, dict)
    return report


SPOILED = """
for sign in (signal.SIGHUP, signal.SIGTERM, signal.SIGCHLD, signal.SIGINT):
    signal.signal(sign, signal.SIG_IGN)
signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
os.umask(0)
os.chdir("/usr")
for _ in range(3):
    os.set_inheritable(os.open("/dev/null", os.O_RDONLY), True)
"""


def test_as_auditd_leaves_a_plugin(tmp_path: Path) -> None:
    report = run(tmp_path, "daemon", SPOILED, env={})
    assert report["blocked"] == 0
    assert report["ignored"] == ["SIGPIPE", "SIGXFSZ"]
    environment = report["environment"]
    assert isinstance(environment, dict)
    assert (environment.pop("PATH"), environment.pop("LANG")) == (procsetup.PATH, "C.UTF-8")
    assert set(environment) <= {"LC_CTYPE"}  # Python's own coercion of the C locale
    assert (report["cwd"], report["umask"], report["fds"]) == ("/", 0o027, [])
    assert report["encoding"] == ["utf-8", "backslashreplace"]
    assert report["stderr"] == "TextIOWrapper"


def test_at_a_terminal_the_users_things_stay(tmp_path: Path) -> None:
    given = {"PATH": "/bin", "LANG": "C.UTF-8", "LD_PRELOAD": "", "PYTHONPATH": "/x", "HOME": "/h"}
    report = run(tmp_path, "terminal", SPOILED, env=given)
    assert report["ignored"] == ["SIGHUP", "SIGPIPE", "SIGXFSZ"], "nohup stays in force"
    assert report["environment"] == {"PATH": "/bin", "LANG": "C.UTF-8", "HOME": "/h"}
    assert report["cwd"] == "/usr"
    assert len(report["fds"]) == 3  # type: ignore[arg-type]


def test_closed_standard_streams_are_filled(tmp_path: Path) -> None:
    report = run(tmp_path, "daemon", "for fd in (0, 1, 2): os.close(fd)")
    assert report["streams"] == [True, True, True]
    assert report["fds"] == []
    assert report["stderr"] == "SyslogStream", "nobody would read what goes to /dev/null"


def test_descriptors_of_socket_activation_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    fd = os.open("/dev/null", os.O_RDONLY)
    os.set_inheritable(fd, True)
    assert fd in procsetup.inherited_descriptors()
    monkeypatch.setenv("LISTEN_PID", str(os.getpid()))
    monkeypatch.setenv("LISTEN_FDS", str(fd - 2))
    assert fd not in procsetup.inherited_descriptors()
    os.close(fd)


def test_own_descriptors_are_not_taken_for_inherited() -> None:
    before = procsetup.inherited_descriptors()
    with open("/dev/null") as file, socket.socket() as sock:
        assert {file.fileno(), sock.fileno()}.isdisjoint(procsetup.inherited_descriptors())
    assert procsetup.inherited_descriptors() == before


def test_sigint_ends_as_usual_after_it_was_ignored() -> None:
    old = signal.signal(signal.SIGINT, signal.SIG_IGN), signal.getsignal(signal.SIGPIPE)
    try:
        procsetup.reset_signals()
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, old[0])
        signal.signal(signal.SIGPIPE, old[1])


def test_a_signal_inside_exec_of_a_string_is_no_death_by_sigint() -> None:
    program = (
        "import signal, sys\n"
        "from auditns_connector.daemon.process import Stopped, stoppable\n"
        "with stoppable():\n"
        "    try:\n"
        "        exec('import os, signal; os.kill(os.getpid(), signal.SIGTERM)')\n"
        "    except Stopped:\n"
        "        print('stopped')\n"
    )
    done = subprocess.run([sys.executable, "-c", f"import runpy\n{program}"], capture_output=True, check=False)
    assert (done.returncode, done.stdout) == (0, b"stopped\n")


@pytest.mark.parametrize("hard", [20, 5000])
def test_a_few_descriptors_are_made_more(hard: int) -> None:
    """As far as that is allowed: above the hard limit by root alone, who may be one without CAP_SYS_RESOURCE."""
    code = f"""
import resource
from auditns_connector.daemon.process import raise_descriptor_limit
resource.setrlimit(resource.RLIMIT_NOFILE, (20, {hard}))
raise_descriptor_limit()
found = resource.getrlimit(resource.RLIMIT_NOFILE)
try:
    resource.setrlimit(resource.RLIMIT_NOFILE, (1024, max(1024, {hard})))
    assert found == (1024, max(1024, {hard})), found
except (OSError, ValueError):
    assert found == (20, 20), found
"""
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_nobody_is_given_fewer_descriptors_than_he_has() -> None:
    code = """
import resource
from auditns_connector.daemon.process import raise_descriptor_limit
def after(least):
    return raise_descriptor_limit(least), resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (100, 200))
assert after(50) == (False, (100, 200))
assert after(150) == (True, (150, 200))
assert after(200) == (True, (200, 200))
assert after(200) == (False, (200, 200))
"""
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


SESSION = """
import os, sys
sys.path.insert(0, sys.argv[1])
from auditns_connector.daemon import process
if sys.argv[3] == "own":
    os.setsid()
def session():
    try:
        with open("/proc/self/autogroup") as group:
            return int(group.read().partition(" nice ")[2])
    except (FileNotFoundError, ValueError):  # no such file, or nothing in it: the session of init is in no group
        return None
before, nice = session(), os.getpriority(os.PRIO_PROCESS, 0)
print(before, nice, process.boost_session(with_parent=True), session(), os.getpriority(os.PRIO_PROCESS, 0))
"""


@pytest.mark.parametrize("whose", ["own", "another's"])
def test_only_a_session_of_our_own_comes_before_others(whose: str) -> None:
    """One that somebody else has begun, as a shell, has others in it."""
    code = f"import subprocess, sys; subprocess.run([sys.executable, '-IS', '-c', {SESSION!r}, *sys.argv[1:]])"
    command = [sys.executable, "-IS", "-c", code, PACKAGE, "x", whose]
    said = subprocess.run(command, capture_output=True, text=True, check=True, start_new_session=False).stdout.split()
    before, nice, had, after, nice_after = said
    if before == "None" or Path(procsetup.AUTOGROUPS).read_text().strip() != "1":
        pytest.skip("this kernel does not share the CPUs out by sessions")
    ours = whose == "own" and os.geteuid() == 0
    assert (had, nice_after) == (str(ours), nice)
    assert int(after) == (min(int(before), max(int(nice) - procsetup.PRIORITY_BOOST, -20)) if ours else int(before))


BESIDE = """
import os, subprocess, sys
sys.path.insert(0, sys.argv[1])
if sys.argv[3] != "child":
    with open("/proc/self/comm", "w") as comm:
        comm.write(sys.argv[3])
    os.setpriority(os.PRIO_PROCESS, 0, max(-4, os.getpriority(os.PRIO_PROCESS, 0)) if os.geteuid() else -4)
    before = os.getpriority(os.PRIO_PROCESS, 0)
    for _ in range(2):
        child = [sys.executable, "-IS", "-c", sys.argv[4], *sys.argv[1:3], "child"]
        said = subprocess.run(child, capture_output=True, text=True, check=True).stdout
        print(before, os.getpriority(os.PRIO_PROCESS, 0), said)
else:
    from auditns_connector.daemon import process
    process.boost_beside(os.getppid())
    print(os.getpriority(os.PRIO_PROCESS, 0))
"""


@pytest.mark.parametrize("name", ["auditd", "somebody"])
def test_without_sessions_auditd_is_raised_with_us_once_and_nobody_else(name: str) -> None:
    command = [sys.executable, "-IS", "-c", BESIDE, PACKAGE, "x", name, BESIDE]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    before, *after = map(int, said[:3])
    if os.geteuid():
        assert after == [before, before]
        return
    assert before == -4
    assert after == ([-14, -14] if name == "auditd" else [-4, -14])
    assert said[3:] == said[:3], "raised once"


def test_a_session_without_a_group_is_not_raised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As that of init, whose file is empty: a program of ours started there as well."""
    for name, text in (("AUTOGROUPS", "1\n"), ("AUTOGROUP", "")):
        (tmp_path / name).write_text(text)
        monkeypatch.setattr(procsetup, name, str(tmp_path / name))
    monkeypatch.setattr(os, "getsid", lambda _: os.getpid())
    assert not procsetup.boost_session()
