"""docs/: the files, functions and targets that it names are there."""

import re
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parents[2]
PAGES = sorted((TOP / "docs").rglob("*.md"))
_SPAN = re.compile(r"`([^`\n]+)`")


def text(page: Path) -> str:
    """The page without its blocks of code."""
    return re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("page", PAGES, ids=[page.name for page in PAGES])
def test_paths_are_there(page: Path) -> None:
    for span in _SPAN.findall(text(page)):
        if re.fullmatch(r"(?:auditns_connector|cdefs|tests|man|docs|audisp|\.ci)/[\w./*-]*", span):
            assert list(TOP.glob(span.rstrip("/"))), span


@pytest.mark.parametrize("page", PAGES, ids=[page.name for page in PAGES])
def test_links_lead_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)#]+)\)", text(page)):
        assert (page.parent / link).exists(), link


def test_functions_of_the_walks_are_in_their_files() -> None:
    rows = re.findall(r"^\| `([\w./]+\.(?:py|c))` \| (.*) \|$", text(TOP / "docs/architecture.md"), re.MULTILINE)
    named = [(path, name) for path, what in rows for name in re.findall(r"`(\w+)\(\)`", what)]
    assert len(named) > 15
    for path, name in named:
        source = (TOP / path).read_text(encoding="utf-8")
        assert re.search(rf"^\s*def {name}\(|^[a-z].*\b{name}\(", source, re.MULTILINE), (path, name)


@pytest.mark.parametrize("page", PAGES, ids=[page.name for page in PAGES])
def test_make_targets_are_there(page: Path) -> None:
    makefile = (TOP / "Makefile").read_text()
    for target in re.findall(r"`make ([a-z-]+)", page.read_text(encoding="utf-8")):
        assert f"\n{target}:" in makefile, target


def test_every_room_is_in_the_tree() -> None:
    named = set(_SPAN.findall(text(TOP / "docs/architecture.md")))
    rooms = {path.parent for path in (TOP / "auditns_connector").rglob("*.py")} - {TOP / "auditns_connector"}
    assert {f"{room.relative_to(TOP)}/" for room in rooms} - named == set()
