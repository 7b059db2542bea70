"""The same questions to what one would take otherwise: grep over the text, DuckDB over Parquet, ausearch."""

import shutil
from collections.abc import Sequence
from pathlib import Path

from .measure import Measured, measured

#: a row for each record; the container of an event is in the rows of its CONTAINER_ID
_IMPORT = r"""
COPY (SELECT regexp_extract(line, 'type=(\S+)', 1) AS type,
    CAST(regexp_extract(line, 'audit\((\d+\.\d+):', 1) AS DOUBLE) AS time,
    CAST(regexp_extract(line, 'audit\([0-9.]+:(\d+)\)', 1) AS UBIGINT) AS serial,
    regexp_extract(line, 'contid=(\d+)', 1) AS contid, regexp_extract(line, ' pid=(\d+)', 1) AS pid,
    regexp_extract(line, 'key="([^"]*)"', 1) AS key, regexp_extract(line, ' name="([^"]*)"', 1) AS name, line
    FROM read_csv({files}, columns={{'line': 'VARCHAR'}}, delim='\x01', quote='', escape='', header=false,
    ignore_errors=true)) TO '{out}' (FORMAT parquet, COMPRESSION zstd);
"""
_PYTHON = """
import duckdb, sys
db = duckdb.connect()
db.execute("SET threads=2; SET memory_limit='8GB'; SET preserve_insertion_order=false")
print(db.execute(sys.argv[1]).fetchall()[-1:])
"""
QUESTIONS = {
    "life": "SELECT count(*) FROM (SELECT line FROM '{parquet}' WHERE serial IN "
    "(SELECT serial FROM '{parquet}' WHERE contid = '{life}'))",
    "path": "SELECT count(*) FROM (SELECT line FROM '{parquet}' WHERE serial IN "
    "(SELECT serial FROM '{parquet}' WHERE name = '{path}'))",
    "absent": "SELECT count(*) FROM (SELECT line FROM '{parquet}' WHERE name = '/absent/value')",
    "containers": "SELECT contid, min(time), max(time), count(*) FROM '{parquet}' GROUP BY contid",
}


def duckdb(python: str, files: Sequence[Path], folder: Path, values: dict[str, str]) -> dict[str, Measured]:
    """Import and questions."""
    parquet = folder / "log.parquet"
    names = "[" + ", ".join(f"'{path}'" for path in files) + "]"
    found = {"import": measured([python, "-c", _PYTHON, _IMPORT.format(files=names, out=parquet)])}
    for name, query in QUESTIONS.items():
        found[name] = measured([python, "-c", _PYTHON, query.format(parquet=parquet, **values)], runs=2)
    parquet.unlink()
    return found


def grep(files: Sequence[Path], word: str) -> Measured:
    """All lines with a word."""
    return measured(["grep", "-haF", word, *map(str, files)], env={"LC_ALL": "C"}, good=(0, 1))


def ausearch(text: Path, word: str, limit: float) -> Measured | None:
    """All events with a file name; None: not done in ``limit`` seconds."""
    if shutil.which("ausearch") is None:
        return None
    command = ["timeout", str(limit), "ausearch", "-if", str(text), "-f", word, "--raw"]
    found = measured(command, good=(0, 1, 124))
    return found if found.wall < limit else None
