"""What the scripts that run inside guests share, and what one and its test must agree on."""

import json
import subprocess
import sys

AUDITNS = [sys.executable, "-m", "auditns_connector.cli.main"]
CONTROL = "/run/control"
OUT = "/tmp/out"
TRUE = "/usr/bin/true"
HEX = "0123456789abcdef" * 4
TIMES = 12


def tell(**found: object) -> None:
    """One line for the host to read."""
    print("@@" + json.dumps(found), flush=True)


def content(path: str) -> str:
    """All of a file."""
    with open(path, errors="replace") as file:
        return file.read()


def auditns(*words: str) -> subprocess.CompletedProcess[str]:
    """One command of ours, asking the listener."""
    return subprocess.run([*AUDITNS, *words, "--control", CONTROL], capture_output=True, text=True, timeout=120)
