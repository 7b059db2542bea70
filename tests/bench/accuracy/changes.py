"""Bodies of workloads of processes that change what they are, and of subjects that start while the host is at work."""

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from tests.kernel.support import until

from .containers import call
from .privileged import variant
from .run import NEWCGROUP, NEWIPC, NEWNS, NEWPID, NEWUTS, Run
from .truth import HOST

#: what an ordinary user may exec there: bwrap, podman and others forbid it their processes, or give no second user
ROOMY: Final = ("podman", "runc", "unshare")
#: after this a subject that has just started may have no gap left (seconds)
SETTLED: Final = 0.1
#: microseconds between two forks of a process at work, on a busy host and on a quiet one
BUSY: Final = 2000
QUIET: Final = 100_000


def execs_as_user(names: tuple[str, ...], run: Run, n: int) -> None:
    """An ordinary user execs programs of these variants; the process acts on, and so do its children."""
    times = max(2, n // (4 * len(names) * (1 + len(ROOMY))))
    for name in names:
        run.host(HOST, "asuser", times, target=variant(run.directory, name))
        for runtime in set(run.runtimes) & set(ROOMY):
            label = run.label_of(runtime)
            run.contained(runtime, label, run.inside(label, "asuser", times, target=variant("/", name)))


def churn(run: Run, n: int) -> None:
    """One process of the host or of a container that enters new namespaces again and again."""
    flags = NEWNS | NEWUTS | NEWIPC | NEWCGROUP
    run.host(HOST, "churn", n // 3, flags=flags)
    for runtime in set(run.runtimes) & {"podman", "runc"}:
        label = run.label_of(runtime)
        run.contained(runtime, label, run.inside(label, "churn", n // 3, flags=flags))


def self_move(run: Run, n: int, new_id: Callable[[], str]) -> None:
    """Processes that move themselves into the cgroup of a container, and then exec or make a pid namespace."""
    for flags in (0, NEWPID):
        for then in ("exec",) if not flags else ("exec", "sys"):
            ident = new_id()
            with run.containers.cgroup(f"/docker/{ident}") as cg:
                label = run.label(ident)
                run.host(HOST, "selfmove", n // 3, cg=cg, flags=flags, then=then, label2=label)


@contextlib.contextmanager
def _at_work(run: Run, runtime: str, n: int, pace: int) -> Iterator[tuple[list[Path], list[str]]]:
    """A loop and a chain of forks, of the host ("") or in a container. They act when the files in the list, one of
    each, are made. With it comes a command that acts in the same container."""
    with contextlib.ExitStack() as stack:
        if runtime:
            label = run.label_of(runtime)
            ready = f"/ready-{label.number}"
            hold = run.inside(label, "hold", ready=ready)
            held = stack.enter_context(run.containers.held(runtime, hold, ready))
            label.ident = held.ident
            folder, where = run.containers.root(runtime), held.enter
        else:
            label, folder, where = run.labels[HOST], run.directory, []
        argv = run.inside if runtime else run.outside
        cues = []
        for mode in ("busy", "chain"):
            name = f"cue-{run.workload}-{label.number}-{mode}"
            cues.append(folder / name)
            seen = f"/{name}" if runtime else str(folder / name)
            keys = {"gap": pace, "cue": seen, "ready": f"{seen}-ready"}
            stack.enter_context(run.running([*where, *argv(label, mode, n, **keys)]))
            until((folder / f"{name}-ready").exists, f"{mode} in {runtime or 'the host'}")
        yield cues, [*where, *argv(label, "children", n)]


def restart(run: Run, n: int, pace: int) -> None:
    """Every subject is started anew; then processes of before act, their children, and who comes in."""
    places = ["", *sorted(set(run.runtimes) & {"podman", "runc"})]
    part = max(2, n // (3 * len(places)))
    with contextlib.ExitStack() as stack:
        started = [stack.enter_context(_at_work(run, place, part, pace)) for place in places]
        try:
            run.restart()
            time.sleep(SETTLED)
        finally:
            for cues, _ in started:
                for cue in cues:
                    cue.touch()
        for _, command in started:
            call(command)
