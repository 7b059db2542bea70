"""What the fuzzers begin with, and what they have found, without a fuzzer."""

from pathlib import Path

import pytest

from tests.fuzz.targets import TARGETS, seeds

FOUND = Path(__file__).parents[1] / "fuzz" / "regressions"


@pytest.mark.parametrize("target", TARGETS)
def test_seeds_and_their_beginnings(target: str) -> None:
    count = 0
    for seed in seeds(target):
        count += 1
        for size in {len(seed), len(seed) // 2, 0}:
            TARGETS[target](seed[:size])
        TARGETS[target](seed.replace(b'"', b"[").replace(b"1", b"-1"))
    assert count


@pytest.mark.parametrize("path", [p for t in TARGETS for p in sorted((FOUND / t).glob("*"))], ids=lambda p: p.name)
def test_what_fuzzers_have_found(path: Path) -> None:
    TARGETS[path.parent.name](path.read_bytes())
