"""Of the guest of test_systemd_host.py: commands, what is done in containers, and whose it is.

Each program is /bin/true with a word that says where it is (spoken.py).
"""

import concurrent.futures
import contextlib
import json
import os
import subprocess
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from auditns_connector.model.runtimes import derive_contid
from tests.kernel.images import BUSY
from tests.kernel.spoken import Truth

TIMEOUT: Final = 300.0


def run(*words: str | Path, check: bool = True, env: dict[str, str] | None = None) -> str:
    """Run a command to its end; its stdout without the last newline."""
    done = subprocess.run(
        list(map(str, words)), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=TIMEOUT,
        errors="replace", env={**os.environ, **(env or {})},
    )  # fmt: skip
    if check and done.returncode:
        raise RuntimeError(f"{words} ended with {done.returncode}: {done.stdout[-1000:]}{done.stderr[-3000:]}")
    return done.stdout.strip()


def until(done: Callable[[], object], what: str, timeout: float = TIMEOUT) -> None:
    """Ask until it is true."""
    deadline = time.monotonic() + timeout
    while not done():
        if time.monotonic() > deadline:
            raise TimeoutError(what)
        time.sleep(0.2)


def truth_of(name: str, said: Sequence[Sequence[Any]]) -> Truth:
    """What :attr:`Workload.truth` says of the execs whose words begin with ``name``."""
    truth = Truth(name)
    for label, kind, ident, count in said:
        wanted = None if kind == "host" else str(derive_contid("nspawn" if kind == "nspawn" else "", ident))
        if kind == "some":
            truth.which(label, lambda found: found is not None and found.isdecimal(), count)
        else:
            truth.which(label, lambda found, wanted=wanted: found == wanted, count)
    return truth


class Workload:
    """One of each kind, and whose it is. ``name`` is part of all names, for others may be remembered."""

    def __init__(self, name: str) -> None:
        self.name = name
        #: [label, kind, the runtime's id or name, how many execs (0: one or more)]
        self.truth: list[tuple[str, str, str, int]] = []
        #: by label the id, and the cgroup of the first process
        self.places: dict[str, tuple[str, str]] = {}
        self.failed: dict[str, str] = {}
        #: what ``auditns contid list`` says of these, by the runtime's id
        self.told: dict[str, dict[str, Any]] = {}

    def word(self, label: str, number: object = "") -> str:
        """As Truth.word() of spoken.py."""
        return f"{self.name}-{label}" + (f"-{number}" if number != "" else "")

    def of(self, label: str, ident: str, count: int, kind: str = "id") -> None:
        """These execs are of the container ``ident``."""
        self.truth.append((label, kind, ident, count))

    def host(self, label: str, count: int = 1) -> None:
        """These are the host's."""
        self.of(label, "", count, "host")

    def place(self, label: str, ident: str, pid: str) -> None:
        """Keep in which cgroup a container is."""
        self.places[label] = ident, Path(f"/proc/{pid}/cgroup").read_text().strip().rpartition("::")[2]

    def look(self) -> None:
        """Ask our program about the containers that are there, until it has a name for each of those kept."""

        def named() -> bool:
            lines = run("auditns", "contid", "list", "--json").splitlines()
            self.told |= {about["id"]: about for about in map(json.loads, lines) if "id" in about}
            return all(self.told.get(ident, {}).get("name") for ident, _ in self.places.values())

        with contextlib.suppress(TimeoutError):
            until(named, "their names", 60)

    def attempt(self, step: Callable[["Workload"], None]) -> None:
        """Do one part; what fails is told."""
        print(f"auditns: {self.name} {step.__name__}", flush=True)
        try:
            step(self)
        except Exception:
            self.failed[step.__name__] = traceback.format_exc()
            print(self.failed[step.__name__], flush=True)


class Engine:
    """Docker or Podman: the same words."""

    def __init__(self, load: Workload, kind: str, *command: str) -> None:
        self.load, self.kind, self._command = load, kind, command

    def call(self, *words: str) -> str:
        """One command."""
        return run(*self._command, *words)

    def run(self, label: str, *options: str, words: Sequence[str] = (), count: int = 4, stay: bool = True) -> str:
        """A container called as the label, on ``/bin/loop`` where there are no ``words``, and then for as long as it is
        wanted; its id."""
        name = f"{self.load.name}-{self.kind}-{label}"
        argv = [*words] or ["/bin/loop", self.load.word(f"{self.kind}.{label}"), str(count), *(["3600"] * stay)]
        ident = self.call("run", "-d", "--name", name, "--network=none", *options, BUSY, *argv).split()[-1]
        if stay and not words:
            self.load.place(f"{self.kind}.{label}", ident, self.pid(ident))
        self.load.of(f"{self.kind}.{label}", ident, count)
        return ident

    def pid(self, ident: str) -> str:
        """Its first process."""
        return self.call("inspect", "-f", "{{.State.Pid}}", ident)

    def exec(self, label: str, ident: str) -> None:
        """A program in it."""
        self.call("exec", ident, "/bin/true", self.load.word(f"{self.kind}.{label}.exec", 0))
        self.load.of(f"{self.kind}.{label}.exec", ident, 1)

    def enter(self, label: str, ident: str) -> None:
        """Programs in it, by all ways in: exec, exec -d, nsenter, several at once, and after a pause."""
        word, label = self.load.word, f"{self.kind}.{label}"
        self.call("exec", ident, "/bin/sh", "-c", f"/bin/true {word(f'{label}.shell', 0)}; :")
        self.call("exec", "-d", ident, "/bin/loop", word(f"{label}.detached"), "3")
        run("nsenter", "-t", self.pid(ident), "-a", "/bin/true", word(f"{label}.nsenter", 0))
        with concurrent.futures.ThreadPoolExecutor(3) as pool:
            list(pool.map(lambda k: self.call("exec", ident, "/bin/true", word(f"{label}.parallel", k)), range(3)))
        self.call("pause", ident)
        self.call("unpause", ident)
        self.call("exec", ident, "/bin/true", word(f"{label}.unpaused", 0))
        for way, count in (("shell", 1), ("detached", 3), ("nsenter", 1), ("parallel", 3), ("unpaused", 1)):
            self.load.of(f"{label}.{way}", ident, count)

    def every_way(self, *, health: bool = True) -> None:
        """What people run; ``health``: with a container whose health is looked at."""
        word, healthy = self.load.word, ""
        if health:
            checks = f"--health-cmd=/bin/true {word(f'{self.kind}.healthy', 0)}"
            healthy = self.run("healthy", checks, "--health-interval=1s", words=["/bin/sleep", "3600"], count=0)
        crash = ["/bin/sh", "-c", f"/bin/true {word(f'{self.kind}.crash', 0)}; exit 1"]
        self.run("crash", "--restart=on-failure:2", words=crash, count=3)
        self.enter("plain", self.run("plain"))
        for label, *options in (("hostpid", "--pid=host", "--ipc=host"), ("tini", "--init"), ("root", "--privileged")):
            self.exec(label, self.run(label, *options))
        self.call("wait", self.run("short", count=3, stay=False))
        if healthy:
            state = ["inspect", "-f", "{{.State.Health.Status}}", healthy]
            until(lambda: self.call(*state) == "healthy", "its health")

    def remove_all(self) -> None:
        """End all."""
        if self._command[-1] == "podman":  # what holds a pod together goes with it alone
            self.call("pod", "rm", "-fa")
        for ident in self.call("ps", "-aq").split():
            self.call("rm", "-f", ident)
