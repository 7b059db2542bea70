"""One target of targets.py under atheris: ``python -m tests.fuzz.python TARGET [libFuzzer options and folders]``."""

import sys

import atheris

with atheris.instrument_imports(include=["auditns_connector"]):
    from tests.fuzz.targets import TARGETS

if __name__ == "__main__":
    name = sys.argv.pop(1)
    atheris.Setup(sys.argv, TARGETS[name])
    atheris.Fuzz()
