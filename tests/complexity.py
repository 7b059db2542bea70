"""The complexity of C functions: one, and one more for each branch: if, for, while, case, ``?``, ``&&`` and ``||``.

ruff counts Python's without conditional expressions, ``and`` and ``or``; C has these where Python has a call, so they
count here. Text alone is read: a macro counts nowhere.
"""

import re
from collections.abc import Iterator
from typing import Final

_QUIET: Final = re.compile(
    r"/\*.*?\*/|//[^\n]*|\"(?:\\.|[^\"\\\n])*\"|'(?:\\.|[^'\\\n])+'|^[ \t]*#(?:\\\n|[^\n])*", re.DOTALL | re.MULTILINE
)
_TOKEN: Final = re.compile(r"\b(?:if|for|while|case)\b|\?|&&|\|\||[{}]")
_NAME: Final = re.compile(r"\b([A-Za-z_]\w*)\s*\((?:[^()]|\([^()]*\))*\)\s*$")


def functions(text: str) -> Iterator[tuple[str, int]]:
    """Each function of a C file and its complexity."""
    text = _QUIET.sub(" ", text)
    depth, name, count, since = 0, "", 0, 0
    for token in _TOKEN.finditer(text):
        if token[0] == "{":
            depth += 1
            if depth == 1:
                found = _NAME.search(text[since : token.start()])
                name, count = (found[1] if found else ""), 1
        elif token[0] == "}":
            depth -= 1
            if depth == 0:
                since = token.end()
                if name:
                    yield name, count
        elif depth:
            count += 1
