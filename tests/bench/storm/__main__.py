"""What a storm does to audit: ``python -m tests.bench.storm`` (root; takes the machine's audit for itself meanwhile).

An ordinary user forks, execs or makes namespaces as fast as twelve processes can, beside 600 audit messages a second
and a workload of the host and of containers whose every action tells where it happened. Each storm runs three times:
under plain auditd with a plugin that only copies (the control), with our plugin, and with our listener beside it.

    python -m tests.bench.storm --quick                            short, few processes, two storms
    python -m tests.bench.storm --storms userpid,all --subjects control,plugin
    python -m tests.bench.storm --write                            all of it, into BENCHMARKS.md (half an hour)
    python -m tests.bench.storm --storms uts --rows FILE --write   a piece of it; the table is of all pieces in FILE

Exit status 0: no answer was wrong and nothing is missing untold; 1: otherwise; 3: not possible here.
"""

import argparse
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from tests.bench import report
from tests.bench.accuracy.auditd import NotPossibleError
from tests.bench.accuracy.run import build_truth
from tests.kernel.support import kernel_lock

from . import load
from .run import PROGRAMS, Pass, Result, Timing

_LOCK_WAIT: Final = 3600.0
_HEADER: Final = (
    "storm: program", "done", "failed", "auditd's log", "ours", "untold", "wrong", "unknown", "answer p99 s",
    "status s, most", "MiB idle", "in the storm", "later", "caught up s", "SIGTERM s",
)  # fmt: skip
_ABOUT: Final = (
    "auditd's log: share of the messages and of the workload's actions that is in it (in brackets what the kernel "
    "counts as lost). ours: how much of that is in our output; untold: what neither is there nor lies between serials "
    "that a CONTAINER_LOST names. Wrong: another container, or none for an action of a container; unknown: in brackets "
    "those that no loss that was told explains. Answer: on a control "
    "connection that stays open, by one who need not wait for a CPU; status: the command. MiB: anonymous memory. "
    "Caught up: from the end of the storm to "
    "the first event of afterwards in our output. A storm of which more than 1 % failed does not count: †."
)


def row(result: Result) -> list[str]:
    """One line of the table."""
    mark = "" if result.stormed.counts else " †"
    name = f"{result.storm}: {result.subject}{mark}"
    lost = f" ({result.lost_by_kernel})" if result.lost_by_kernel else ""
    line = [name, f"{result.stormed.done:,}", str(result.stormed.failed), f"{100 * result.logged:.2f} %{lost}"]
    outcome = result.outcome
    if outcome is None:
        return [*line, *["–"] * (len(_HEADER) - len(line))]
    share = 100 * outcome.here / outcome.events if outcome.events else 0.0
    times = [
        f"{_quantile(result.answers):.3f}",
        f"{max(result.commands, default=float('nan')):.2f}",
        *(f"{part:.0f}" for part in result.memory),
        *("never" if part is None else f"{part:.2f}" for part in (result.caught_up, result.ended)),
    ]
    return [
        *line,
        f"{share:.2f} %",
        str(outcome.untold),
        str(outcome.wrong),
        _of(outcome.unexplained, outcome.unknown),
        *times,
    ]


def _of(some: int, number: int) -> str:
    return f"{number} ({some})" if number else "0"


def _quantile(values: list[float], part: float = 0.99) -> float:
    return sorted(values)[min(len(values) - 1, int(part * len(values)))] if values else float("nan")


def good(result: Result) -> bool:
    """Whether nothing is wrong and nothing is missing untold."""
    return result.outcome is None or not (result.outcome.wrong or result.outcome.untold)


def run(names: list[str], subjects: list[str], count: int, live: int, timing: Timing) -> list[Result]:
    """Every storm with every subject."""
    if os.geteuid() != 0:
        raise NotPossibleError("needs root: it runs auditd and containers")
    for tool in ("auditd", "auditctl", "gcc"):
        if shutil.which(tool) is None:
            raise NotPossibleError(f"needs {tool}")
    results: list[Result] = []
    with tempfile.TemporaryDirectory(prefix="storm-", ignore_cleanup_errors=True) as place:
        top = Path(place)
        top.chmod(0o755)  # the ordinary user's programs lie there
        truth, program = build_truth(top), load.build(top)
        for name in names:
            for subject in subjects:
                folder, state = top / f"{name}-{subject}", top / f"s{len(results)}"
                state.mkdir()
                with kernel_lock(_LOCK_WAIT):
                    one = Pass(folder, state, truth, program, timing)
                    result = one.go(name, load.storms(count, live)[name], live, PROGRAMS[subject]())
                results.append(result)
                print(" | ".join(row(result)), file=sys.stderr, flush=True)
                for example in result.outcome.examples if result.outcome else ():
                    print(f"  {example}", file=sys.stderr)
                shutil.rmtree(folder, ignore_errors=True)
    return results


def keep(path: Path, rows: list[list[str]]) -> list[list[str]]:
    """Put ``rows`` into the file, in the place of former ones of the same storm and program; all that it has then, in
    the order of storms and programs."""
    former = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    known = {one[0].removesuffix(" †"): one for one in [*former, *rows]}
    order = [f"{storm}: {program}" for storm in load.storms(1, load.LIVE) for program in PROGRAMS]
    found = [known[name] for name in order if name in known]
    path.write_text("".join(f"{json.dumps(one)}\n" for one in found))
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """Parse, run, print."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.storm", description="What a storm does to audit.")
    parser.add_argument("--quick", action="store_true", help="short storms of few processes: to see that it works")
    parser.add_argument("--storms", metavar="A,B", default="", help=", ".join(load.storms(1, load.LIVE)))
    parser.add_argument("--subjects", metavar="A,B", default=",".join(PROGRAMS), help=", ".join(PROGRAMS))
    parser.add_argument("--processes", type=int, default=0, metavar="N", help="of each storm (12; with --quick 4)")
    parser.add_argument("--seconds", type=float, default=0.0, metavar="S", help="of each storm (14; with --quick 3)")
    parser.add_argument("--later", type=float, default=0.0, metavar="S", help="from its end to the second look (60; 5)")
    parser.add_argument("--write", action="store_true", help="put the table into BENCHMARKS.md")
    parser.add_argument("--rows", metavar="FILE", type=Path, help="add the rows to FILE; the table is of all in it")
    options = parser.parse_args(argv)
    quick = options.quick
    live = load.LIVE // 20 if quick else load.LIVE
    count = options.processes or (4 if quick else 12)
    storms = load.storms(count, live)
    names = options.storms.split(",") if options.storms else ["userpid", "all"] if quick else list(storms)
    subjects = options.subjects.split(",")
    for wanted, known in ((names, storms), (subjects, PROGRAMS)):
        for name in wanted:
            if name not in known:
                parser.error(f"unknown: {name}; there are {', '.join(known)}")
    timing = Timing(options.seconds or (3.0 if quick else 14.0), options.later or (5.0 if quick else 60.0))
    try:
        results = run(names, subjects, count, live, timing)
    except NotPossibleError as error:
        print(f"storm: {error}", file=sys.stderr)
        return 3
    rows = [row(result) for result in results]
    if options.rows:
        rows = keep(options.rows, rows)
        names = [name for name in storms if any(one[0].startswith(f"{name}: ") for one in rows)]
    what = "; ".join(f"{name}: {storms[name].about}" for name in names)
    head = f"{count} processes for {timing.storm:g} s, {load.RATE} messages a second. {what}."
    command = "python -m tests.bench.storm" + (" --quick" if quick else "")
    text = "\n\n".join(
        ["## Storms", f"{head} {_ABOUT}", report.table(_HEADER, rows), f"`{command}`; {report.machine()}."]
    )
    print(f"\n{text}\n")
    if options.write:
        report.write_section("storms", text)
    return 0 if all(map(good, results)) else 1


if __name__ == "__main__":
    sys.exit(main())
