"""Names and comments do without the words that docs/glossary.md lists as not used."""

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).resolve().parents[2]
WORDS: Final = frozenset(
    word.strip()
    for line in (ROOT / "docs" / "glossary.md")
    .read_text("utf-8")
    .partition("## Words that are not used")[2]
    .split("\n")
    if line.startswith("| ") and not line.startswith("| word |")
    for word in line.split("|")[1].split(",")
)
#: names that have such a word, and why
NAMES: Final = {
    "not_known": "the text of what has no proof: an answer's name, as unknown is",
    "parse_known_args": "argparse's",
}
#: in a comment a value may be known or not known; these stand for a cache, an entry, a state, fields
NOT_IN_COMMENTS: Final = (r"what (?:is|was|else is) known", r"known of", r"the known", r"all that (?:is|was) known")
SENTENCES: Final = re.compile(
    "|".join(
        [*(rf"\b{word}\b" for word in sorted(WORDS - {"known"})), *(rf"\b{words}\b" for words in NOT_IN_COMMENTS)]
    ),
    re.IGNORECASE,
)
_C: Final = re.compile(r"/\*.*?\*/|//[^\n]*|\"(?:\\.|[^\"\\\n])*\"|'(?:\\.|[^'\\\n])+'|[A-Za-z_]\w*", re.DOTALL)


def files() -> list[Path]:
    found = [path for name in ("auditns_connector", "cdefs") for path in sorted((ROOT / name).rglob("*.[pch]*"))]
    return [path for path in found if path.suffix in (".py", ".c", ".h")]


def of_python(text: str) -> Iterator[tuple[bool, int, str]]:
    """Whether it is a name, its line, and the name or the comment or docstring."""
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type in (tokenize.NAME, tokenize.COMMENT):
            yield token.type == tokenize.NAME, token.start[0], token.string
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and (
            said := ast.get_docstring(node)
        ):
            yield False, node.body[0].lineno, re.sub(r"``[^`]*``", "``", said)


def of_c(text: str) -> Iterator[tuple[bool, int, str]]:
    for found in _C.finditer(text):
        if found[0][0] not in "\"'":
            yield found[0][0] != "/", text.count("\n", 0, found.start()) + 1, found[0]


def in_name(name: str) -> bool:
    words = re.sub(r"([a-z0-9])([A-Z])", r"\1_\2", name).lower().strip("_")
    return words not in NAMES and not WORDS.isdisjoint(words.split("_"))


def faults(text: str, suffix: str) -> list[tuple[int, str]]:
    found = []
    for is_name, line, said in (of_python if suffix == ".py" else of_c)(text):
        if is_name:
            found += [(line, said)] if in_name(said) else []
        else:
            found += [(line, one[0]) for one in SENTENCES.finditer(re.sub(r"\s+\*? ?", " ", said))]
    return found


def test_the_words_are_not_used() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{line}: {word}"
        for path in files()
        for line, word in faults(path.read_text("utf-8"), path.suffix)
    ]
    assert found == []


def test_the_table_has_words() -> None:
    assert {"told", "untold", "known", "usual", "lasts"} <= WORDS


@pytest.mark.parametrize(
    ("text", "suffix", "words"),
    [
        ("def known(pid): pass\n", ".py", ["known"]),
        ("class ToldOnce: pass\n", ".py", ["ToldOnce"]),
        ("last_told = NOT_KNOWN = UNKNOWN = told_to_many = 0\n", ".py", ["last_told", "told_to_many"]),
        ('x = "what is told"  # not known yet\n', ".py", []),
        ("x = 1  # the usual way\n", ".py", ["usual"]),
        ('"""What is\nknown of it, and ``told``."""\n', ".py", ["What is known"]),
        (
            'int exec_told; /* as long as it lasts, what\n * was known */ char *s = "told";\n',
            ".c",
            ["exec_told", "lasts", "what was known"],
        ),
        ("int unknown; // not known\n", ".h", []),
    ],
)
def test_what_is_a_fault(text: str, suffix: str, words: list[str]) -> None:
    assert [word for _, word in faults(text, suffix)] == words
