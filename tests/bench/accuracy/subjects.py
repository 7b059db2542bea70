"""The subjects under test, each behind a small adapter: configure before the run, read its answers after it.

A new subject is a class with the methods of :class:`Subject`; what it has to call a known container is
:meth:`Subject.name_of`.
"""

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Final

from auditns_connector.streams.client import control_server
from tests import peers
from tests.kernel.support import until

from .auditd import Auditd
from .score import UNKNOWN_ANSWER, Answer
from .truth import NS_TYPES, EventId, Label, NsRef

#: CONTAINER_ID in the numeric spelling
NUMERIC_CONTAINER_ID: Final = 1340
#: bytes at the end of an output among which the last event is looked for; other events may follow it
TAIL: Final = 1 << 20
#: how long one may take to end and to start anew (seconds)
STARTED: Final = 60.0
_EVENT: Final = re.compile(rb"^(?:node=\S+ )?type=([^ ]+) msg=audit\((\d+\.\d{3}:\d+)\): ?([^\n]*)", re.M)
_CONTAINER_ID: Final = (b"CONTAINER_ID", b"UNKNOWN[%d]" % NUMERIC_CONTAINER_ID)
_CONTID: Final = re.compile(rb"(?:^| )contid=(\S+)")
_RECORD: Final = re.compile(rb"(?:^| )record=(\d+)")
_LOSS: Final = b"CONTAINER_LOST"


def answers(control: str) -> bool:
    """Whether our program at that control socket answers, that is, whether its loop runs."""
    script = Path(sys.executable).parent / "auditns"
    return not subprocess.run([script, "status", "--control", control], capture_output=True).returncode


def contid_of(ident: str) -> str:
    """The contid derived from a runtime's 64-hex id: its first 16 digits as a u64, in decimal."""
    return str(int(ident[:16], 16))


class Subject(ABC):
    """Something that says which container an audit event belongs to."""

    name: str
    #: file name of its program, by which its process is found among auditd's plugins
    program: str = ""
    #: file name of its output in the folder of the run
    output: str = ""

    def missing(self) -> str:
        """Why it cannot be run here; empty when it can."""
        return ""

    def version(self) -> str:
        """For the report."""
        return ""

    def configure(self, auditd: Auditd, directory: Path, *, tiny: bool) -> None:  # noqa: B027
        """Put it under ``auditd``, its files in ``directory``; ``tiny``: with buffers so small that it loses events."""

    def start(self, directory: Path) -> None:  # noqa: B027
        """Start what auditd does not start, before the first event."""

    def stop(self) -> None:  # noqa: B027
        """End what :meth:`start` started, after the last event."""

    def ready(self, run: Path) -> bool:
        """Whether it is at work."""
        return not self.output or (run / self.output).exists()

    def has(self, run: Path, event: EventId) -> bool:
        """Whether ``event``, the last of the run, is in its output."""
        if not self.output:
            return True
        with (run / self.output).open("rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - TAIL))
            return self.mark(event) in file.read()

    def mark(self, event: EventId) -> bytes:
        """What stands in its output where that event is."""
        return b"audit(%s)" % event.encode()

    def process(self, plugins: Iterable[int]) -> int:
        """Which process it is, of auditd's ``plugins`` or its own (to be stopped by SIGSTOP); 0: it has none."""
        for pid in plugins:
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            if any(Path(word.decode(errors="replace")).name == self.program for word in words):
                return pid
        return 0

    def restart(self, auditd: Auditd, directory: Path, poke: Callable[[], None]) -> None:
        """End it as its user would, and wait until its successor is at work. auditd starts a plugin anew when it has
        something for it: ``poke`` makes an event."""
        if not self.program:
            return
        former = self.process(auditd.children())
        os.kill(former, signal.SIGTERM)

        def serving() -> bool:
            poke()
            now = self.process(auditd.children())
            return now not in (0, former) and self.serves(directory, now)

        until(serving, f"{self.name} to be started anew", STARTED, 0.1)

    def serves(self, run: Path, pid: int) -> bool:
        """Whether process ``pid`` of it is at work."""
        with contextlib.suppress(OSError):
            return any(file.readlink() == run / self.output for file in Path(f"/proc/{pid}/fd").iterdir())
        return False

    def name_of(self, label: Label) -> str | None:
        """What it has to call a container of kind known."""
        return contid_of(label.ident)

    @abstractmethod
    def answers(self, run: Path) -> dict[EventId, Answer]:
        """Its answer for every event it put out, after the end of the run in folder ``run``."""

    def losses(self, run: Path) -> int:
        """How many times it told of a loss."""
        return 0


class EnrichedText(Subject):
    """A file of audit text with CONTAINER_ID records in it, symbolic or numeric, whoever wrote it."""

    def __init__(self, path: Path, name: str = "") -> None:
        self.path = path
        self.name = name or path.name

    def answers(self, run: Path) -> dict[EventId, Answer]:
        return parse_text(self.path.read_bytes())

    def losses(self, run: Path) -> int:
        return count_losses(self.path.read_bytes())


class Laurel(Subject):
    """LAUREL as an auditd plugin, the newest there is: JSON lines with the full 64-hex id, as SYSCALL.PID.container or,
    in older ones, as CONTAINER_INFO.ID."""

    name = program = "laurel"
    output = "laurel.json"

    def missing(self) -> str:
        peers.ensure()
        return "" if peers.versions("laurel") else "no laurel is installed, nor can it be fetched"

    def version(self) -> str:
        return peers.versions("laurel")[-1].title

    def configure(self, auditd: Auditd, directory: Path, *, tiny: bool) -> None:
        # its defaults, but everything in one file and as root, so that it may write there
        config = directory / "laurel.toml"
        lines = [f'directory = "{directory}"', "[auditlog]", 'file = "laurel.json"', "size = 4000000000"]
        lines += ["generations = 1", "[enrich]", "pid = true", "container = true", "script = true"]
        config.write_text("\n".join(lines) + "\n")
        auditd.add_plugin("laurel", str(peers.versions("laurel")[-1].path), "--config", str(config))

    def name_of(self, label: Label) -> str | None:
        return label.ident

    def restart(self, auditd: Auditd, directory: Path, poke: Callable[[], None]) -> None:
        """It ends with auditd alone, whatever signal it gets but SIGKILL, which would not be fair: it stays."""

    def mark(self, event: EventId) -> bytes:
        return b'"ID":"%s"' % event.encode()

    def answers(self, run: Path) -> dict[EventId, Answer]:
        found = {}
        with (run / self.output).open("rb") as lines:
            for line in lines:
                event = json.loads(line)
                found[event["ID"]] = Answer(_laurels(event))
        return found


def _laurels(event: dict[str, Any]) -> str | None:
    process = event.get("SYSCALL", {}).get("PID", {})
    said = process.get("container") or event.get("CONTAINER_INFO", {})
    identity: str | None = {key.lower(): value for key, value in said.items()}.get("id")
    return identity


class Auditns(Subject):
    """This project's plugin, audisp-auditns, writing enriched text and JSON to files of the run."""

    name = "auditns"
    program = "audisp-auditns"
    output = "auditns.log"
    options: tuple[str, ...] = ('ns = "all"', "info = true")
    journal = True
    #: where setuptools puts the entry point of the interpreter that runs the bench
    script = Path(sys.executable).parent / "audisp-auditns"

    def missing(self) -> str:
        return "" if self.script.exists() else f"no {self.script.name} beside the interpreter"

    def version(self) -> str:
        import auditns_connector

        return f"auditns_connector {auditns_connector.__version__}"

    def configure(self, auditd: Auditd, directory: Path, *, tiny: bool) -> None:
        # auditd wants a regular file of root with a mode within 0755, and gives an empty environment
        launcher = directory / f"audisp-{self.name}"
        shutil.copyfile(self.script, launcher)
        launcher.chmod(0o750)
        config = directory / f"{self.name}.toml"
        config.write_text(self.toml(directory, tiny=tiny))
        config.chmod(0o640)
        auditd.add_plugin(self.name, str(launcher), "--config", str(config))

    def serves(self, run: Path, pid: int) -> bool:
        control = f"{run}/{self.name}.control"
        return super().serves(run, pid) and control_server(control) == pid and answers(control)

    def toml(self, directory: Path, *, tiny: bool) -> str:
        """The plugin's configuration for one run."""
        lines = [*self.options, f'control = "{directory}/{self.name}.control"']
        if tiny:
            lines += ["[sources]", "perf_buffer = 65536", "connector_buffer = 65536"]
        if self.journal:
            lines += ["[journal]", f'path = "{directory}/auditns.journal"', "max_size = 0"]
        lines += ["[output.file]", f'path = "{directory}/{self.output}"', "max_size = 0"]
        return "\n".join(lines) + "\n"

    def answers(self, run: Path) -> dict[EventId, Answer]:
        return parse_text((run / self.output).read_bytes())

    def losses(self, run: Path) -> int:
        return count_losses((run / self.output).read_bytes())


class AuditnsPlain(Auditns):
    """The same as it is installed: no more than CONTAINER_ID records, and no journal. Most answers are remembered ones
    then, and given before the model has taken in what is new."""

    name = "auditns-plain"
    program = "audisp-auditns-plain"
    output = "auditns-plain.log"
    options = ()
    journal = False


class AuditnsListen(Subject):
    """This project's stand-alone listener on the audit multicast group: its JSON tells namespaces by dev and inode."""

    name = "auditns-listen"
    output = "listen.json"
    script = Path(sys.executable).parent / "auditns"
    _process: subprocess.Popen[bytes] | None = None

    def missing(self) -> str:
        return "" if self.script.exists() else f"no {self.script.name} beside the interpreter"

    #: what its output held when it was started
    _before = 0

    def start(self, directory: Path) -> None:
        with (directory / self.output).open("ab") as out, (directory / "listen.err").open("ab") as err:
            self._before = out.tell()
            self._process = subprocess.Popen(self.command(directory), stdin=subprocess.DEVNULL, stdout=out, stderr=err)

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(STARTED)

    def restart(self, auditd: Auditd, directory: Path, poke: Callable[[], None]) -> None:
        self.stop()
        self.start(directory)
        until(lambda: self.ready(directory), f"{self.name} to be started anew", STARTED)

    def command(self, directory: Path) -> list[str]:
        """Its command line; a control socket of its own keeps it apart from a listener of this host."""
        return [str(self.script), "listen", "--format", "json", "--ns", "all", "--control", f"{directory}/listen.sock"]

    def ready(self, run: Path) -> bool:
        """It tells of the initial namespaces first, when everything is in place."""
        output = run / self.output
        return output.exists() and output.stat().st_size > self._before

    def mark(self, event: EventId) -> bytes:
        return b'"serial":%s,' % event.partition(":")[2].encode()

    def process(self, plugins: Iterable[int]) -> int:
        return self._process.pid if self._process else 0

    def answers(self, run: Path) -> dict[EventId, Answer]:
        found: dict[EventId, Answer] = {}
        with (run / self.output).open("rb") as lines:
            for event, answer in parse_json(lines):
                before = found.setdefault(event, answer)
                # an event told in two pieces that do not agree is right for nobody
                if before.container != answer.container:
                    before.container = f"{before.container};{answer.container}"
        return found

    def losses(self, run: Path) -> int:
        return (run / self.output).read_bytes().count(_LOSS)


def parse_text(text: bytes) -> dict[EventId, Answer]:
    """Events of enriched audit text: the subject's CONTAINER_ID of each (record=1 or none; targets are others').

    Two different answers for one subject are joined with ";", which is right for nobody.
    """
    found: dict[EventId, Answer] = {}
    for match in _EVENT.finditer(text):
        kind, event, rest = match[1], match[2].decode(), match[3]
        answer = found.setdefault(event, Answer())
        if kind not in _CONTAINER_ID:
            continue
        record, contid = _RECORD.search(rest), _CONTID.search(rest)
        if contid is None or (record is not None and record[1] != b"1"):
            continue
        said = contid[1].decode()
        answer.container = said if answer.container in (None, said) else f"{answer.container};{said}"
    return found


def count_losses(text: bytes) -> int:
    """How many CONTAINER_LOST records (symbolic spelling) enriched text holds."""
    return sum(match[1] == _LOSS for match in _EVENT.finditer(text))


def parse_json(lines: Iterable[bytes]) -> Iterator[tuple[EventId, Answer]]:
    """Events of the product's JSON lines that have a time and a serial."""
    for line in lines:
        event = json.loads(line)
        if "serial" not in event or "time" not in event:
            continue
        contid = event.get("contid")
        said = None if contid is None else UNKNOWN_ANSWER if contid == UNKNOWN_ANSWER else str(contid)
        yield f"{_stamp(event['time'])}:{event['serial']}", Answer(said, _namespaces(event.get("ns")))


def _stamp(time: str | float | int) -> str:
    return time if isinstance(time, str) else f"{time:.3f}"


def _namespaces(told: Any) -> dict[str, NsRef | None] | None:
    if not told:
        return None
    entries = told.items() if isinstance(told, dict) else ((entry["type"], entry) for entry in told)
    found: dict[str, NsRef | None] = {}
    for kind, entry in entries:
        name = kind.removesuffix("ns")
        if name in NS_TYPES:
            known = isinstance(entry, dict) and entry.get("ino") is not None and entry.get("dev") is not None
            found[name] = (int(entry["dev"]), int(entry["ino"])) if known else None
    return found
