"""Our programs as processes: started, waited for until they serve, asked, stopped; and how audit text is looked at."""

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from auditns_connector.vocabulary.record_types import OWN
from tests.kernel.support import until as until

#: seconds, only to end what would never end: a busy machine takes many times as long as an idle one
TIMEOUT: Final = 120.0
AUDITNS: Final = (sys.executable, "-m", "auditns_connector.cli.main")
PLUGIN: Final = (sys.executable, "-m", "auditns_connector.cli.plugin")
ROOT: Final = Path(__file__).parents[2]
_STAMP: Final = re.compile(rb"msg=(audit\([0-9.:]+\)):")


def environment(root: Path = ROOT, **more: str) -> dict[str, str]:
    """Ours, with the project (or that of the checkout ``root``) importable from everywhere."""
    path = {"PYTHONPATH": str(root), "PYTHONSAFEPATH": "1", "PYTHONFAULTHANDLER": "1"}
    return {**os.environ, **path, "LC_ALL": "C.UTF-8", "TZ": "UTC", **more}


def auditns(*args: str | Path, stdin: bytes = b"", root: Path = ROOT) -> subprocess.CompletedProcess[bytes]:
    """Run one short command of ours to its end."""
    return subprocess.run(
        [*AUDITNS, *map(str, args)], input=stdin, capture_output=True, env=environment(root), timeout=TIMEOUT
    )


def signals_count() -> None:
    """Tests under nohup ignore SIGHUP, those in the background of a script SIGINT; what they start is not to."""
    for sign in (signal.SIGHUP, signal.SIGINT):
        signal.signal(sign, signal.SIG_DFL)


class Program:
    """One run of ``auditns`` (of the checkout ``root``) with ``args``; its output goes to files below ``directory`` (or
    to ``stdout``)."""

    def __init__(
        self, directory: Path, args: Sequence[str | Path], *, stdout: int | None = None, root: Path = ROOT
    ) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.directory = directory
        self._out, self._err = directory / "stdout", directory / "stderr"
        self._notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        address = f"\0auditns-test-{os.getpid()}-{id(self)}"
        self._notify.bind(address)
        self._notify.settimeout(TIMEOUT)
        with self._out.open("wb") as out, self._err.open("wb") as err:
            self.process = subprocess.Popen(
                [*AUDITNS, *map(str, args)],
                stdin=subprocess.DEVNULL,
                stdout=out if stdout is None else stdout,
                stderr=err,
                env=environment(root, NOTIFY_SOCKET="@" + address[1:]),
                preexec_fn=signals_count,  # noqa: PLW1509 - there are no threads here
            )

    def ready(self) -> "Program":
        """Wait until it says that it serves."""
        self._notify.settimeout(0.1)
        for _ in range(int(TIMEOUT * 10)):
            with contextlib.suppress(TimeoutError):
                if b"READY=1" in self._notify.recv(4096):
                    return self
            assert self.process.poll() is None, f"ended with {self.process.returncode}: {self.err}"
        raise AssertionError(f"never ready: {self.err}")

    @property
    def out(self) -> bytes:
        """The lines that it has written so far, our records by name. A line that is still being written is left out."""
        text = self._out.read_bytes()
        return by_name(text[: text.rfind(b"\n") + 1])

    @property
    def err(self) -> str:
        """What it has told so far."""
        return self._err.read_text(errors="replace")

    def wait(self) -> int:
        """Its exit code, when it has ended by itself."""
        try:
            return self.process.wait(TIMEOUT)
        except subprocess.TimeoutExpired:
            self.process.send_signal(signal.SIGABRT)  # faulthandler says where it is
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(TIMEOUT)
            raise AssertionError(f"does not end: {self.err}") from None
        finally:
            self._notify.close()

    def stop(self, sign: signal.Signals = signal.SIGTERM) -> int:
        """Send ``sign`` and wait for the end."""
        self.process.send_signal(sign)
        return self.wait()

    def kill(self) -> None:
        """Whatever happened, it is gone afterwards."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self._notify.close()


@contextlib.contextmanager
def listening(
    directory: Path, *args: str | Path, control: Path | None = None, stdout: int | None = None, root: Path = ROOT
) -> Iterator[Program]:
    """``auditns listen`` with ``args``, serving; SIGTERM ends it, kill -9 when the test has failed."""
    where = control or directory / "control"
    program = Program(directory, ["listen", "--control", where, *args], stdout=stdout, root=root)
    try:
        yield program.ready()
        if program.process.poll() is None:
            assert program.stop() == 0, program.err
    finally:
        program.kill()


def events(text: bytes) -> dict[bytes, list[bytes]]:
    """The lines of each event of audit text, by stamp, in the order of their first lines."""
    found: dict[bytes, list[bytes]] = {}
    for line in text.splitlines():
        stamp = _STAMP.search(line)
        if stamp is not None:
            found.setdefault(stamp[1], []).append(line)
    return found


def event_of(text: bytes, *words: str) -> list[bytes]:
    """The lines of the first event whose lines hold all ``words``; empty where there is none."""
    for lines in events(text).values():
        whole = b"\n".join(lines)
        if all(word.encode() in whole for word in words):
            return lines
    return []


def whole_event_of(text: bytes, *words: str) -> list[bytes]:
    """The same where its end has been written; empty until then. What is read while another writes may be cut, and the
    records of an event come one by one: our answer may be behind those that are there."""
    lines = event_of(text[: text.rfind(b"\n") + 1], *words)
    several = any(line.startswith(b"type=SYSCALL ") or b" type=SYSCALL " in line for line in lines)
    return lines if not several or any(b"type=EOE " in line for line in lines) else []


def contids(lines: Sequence[bytes]) -> list[str]:
    """The contid fields of the CONTAINER_ID records among ``lines``, in either spelling, quoted or not."""
    found = []
    for line in lines:
        if b"type=CONTAINER_ID " in line or b"type=UNKNOWN[1340] " in line:
            found.append(line.rpartition(b" contid=")[2].decode().strip('"'))
    return found


def by_name(text: bytes) -> bytes:
    """Audit text with our records spelled by name, whatever the audit tools here."""
    for number, name in OWN.items():
        text = text.replace(b"type=UNKNOWN[%d] " % number, b"type=%b " % name.encode())
    return text


def ours(line: bytes) -> bool:
    """Whether a line of audit text is a record of ours."""
    kind = line.partition(b"type=")[2].partition(b" ")[0]
    return kind.startswith((b"CONTAINER_", b"NS_")) or (kind.startswith(b"UNKNOWN[134") and kind.endswith(b"]"))


class Task:
    """A shell that does what it is told; ``prefix`` starts it."""

    def __init__(self, *prefix: str) -> None:
        self.process = subprocess.Popen(
            [*prefix, "sh"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1, env=environment()
        )
        self.pid = int(self.run("echo $$"))

    def run(self, command: str) -> str:
        """Do ``command`` there; what it printed, when it is done."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{command}\necho; echo -- done\n")
        lines = []
        while (line := self.process.stdout.readline()) not in ("-- done\n", ""):
            lines.append(line)
        return "".join(lines).strip()

    def end(self) -> None:
        """Let it exit and reap it."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(TIMEOUT)
