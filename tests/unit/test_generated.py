"""The numbers that C and Python share are written down once."""

import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

from auditns_connector._native import lib
from auditns_connector.vocabulary import audit_text, frames, syscalls

CDEFS = Path(__file__).resolve().parents[2] / "cdefs"


@pytest.fixture(scope="module")
def generate() -> ModuleType:
    spec = importlib.util.spec_from_file_location("auditns_generate", CDEFS / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_the_headers_are_what_the_vocabulary_gives(generate: ModuleType) -> None:
    for name, text in generate.generated().items():
        assert (CDEFS / name).read_text() == text, f"python cdefs/generate.py writes {name}"


def test_the_extension_was_built_from_them(generate: ModuleType) -> None:
    found = dict(re.findall(r"^#define (\w+) (\d+)$", generate.header(), re.M))
    assert {name: getattr(lib, name) for name in found} == {name: int(value) for name, value in found.items()}
    assert lib.K_FORK == frames.K_FORK
    assert lib.AUDITNS_P_LATE == audit_text.P_LATE


def test_no_header_states_one_of_them_again(generate: ModuleType) -> None:
    numbers = set(re.findall(r"^#define (\w+)", "".join(generate.generated().values()), re.M))
    for path in sorted(CDEFS.glob("*/*.[ch]")):
        assert not numbers & set(re.findall(r"^#define (\w+)", path.read_text(), re.M)), path


def test_every_arch_of_an_exec_is_in_the_c(generate: ModuleType) -> None:
    cases = re.findall(r"X\((0x[0-9a-f]+), (.*?)\)", generate.impl_header())
    found = {int(arch, 16): frozenset(map(int, re.findall(r"nr == (\d+)", numbers))) for arch, numbers in cases}
    assert found == syscalls.EXECS
