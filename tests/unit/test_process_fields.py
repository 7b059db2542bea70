"""Only the process table writes a process's fields: no other module assigns one, or changes a list that one holds."""

import ast
from pathlib import Path

import pytest

from auditns_connector.model.process import Process

PACKAGE = Path(__file__).parents[2] / "auditns_connector"
#: who may: the table, and the constructor
OWNERS = {"model/processes.py", "model/rows.py", "model/packed_rows.py", "model/process.py"}
#: names of fields that other things have too, in rooms where no process is written
NOT_OURS = {
    "start",
    "end",
    "state",
    "ids",
    "past",
    "inside",
    "comm",
    "threads",
    "entered_container",
    "recent_children",
    "not_before",
    "epoch",
    "creator",
}
ROOMS = ("model", "attribution", "host", "emit", "pipeline", "streams", "registration", "control")
CHANGING = {"append", "extend", "insert", "pop", "clear", "update", "setdefault", "remove", "sort", "reverse"}
FIELDS = set(Process.__slots__)


def written(source: str) -> list[tuple[int, str]]:
    """(line, field) of every write to something called as a field of a process, but for an object's own."""
    found = []
    for node in ast.walk(ast.parse(source)):
        targets: list[ast.expr] = []
        if isinstance(node, ast.Assign):
            targets = node.targets
        elif isinstance(node, (ast.AugAssign, ast.AnnAssign)):
            targets = [node.target]
        elif isinstance(node, ast.Delete):
            targets = node.targets
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in CHANGING:
            targets = [node.func.value]
        flat = [one for target in targets for one in (target.elts if isinstance(target, ast.Tuple) else [target])]
        for target in flat:
            while isinstance(target, ast.Subscript):
                target = target.value
            if isinstance(target, ast.Attribute) and target.attr in FIELDS:
                owner = target.value
                if not (isinstance(owner, ast.Name) and owner.id == "self"):
                    found.append((node.lineno, f"{ast.unparse(owner)}.{target.attr}"))
    return found


def looks_like_a_process(name: str) -> bool:
    owner, _, field = name.rpartition(".")
    return field not in NOT_OURS or owner.split(".")[-1] in (
        "process", "creator", "old", "newest", "maker", "first", "parent", "target", "p", "late", "known", "former",
    )  # fmt: skip


@pytest.mark.parametrize("room", ROOMS)
def test_nobody_but_the_table_writes_a_process(room: str) -> None:
    found = [
        f"{path.relative_to(PACKAGE)}:{line} {name}"
        for path in sorted((PACKAGE / room).rglob("*.py"))
        if str(path.relative_to(PACKAGE)) not in OWNERS
        for line, name in written(path.read_text())
        if looks_like_a_process(name)
    ]
    assert found == []


def test_the_table_itself_is_seen_to_write() -> None:
    fields = {name.rpartition(".")[2] for _, name in written((PACKAGE / "model/processes.py").read_text())}
    assert fields >= {"state", "past", "execs", "end", "cgroups", "registered", "comm", "threads", "prev"} | {
        "thread_namespaces"
    }


def test_a_write_elsewhere_would_be_seen() -> None:
    source = "process.state = s\ncreator.ids.append(1)\nprocess.threads[3] = None\ndel process.execs[:2]\nx.epoch = y\n"
    assert [name for _, name in sorted(written(source))] == [
        "process.state", "creator.ids", "process.threads", "process.execs", "x.epoch",
    ]  # fmt: skip
