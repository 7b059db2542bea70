"""What goes on during a pass: the storms of an ordinary user, messages, and a workload whose containers are known."""

import contextlib
import re
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from tests.bench.accuracy.containers import WorkloadError, call
from tests.bench.accuracy.run import Run
from tests.bench.accuracy.truth import HOST

#: who storms
USER: Final = 1000
RATE: Final = 600
LIVE: Final = 10_000
#: the messages begin so long before the storms, and go on for so long behind them (seconds)
LEAD: Final = 2.0
TAIL: Final = 3.0
#: between two actions of the workload (microseconds)
PACE: Final = 50_000
#: more failed calls than that, and it was no storm
MOST_FAILED: Final = 0.01
_TOLD: Final = re.compile(r"done (\d+) failed (\d+)")


class Storm(NamedTuple):
    """``kinds``: what each of the processes does, see storm.c."""

    kinds: tuple[str, ...]
    about: str


def storms(count: int, live: int) -> dict[str, Storm]:
    """The storms by name, of ``count`` processes; ``live`` of the last one's namespaces at once."""
    four = ("userpid", "uts", "forks", "execs")
    return {
        "userpid": Storm(("userpid",) * count, "user and pid namespaces"),
        "uts": Storm(("uts",) * count, "uts namespaces inside a user namespace"),
        "forks": Storm(("forks",) * count, "forks"),
        "execs": Storm(("execs",) * count, "execs"),
        "all": Storm(tuple(four[i % 4] for i in range(count)), "all four"),
        "live": Storm(("live",), f"{live:,} user and pid namespaces at once"),
    }


class Done(NamedTuple):
    """What the processes of a storm, or those that send messages, say that they did."""

    done: int
    failed: int

    @property
    def counts(self) -> bool:
        """Whether enough of it succeeded."""
        return self.failed <= MOST_FAILED * (self.done + self.failed)


def build(folder: Path) -> Path:
    """Compile storm.c, so that a fork of it is cheap and it runs in any root file system."""
    program = folder / "storm"
    subprocess.run(["gcc", "-O2", "-static", "-o", program, Path(__file__).with_name("storm.c")], check=True)
    return program


def _outcome(processes: list["subprocess.Popen[str]"]) -> Done:
    done = failed = 0
    for process in processes:
        said = _TOLD.search(process.communicate()[0])
        if said is None or process.returncode:
            raise WorkloadError(f"{process.args!r} ended with {process.returncode}")
        done, failed = done + int(said[1]), failed + int(said[2])
    return Done(done, failed)


def storm(program: Path, what: Storm, seconds: float, live: int) -> Done:
    """Have an ordinary user do it for ``seconds``."""
    started = [
        subprocess.Popen(
            [program, kind, str(seconds), *([str(live)] if kind == "live" else [])],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, user=USER, group=USER, extra_groups=[],
        )
        for kind in what.kinds
    ]  # fmt: skip
    return _outcome(started)


@contextlib.contextmanager
def messages(program: Path, seconds: float) -> Iterator[list[Done]]:
    """AUDIT_USER messages of the host's root for ``seconds``; the list has what became of them when the block ends."""
    command = [str(program), "messages", str(seconds), str(RATE)]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
    found: list[Done] = []
    try:
        yield found
        found.append(_outcome([process]))
    finally:
        process.kill()
        process.wait()


class Workload:
    """Actions of the host and of containers, one after the other in each, by exec and without."""

    def __init__(self, run: Run, seconds: float) -> None:
        self._run, self._n = run, max(4, int(seconds * 1e6 / PACE / 2))
        self._failures: list[BaseException] = []
        self._threads: list[threading.Thread] = []

    def _act(self, make: list[list[str]]) -> None:
        try:
            for command in make:
                call(command)
        except (WorkloadError, OSError, subprocess.TimeoutExpired) as error:
            self._failures.append(error)

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """During the block, and on to the last action."""
        run = self._run
        jobs = [[run.outside(HOST, "children", self._n, then=then, gap=PACE) for then in ("exec", "sys")]]
        with contextlib.ExitStack() as stack:
            for runtime in sorted(set(run.runtimes) & {"runc", "podman"}):
                label = run.label_of(runtime)
                ready = f"/ready-{label.number}"
                hold = run.inside(label, "hold", ready=ready)
                held = stack.enter_context(run.containers.held(runtime, hold, ready))
                label.ident = held.ident
                jobs.append(
                    [[*held.enter, *run.inside(label, "children", self._n, then=t, gap=PACE)] for t in ("exec", "sys")]
                )
            self._threads = [threading.Thread(target=self._act, args=(job,)) for job in jobs]
            for thread in self._threads:
                thread.start()
            try:
                yield
            finally:
                for thread in self._threads:
                    thread.join()
        if self._failures:
            raise self._failures[0]


def sentinel(run: Run, number: int) -> float:
    """One action of the host as workload ``number``; when it was made (time.monotonic)."""
    run.workload = number
    run.host()
    return time.monotonic()
