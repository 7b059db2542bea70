"""Rules by program and by compared fields, as the kernel's audit test-suite tries them (its exec_name, 29 checks, and
field_compare, 50): ausearch finds in our log what it finds in auditd's, with the plugin and with the listener."""

import shutil
import subprocess
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.kernel.programs import listening, until
from tests.kernel.support import auditctl, need, need_tool
from tests.kernel.test_plugin import Plugin

pytestmark = pytest.mark.kernel
PROGRAMS = ("id", "echo", "ls")
UIDS = ("auid", "uid", "euid", "suid", "fsuid", "obj_uid")
GIDS = ("gid", "egid", "sgid", "fsgid", "obj_gid")
#: rules of the exit list, and those that exclude, by the number of a program: (operator, program)
FILTERS: tuple[tuple[tuple[tuple[str, int], ...], tuple[tuple[str, int], ...]], ...] = (
    ((("=", 0),), ()),
    ((("!=", 1),), ()),
    ((), (("!=", 0),)),
    ((), (("=", 1),)),
    ((("!=", 1),), (("=", 2),)),
    ((("=", 0), ("=", 1)), ()),
    ((), (("=", 0), ("=", 1))),
)


class Case(NamedTuple):
    """Rules that are in force while the programs run; which of these are to be in the log (None: that is not looked
    at), under a key."""

    key: str
    rules: tuple[tuple[str, ...], ...]
    expected: tuple[bool, ...] | None


def meant(rules: tuple[tuple[str, int], ...], number: int) -> bool:
    """Whether one of the rules is about the program of that number."""
    return any((number == which) == (operator == "=") for operator, which in rules)


def by_program(token: str) -> Iterator[Case]:
    paths = [shutil.which(name) or "" for name in PROGRAMS]
    for n, (wanted, excluded) in enumerate(FILTERS):
        key = f"prog-{n}-{token}"
        exits = tuple(("-F", f"exe{operator}{paths[which]}") for operator, which in wanted) or ((),)
        rules = [("always,exit", *one, "-F", "arch=b64", "-S", "exit_group", "-F", f"key={key}") for one in exits]
        rules += [("always,exclude", "-F", f"exe{operator}{paths[which]}") for operator, which in excluded]
        shown = [(meant(wanted, i) or not wanted) and not meant(excluded, i) for i in range(len(PROGRAMS))]
        yield Case(key, tuple(rules), tuple(shown))


def by_fields(token: str) -> Iterator[Case]:
    for fields in (UIDS, GIDS):
        for operator in ("=", "!="):
            for one, other in combinations(fields, 2):
                key = f"{one}-{'is' if operator == '=' else 'not'}-{other}-{token}"
                rule = (
                    "always,exit",
                    "-F",
                    "arch=b64",
                    "-S",
                    "openat",
                    "-C",
                    f"{one}{operator}{other}",
                    "-F",
                    f"key={key}",
                )
                yield Case(key, (rule,), None)


def happen(cases: list[Case], folder: Path) -> None:
    """One after the other: rules in, programs run and a file made, rules out."""
    for case in cases:
        try:
            for rule in case.rules:
                auditctl("-a", *rule)
            for name in PROGRAMS if case.expected is not None else ():
                subprocess.run(
                    [shutil.which(name) or ""], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True
                )
            (folder / "made").write_text(case.key)
        finally:
            for rule in case.rules:
                auditctl("-d", *rule)


def found(case: Case, log: Path) -> list[bool]:
    """Whether ausearch finds the key; and of each program whether its SYSCALL is there as expected."""
    done = subprocess.run(
        ["ausearch", "-i", "-k", case.key, "-if", log], capture_output=True, text=True, stdin=subprocess.DEVNULL
    )
    lines = [line + " " for line in done.stdout.splitlines() if line.startswith("type=SYSCALL ")]
    programs = [any(f" exe={shutil.which(name)} " in line for line in lines) for name in PROGRAMS]
    expected = case.expected
    return [done.returncode == 0] + (
        [] if expected is None else [a == b for a, b in zip(programs, expected, strict=True)]
    )


def passed(cases: list[Case], log: Path) -> int:
    """How many checks hold; that all programs are there is one of those by program."""
    there = all(map(shutil.which, PROGRAMS)) and any(case.expected for case in cases)
    return there + sum(sum(found(case, log)) for case in cases)


@pytest.fixture
def cases(audited_off: None, token: str) -> tuple[list[Case], list[Case]]:
    need_tool("ausearch", *PROGRAMS)
    return list(by_program(token)), list(by_fields(token))


@pytest.fixture
def audited_off(quiet: object) -> None:
    need_tool("auditctl", "auditd")
    auditctl("-e", "1")
    auditctl("-b", "8192")


def test_with_the_plugin_as_with_auditd_alone(
    cases: tuple[list[Case], list[Case]], tmp_path: Path, launcher: Path, token: str
) -> None:
    programs, fields = cases
    plugin = Plugin(tmp_path, launcher)
    plugin.configure()
    with plugin.auditd.serving():
        until(lambda: plugin.pid, "a plugin")
        happen([*programs, *fields], tmp_path)
        last = fields[-1].key.encode()
        until(lambda: plugin.log.exists() and plugin.log.read_bytes().count(last) >= 2, "the last rule in our log")
        until(lambda: plugin.auditd.log.read_bytes().count(last) >= 2, "and in auditd's")
    stock = tmp_path / "stock.log"
    stock.write_bytes(plugin.auditd.log.read_bytes())
    assert (passed(programs, stock), passed(fields, stock)) == (29, 50)
    assert (passed(programs, plugin.log), passed(fields, plugin.log)) == (29, 50)


def test_with_the_listener(cases: tuple[list[Case], list[Case]], tmp_path: Path) -> None:
    programs, fields = cases
    need("\npid 0\n" in auditctl("-s"), "no auditd running")
    with listening(tmp_path, "--format", "raw", "--no-lifecycle") as program:
        happen([*programs, *fields], tmp_path)
        last = fields[-1].key.encode()
        until(lambda: program.out.count(last) >= 2, "the last rule")
    log = tmp_path / "listener.log"
    log.write_bytes(program._out.read_bytes())
    assert (passed(programs, log), passed(fields, log)) == (29, 50)
