"""The truth bench: ``python -m tests.bench.accuracy`` (root; takes the machine's audit for itself meanwhile).

Starts a private auditd with the subjects as its plugins, runs workloads whose every audited action carries in its
arguments the container it happened in, and compares what each subject said with that. Prints a table for each
condition: right, wrong, unknown, missing and absent by workload, and the same for namespaces where a subject tells
them. Exit status 0: every subject that is ours met the bar; 1: it did not, or a run was not complete; 2: usage;
3: not possible here.

    python -m tests.bench.accuracy --quick                         2,000 events, idle
    python -m tests.bench.accuracy --load all                      20,000 events each: idle, spin, storm
    python -m tests.bench.accuracy --load clock,tiny,stop          clock steps, forced loss
    python -m tests.bench.accuracy --workloads podman,pid-reuse --subjects laurel --json out.json
    python -m tests.bench.accuracy --load all --benchmarks BENCHMARKS.md

``--collect FILE`` gathers passes that are run one by one, for one table. ``--keep DIR`` leaves the logs of every pass
for a look (log/raw.log: what auditd wrote; truth.log: what processes saw). Audit's settings, the rules and the wall
clock are put back at the end, after a signal too.
"""

import argparse
import contextlib
import json
import os
import pickle
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import Final

from tests.kernel.support import kernel_lock, until

from . import report
from .auditd import Auditd, NotPossibleError
from .conditions import CONDITIONS, condition, lossless, tiny_buffers
from .containers import RUNTIMES, Containers, WorkloadError
from .report import PassResult, SubjectResult
from .run import FULL, Run, build_truth
from .score import score, verdict
from .subjects import Auditns, AuditnsListen, AuditnsPlain, EnrichedText, Laurel, Subject
from .truth import read_actions, shared_pids
from .workloads import WORKLOADS, Workload, run_workload

QUICK: Final = 2000
SENTINEL: Final = 0
LOCK_WAIT: Final = 3600.0
#: how long a subject may take to put out the last event, once the kernel has let go of it
DRAIN: Final = 120.0
#: subjects of our own: they have to meet the bar
OURS: Final = ("auditns", "auditns-plain", "auditns-listen")
SUBJECTS: Final[dict[str, Callable[[], Subject]]] = {
    "auditns": Auditns,
    "auditns-plain": AuditnsPlain,
    "auditns-listen": AuditnsListen,
    "laurel": Laurel,
}


def main(argv: Sequence[str] | None = None) -> int:
    """Parse, run every pass, print and write the results."""
    options = _options(argv)
    if options.list:
        for load in WORKLOADS.values():
            print(f"{load.name:16} {load.about}")
        return 0
    signal.signal(signal.SIGTERM, _terminate)
    try:
        with _directory(options.keep) as directory:
            results = _run(options, directory)
    except (NotPossibleError, WorkloadError) as error:
        print(f"accuracy: {error}", file=sys.stderr)
        return 3 if isinstance(error, NotPossibleError) else 1
    words = list(sys.argv[1:] if argv is None else argv)
    if options.collect:
        results = _collected(Path(options.collect), results)
        loads = Counter(result.condition for result in results)
        words += ["--load", ",".join(loads), "--repeat", str(max(loads.values()))]
    command = _command(words)
    if options.json:
        Path(options.json).write_text(json.dumps(report.to_json(results, command), indent=1) + "\n")
    if options.benchmarks:
        report.write_section(Path(options.benchmarks), report.section(results, command))
    return 1 if any(_failed(result) for result in results) else 0


def _collected(path: Path, results: list[PassResult]) -> list[PassResult]:
    """Those in the file ``path``, which this program has written, and ``results``; all are in it then."""
    if path.exists():
        results = [*pickle.loads(path.read_bytes()), *results]
    path.write_bytes(pickle.dumps(results))
    return results


def _run(options: argparse.Namespace, directory: Path) -> list[PassResult]:
    if os.geteuid() != 0:
        raise NotPossibleError("needs root: it runs auditd and containers")
    for tool in ("auditd", "auditctl", "gcc"):
        if shutil.which(tool) is None:
            raise NotPossibleError(f"needs {tool}")
    workloads = [WORKLOADS[name] for name in options.workloads]
    for name in sorted(set(RUNTIMES) - set(Containers.available())):
        print(f"accuracy: {name} left out: its commands are not installed", file=sys.stderr)
    truth = build_truth(directory)
    results = []
    for number, name in enumerate(options.load * options.repeat):
        subjects = _subjects(options.subjects)
        # the lock is given back between passes, so that others get a turn
        with kernel_lock(LOCK_WAIT), _temporary() as state:
            run = Run(directory / f"{number}-{name}", state, truth, options.events, Containers.available())
            result = _pass(run, name, workloads, subjects)
        results.append(result)
        _print(result)
    return results


def _pass(run: Run, name: str, workloads: list[Workload], subjects: list[Subject]) -> PassResult:
    directory = run.directory
    run.prepare()
    auditd = Auditd(directory)
    for subject in subjects:
        subject.configure(auditd, directory, tiny=tiny_buffers(name))
    begin = time.monotonic()
    with auditd.running(run.token, f"auditns-truth-{run.token}"), contextlib.ExitStack() as started:
        for subject in subjects:
            started.callback(subject.stop)
            subject.start(directory)
        until(lambda: all(subject.ready(directory) for subject in subjects), "the subjects to be ready", DRAIN)

        def processes() -> list[int]:
            found = [subject.process(auditd.children()) for subject in subjects if subject.name in OURS]
            return [pid for pid in found if pid]

        def settle() -> None:
            """Wait until the subjects have put out all that was done up to now."""
            load, run.workload = run.workload, SENTINEL
            run.host()
            run.workload = load
            auditd.wait_logged(run.token, SENTINEL, run.planned[SENTINEL], DRAIN)
            # a listener has no end of input to drain to: it is done when the last event is in its output
            last = _last_event(auditd, run)
            for subject in subjects:
                with contextlib.suppress(TimeoutError):
                    until(lambda subject=subject: subject.has(directory, last), subject.name, DRAIN)  # type: ignore[misc]

        def restart() -> None:
            settle()  # what auditd has not handed over to a plugin when that ends is lost to it
            for subject in subjects:
                subject.restart(auditd, directory, run.unlabelled)

        run.restart = restart
        with condition(name, run, processes):
            for load in workloads:
                print(f"{name}: {load.name}", file=sys.stderr)
                run_workload(run, load)
        settle()
    seconds = time.monotonic() - begin
    return _score(run, auditd, name, workloads, subjects, seconds)


def _last_event(auditd: Auditd, run: Run) -> str:
    actions = read_actions(auditd.log.read_bytes(), run.token)
    return next(event for event, action in reversed(actions.items()) if action.workload == SENTINEL)


def _score(
    run: Run,
    auditd: Auditd,
    name: str,
    workloads: list[Workload],
    subjects: list[Subject],
    seconds: float,
) -> PassResult:
    directory = run.directory
    actions = read_actions(auditd.log.read_bytes(), run.token)
    audited = Counter(action.workload for action in actions.values())
    actions = {event: action for event, action in actions.items() if action.workload != SENTINEL}
    names = {load.number: load.name for load in workloads}
    planned = {number: count for number, count in run.planned.items() if number != SENTINEL}
    pids = shared_pids(actions.values())
    result = PassResult(name, seconds, planned, dict(audited), auditd.lost, pids, names)
    seen = run.namespaces()
    for subject in subjects:
        answers = subject.answers(directory)
        scored = score(actions, answers, run.labels, subject.name_of, seen, undecided=run.undecided)
        reasons = verdict(scored, names, lossless=lossless(name))
        losses = subject.losses(directory)
        if not lossless(name) and not losses and scored.total.containers["right"] != scored.total.events:
            reasons.append("events are not right and no loss was told")
        result.subjects[subject.name] = SubjectResult(subject.version(), scored, losses, reasons)
    return result


def _print(result: PassResult) -> None:
    about = CONDITIONS[result.condition][1]
    lost = f", {result.lost} audit records lost by the kernel" if result.lost else ""
    print(f"\n{result.condition} ({about}): {result.seconds:.0f} s, {result.shared_pids} pids shared{lost}\n")
    print(report.table(result), flush=True)
    for line in result.incomplete():
        print(f"incomplete: {line}")
    for name, subject in result.subjects.items():
        if subject.losses:
            print(f"{name}: told {subject.losses} losses")
        if name in OURS:
            print(f"{name}: " + ("; ".join(subject.reasons) or "meets the bar"))
            for example in subject.score.examples:
                print(f"  {example}", file=sys.stderr)


def _failed(result: PassResult) -> bool:
    missed = any(subject.reasons for name, subject in result.subjects.items() if name in OURS)
    return missed or bool(result.incomplete())


def _subjects(wanted: list[str]) -> list[Subject]:
    subjects: list[Subject] = []
    for name in wanted or list(SUBJECTS):
        if name.startswith("file:"):
            subjects.append(EnrichedText(Path(name.removeprefix("file:"))))
            continue
        subject = SUBJECTS[name]()
        reason = subject.missing()
        if reason and wanted:
            raise NotPossibleError(f"{name}: {reason}")
        if reason:
            print(f"accuracy: {name} left out: {reason}", file=sys.stderr)
        else:
            subjects.append(subject)
    return subjects


@contextlib.contextmanager
def _directory(keep: str) -> Iterator[Path]:
    if keep:
        Path(keep).mkdir(parents=True)
        yield Path(keep).resolve()
        return
    with _temporary() as directory:
        yield directory


@contextlib.contextmanager
def _temporary() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="truth-", ignore_cleanup_errors=True) as directory:
        # containers with a user namespace look their files up as other users
        os.chmod(directory, 0o755)
        yield Path(directory)


def _command(words: Sequence[str]) -> str:
    """The command as it is to be repeated: without where results were written to."""
    kept = ["python -m tests.bench.accuracy"]
    outputs = ("--json", "--benchmarks", "--keep", "--collect")
    given: dict[str, list[str]] = {}
    name = ""
    for word in words:
        if word.startswith("--"):
            name = word.partition("=")[0]
            given.pop(name, None)  # what is said twice holds as it was said last
            given[name] = [word]
        else:
            given.setdefault(name, []).append(word)
    for option, parts in given.items():
        if option not in outputs:
            kept += parts
    return " ".join(kept)


def _terminate(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.accuracy", description="The truth bench.")
    parser.add_argument("--quick", action="store_true", help=f"{QUICK} events")
    parser.add_argument("--events", type=int, default=0, metavar="N", help=f"about this many in each pass ({FULL})")
    parser.add_argument("--workloads", default="all", metavar="A,B", help="which (see --list); all")
    parser.add_argument("--load", default="idle", metavar="A,B", help=f"{', '.join(CONDITIONS)}; all: idle,spin,storm")
    parser.add_argument("--repeat", type=int, default=1, metavar="N", help="every pass this often")
    parser.add_argument(
        "--subjects", default="", metavar="A,B", help=f"{', '.join(SUBJECTS)}, file:PATH; all there are"
    )
    parser.add_argument("--json", metavar="FILE", help="write everything to FILE")
    parser.add_argument("--benchmarks", metavar="FILE", help="write the section of BENCHMARKS.md into FILE")
    parser.add_argument("--collect", metavar="FILE", help="add these passes to those in FILE, and tell of all")
    parser.add_argument("--keep", default="", metavar="DIR", help="keep the logs in DIR, which must not exist")
    parser.add_argument("--list", action="store_true", help="tell the workloads and end")
    options = parser.parse_args(argv)
    options.events = options.events or (QUICK if options.quick else FULL)
    options.workloads = list(WORKLOADS) if options.workloads == "all" else options.workloads.split(",")
    options.load = ["idle", "spin", "storm"] if options.load == "all" else options.load.split(",")
    options.subjects = options.subjects.split(",") if options.subjects else []
    for wanted, known in ((options.workloads, WORKLOADS), (options.load, CONDITIONS)):
        for name in wanted:
            if name not in known:
                parser.error(f"unknown: {name}; there are {', '.join(known)}")
    for name in options.subjects:
        if name not in SUBJECTS and not name.startswith("file:"):
            parser.error(f"unknown subject: {name}")
    return options


if __name__ == "__main__":
    sys.exit(main())
