"""One pass: a real auditd, one program under it or beside it, a storm, and what became of everything."""

import contextlib
import dataclasses
import os
import signal
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from auditns_connector.streams.client import control_server
from tests.bench.accuracy.auditd import Auditd
from tests.bench.accuracy.containers import Containers
from tests.bench.accuracy.run import Run
from tests.bench.accuracy.subjects import answers
from tests.bench.accuracy.truth import read_actions
from tests.kernel.support import until

from . import load, score, watch

#: how long anything may take that has no bar of its own (seconds)
PATIENCE: Final = 180.0
#: workload numbers: the tagged one, what is done when the storm is over, and last of all
WORK, OVER, LAST = 1, 2, 3
_ROOT: Final = Path(__file__).parents[3]
_PLUGIN: Final = (
    "#!/bin/sh\n{before}\nPYTHONPATH={root} exec {python} -m auditns_connector.cli.plugin --config {conf}\n"
)
_CONF: Final = 'control = "{directory}/control"\n[output.file]\npath = "{directory}/ours.log"\nmax_size = 0\n'


@dataclasses.dataclass(frozen=True)
class Timing:
    """Seconds: of the storm, and from its end to the second look at the memory; 0: nothing is measured."""

    storm: float
    later: float


@dataclasses.dataclass
class Result:
    """One pass. ``logged``: share of what happened that is in auditd's log; memory in MiB, times in seconds."""

    storm: str
    subject: str
    stormed: load.Done
    logged: float
    lost_by_kernel: int
    outcome: score.Outcome | None = None
    answers: list[float] = dataclasses.field(default_factory=list)
    commands: list[float] = dataclasses.field(default_factory=list)
    memory: tuple[float, float, float] = (0.0, 0.0, 0.0)
    caught_up: float | None = None
    ended: float | None = None


class Program(ABC):
    """What a pass is about."""

    name: str
    #: its output in the folder of the pass; empty: it has none of ours
    output = ""

    def configure(self, auditd: Auditd, directory: Path, storm: Path) -> None:
        """Put it, or the plugin that copies, under auditd."""
        script = directory / "copy.sh"
        script.write_text(f"#!/bin/sh\nexec {storm} copy {directory}/copied\n")
        script.chmod(0o750)
        auditd.add_plugin("copy", str(script))

    @contextlib.contextmanager
    def running(self, directory: Path) -> Iterator[int]:
        """Have it at work during the block; gives its process id, 0 for the control."""
        yield 0

    @contextlib.contextmanager
    def trouble(self, directory: Path, pid: int) -> Iterator[None]:
        """What befalls process ``pid`` during the storm: nothing, here."""
        yield

    @abstractmethod
    def at_end(self, pid: int) -> float | None:
        """SIGTERM; seconds until it has ended."""


class Control(Program):
    """Plain auditd with a plugin that copies."""

    name = "control"

    def at_end(self, pid: int) -> float | None:
        return None


class Plugin(Program):
    """audisp-auditns as it is installed: enriched text into a file."""

    name = "plugin"
    output = "ours.log"
    #: further lines of its configuration
    more = ""

    def before(self, directory: Path) -> str:
        """What the shell does that starts it."""
        return ""

    def configure(self, auditd: Auditd, directory: Path, storm: Path) -> None:
        conf, script = directory / "auditns.toml", directory / "plugin.sh"
        conf.write_text(_CONF.format(directory=directory) + self.more)
        conf.chmod(0o640)
        script.write_text(_PLUGIN.format(root=_ROOT, python=sys.executable, conf=conf, before=self.before(directory)))
        script.chmod(0o750)
        auditd.add_plugin("auditns", str(script))

    @contextlib.contextmanager
    def running(self, directory: Path) -> Iterator[int]:
        control = f"{directory}/control"
        until(lambda: control_server(control) and answers(control), "the plugin", PATIENCE)
        yield control_server(control)

    def at_end(self, pid: int) -> float | None:
        return watch.end(pid)


class Listener(Program):
    """auditns listen beside an auditd whose plugin copies."""

    name = "listen"
    output = "ours.log"

    @contextlib.contextmanager
    def running(self, directory: Path) -> Iterator[int]:
        control = f"{directory}/control"
        command = [
            sys.executable,
            "-m",
            "auditns_connector.cli.main",
            "listen",
            "--format",
            "raw",
            "--control",
            control,
        ]
        with (directory / self.output).open("wb") as out, (directory / "listen.err").open("wb") as err:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=err, cwd=_ROOT)
        try:
            until(lambda: answers(control), "the listener", PATIENCE)
            yield process.pid
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(PATIENCE)

    def at_end(self, pid: int) -> float | None:
        return watch.end(pid)


PROGRAMS: Final = {program.name: program for program in (Control, Plugin, Listener)}


class Pass:
    """``subject`` under ``storm``; ``folder`` is new and its own, ``truth`` and ``storm_program`` are compiled."""

    def __init__(self, folder: Path, state: Path, truth: Path, storm_program: Path, timing: Timing) -> None:
        self.folder, self.timing = folder, timing
        self._storm_program = storm_program
        self._sent = load.Done(0, 0)
        self._log = folder
        #: how much of a log has been looked at for an action
        self._looked: dict[tuple[Path, int], int] = {}
        self._run = Run(folder, state, truth, 0, Containers.available())

    def go(self, name: str, storm: load.Storm, live: int, subject: Program) -> Result:
        """Run it."""
        run, folder = self._run, self.folder
        run.prepare()
        auditd = Auditd(folder, q_depth="2000")
        auditd.backlog_limit = 8192
        self._log = auditd.log
        subject.configure(auditd, folder, self._storm_program)
        with auditd.running(run.token, f"auditns-storm-{run.token}"), subject.running(folder) as pid:
            result = self._storm(name, storm, live, subject, pid)
            if subject.output:
                result.ended = subject.at_end(pid)
        result.lost_by_kernel = auditd.lost
        self._judge(auditd.log, subject, result)
        return result

    def _storm(self, name: str, storm: load.Storm, live: int, subject: Program, pid: int) -> Result:
        run, timing = self._run, self.timing
        run.workload = WORK
        idle = watch.private_memory(pid) if pid else 0.0
        watcher = watch.Watcher(pid, f"{self.folder}/control")
        whole = load.LEAD + timing.storm + load.TAIL
        with (
            load.messages(self._storm_program, whole) as sent,
            load.Workload(run, timing.storm).running(),
            watcher.watching() if pid and timing.later else contextlib.nullcontext(),
        ):
            time.sleep(load.LEAD)
            with subject.trouble(self.folder, pid):
                stormed = load.storm(self._storm_program, storm, timing.storm, live)
            over = load.sentinel(run, OVER)
            caught_up = self._seen(subject, OVER, over) if pid else None
        self._sent = sent[0]
        end = load.sentinel(run, LAST)
        self._in_auditds_log(LAST)
        if pid:
            self._seen(subject, LAST, end)
            time.sleep(max(0.0, over + timing.later - time.monotonic()))
        later = watch.private_memory(pid) if pid and timing.later else 0.0
        return Result(
            name, subject.name, stormed, 0.0, 0, answers=watcher.answers, commands=watcher.commands,
            memory=(idle, watcher.peak, later), caught_up=caught_up,
        )  # fmt: skip

    def _in_auditds_log(self, number: int) -> None:
        until(lambda: self._has(self._log, number), "auditd's log", PATIENCE, 0.1)

    def _seen(self, subject: Program, number: int, since: float) -> float | None:
        """Seconds until an action of workload ``number`` is in the output; None: it never comes. It is done again every
        second: one of them may be among what is told as lost."""
        for second in range(int(PATIENCE)):
            if second:
                load.sentinel(self._run, number)
            with contextlib.suppress(TimeoutError):
                until(lambda: self._has(self.folder / subject.output, number), subject.name, 1.0, 0.05)
                return time.monotonic() - since
        return None

    def _has(self, path: Path, number: int) -> bool:
        """Whether the end of a log has it; it is looked for in what has come since the last time."""
        word = f'a1="{self._run.token}" a2="{number}" '.encode()
        with path.open("rb") as log:
            size = os.fstat(log.fileno()).st_size
            start = self._looked.get((path, number), 0)
            log.seek(max(0, start - 4096))
            found = word in log.read(size - max(0, start - 4096))
        self._looked[path, number] = size
        return found

    def _judge(self, log: Path, subject: Program, result: Result) -> None:
        text = log.read_bytes()
        actions = {event: a for event, a in read_actions(text, self._run.token).items() if a.workload == WORK}
        found = score.messages(text)
        happened = self._sent.done + self._run.planned[WORK]
        result.logged = (len(actions) + len(found)) / happened
        if subject.output:
            actions |= found
            told = score.read(self.folder / subject.output, set(actions))
            result.outcome = score.judge(actions, told, self._run.labels)
