"""What the workloads of one pass share: the run's token, labels, sequence numbers, and the count of planned actions."""

import contextlib
import secrets
import subprocess
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from .containers import Containers, WorkloadError, call
from .privileged import make_variants
from .truth import HOST, Label, Labels, NsKey, NsRef, read_namespaces

#: audited actions of one repeat of a mode of truth.c
ACTIONS: Final = {
    "children": 1,
    "unshare": 1,
    "transition": 2,
    "moved": 2,
    "threads": 2,
    "threadexec": 1,
    "daemons": 1,
    "asuser": 4,
    "churn": 1,
    "selfmove": 1,
    "busy": 1,
    "chain": 1,
}
NEWTIME, NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET = (
    0x80,
    0x20000,
    0x2000000,
    0x4000000,
    0x8000000,
    0x10000000,
    0x20000000,
    0x40000000,
)
#: events for which the numbers of slow things (container starts) are meant
FULL: Final = 20_000
#: a program given this token records nothing
NO_TOKEN: Final = "0" * 16


def build_truth(directory: Path) -> Path:
    """Compile truth.c, statically, so that it runs in any root file system."""
    program = directory / "truth"
    source = Path(__file__).with_name("truth.c")
    subprocess.run(["gcc", "-O2", "-static", "-pthread", "-o", program, source], check=True)
    return program


class Run:
    """One pass. ``state``: a folder with a short path; ``events``: how many audited actions it is to make, roughly."""

    def __init__(self, directory: Path, state: Path, truth: Path, events: int, runtimes: Iterable[str]) -> None:
        self.directory = directory
        # the first half is an argument of a system call, compared as a signed 32-bit number: keep it positive
        self.token = f"{secrets.randbits(30) | 1 << 30:08x}{secrets.token_hex(4)}"
        self.truth = truth
        self.events = events
        self.runtimes = list(runtimes)
        self.labels = Labels()
        self.containers = Containers(directory, truth, state)
        self.planned: Counter[int] = Counter()
        self.workload = 0
        self._seq = 1
        #: types of namespaces that the records of such actions cannot tell (workload, label, kind)
        self.undecided: dict[tuple[int, int, str], tuple[str, ...]] = {}
        self._lock = threading.Lock()
        self._host_log = directory / "truth.log"
        #: starts every subject anew, and waits until it is at work
        self.restart: Callable[[], None] = lambda: None

    def cannot_tell(self, label: Label, *types: str) -> None:
        """Records of actions without exec in this container do not say which namespaces of these types are meant."""
        self.undecided[self.workload, label.number, "s"] = types

    def slow(self, full: int) -> int:
        """``full`` repeats of something slow in a full run, fewer in a short one, never under 2."""
        return max(2, round(full * min(1.0, self.events / FULL)))

    def label(self, ident: str = "", *, sandbox: bool = False, count: int = 1, parent: Label | None = None) -> Label:
        """A new container: known by ``ident`` (which may be filled in later), or a sandbox."""
        with self._lock:
            return self.labels.new("sandbox" if sandbox else "known", ident, count, parent)

    def label_of(self, runtime: str, ident: str = "") -> Label:
        """A new container of ``runtime``: known where its own id tells the contid, else one of consistent name."""
        from .containers import IDENTIFIED

        return self.label(ident, sandbox=runtime not in IDENTIFIED)

    def prepare(self) -> None:
        """Make the folder of the pass; programs of the truth's that change what their process may do lie in it."""
        self.directory.mkdir()
        make_variants(self.directory, self.truth)
        self._host_log.touch()
        self._host_log.chmod(0o666)

    def inside(self, label: Label | int, mode: str = "none", n: int = 0, **keys: object) -> list[str]:
        """The truth program's command line in a container's root file system."""
        return self._argv("/truth", "/truth.log", label, mode, n, keys)

    def outside(self, label: Label | int = HOST, mode: str = "none", n: int = 0, **keys: object) -> list[str]:
        """The truth program's command line where the host's files are seen."""
        program = str(keys.pop("program", self.truth))
        return self._argv(program, str(self._host_log), label, mode, n, keys)

    def host(self, label: Label | int = HOST, mode: str = "none", n: int = 0, **keys: object) -> None:
        """Run the truth program as a child of the bench."""
        call(self.outside(label, mode, n, **keys))

    def unlabelled(self) -> None:
        """An audited exec that is no action of the run's."""
        call([self.truth, NO_TOKEN, "0", "0", "0"])

    def background(self, mode: str, **keys: object) -> subprocess.Popen[bytes]:
        """A truth process that records nothing and runs until SIGTERM."""
        words = [f"{key}={value}" for key, value in keys.items()]
        command = [str(self.truth), NO_TOKEN, "0", "0", "0", f"mode={mode}", *words]
        return subprocess.Popen(command, stdin=subprocess.DEVNULL)

    @contextlib.contextmanager
    def keeping(self, cgroup: Path) -> Iterator[None]:
        """A process lives in ``cgroup`` during the block."""
        keeper = self.background("hold")
        try:
            (cgroup / "cgroup.procs").write_text(f"{keeper.pid}\n")
            yield
        finally:
            keeper.terminate()
            keeper.wait()

    @contextlib.contextmanager
    def running(self, argv: list[str]) -> Iterator[subprocess.Popen[bytes]]:
        """The truth program during the block and to its end."""
        process = subprocess.Popen(argv, stdin=subprocess.DEVNULL)
        try:
            yield process
            if process.wait(60):
                raise WorkloadError(f"{' '.join(argv)} ended with {process.returncode}")
        finally:
            process.kill()
            process.wait()

    def contained(self, runtime: str, label: Label, argv: list[str]) -> None:
        """Run ``argv`` as a container of ``runtime`` to its end; a known label gets the runtime's id."""
        ident = self.containers.run(runtime, argv)
        if label.kind == "known":
            if not ident:
                raise WorkloadError(f"{runtime} told no id")
            label.ident = ident

    def parallel(self, jobs: Iterable[Callable[[], None]], workers: int = 8) -> None:
        """Run callables at the same time; the first failure is raised."""
        with ThreadPoolExecutor(workers) as pool:
            for done in [pool.submit(job) for job in jobs]:
                done.result()

    def namespaces(self) -> dict[NsKey, dict[str, NsRef]]:
        """What every process of the run saw of its own namespaces."""
        seen: dict[NsKey, dict[str, NsRef]] = {}
        for log in [self._host_log, *self.containers.logs()]:
            if log.exists():
                with log.open() as lines:
                    seen.update(read_namespaces(lines, self.token))
        return seen

    def _argv(
        self, program: str, out: str, label: Label | int, mode: str, n: int, keys: dict[str, object]
    ) -> list[str]:
        number = label if isinstance(label, int) else label.number
        count = 1 + ACTIONS.get(mode, 0) * n
        with self._lock:
            seq, self._seq = self._seq, self._seq + count
            self.planned[self.workload] += count
        words = [f"{key}={value.number if isinstance(value, Label) else value}" for key, value in keys.items()]
        words += [f"mode={mode}", f"n={n}"] if mode != "none" else []
        return [program, self.token, str(self.workload), str(number), str(seq), f"out={out}", *words]
