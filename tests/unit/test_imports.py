"""Arrows between the rooms only go down, and no modules need one another: without exceptions.

Imports inside functions count, and so do those for type checkers alone: what a room has to know of, it depends on.
"""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import auditns_connector

ROOT = Path(auditns_connector.__file__).parent
PACKAGE = ROOT.name
#: the rooms, lowest first: one may import those before it
FLOORS = (
    "errors", "_native", "vocabulary", "daemon", "audittext", "journal", "model", "model.apply", "state", "sources",
    "auditrules", "config", "attribution", "emit", "matching", "sinks", "host", "pipeline", "archive", "control",
    "streams", "registration", "query", "metrics", "deploy", "api", "assembly", "cli",
)  # fmt: skip


def module_name(path: Path) -> str:
    """``sources.perf`` for auditns_connector/sources/perf.py; "" for the package itself."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in sorted(ROOT.rglob("*.py"))}


def imported(path: Path) -> Iterator[str]:
    """The modules of the package that the file imports anywhere, as :func:`module_name` names them."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [name.name for name in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module is not None and not node.level:
            # from a.b import c: c may be a module or something in a.b
            names = [
                full if (full := f"{node.module}.{name.name}").partition(".")[2] in MODULES else node.module
                for name in node.names
            ]
        else:
            continue
        for name in names:
            if name == PACKAGE or name.startswith(f"{PACKAGE}."):
                yield name.partition(".")[2]


ARROWS = {name: set(imported(path)) - {name, ""} for name, path in MODULES.items()}


def room(module: str) -> str:
    return next((one for one in reversed(FLOORS) if module == one or module.startswith(f"{one}.")), module)


def circles(arrows: dict[str, set[str]]) -> set[frozenset[str]]:
    """Sets of those that reach one another."""

    def reached(start: str) -> set[str]:
        found: set[str] = set()
        todo = [start]
        while todo:
            new = arrows.get(todo.pop(), set()) - found
            found |= new
            todo += new
        return found

    all_reached = {name: reached(name) for name in arrows}
    return {
        frozenset(other for other in found if name in all_reached.get(other, ()))
        for name, found in all_reached.items()
        if name in found
    }


def calls_of_c() -> dict[str, set[str]]:
    """The C files that each C file calls; what is static is of its own file."""
    folder = ROOT.parent / "cdefs"
    texts = {
        str(path.relative_to(folder)): re.sub(r'/\*.*?\*/|"(?:\\.|[^"\\])*"', "", path.read_text(), flags=re.DOTALL)
        for path in folder.rglob("*.c")
    }
    begins = re.compile(r"^(?!static|typedef|enum|union|[#/ \t])[\w *]*?\b(\w+)\([^;{]*\)\s*\{", re.MULTILINE)
    owners: dict[str, set[str]] = {}
    for path, text in texts.items():
        for name in begins.findall(text):
            owners.setdefault(name, set()).add(path)
    return {
        path: {
            next(iter(owners[name]))
            for name in set(re.findall(r"\b(\w+)\(", text))
            if len(owners.get(name, ())) == 1 and path not in owners[name]
        }
        for path, text in texts.items()
    }


def test_every_room_has_its_floor() -> None:
    assert {room(name) for name in MODULES if name} == {*FLOORS} - {"_native"}


def test_arrows_only_go_down() -> None:
    floor = {name: number for number, name in enumerate(FLOORS)}
    found = {
        (name, other)
        for name, others in ARROWS.items()
        if name
        for other in others
        if floor[room(other)] > floor[room(name)]
    }
    assert sorted(found) == []


def test_nobody_needs_somebody_who_needs_him() -> None:
    assert [sorted(one) for one in circles(ARROWS)] == []


@pytest.mark.skipif(not (ROOT.parent / "cdefs").is_dir(), reason="it is installed without its sources")
def test_no_file_of_c_calls_one_that_calls_it() -> None:
    calls = calls_of_c()
    assert calls["archive/index_terms.c"] >= {"archive/paths.c", "archive/values.c"}
    assert [sorted(one) for one in circles(calls)] == []


@pytest.mark.parametrize("name", ["vocabulary", "errors"])
def test_the_lowest_can_be_had_without_the_extension(name: str) -> None:
    """The hook and the build use them where nothing is compiled."""
    todo, found = [module for module in MODULES if room(module) == name], set()
    while todo:
        module = todo.pop()
        found.add(module)
        todo += ARROWS.get(module, set()) - found
    assert "_native" not in found


def test_the_plugin_starts_without_what_takes_long_to_load() -> None:
    slow = "argparse ast dataclasses datetime inspect locale logging lzma shutil subprocess tokenize"
    program = (
        "import sys; import auditns_connector.assembly, auditns_connector.cli.plugin; "
        f"print(*sorted(set({slow.split()!r}) & set(sys.modules)))"
    )
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert told.split() == []
