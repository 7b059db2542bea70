"""Do the audit tools still read a log as they did, once our records are in it?

    python -m tests.compare [--brief] [--record-names auto|symbolic|numeric] [--placement event|apart] LOG…

For each LOG (of anybody: it is only read) and each version of the tools (the installed one, and the newest that ``make
peers`` has fetched) it prints one line for each view of ausearch, aureport and auparse: how many rows of the original
log are missing or changed, how many rows of csv and text are of kernel events without a SYSCALL (which no placement
inside the event keeps), and how many rows are new.
"""

import argparse
import contextlib
import re
import subprocess
import sys
import tempfile
from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from auditns_connector.attribution.attributor import Correlator
from auditns_connector.audittext.scanner import InsertionPoints, TextStream
from auditns_connector.emit.spelling import APART, choose, stands_apart
from auditns_connector.model.apply.dispatch import Model
from auditns_connector.pipeline.text_stage import NUMERIC, RAW, Enricher
from tests import peers

ENVIRONMENT: Final = {"LC_ALL": "C.UTF-8", "TZ": "UTC", "PATH": "/usr/sbin:/sbin:/usr/bin:/bin"}
DUMP: Final = Path(__file__).with_name("auparse_dump.py")
OURS: Final = re.compile(r"(node=\S+ )?type=(CONTAINER_\w+|NS_\w+|UNKNOWN\[134[0-7]\]) ")
#: ausearch: how it shows events
SHOWN: Final[dict[str, tuple[str, ...]]] = {"default": (), "-i": ("-i",), "--raw": ("--raw",)}
#: ausearch: one row for each event
ROWS: Final[dict[str, tuple[str, ...]]] = {"csv": ("--format", "csv"), "text": ("--format", "text")}
REPORTS: Final = ("-e", "-m", "-x", "-l", "-u", "-au", "-f", "-s", "-k")
SUMMARIES: Final = ("-e", "-m", "-x", "-l", "-u", "-au", "-f", "-s", "-k")
#: lines of a report that say when and how much, not what
_FRAME: Final = ("Range of time", "Selected time", "Number of events:")


class Tools(NamedTuple):
    """One version of the audit tools; ``newest``: the one that ``make peers`` has fetched, else the installed one."""

    newest: bool
    version: str

    def run(self, *command: str) -> str:
        """The output of one of them; nothing where it finds nothing."""
        program = peers.newest(command[0]) if self.newest else peers.installed(command[0])
        command = (str(program.path), *command[1:])
        done = subprocess.run(command, capture_output=True, stdin=subprocess.DEVNULL, env=ENVIRONMENT)
        if done.returncode not in (0, 1) or b"sage:" in done.stderr:
            raise RuntimeError(f"{' '.join(command)}: {done.returncode}: {done.stderr.decode(errors='replace')}")
        return done.stdout.decode("latin-1")

    def dump(self, log: Path) -> str:
        """What its auparse makes of a log."""
        command = [sys.executable, "-I", str(DUMP), str(log)]
        if self.newest:
            libraries = next((peers.folder() / "root/usr/lib").glob("*-linux-gnu"))
            command = [str(next(libraries.glob("ld-linux*"))), "--library-path", str(libraries), *command]
        done = subprocess.run(command, capture_output=True, check=True, env=ENVIRONMENT)
        return done.stdout.decode()


def tools(*, newest: bool = False) -> Tools:
    """The tools that are installed, or the newest that were fetched. Raises :class:`peers.NotHereError`."""
    get = peers.newest if newest else peers.installed
    get("aureport")
    return Tools(newest, get("ausearch").version)


def versions() -> list[Tools]:
    """Those that are here and differ."""
    found: dict[str, Tools] = {}
    for newest in (False, True):
        with contextlib.suppress(peers.NotHereError):
            tool = tools(newest=newest)
            found.setdefault(tool.version, tool)
    return list(found.values())


class Enriched(NamedTuple):
    """A log with our records in it, how many, and the serials of the events that no place in them keeps whole."""

    text: bytes
    records: int
    lone: frozenset[str]


def enriched(text: bytes, names: str, placement: str, version: str) -> Enriched:
    """The text by the whole way of the product, on a host that knows no process: every event has a record of ours."""
    spelling = choose(names, version)
    correlator = Correlator(Model(), spellings=(spelling.numeric,))
    enricher = Enricher(
        correlator, [NUMERIC if spelling.numeric else RAW], apart=placement == APART, at_end=spelling.at_end
    )
    source = TextStream(whole=enricher.whole, patient=True, at_end=enricher.at_end)
    out, lone, records = [], set(), 0

    def answer(points: InsertionPoints) -> "array[int]":
        nonlocal records
        choice = correlator.answer(points, 1)
        records += sum(map(bool, choice))
        lone.update(str(points.serial[i]) for i in range(points.n) if choice[i] and stands_apart(points, i))
        return choice

    for start in range(0, len(text), 1 << 20):
        out += enricher.take(source.push(text[start : start + (1 << 20)]), answer).values()
    out += enricher.take(source.flush(eof=True), answer).values()
    return Enriched(b"".join(out), records, frozenset(lone))


def views(tool: Tools, log: Path) -> Iterator[tuple[str, list[str]]]:
    """Name and rows of each view, less what is of our records alone."""
    for name, options in SHOWN.items():
        found = tool.run("ausearch", "-if", str(log), *options)
        yield f"ausearch {name}", _events(found) if name != "--raw" else _lines(found)
    for name, options in ROWS.items():
        yield f"ausearch {name}", tool.run("ausearch", "-if", str(log), *options).splitlines()
    for report in REPORTS:
        yield f"aureport {report}", _report(tool.run("aureport", "-if", str(log), report))
    for report in ("", *SUMMARIES):
        command = [word for word in ("aureport", "-if", str(log), report, "--summary") if word]
        yield f"aureport {report} --summary", _report(tool.run(*command))
    yield "auparse", [event for event in map(_less_ours, tool.dump(log).split("\n\n")) if event]


def _lines(text: str) -> list[str]:
    return [line.removesuffix("\x1d") for line in text.splitlines() if not OURS.match(line)]


def _events(text: str) -> list[str]:
    found = []
    for block in text.split("----\n"):
        lines = _lines(block)
        if any("type=" in line for line in lines):
            found.append("\n".join(lines))
    return found


def _less_ours(event: str) -> str:
    return "\n".join(line for line in event.splitlines() if not OURS.match(line.partition("'")[2] + " "))


def _report(text: str) -> list[str]:
    lines = [re.sub(r"^[0-9]+\. ", "", line).strip() for line in text.splitlines()]
    return [line for line in lines if line and not line.startswith(_FRAME)]


class Found(NamedTuple):
    """One view: original rows that are missing, those of them that no place keeps, rows that are new."""

    view: str
    missing: list[str]
    excepted: int
    new: list[str]


def compare(text: bytes, tool: Tools, folder: Path, names: str = "auto", placement: str = "event") -> list[Found]:
    """Each view of ``text`` and of the same with our records, by one version of the tools."""
    after = enriched(text, names, placement, tool.version)
    (folder / "before").write_bytes(text)
    (folder / "after").write_bytes(after.text)
    found = []
    for (view, before), (_, now) in zip(views(tool, folder / "before"), views(tool, folder / "after"), strict=True):
        missing = list((Counter(before) - Counter(now)).elements())
        new = list((Counter(now) - Counter(before)).elements())
        excepted = 0
        if placement != APART and view == "ausearch csv":
            kept = [row for row in missing if row.split(",")[4:5] and row.split(",")[4] not in after.lone]
            excepted, missing = len(missing) - len(kept), kept
        elif placement != APART and view == "ausearch text":  # its rows name no serial
            excepted, missing = min(len(missing), len(after.lone)), missing[len(after.lone) :]
        found.append(Found(view, missing, excepted, new))
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """Print the comparison; 1 where an original row is missing without an exception."""
    parser = argparse.ArgumentParser(prog="python -m tests.compare", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("logs", nargs="+", type=Path, metavar="LOG")
    parser.add_argument("--record-names", choices=("auto", "symbolic", "numeric"), default="auto")
    parser.add_argument("--placement", choices=("event", "apart"), default="event")
    parser.add_argument("--show", action="store_true", help="also print what is missing")
    parser.add_argument("--brief", action="store_true", help="one line for each log, and views with missing rows")
    args = parser.parse_args(argv)
    here, failed = versions(), 0
    if not here:
        parser.error("no audit tools are here")
    for log in args.logs:
        for tool in here:
            with tempfile.TemporaryDirectory(prefix="auditns-compare-") as folder:
                found = compare(log.read_bytes(), tool, Path(folder), args.record_names, args.placement)
            missing = sum(len(one.missing) for one in found)
            failed += missing
            for one in found:
                if args.brief and not one.missing:
                    continue
                counts = f"{len(one.missing)} missing, {one.excepted} excepted, {len(one.new)} new"
                print(f"{log.name} {tool.version} {one.view}: {counts}")
                for row in one.missing if args.show else ():
                    print(f"    {row}")
            if args.brief:
                print(f"{log.name} {tool.version}: {len(found)} views, {missing} rows missing")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
