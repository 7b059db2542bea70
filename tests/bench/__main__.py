"""All benchmarks of speed in one run: ``python -m tests.bench [--quick] [--only PART…] [--write]``.

Root is needed to record the input and for what is measured live. Figures are printed; --write also puts them into
BENCHMARKS.md. How right the attributions are is another command: python -m tests.bench.accuracy.
"""

import argparse
import compileall
import functools
import sys
from pathlib import Path

import auditns_connector

from . import events, follow, growth, hook, listener, live, offline, report, table

PARTS = {
    "offline": offline.bench,
    "live": live.bench,
    "listener": listener.bench,
    "follow": follow.bench,
    "events": events.bench,
    "growth": growth.bench,
    "table": table.bench,
    "hook": hook.bench,
}


def main() -> int:
    """Run the parts one after the other."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description="Benchmarks of speed.")
    parser.add_argument("--quick", action="store_true", help="small inputs, one run each: to see that it works")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS), metavar="PART", help="|".join(PARTS))
    parser.add_argument("--records", type=int, help="offline: about so many, 1,000,000 unless it is said")
    parser.add_argument(
        "--rows", nargs="+", default=[], metavar="WORD",
        help="offline: only rows with one of these in them, such as JSON or 'RAW: auditns'; not with --write",
    )  # fmt: skip
    parser.add_argument("--write", action="store_true", help="put the results into BENCHMARKS.md")
    args = parser.parse_args()
    if args.write and args.rows:
        parser.error("a section of BENCHMARKS.md has all rows")
    # as pip leaves what it installs; where the environment keeps Python from it, each start would compile all anew
    compileall.compile_dir(Path(auditns_connector.__file__).parent, quiet=1)
    command = "python -m tests.bench" + (" --quick" if args.quick else "")
    parts = PARTS | {"offline": functools.partial(offline.bench, records=args.records, words=args.rows)}
    if args.records:
        command += f" --records {args.records}"
    for name in args.only:
        text = f"{parts[name](args.quick)}\n\n`{command} --only {name}`; {report.machine()}."
        print(f"\n{text}\n", flush=True)
        if args.write:
            report.write_section(f"speed {name}", text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
