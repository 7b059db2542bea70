"""Our JSON held against what another reader makes of the same log: no event, record or field is lost or merged.

    python -m tests.compare_json LOG… [--reader laurel] [--reader auparse] [--show N]

Exit code 1 where something is missing of ours. A value written otherwise (hexadecimal with 0x, a mode in octal) is
the same; one that differs is counted and shown, for readers decode some fields differently.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

Records = dict[str, list[dict[str, Any]]]
Key = tuple[str, str]
AUPARSE = r"""
import auparse, json, sys
for path in sys.argv[1:]:
    a = auparse.AuParser(auparse.AUSOURCE_FILE, path)
    while a.parse_next_event():
        stamp = a.get_timestamp()
        a.first_record()
        records = []
        while True:
            a.first_field()
            fields = []
            while True:
                fields.append([a.get_field_name(), a.get_field_str()])
                if not a.next_field():
                    break
            try:
                records.append([a.get_type_name(), fields])
            except LookupError:  # a type that it has no name for
                pass
            if not a.next_record():
                break
        print(json.dumps([f"{stamp.sec}.{stamp.milli:03d}:{stamp.serial}", stamp.host or "", records]))
"""
#: what auparse calls otherwise, or makes of more than one field
_THEIRS = {"type", "node", "seperm", "seresult", "argc"}
#: what LAUREL finds out about processes by itself
_ADDED = {"PID", "PPID", "OPID", "SCRIPT", "ENV", "CONTAINER_INFO"}


def ours(logs: list[Path]) -> dict[Key, Records]:
    """What ``auditns enrich --format json`` says of each event."""
    demo = Path(__file__).parent / "golden" / "demo" / "run.journal"
    command = [sys.executable, "-m", "auditns_connector.cli.main", "enrich", "--format", "json", "--journal", str(demo)]
    done = subprocess.run([*command, *map(str, logs)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True)
    found: dict[Key, Records] = {}
    for line in done.stdout.splitlines():
        event = json.loads(line)
        if "records" not in event:
            continue
        records = found.setdefault((f"{event['time']}:{event['serial']}", event.get("node", "")), defaultdict(list))
        for record in event["records"]:
            records[record.pop("type")].append(record)
    return found


def laurel(logs: list[Path]) -> Iterator[tuple[Key, Records]]:
    """What LAUREL says, its names taken back to those of the log."""
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder, "laurel.toml")
        config.write_text(f'directory = "{folder}"\n[auditlog]\nfile = "out"\nsize = {1 << 40}\n', encoding="utf-8")
        text = b"".join(log.read_bytes() for log in logs)
        subprocess.run(
            ["laurel", "--config", str(config)], input=text, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            check=True,
        )  # fmt: skip
        for line in Path(folder, "out").read_text(encoding="utf-8").splitlines():
            event = json.loads(line)
            key = event.pop("ID"), event.pop("NODE", "")
            if set(event.get("CONTAINER_INFO", ())) <= {"ID"}:  # no record: it has looked at the process's cgroup
                event.pop("CONTAINER_INFO", None)
            yield key, {kind: _laurel(kind, some) for kind, some in event.items() if isinstance(some, dict | list)}


def _laurel(kind: str, some: Any) -> list[dict[str, Any]]:
    records = [dict(record) for record in (some if isinstance(some, list) else [some])]
    for record in records:
        for name in _ADDED:
            record.pop(name, None)
        argv = record.pop("ARGV", None)
        if argv is None:
            continue
        if kind == "SYSCALL":
            record |= {f"a{i}": value for i, value in enumerate(argv)}
        elif kind == "PROCTITLE":
            record["proctitle"] = " ".join(argv)
        else:
            record["argv"] = argv
    return records


def auparse(logs: list[Path]) -> Iterator[tuple[Key, Records]]:
    """What auparse says: names of fields, and values as they stand in the log."""
    done = subprocess.run(
        ["/usr/bin/python3", "-c", AUPARSE, *map(str, logs)], stdout=subprocess.PIPE, check=True, text=True
    )
    for line in done.stdout.splitlines():
        stamp, host, read = json.loads(line)
        records: Records = defaultdict(list)
        for kind, fields in read:
            if kind != "EOE":
                records[kind].append({name: value for name, value in fields if name not in _THEIRS})
        yield (stamp, host), records


def plain(value: Any) -> str:
    """A value however it is written: LAUREL has % for what is no text, and objects as in the log."""
    if isinstance(value, dict):
        value = "{ " + " ".join(f"{name}={what}" for name, what in value.items()) + " }"
    if isinstance(value, list):
        value = " ".join("" if one is None else str(one) for one in value)
    text = unquote(str(value)).replace("{ ", "{").replace(" }", "}")
    if re.fullmatch(r"0[xo][0-9A-Fa-f]+", text):
        text = text[2:]
    return text.strip('"').lstrip("0").lower() or "0"


def lookup(record: dict[str, Any], name: str) -> Any:
    """Our value of a field of theirs; raises :class:`KeyError` where it is missing."""
    if name in record:
        return record[name]
    argument = re.fullmatch(r"a(\d+)(?:\[\d+\])?", name)
    if argument and "argv" in record:
        return record["argv"][int(argument[1])]
    if "msg" in record and f"{name}=" in str(record["msg"]):
        return None  # what a user's record says is one string with us
    if name.lower() in ("text", "msg") or name in record.get("text", ""):
        return None
    return record["enriched"][name]


def compare(theirs: Iterator[tuple[Key, Records]], mine: dict[Key, Records]) -> tuple[Counter[str], list[str]]:
    """How much was compared, and what is missing or differs."""
    counts: Counter[str] = Counter()
    told: list[str] = []
    for key, records in theirs:
        counts["events"] += 1
        if key not in mine:
            counts["missing"] += 1
            told.append(f"{key[0]}: no event")
            continue
        for kind, some in records.items():
            have = mine[key].get(kind, [])
            for i, record in enumerate(some):
                counts["records"] += 1
                if kind == "EXECVE" and have:  # one record has the arguments of all
                    i = 0
                if i >= len(have):
                    counts["missing"] += 1
                    told.append(f"{key[0]}: {kind} number {i + 1} is missing")
                    continue
                for name, value in record.items():
                    counts["fields"] += 1
                    try:
                        found = lookup(have[i], name)
                    except (KeyError, IndexError):
                        counts["missing"] += 1
                        told.append(f"{key[0]}: {kind} {name}={value} is missing")
                        continue
                    if found is not None and plain(found) != plain(value):
                        counts["otherwise"] += 1
                        told.append(f"{key[0]}: {kind} {name}: {value!r}, ours {found!r}")
    return counts, told


READERS = {"laurel": laurel, "auparse": auparse}


def available() -> list[str]:
    """The readers that are installed here."""
    found = ["laurel"] if shutil.which("laurel") else []
    probe = ["/usr/bin/python3", "-c", "import auparse"]
    if os.path.exists(probe[0]) and not subprocess.run(probe, capture_output=True).returncode:
        found.append("auparse")
    return found


def main() -> int:
    """Compare, and say what differs."""
    parser = argparse.ArgumentParser(prog="python -m tests.compare_json", description=__doc__)
    parser.add_argument("logs", nargs="+", type=Path, metavar="LOG")
    parser.add_argument("--reader", action="append", choices=sorted(READERS))
    parser.add_argument("--show", type=int, default=20, metavar="N", help="differences to show (default: %(default)s)")
    args = parser.parse_args()
    mine = ours(args.logs)
    missing = 0
    for name in args.reader or available():
        counts, told = compare(READERS[name](args.logs), mine)
        missing += counts["missing"]
        print(
            f"{name}: {counts['events']} events, {counts['records']} records, {counts['fields']} fields; "
            f"{counts['missing']} missing with us, {counts['otherwise']} decoded otherwise"
        )
        for line in sorted(told, key=lambda line: "missing" not in line and "no event" not in line)[: args.show]:
            print(f"  {line[:200]}")
    return int(missing > 0)


if __name__ == "__main__":
    sys.exit(main())
