"""What somebody else can bring about as often as he likes is told once a minute: no warning is said without a limit
but those of a start, an end, or a HUP."""

import ast
from collections import Counter
from pathlib import Path
from typing import Final

import auditns_connector
from auditns_connector.daemon.log import PAUSE, Log, RateLimitedLog

ROOT: Final = Path(auditns_connector.__file__).parent
#: file -> how many warnings stand there that have no limit; all of them are said at a start, an end or a HUP
UNLIMITED: Final = {
    "assembly.py": 1, "cli/listen.py": 3, "cli/plugin.py": 5, "control/server.py": 1, "pipeline/loop.py": 2,
    "pipeline/resume.py": 1, "registration/service.py": 1, "streams/manager.py": 2, "streams/users.py": 4,
}  # fmt: skip


def limited_names(tree: ast.AST) -> set[str]:
    """The names, or attributes, that a file gives to a RateLimitedLog."""
    found = {"rate_limited", "_rate_limited"}
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and "RateLimitedLog" in ast.dump(node.value):
            values = node.value.elts if isinstance(node.value, ast.Tuple) else [node.value]
            for target in node.targets:
                names = target.elts if isinstance(target, ast.Tuple) else [target]
                pairs = zip(names, values, strict=True)
                found |= {getattr(n, "attr", "") for n, v in pairs if "RateLimitedLog" in ast.dump(v)}
        if isinstance(node, ast.arg) and node.annotation is not None and "RateLimitedLog" in ast.dump(node.annotation):
            found.add(node.arg)
    return found


def test_warnings_that_others_can_cause_are_limited() -> None:
    unlimited: Counter[str] = Counter()
    for path in ROOT.rglob("*.py"):
        name = str(path.relative_to(ROOT))
        if name == "daemon/log.py":
            continue
        tree = ast.parse(path.read_text())
        limited = limited_names(tree)
        for function in (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)):
            own = limited_names(function) & {a.arg for a in function.args.args} | limited - {"log"}
            for node in ast.walk(function):
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "warning":
                    said_by = node.func.value
                    last = said_by.attr if isinstance(said_by, ast.Attribute) else getattr(said_by, "id", "")
                    unlimited[name] += last not in own
    assert {name: count for name, count in unlimited.items() if count} == UNLIMITED


def test_what_is_told_once_a_minute() -> None:
    class Kept(Log):
        def __init__(self) -> None:
            super().__init__()
            self.said: list[tuple[str, str, object]] = []

        def _emit(self, level: str, event: str, fields: dict[str, object]) -> None:
            self.said.append((level, event, fields.get("left_out")))

    log, now = Kept(), [1000.0]
    limited = RateLimitedLog(log, lambda: now[0])
    for _ in range(5):
        limited.warning("a", "first")
        limited.info("b", "second")
    now[0] += PAUSE
    limited.warning("a", "first")
    assert log.said == [
        ("warning", "first", None), ("info", "second", None), ("warning", "first", 4),
    ]  # fmt: skip
