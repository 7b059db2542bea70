"""README: its commands parse, its records are those of the demo, what it names is there."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

from auditns_connector.cli import main as cli
from auditns_connector.cli import plugin

from .test_docs import OPTION, options

TOP = Path(__file__).parents[2]
PARSER = cli.build_parser()
README = (TOP / "README.md").read_text()
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
COMMANDS = [line.split(" #")[0].strip() for kind, body in BLOCKS if kind == "sh" for line in body.splitlines()]


def test_commands_in_readme_are_accepted() -> None:
    ours = [
        part.split(">")[0] for line in COMMANDS for part in re.split(r" \| | && ", line) if "auditns " in f"{part} "
    ]
    parsed = []
    for words in map(shlex.split, ours):
        if words[0] == "auditns":
            parsed.append(PARSER.parse_args(words[1:]).command)
        elif words[0] == "audisp-auditns":
            plugin.build_parser().parse_args(words[1:])
    assert {"listen", "enrich", "doctor", "status", "install-plugin"} <= set(parsed)


def test_readme_names_only_options_there_are() -> None:
    foreign = {"--strict", "--now", "--help"}  # of mypy, systemctl and every command
    assert set(OPTION.findall(README)) - options(PARSER) - options(plugin.build_parser()) - foreign == set()


def test_files_that_readme_names_are_there() -> None:
    for name in re.findall(r"(?<![/\w])(?:audisp|man|tests|cdefs|\.ci)/[\w./-]*", README):
        assert (TOP / name).exists(), name
    for target in re.findall(r"`?\bmake ([a-z]+)`", README):
        assert f"\n{target}:" in (TOP / "Makefile").read_text(), target


def test_records_in_readme_are_those_of_the_demo() -> None:
    enriched = (
        (TOP / "tests/golden/demo/enriched.log").read_text().replace("UNKNOWN[1340]", "CONTAINER_ID").splitlines()
    )
    shown = [line for kind, body in BLOCKS for line in body.splitlines() if not kind and line.startswith("type=")]
    for line in shown:
        pieces = [re.escape(piece) for piece in line.split("…")]
        assert any(re.fullmatch(".*".join(pieces), real) for real in enriched), line
    before, after = [body.splitlines() for kind, body in BLOCKS if body.startswith("type=")]
    assert [line for line in after if not line.startswith("type=CONTAINER_ID")] == before
    (contid,) = [line.partition("contid=")[2] for line in after if "contid=" in line]
    assert f"{contid} is {int(contid):#018x}" in README


def test_line_for_people_in_readme_is_that_of_the_demo() -> None:
    demo = TOP / "tests/golden/demo"
    command = [sys.executable, "-m", "auditns_connector.cli.main", "enrich", "--format", "pretty"]
    done = subprocess.run(
        [*command, "--journal", demo / "run.journal", demo / "audit.log"],
        capture_output=True, text=True, check=True, env={**os.environ, "TZ": "UTC"},
    )  # fmt: skip
    shown = [line for kind, body in BLOCKS for line in body.splitlines() if not kind and " execve cat " in line]
    assert shown
    assert set(shown) <= set(done.stdout.splitlines())
