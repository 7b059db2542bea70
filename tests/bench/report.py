"""Tables, and sections of BENCHMARKS.md between their markers."""

import os
import platform
import statistics
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from tests import peers

FILE: Final = Path(__file__).parents[2] / "BENCHMARKS.md"


def machine() -> str:
    """What the figures were made on, in one sentence."""
    with open("/proc/cpuinfo") as text:
        models = [line.partition(":")[2].strip() for line in text if line.startswith("model name")]
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, cwd=FILE.parent, check=False
    ).stdout.strip()
    programs = ", ".join((platform.python_version(), _versions("laurel"), _versions("auditd")))
    return (
        f"{os.cpu_count()} × {models[0] if models else platform.machine()}, Linux {platform.release()}, "
        f"Python {programs}, commit {commit or 'unknown'}"
    )


def _versions(program: str) -> str:
    return ", ".join(peer.title for peer in peers.versions(program)) or f"no {program}"


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table; the first column is text, the others are figures."""
    lines = ["| " + " | ".join(header) + " |", "|---|" + "--:|" * (len(header) - 1)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


def spread(values: Sequence[float], digits: int = 2) -> str:
    """median (least–most)"""
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f}–{max(values):.{digits}f})"


def write_section(name: str, text: str, path: Path = FILE) -> None:
    """Put ``text`` between the markers of ``name``; at the end of the file where they are not there yet."""
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    old = path.read_text() if path.exists() else "# Benchmarks\n"
    before, found, rest = old.partition(begin)
    _, closed, after = rest.partition(end)
    if found and not closed:
        raise ValueError(f"{path}: there is {begin} without {end}")
    if not found:
        before, after = old.rstrip("\n") + "\n\n", "\n"
    path.write_text(f"{before}{begin}\n\n{text}\n\n{end}{after}")
