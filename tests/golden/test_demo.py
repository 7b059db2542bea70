"""The recording that ``make run`` shows without root: a replay gives what the listener gave when it was made.

It does not say which audit tools there were, so all is tried in the spelling that does not depend on this host's.
"""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

DEMO = Path(__file__).parent / "demo"


def enrich(*options: str) -> bytes:
    command = [sys.executable, "-m", "auditns_connector.cli.main", "enrich", "--journal", DEMO / "run.journal"]
    command += ["--record-names", "numeric"]
    done = subprocess.run([*command, *options, DEMO / "audit.log"], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_replay_is_the_live_output(golden: Callable[[str, bytes], None]) -> None:
    golden("../demo/enriched.log", enrich())


def test_as_objects(golden: Callable[[str, bytes], None]) -> None:
    golden("../demo/enriched.json", enrich("--format", "json", "--info", "--ns", "all"))


@pytest.mark.parametrize("options", [(), ("--format", "json", "--ns", "all"), ("--info",)])
def test_every_replay_is_the_same(options: tuple[str, ...]) -> None:
    assert enrich(*options) == enrich(*options)


def test_less_our_records_it_is_the_input() -> None:
    kept = [line for line in enrich("--info", "--ns", "all").splitlines(keepends=True) if b" contid=" not in line]
    assert (
        b"".join(line for line in kept if not line.startswith(b"type=UNKNOWN[1344]"))
        == (DEMO / "audit.log").read_bytes()
    )
