"""Write what completes ``auditns`` in bash, zsh and fish into a folder: completions.py FOLDER."""

import sys
from pathlib import Path

import shtab

from auditns_connector.cli.main import build_parser

folder = Path(sys.argv[1])
folder.mkdir(parents=True, exist_ok=True)
for shell in ("bash", "zsh", "fish"):
    (folder / shell).write_text(shtab.complete(build_parser(), shell=shell), encoding="utf-8")
