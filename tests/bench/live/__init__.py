"""Under a real auditd, at fixed rates of exec: CPU of ours and of LAUREL, what arrives, and how much later.

One program at a time is the plugin, with the same rule, the same load and the same second plugin beside it, which notes
when auditd hands over the end of each event. Ours is read from its socket; the difference is what it adds.
"""

import contextlib
import os
import pwd
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from tests import peers

from .. import report
from ..offline import LAUREL

if TYPE_CHECKING:
    from tests.kernel.auditd import Auditd

RATES: Final = (0, 20, 100, 333, 1000, 1667)
_KEY: Final = "auditns-bench-live"
_CONF: Final = """\
control = "{work}/control"
coalesce_ms = {coalesce}
lifecycle = false
{general}
[output.file]
path = "{work}/ours.log"
max_size = 0
[output.socket]
enabled = {socket}
path = "{work}/ours.sock"
queue = "256M"
{more}
"""
_LAUNCH: Final = (
    "#!/bin/sh\nPYTHONPATH={root} exec {python} -m auditns_connector.cli.plugin --config {work}/auditns.toml\n"
)
_WHAT: Final = (
    "Rule: execve. CPU of the plugin's process (ours: reading the kernel's events included). Delay: from the moment a "
    "second plugin is handed the end of an event to the moment a reader of our socket has it. Ours writes to a file "
    "and to the socket; with the file alone, as LAUREL, there is no reader and no delay to be had."
)


class Ours(NamedTuple):
    """One of ours: its coalesce_ms, whether its socket is read, and what else its configuration says: among the options
    without a section, and behind all; and what goes on beside: packets with a record each, or holes in the serials."""

    coalesce: str = '"adaptive"'
    socket: bool = False
    general: str = ""
    more: str = ""
    packets: bool = False
    holes: bool = False


class Listener(NamedTuple):
    """``auditns listen`` beside auditd, with these arguments: what the plugin has no output for."""

    args: tuple[str, ...]


#: or LAUREL's program
Subject = Ours | Listener | Path
OURS: Final[dict[str, Subject]] = {
    "ours, file and socket": Ours(socket=True),
    "ours, file": Ours(),
    "ours, file and socket, at once": Ours("0", socket=True),
    "ours, file, at once": Ours("0"),
}
#: what the rounds in C are left for, or do more in; at this rate alone
PATHS: Final[dict[str, Subject]] = {
    "ours, NS_INFO": Ours(general='ns = "all"'),
    "ours, CONTAINER_INFO": Ours(general="info = true"),
    "ours, a filter": Ours(more='[filter.include]\nrecord = ["EXECVE"]'),
    "ours, a journal": Ours(more='[journal]\npath = "{work}/journal"'),
    "ours, a stream": Ours(more='[stream.docker]\nruntime = ["docker"]'),
    "ours, file and child": Ours(more='[output.child]\nenabled = true\nargv = ["/bin/dd", "of=/dev/null"]'),
    "ours, 50 packets a second": Ours(packets=True),
    "ours, a hole each second": Ours(holes=True),
    "our listener, JSON": Listener(("--format", "json")),
}
_PATHS_RATE: Final = 333
#: what the kernel tells of one exec of the load, in records
_RECORDS: Final = 8
#: packets that have a NETFILTER_PKT record, in a network namespace of their own
_PACKETS: Final = """\
#!/bin/sh
ip link set lo up
iptables -w -A INPUT -p udp -j AUDIT --type accept
exec {python} -c '
import socket, time
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
    while True:
        sock.sendto(b"x", ("127.0.0.1", 9))
        time.sleep(0.02)
'
"""


class Figures(NamedTuple):
    """One run: ``cpu`` is that of the plugin in per cent of a core, ``delays`` in ms."""

    execs: int
    cpu: float
    events: int
    missing: int
    delays: list[float]


def cpu_of(pid: int) -> int:
    """CPU time of a process so far, all threads (ns)."""
    total = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(OSError):
            total += int((task / "schedstat").read_text().split()[0])
    return total


def _stamps(path: Path) -> dict[int, int]:
    found = {}
    for line in path.read_text().splitlines()[1:]:
        serial, _, at = line.partition(" ")
        found.setdefault(int(serial), int(at))
    return found


def _script(path: Path, text: str) -> str:
    path.write_text(text)
    path.chmod(0o750)
    return str(path)


def _configured(work: Path, ours: Ours) -> str:
    """The script that starts our plugin so."""
    conf = work / "auditns.toml"
    text = _CONF.replace("{general}", ours.general).replace("{more}", ours.more)
    conf.write_text(text.format(work=work, coalesce=ours.coalesce, socket=str(ours.socket).lower()))
    conf.chmod(0o640)
    root = Path(__file__).parents[3]
    return _script(work / "subject.sh", _LAUNCH.format(root=root, python=sys.executable, work=work))


def _add_subject(auditd: "Auditd", work: Path, subject: Subject) -> None:
    """Have auditd start it, as far as it is a plugin."""
    if isinstance(subject, Path):
        (work / "laurel").mkdir()
        user = pwd.getpwuid(os.geteuid()).pw_name
        (work / "laurel.toml").write_text(LAUREL.format(out=work / "laurel", user=user))
        auditd.add_plugin("subject", str(subject), "--config", f"{work}/laurel.toml")
    elif isinstance(subject, Ours):
        auditd.add_plugin("subject", _configured(work, subject))


@contextlib.contextmanager
def _listening(work: Path, subject: Subject) -> Iterator[int]:
    """Our listener, if it is one; its process id, 0 where there is none."""
    if not isinstance(subject, Listener):
        yield 0
        return
    command = [sys.executable, "-m", "auditns_connector.cli.main", "listen", "--control", f"{work}/control"]
    with open(work / "said", "wb") as said, open(work / "objects", "wb") as out:
        listener = subprocess.Popen([*command, *subject.args], stdout=out, stderr=said)
    try:
        yield listener.pid
    finally:
        listener.terminate()
        listener.wait(20)


@contextlib.contextmanager
def _audited(work: Path, subject: Subject, rate: int) -> Iterator[None]:
    """Execs are audited, and beside them goes on what the subject wants."""
    from tests.kernel.support import auditctl

    packets = None
    auditctl("-b", "65536")
    auditctl("-a", "always,exit", "-F", "arch=b64", "-S", "execve", "-F", f"key={_KEY}")
    try:
        if isinstance(subject, Ours) and subject.packets:
            script = _script(work / "packets.sh", _PACKETS.format(python=sys.executable))
            packets = subprocess.Popen(["unshare", "-n", script])
            time.sleep(0.5)
        if isinstance(subject, Ours) and subject.holes:  # no more records a second than these go out
            auditctl("-r", str(rate * _RECORDS * 9 // 10))
        yield
        time.sleep(0.5)
    finally:
        auditctl("-D", "-k", _KEY)
        if packets is not None:
            packets.terminate()
            packets.wait(10)


@contextlib.contextmanager
def _plugin(work: Path, subject: Subject, stamp: Path, rate: int) -> Iterator[int]:
    """The real auditd with that plugin; gives the process id of what is measured."""
    from tests.kernel.auditd import Auditd
    from tests.kernel.support import audit_state, until

    with audit_state():
        auditd, reader = Auditd(work), None
        note = _script(work / "note.sh", f"#!/bin/sh\nexec {stamp} {work}/given\n")
        auditd.add_plugin("note", note)
        _add_subject(auditd, work, subject)
        with auditd.serving(), _listening(work, subject) as listener:
            until((work / "given").exists, "the second plugin")
            if not isinstance(subject, Path):
                until((work / "control").exists, "our control socket")
            if isinstance(subject, Ours) and subject.socket:
                reader = subprocess.Popen([stamp, str(work / "got"), str(work / "ours.sock")])
                until((work / "got").exists, "the reader of our socket")
            time.sleep(0.7)
            with _audited(work, subject, rate):
                yield listener or next(
                    pid for pid in auditd.children() if b"stamp" not in Path(f"/proc/{pid}/cmdline").read_bytes()
                )
        if reader is not None:
            reader.wait(10)


def measure(subject: Subject, rate: int, seconds: float, stamp: Path, place: Path) -> Figures:
    """One subject at one rate (0: as fast as this host forks)."""
    work = Path(tempfile.mkdtemp(prefix="run-", dir=place))
    with _plugin(work, subject, stamp, rate) as pid:
        before, start = cpu_of(pid), time.monotonic()
        made = subprocess.run([stamp, "-", str(rate), str(seconds)], capture_output=True, text=True, check=True)
        time.sleep(0.3)
        used, wall = cpu_of(pid) - before, time.monotonic() - start
        os.kill(pid, signal.SIGCONT)  # it is still there
    given = _stamps(work / "given")
    read = isinstance(subject, Ours) and subject.socket
    got = _stamps(work / "got") if read else given
    delays = [(got[serial] - at) / 1e6 for serial, at in given.items() if serial in got]
    first = min(got, default=0)  # what came before our reader had joined was not for it
    missing = sum(serial not in got for serial in given if serial > first)
    return Figures(int(made.stdout), used / wall / 1e7, len(given), missing, delays if read else [])


def _quantile(values: list[float], part: float) -> float:
    return sorted(values)[min(len(values) - 1, int(part * len(values)))] if values else float("nan")


def bench(quick: bool) -> str:
    """The section of BENCHMARKS.md."""
    if os.geteuid() or not shutil.which("auditd"):
        return "## Live\n\nNot measured: it needs root and auditd."
    seconds, repeat, rates = (2.0, 1, (333, 1000)) if quick else (6.0, 3, RATES)
    peers.ensure()
    subjects = {**OURS, **{peer.title: peer.path for peer in peers.versions("laurel")}}
    rows = []
    with tempfile.TemporaryDirectory(prefix="auditns-live-", dir="/var/tmp") as place:
        stamp = Path(place) / "stamp"
        subprocess.run(["gcc", "-O2", "-o", stamp, Path(__file__).with_name("stamp.c")], check=True)
        for rate in rates:
            more = PATHS if rate == _PATHS_RATE else {}
            for name, subject in {**subjects, **more}.items():
                runs = [measure(subject, rate, seconds, stamp, Path(place)) for _ in range(repeat)]
                execs = statistics.median(run.execs for run in runs) / seconds
                delays = [delay for run in runs for delay in run.delays]
                rows.append(
                    [
                        f"{rate or 'max'}/s: {name}", f"{execs:.0f}", report.spread([run.cpu for run in runs], 1),
                        str(sum(run.events for run in runs)),
                        str(sum(run.missing for run in runs)) if delays else "–",
                        *(f"{_quantile(delays, part):.2f}" if delays else "–" for part in (0.5, 0.9, 0.99, 0.999)),
                    ]
                )  # fmt: skip
    header = ["rate: program", "exec/s", "CPU, % of a core", "events", "missing", "p50 ms", "p90", "p99", "p99.9"]
    return "\n\n".join(
        [
            "## Live, under auditd",
            _WHAT,
            report.table(header, rows),
        ]
    )
