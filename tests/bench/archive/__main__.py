"""``python -m tests.bench.archive [--records N] [--write]``: seal a large corpus and ask it.

Root is needed once, to record the workloads. The corpus is made in --folder and removed at the end, or it stays
with the archive in --keep DIR: a run that finds them there only asks.
"""

import argparse
import json
import random
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from auditns_connector.archive.reader import Archive
from auditns_connector.cli.main import build_parser
from auditns_connector.cli.query_options import options_of
from auditns_connector.query.answers import LogAnswers
from auditns_connector.query.archived import wanted_of
from auditns_connector.query.asked import Asked
from auditns_connector.query.names import Names
from tests.bench import report

from . import others
from .measure import Measured, measured
from .workloads import WORKLOADS, recordings

MILLION = 1_000_000


def main() -> int:
    """One run."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.archive")
    parser.add_argument("--records", type=int, default=100 * MILLION, metavar="N", help="records of the kernel's")
    parser.add_argument("--folder", default="/var/tmp", help="where there is room for text and archive")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="corpus and archive stay there; only asked if they do")
    parser.add_argument(
        "--duckdb", type=float, default=0.1, metavar="SHARE", help="of the text, for DuckDB; 0: without"
    )
    parser.add_argument("--record", action="store_true", help="record the workloads, and end")
    parser.add_argument("--write", action="store_true", help="put the results into BENCHMARKS.md")
    args = parser.parse_args()
    recordings()
    if args.record:
        return 0
    folder = args.keep or Path(tempfile.mkdtemp(prefix="auditns-archive-", dir=args.folder))
    try:
        text = bench(folder, args.records, args.duckdb)
    finally:
        if not args.keep:
            shutil.rmtree(folder)
    text += f"\n\n`python -m tests.bench.archive --records {args.records}`; {report.machine()}."
    print(text)
    if args.write:
        report.write_section("speed archive", text)
    return 0


def sealed(folder: Path, records: int) -> tuple[dict[str, Any], Measured]:
    """The corpus, its archive beside it, and what sealing took. A child makes the corpus: sealing is measured alone."""
    about = folder / "sealed.json"
    if not about.exists():
        folder.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "tests.bench.archive.corpus", str(folder), str(records)]
        corpus = json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)
        archive = str(folder / "archive")
        sealing = measured([*_auditns(), "archive", "seal", "--keep", "--archive", archive, *corpus["files"]])
        about.write_text(json.dumps({"corpus": corpus, "sealing": sealing}))
    said = json.loads(about.read_text())
    return said["corpus"], Measured(*said["sealing"])


def bench(folder: Path, records: int, share: float) -> str:
    """The corpus, the archive, the questions. What is large is made by a child: the peak of each begins with ours."""
    corpus, sealing = sealed(folder, records)
    print(f"sealed: {sealing}", file=sys.stderr, flush=True)
    files = [Path(path) for path in corpus["files"]]
    size = sum(path.stat().st_size for path in files)
    archive = str(folder / "archive")
    about = _sealing(archive, sealing, corpus["records"], size)
    values = _values(archive)
    rows = [
        (name, *_figures(measured([*_auditns(), *words, "--archive", archive], runs=3)), note)
        for name, words, note in _questions(archive, values)
    ]
    text = [
        "## The archive",
        _corpus(corpus, size),
        about,
        report.table(("question, warm, output to a file", "wall s", "CPU s", "MiB", "output MB", "blocks read"), rows),
        report.table(
            ("otherwise", "wall s", "CPU s", "MiB", "output MB", ""), _otherwise(folder, files, values, share)
        ),
    ]
    return "\n\n".join(text)


def _corpus(corpus: dict[str, Any], size: int) -> str:
    return (
        f"{corpus['records'] / MILLION:.1f} million records of {len(WORKLOADS)} recorded workloads in "
        f"{corpus['containers']} containers, {corpus['lines'] / MILLION:.1f} million lines with ours, "
        f"{size / 1e9:.2f} GB."
    )


def _auditns() -> list[str]:
    return [sys.executable, "-m", "auditns_connector.cli.main"]


def _sealing(archive: str, sealing: Measured, records: int, size: int) -> str:
    with Archive(archive) as opened:
        rows = opened.segments()
        packed = sum(row.bytes for row in rows)
        index = 0
        for row in rows:
            segment = opened._segment(row.seq)
            assert segment is not None
            assert segment.trailer is not None
            index += segment.trailer.index_size + segment.trailer.about_size
            index += sum(segment.entry(i).table for i in range(segment.blocks))
    index += (Path(archive) / "catalogue.sqlite").stat().st_size
    return (
        f"Sealing: {sealing.cpu / records * MILLION:.2f} CPU s per million records, {sealing.memory:.0f} MiB; "
        f"{len(rows)} segments, {packed / size:.1%} of the text, of it index, places of events and catalogue "
        f"{index / size:.2%}."
    )


def _values(archive: str) -> dict[str, str]:
    """Values to ask for: some of each kind that stand in few and in more blocks."""
    rng = random.Random(2)
    with Archive(archive) as opened:
        rows = sorted((row for row in opened.containers() if row.kind == "container"), key=lambda row: row.events)
        jobs = [row for row in rows if row.events < 5000]
        wanted = {"path": re.compile(rb' name="(/srv/[^"/]+/[^"]+)"'), "pid": re.compile(rb" pid=(\d+) ")}
        wanted["saddr"] = re.compile(rb"(saddr=0200....[0-9A-F]{8})")
        found: dict[str, bytes] = {}
        for refs in opened.candidates():
            for block in filter(None, map(opened.read_block, rng.sample(refs, len(refs)))):
                for name in wanted.keys() - found.keys():
                    values = wanted[name].findall(block.text)
                    if values:
                        found[name] = rng.choice(values)
                if len(found) == len(wanted):
                    break
            if len(found) == len(wanted):
                break
    address = bytes.fromhex(found["saddr"][-8:].decode())
    return {
        "life": rows[-1].contid,
        "job": rng.choice(jobs).contid,
        "path": found["path"].decode(),
        "pid": found["pid"].decode(),
        "addr": ".".join(map(str, address)),
        "middle": str((rows[-1].first_ms + rows[-1].last_ms) // 2000),
    }


def _questions(archive: str, values: dict[str, str]) -> list[tuple[str, list[str], str]]:
    """What is asked, by which command, and how many blocks its index leaves."""
    minutes = ["--since", f"@{values['middle']}", "--until", f"@{int(values['middle']) + 120}"]
    conditions = [
        ("whole life of the busiest container", ["--contid", values["life"]]),
        ("whole life of a job", ["--contid", values["job"]]),
        ("two minutes of the busiest container", ["--contid", values["life"], *minutes]),
        (f"path {values['path']}", ["--file", values["path"]]),
        (f"pid {values['pid']}", ["--pid", values["pid"]]),
        (f"address {values['addr']}", ["--addr", values["addr"]]),
        ("key id, of few", ["--key", "id"]),
        ("a path that is nowhere", ["--file", "/absent/value"]),
        ("a pid that is nowhere", ["--pid", "99999999"]),
        ("key open, which is everywhere", ["--key", "open"]),
    ]
    found = [(name, ["search", *words], _blocks(archive, words)) for name, words in conditions]
    return [*found, ("all containers", ["containers"], ""), ("report, of aggregates", ["report"], "")]


def _blocks(archive: str, words: list[str]) -> str:
    args = build_parser("search").parse_args(["search", *words])
    answers = LogAnswers(Names())
    wanted = wanted_of(Asked(options_of(args), answers), named=True)
    with Archive(archive) as opened:
        total = sum(row.blocks for row in opened.segments())
        return f"{sum(len(refs) for refs in opened.candidates(wanted))} of {total}"


def _figures(one: Measured) -> tuple[str, str, str, str]:
    return f"{one.wall:.2f}", f"{one.cpu:.2f}", f"{one.memory:.0f}", f"{one.output / 1e6:.1f}"


def _otherwise(folder: Path, files: list[Path], values: dict[str, str], share: float) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = [("grep, the path", *_figures(others.grep(files, values["path"])), "")]
    percent = folder / "percent.log"
    want = sum(path.stat().st_size for path in files) // 100
    with open(files[0], "rb") as text:
        percent.write_bytes(text.read(want))
    found = others.ausearch(percent, values["path"], 60)
    shown = ("> 60", "", "", "") if found is None else _figures(found)
    rows.append(("ausearch, the path, in 1 % of the text", *shown, ""))
    if share:
        some = files[: max(int(len(files) * share), 1)]
        said = f"{len(some)} of {len(files)} files"
        for name, one in others.duckdb(sys.executable, some, folder, values).items():
            rows.append((f"DuckDB, {name}", *_figures(one), said))
    return rows


if __name__ == "__main__":
    sys.exit(main())
