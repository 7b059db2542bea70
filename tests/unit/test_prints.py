"""Lines for people go through one place (daemon/terminal.py), which escapes what a terminal would obey. Whatever is
printed otherwise is JSON, or stands here."""

import ast
from collections import Counter
from pathlib import Path
from typing import Final

import auditns_connector

ROOT: Final = Path(auditns_connector.__file__).parent
#: file -> how many prints are neither JSON nor through terminal.show; each prints what root has said, our own words and
#: numbers, or what is escaped already
OTHERS: Final = {
    "cli/contid.py": 3, "cli/listen.py": 2, "cli/status.py": 1, "cli/tree.py": 3,
    "daemon/log.py": 1, "daemon/terminal.py": 1, "registration/hook_program.py": 1,
}  # fmt: skip


def is_json(call: ast.Call) -> bool:
    """Whether it prints one JSON document."""
    first = call.args[0] if call.args else None
    if isinstance(first, ast.BinOp) and ast.unparse(first.right) == repr("\n"):
        first = first.left
    return isinstance(first, ast.Call) and ast.unparse(first.func) == "json.dumps"


def test_whatever_is_printed_is_json_or_goes_through_the_one_place() -> None:
    found: Counter[str] = Counter()
    for path in ROOT.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call):
                continue
            name = ast.unparse(node.func)
            if name in ("print", "sys.stdout.write", "sys.stderr.write") and not is_json(node):
                found[str(path.relative_to(ROOT))] += 1
    assert dict(found) == OTHERS
