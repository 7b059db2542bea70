"""What tests/mutate weakens still stands where it is said to, and the tests named for it are there."""

from collections import Counter
from pathlib import Path

import pytest

from tests.mutate.mutants import MUTANTS, Mutant

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("mutant", MUTANTS, ids=[mutant.name for mutant in MUTANTS])
def test_the_text_of_a_mutant_stands_in_its_file_once(mutant: Mutant) -> None:
    assert (ROOT / mutant.file).read_text(encoding="utf-8").count(mutant.text) == 1, (
        f"{mutant.file}: the rule has moved; tests/mutate/mutants.py moves with it"
    )
    assert mutant.text != mutant.weakened


@pytest.mark.parametrize("test", sorted({mutant.test for mutant in MUTANTS}))
def test_the_test_of_a_mutant_is_there(test: str) -> None:
    path, _, name = test.partition("::")
    assert f"def {name}(" in (ROOT / path).read_text(encoding="utf-8")


def test_there_are_enough_and_each_has_its_name() -> None:
    assert len(MUTANTS) >= 40
    assert sum(mutant.file.startswith("cdefs/") for mutant in MUTANTS) >= 10
    assert max(Counter(mutant.name for mutant in MUTANTS).values()) == 1
