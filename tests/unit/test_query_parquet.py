"""``auditns search --format parquet``, read back by another engine."""

import importlib
from pathlib import Path
from typing import Any

import pytest

from tests.unit.queries import BASE, BOOT, WEB

duckdb: Any = pytest.importorskip("duckdb", reason="the extra test has it")
pytest.importorskip("pyarrow", reason="the extra test has it")
PAGE = Path(__file__).parents[2] / "man/auditns-search.8"


@pytest.fixture(params=["by name", "by number"])
def table(tmp_path: Path, request: pytest.FixtureRequest) -> Any:
    import subprocess
    import sys

    from tests.unit.queries import by_number, sample

    (tmp_path / "log").write_text(sample() if request.param == "by name" else by_number(sample()))
    place = tmp_path / "x.parquet"
    with place.open("wb") as out:
        command = [
            sys.executable,
            "-m",
            "auditns_connector.cli.main",
            "search",
            "--format",
            "parquet",
            tmp_path / "log",
        ]
        subprocess.run(command, stdout=out, check=True)
    return lambda query: duckdb.sql(query.replace("LOG", f"'{place}'")).fetchall()


def test_another_engine_reads_it(table: Any) -> None:
    assert table("select count(*) from LOG where serial < 9000") == [(10,)]
    assert table(f"select count(*), sum((not success)::int) from LOG where contid = '{WEB}' and serial < 9000") == [
        (7, 1)
    ]
    assert table("select container_name, image, files, files_changed, error from LOG where serial = 10") == [
        ("web", "nginx:1", ["/tmp/x"], ["/tmp/x"], "ENOENT")
    ]
    assert table("select epoch_ms(time), pid, ppid, auid, syscall, keys, argv from LOG where serial = 1") == [
        ((BASE + 1) * 1000 + 1, 50, 49, 1000, "execve", ["exec"], ["/bin/sh", "-c", "run me"])
    ]
    assert table("select addresses from LOG where serial = 7") == [(["10.0.0.5:443"],)]
    assert table("select targets from LOG where serial = 8") == [(["1002"],)]
    assert table("select entry from LOG where serial = 6") == [(f"{BOOT}:70:5",)]
    assert table("select records[1].type, records[1].fields['comm'] from LOG where serial = 5") == [("SYSCALL", "cat")]
    assert table("select contid, container_name from LOG where serial = 5") == [(None, None)]


def test_every_column_is_in_the_manual_with_its_type(table: Any) -> None:
    said = PAGE.read_text().replace("\\", "")
    section = said.partition('.SH "PARQUET COLUMNS"')[2].partition(".SH ")[0]
    told = dict(line.split("\t")[:2] for line in section.splitlines() if "\t" in line)
    schema = importlib.import_module("auditns_connector.query.parquet").schema()
    assert told == {field.name: str(field.type) for field in schema}


def test_numbers_that_are_none_of_a_process_are_not_known() -> None:
    from auditns_connector.query.parquet import row

    event = {"time": "1.000", "serial": 1, "records": [{"type": "SYSCALL", "pid": 99_999_999_999, "ppid": -1}]}
    assert (row(event)["pid"], row(event)["ppid"]) == (None, None)
