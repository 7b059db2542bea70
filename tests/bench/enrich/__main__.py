"""Compare the enrichment of one recorded log: ``python -m tests.bench.enrich [--repeat N] [--records N]``.

Ours, LAUREL (Debian package), auparse from Python, and a C getline loop as the limit, in turns, in one run.
CPU seconds are user and system of the whole process; medians. Root is needed to record the corpus.
"""

import argparse
import os
import pwd
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from .corpus import corpus, folder, pids

HERE = Path(__file__).parent
LAUREL = """\
directory = "{out}"
user = "{user}"
statusreport-period = 0
[auditlog]
file = "audit.log"
size = 5000000000
generations = 1
[transform]
execve-argv = [ "array" ]
[translate]
universal = false
user-db = false
[enrich]
pid = true
execve-env = [ "LD_PRELOAD", "LD_LIBRARY_PATH" ]
container = true
script = true
"""


def count(log: Path) -> int:
    """Lines of a file, without taking it into memory (a child's peak RSS begins with ours)."""
    with open(log, "rb") as text:
        return sum(block.count(b"\n") for block in iter(lambda: text.read(1 << 20), b""))


class Result(NamedTuple):
    """One run of one program."""

    cpu: float
    wall: float
    rss: int


def run(command: list[str], stdin: Path | None) -> Result:
    """Run it with its output thrown away and account for it."""
    with open(stdin or os.devnull, "rb") as source, open(os.devnull, "wb") as sink:
        start = time.perf_counter()
        child = subprocess.Popen(command, stdin=source, stdout=sink, stderr=subprocess.PIPE, cwd=HERE.parents[2])
        errors = child.stderr.read() if child.stderr else b""
        _, status, usage = os.wait4(child.pid, 0)
        wall = time.perf_counter() - start
        child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise SystemExit(f"{command[0]} failed ({child.returncode}): {errors.decode(errors='replace')}")
    return Result(usage.ru_utime + usage.ru_stime, wall, usage.ru_maxrss)


def programs(log: Path, work: Path) -> dict[str, tuple[list[str], Path | None]]:
    """Name -> (command, stdin); what is not installed is left out, and said."""
    listed = work / "pids"
    listed.write_text("".join(f"{pid}\n" for pid in pids(log)))
    found: dict[str, tuple[list[str], Path | None]] = {
        "ours, raw": ([sys.executable, str(HERE / "ours.py"), str(log), str(listed)], None),
    }
    if shutil.which("gcc"):
        subprocess.run(["gcc", "-O2", "-o", work / "getline", HERE / "getline.c"], check=True)
        found["C getline loop"] = ([str(work / "getline")], log)
    laurel = shutil.which("laurel") or "/usr/sbin/laurel"
    if Path(laurel).exists():
        out = work / "laurel"
        out.mkdir()
        conf = work / "laurel.toml"
        conf.write_text(LAUREL.format(out=out, user=pwd.getpwuid(os.geteuid()).pw_name))
        found["LAUREL"] = ([laurel, "--config", str(conf)], log)
    python = "/usr/bin/python3"
    if Path(python).exists() and not subprocess.run([python, "-c", "import auparse"], capture_output=True).returncode:
        found["auparse, Python"] = ([python, str(HERE / "auparse_loop.py"), str(log)], None)
    for name in ("C getline loop", "LAUREL", "auparse, Python"):
        if name not in found:
            print(f"left out, not installed: {name}", file=sys.stderr)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--records", type=int, default=500_000)
    parser.add_argument("--format", choices=["RAW", "ENRICHED"], default="RAW")
    options = parser.parse_args()
    log = corpus(options.format, options.records)
    records = count(log)
    with tempfile.TemporaryDirectory(dir=folder()) as work:
        compared = programs(log, Path(work))
        results: dict[str, list[Result]] = {name: [] for name in compared}
        for _ in range(options.repeat):
            for name, (command, stdin) in compared.items():
                results[name].append(run(command, stdin))
    print(f"{records} records, {log.stat().st_size / 1e6:.0f} MB, {options.format}, median of {options.repeat}")
    print(
        f"{'program':20} {'CPU s':>8} {'spread':>15} {'records/CPU s':>14} {'x LAUREL':>9} {'wall s':>7} {'RSS MB':>7}"
    )
    base = statistics.median(r.cpu for r in results["LAUREL"]) if "LAUREL" in results else None
    for name, runs in results.items():
        cpu = statistics.median(r.cpu for r in runs)
        spread = f"{min(r.cpu for r in runs):.3f}–{max(r.cpu for r in runs):.3f}"
        wall = statistics.median(r.wall for r in runs)
        ratio = f"{base / cpu:.1f}" if base else "-"
        rss = max(r.rss for r in runs) / 1024
        print(f"{name:20} {cpu:8.3f} {spread:>15} {records / cpu:14.0f} {ratio:>9} {wall:7.2f} {rss:7.1f}")


if __name__ == "__main__":
    main()
