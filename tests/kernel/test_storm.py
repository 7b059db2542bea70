"""A short storm of an ordinary user: no answer is wrong, and what is missing is told. Nothing is timed."""

from pathlib import Path

import pytest

from tests.bench.accuracy.run import build_truth
from tests.bench.storm import load
from tests.bench.storm.run import PROGRAMS, Pass, Timing
from tests.kernel.support import AuditState, need_tool

pytestmark = [pytest.mark.kernel, pytest.mark.usefixtures("usable_null")]


@pytest.mark.parametrize("subject", ["plugin", "listen"])
@pytest.mark.parametrize("kind", ["userpid", "all"])
def test_nothing_is_wrong_or_missing_untold(kind: str, subject: str, quiet: AuditState, base: Path) -> None:
    need_tool("auditd", "gcc", "runc")
    storm = load.storms(4, 200)[kind]
    program = load.build(base)
    state = base / "s"
    state.mkdir()
    result = Pass(base / "pass", state, build_truth(base), program, Timing(2.0, 0.0)).go(
        kind, storm, 200, PROGRAMS[subject]()
    )
    assert result.stormed.counts, "a storm of which so much fails is none"
    assert result.outcome is not None
    assert result.outcome.events > 600
    assert result.outcome.wrong == 0, result.outcome.examples
    assert result.outcome.untold == 0, result.outcome.examples
