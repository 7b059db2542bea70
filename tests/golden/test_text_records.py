"""Recorded audit text in, enriched text out: the real auditd 3.0.9 on Linux 6.18."""

from collections.abc import Callable

import pytest

from .enriching import DATA, enrich

Check = Callable[[str, bytes], None]


@pytest.mark.parametrize("numeric", [False, True], ids=["symbolic", "numeric"])
@pytest.mark.parametrize("name", ["raw", "enriched", "stream"])
def test_enriched_text(golden: Check, name: str, numeric: bool) -> None:
    data = (DATA / f"{name}.log").read_bytes()
    out = enrich(data, numeric)
    ours = b"UNKNOWN[1340]" if numeric else b"CONTAINER_ID"
    assert b"".join(line for line in out.splitlines(keepends=True) if b"type=" + ours not in line) == data
    added = [line for line in out.splitlines(keepends=True) if b"type=" + ours in line]
    # only what was added is kept, with the line before it: the rest is the input
    lines = out.splitlines(keepends=True)
    shown = b"".join(lines[i - 1][:60].rstrip() + b"\n" + line for i, line in enumerate(lines) if line in added)
    golden(f"{name}.{'numeric' if numeric else 'symbolic'}.added", shown)


@pytest.mark.parametrize("name", ["raw", "enriched", "stream"])
def test_enriched_twice_is_enriched_once(name: str) -> None:
    once = enrich((DATA / f"{name}.log").read_bytes(), numeric=True)
    assert enrich(once, numeric=True) == once


@pytest.mark.parametrize("name", ["raw", "enriched", "stream"])
@pytest.mark.parametrize("size", [1, 7, 4096])
def test_pieces_of_any_size_give_the_same(name: str, size: int) -> None:
    data = (DATA / f"{name}.log").read_bytes()
    assert enrich(data, numeric=False, size=size) == enrich(data, numeric=False)
