"""``auditns doctor``: what this host allows, what is missing, and the line that mends it."""

import sys
from typing import TYPE_CHECKING, Final, TextIO

from auditns_connector.cli.options import add_control

if TYPE_CHECKING:
    import argparse

    from auditns_connector.deploy.doctor import Finding

JSON_VERSION: Final = 1
#: how long the program that watches the host may take to hear of us (seconds)
_PATIENCE: Final = 1.0
_COLOURS: Final = {"ok": "32", "warn": "33", "fail": "31"}


def add_parser(
    subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]", name: str = "doctor", text: str = ""
) -> None:
    """Add the command to ``auditns``; ``text`` is its line of help."""
    parser = subparsers.add_parser(name, help=text, description=text or None)
    parser.add_argument("--json", action="store_true", help="one JSON object instead of text")
    add_control(parser)


def run(args: "argparse.Namespace") -> int:
    """Examine this host; 1 when something will not work."""
    from auditns_connector.deploy.doctor import examine
    from auditns_connector.deploy.probe import gather

    _introduce(args.control)
    findings = examine(gather())
    if args.json:
        _write_json(findings, sys.stdout)
    else:
        _write_text(findings, sys.stdout)
    return int(any(finding.state == "fail" for finding in findings))


def _introduce(path: str) -> None:
    """Show the program that serves ``path`` that this is one of ours, whose probes are none of its business."""
    import contextlib

    from auditns_connector.control.server import ask
    from auditns_connector.errors import AuditnsError

    with contextlib.suppress(AuditnsError):  # nobody serves there, or it may not be asked: then nothing is hidden
        ask(path, {"v": 1, "op": "own"}, _PATIENCE)


def _write_json(findings: "list[Finding]", out: TextIO) -> None:
    import json

    good = all(finding.state != "fail" for finding in findings)
    answer = {"v": JSON_VERSION, "ok": good, "findings": [finding._asdict() for finding in findings]}
    json.dump(answer, out, ensure_ascii=True)
    out.write("\n")


def _write_text(findings: "list[Finding]", out: TextIO) -> None:
    from auditns_connector.daemon.terminal import escape

    colours = out.isatty()
    shown: set[str] = set()
    width = max(len(finding.id) for finding in findings)
    for finding in findings:
        state = f"{finding.state:4}"
        if colours:
            state = f"\x1b[{_COLOURS[finding.state]}m{state}\x1b[0m"
        out.write(f"{state}  {finding.id:{width}}  {escape(finding.text)}\n")
        if finding.remedy and finding.state != "ok" and finding.remedy not in shown:
            shown.add(finding.remedy)
            out.write(f"      {'':{width}}  → {escape(finding.remedy)}\n")
