"""Options and fixtures of all tiers."""

import difflib
import os
from collections.abc import Callable
from pathlib import Path

import pytest

try:
    from hypothesis import HealthCheck, settings

    from tests.examples import EXPLORE, examples
except ImportError:  # where only a kernel is looked at, as in a virtual machine
    pass
else:
    # no test may depend on how busy the machine is, nor the verdict on a change on chance: new examples are looked for
    # by night (AUDITNS_EXPLORE=1), and what is found there is given by name
    settings.register_profile(
        "auditns", examples(100), deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=not EXPLORE
    )
    settings.load_profile("auditns")

GOLDEN = Path(__file__).parent / "golden" / "data"
# ausearch and others that need no root live there, and Debian's users do not have it in their PATH
os.environ["PATH"] = os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"))


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="write the golden outputs anew instead of comparing")


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[str, bytes], None]:
    """``golden(name, actual)``: the file of that name in tests/golden/data holds exactly ``actual``."""

    def check(name: str, actual: bytes) -> None:
        path = GOLDEN / name
        if request.config.getoption("--update-golden"):
            path.write_bytes(actual)
            return
        if not path.exists():
            pytest.fail(f"{name} is missing: run with --update-golden", pytrace=False)
        expected = path.read_bytes()
        if actual != expected:
            lines = [text.decode("utf-8", "backslashreplace").splitlines() for text in (expected, actual)]
            shown = list(difflib.unified_diff(*lines, "expected", "actual", lineterm="", n=1))[:30]
            pytest.fail("\n".join([f"{name} differs (--update-golden accepts it)", *shown]), pytrace=False)

    return check
