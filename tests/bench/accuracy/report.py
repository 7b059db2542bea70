"""The results for people (table), for programs (JSON), and for BENCHMARKS.md (a section between markers)."""

import os
import platform
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from .containers import Containers
from .score import OUTCOMES, RIGHT, Score, Tally

BEGIN: Final = "<!-- accuracy: begin -->"
END: Final = "<!-- accuracy: end -->"
JSON_VERSION: Final = 1
#: the kinds of labels in words
KINDS: Final = {"host": "host", "known": "containers with a runtime's id", "sandbox": "other containers"}
MEANING: Final = (
    "Right: the container the process was in (none for the host). Unknown: said to be unknown. "
    "Missing: nothing said of a container's event. Absent: the event is not in the output. In the workload *threads* a "
    "record names the process, whose threads are in different net and uts namespaces within the time that its stamp "
    "may mean: there, and for these types alone, `?` is right."
)


@dataclass(slots=True)
class SubjectResult:
    """One subject in one pass. ``losses``: how often it told of a loss; ``reasons``: why the bar is missed."""

    version: str
    score: Score
    losses: int
    reasons: list[str]


@dataclass(slots=True)
class PassResult:
    """One pass under one condition. ``planned`` and ``audited``: actions by workload, as made and as in auditd's log;
    ``lost``: the kernel's own count of lost audit records; ``shared_pids``: pids that served several containers."""

    condition: str
    seconds: float
    planned: dict[int, int]
    audited: dict[int, int]
    lost: int
    shared_pids: int
    workloads: dict[int, str]
    subjects: dict[str, SubjectResult] = field(default_factory=dict)

    def incomplete(self) -> list[str]:
        """Workloads whose actions are not all in auditd's log: their truth is incomplete."""
        return [
            f"{self.workloads[number]}: {planned} actions made, {self.audited.get(number, 0)} audited"
            for number, planned in self.planned.items()
            if self.audited.get(number, 0) != planned
        ]


def machine() -> dict[str, str]:
    """What the figures were made on."""
    with open("/proc/cpuinfo") as text:
        models = [line.partition(":")[2].strip() for line in text if line.startswith("model name")]
    return {
        "cpu": f"{os.cpu_count()} × {models[0] if models else platform.machine()}",
        "kernel": platform.release(),
        "python": platform.python_version(),
        "runtimes": ", ".join(Containers.available()),
    }


def table(result: PassResult) -> str:
    """One pass as aligned text."""
    header = ["workload", "events"]
    rows = []
    for name, subject in result.subjects.items():
        header += [name, *OUTCOMES[1:]] + (["ns right", "ns not"] if subject.score.total.namespaces else [])
    scores = [subject.score for subject in result.subjects.values()]
    for number, name in result.workloads.items():
        if number in result.planned:
            rows.append(_row(name, [(score, score.by_workload.get(number, Tally())) for score in scores]))
    for kind, name in KINDS.items():
        rows.append(_row(f"all {name}", [(score, score.by_kind.get(kind, Tally())) for score in scores]))
    rows.append(_row("total", [(score, score.total) for score in scores]))
    return _aligned([header, *rows])


def _row(name: str, tallies: list[tuple[Score, Tally]]) -> list[str]:
    row = [name, str(max(tally.events for _, tally in tallies))]
    for score, tally in tallies:
        row += [_percent(tally.containers[RIGHT], tally.events)]
        row += [str(tally.containers[what]) for what in OUTCOMES[1:]]
        if score.total.namespaces:
            seen = tally.namespaces.total()
            row += [_percent(tally.namespaces[RIGHT], seen), str(seen - tally.namespaces[RIGHT])]
    return row


def summary(results: Iterable[PassResult]) -> str:
    """A Markdown table: one row for each condition and subject."""
    lines = [
        "| condition | subject | events | right | wrong | unknown | missing | absent | namespaces right | loss told |"
    ]
    lines.append("|---|---|--:|--:|--:|--:|--:|--:|--:|--:|")
    for result in results:
        for name, subject in result.subjects.items():
            total = subject.score.total
            counts = " | ".join(str(total.containers[what]) for what in OUTCOMES[1:])
            ns = _percent(total.namespaces[RIGHT], total.namespaces.total())
            right = _percent(total.containers[RIGHT], total.events)
            lines.append(
                f"| {result.condition} | {name} | {total.events} | {right} | {counts} | {ns} | {subject.losses} |"
            )
    return "\n".join(lines)


def by_workload(results: list[PassResult]) -> str:
    """A Markdown table: right in per cent for each workload, a column for each condition and subject."""
    columns = [(result, name) for result in results for name in result.subjects]
    lines = ["| workload | " + " | ".join(f"{name}, {result.condition}" for result, name in columns) + " |"]
    lines.append("|---|" + "--:|" * len(columns))
    for number, workload in results[0].workloads.items():
        tallies = [result.subjects[name].score.by_workload.get(number, Tally()) for result, name in columns]
        if any(tally.events for tally in tallies):
            cells = [_percent(tally.containers[RIGHT], tally.events) for tally in tallies]
            lines.append(f"| {workload} | " + " | ".join(cells) + " |")
    for kind, words in KINDS.items():
        of_kind = [result.subjects[name].score.by_kind.get(kind, Tally()) for result, name in columns]
        cells = [_percent(tally.containers[RIGHT], tally.events) for tally in of_kind]
        lines.append(f"| **all {words}** | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def section(results: list[PassResult], command: str) -> str:
    """The section of BENCHMARKS.md, markers included."""
    on = machine()
    versions = {name: subject.version for result in results for name, subject in result.subjects.items()}
    told = "; ".join(sorted(set(versions.values()) - {""}))
    return "\n\n".join(
        [
            BEGIN,
            "## Attribution accuracy",
            f"`{command}` on {on['cpu']}, Linux {on['kernel']}, Python {on['python']}; {told}; {on['runtimes']}.",
            MEANING,
            summary(results),
            "Right by workload:",
            by_workload(results),
            END,
        ]
    )


def write_section(path: Path, text: str) -> None:
    """Put ``text`` between its markers in ``path``; at the end when they are not there yet."""
    old = path.read_text() if path.exists() else ""
    before, begin, rest = old.partition(BEGIN)
    _, end, after = rest.partition(END)
    if begin and not end:
        raise ValueError(f"{path}: there is {BEGIN} without {END}")
    if not begin:
        before = old.rstrip("\n") + "\n\n" if old else ""
        after = "\n"
    path.write_text(before + text + after)


def to_json(results: Iterable[PassResult], command: str) -> dict[str, Any]:
    """Everything, with counts by workload name and outcome."""
    return {
        "v": JSON_VERSION,
        "command": command,
        "machine": machine(),
        "passes": [
            {
                "condition": result.condition,
                "seconds": round(result.seconds, 1),
                "audit_lost": result.lost,
                "shared_pids": result.shared_pids,
                "incomplete": result.incomplete(),
                "subjects": {
                    name: {
                        "version": subject.version,
                        "losses_told": subject.losses,
                        "bar_missed": subject.reasons,
                        "examples": subject.score.examples,
                        "total": _tally(subject.score.total),
                        "kinds": {kind: _tally(tally) for kind, tally in subject.score.by_kind.items()},
                        "workloads": {
                            result.workloads[number]: _tally(tally)
                            for number, tally in sorted(subject.score.by_workload.items())
                        },
                    }
                    for name, subject in result.subjects.items()
                },
            }
            for result in results
        ],
    }


def _tally(tally: Tally) -> dict[str, Any]:
    counts: dict[str, Any] = {"events": tally.events}
    counts["containers"] = {what: tally.containers[what] for what in OUTCOMES}
    if tally.namespaces:
        counts["namespaces"] = {what: tally.namespaces[what] for what in OUTCOMES}
    return counts


def _percent(part: int, whole: int) -> str:
    """Rounded down, so that 100 means all."""
    return f"{part * 1000 // whole / 10:g} %" if whole else "–"


def _aligned(rows: list[list[str]]) -> str:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    )
