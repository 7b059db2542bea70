"""Events as Parquet, for DuckDB, ClickHouse and lakes: one row an event, types declared (extra "parquet").

The columns are those of auditns-search(8). What an event does not have is null; lists are never null.
"""

import json
from types import TracebackType
from typing import BinaryIO, Final, Self

from auditns_connector.errors import NotSupportedError
from auditns_connector.query.facts import Event, facts_of
from auditns_connector.vocabulary.values import MOST_PID, CData, Json, JsonObject

#: rows that are written together
_ROWS: Final = 8192
_ABOUT: Final = {
    "container_name": "name", "image": "image", "pod": "pod", "pod_namespace": "namespace", "runtime": "runtime",
    "container_id": "id",
}  # fmt: skip
_NUMBERS: Final = ("auid", "uid", "ses", "exit")


def schema() -> CData:
    """The columns, as pyarrow has them. Raises :class:`NotSupportedError` where that is not installed."""
    pa = _module()
    words = pa.list_(pa.string())
    record = pa.struct([("type", pa.string()), ("fields", pa.map_(pa.string(), pa.string()))])
    return pa.schema(
        [
            pa.field("time", pa.timestamp("ms", tz="UTC"), nullable=False),
            pa.field("serial", pa.uint64(), nullable=False),
            ("node", pa.string()),
            ("contid", pa.string()),
            *((name, pa.string()) for name in _ABOUT),
            ("entry", pa.string()),
            ("targets", words),
            ("pid", pa.int32()),
            ("ppid", pa.int32()),
            *((name, pa.int64()) for name in _NUMBERS),
            ("comm", pa.string()),
            ("exe", pa.string()),
            ("syscall", pa.string()),
            ("success", pa.bool_()),
            ("error", pa.string()),
            ("keys", words),
            ("argv", words),
            ("files", words),
            ("files_changed", words),
            ("addresses", words),
            ("types", words),
            ("records", pa.list_(record)),
        ]
    )


def _module() -> CData:
    try:
        import pyarrow
    except ImportError:
        raise NotSupportedError("--format parquet wants pyarrow: pip install 'auditns-connector[parquet]'") from None
    return pyarrow


def row(event: Event) -> JsonObject:
    """The row of an event, an object of ``--format json``."""
    one = facts_of(event)
    about = event.get("container") or {}
    main = next((r for r in event["records"] if r["type"] == "SYSCALL"), event["records"][0])
    entry = next((r["entry"] for r in event["records"] if r["type"] == "CONTAINER_INFO" and r.get("entry")), None)
    success = {"yes": True, "no": False}.get(str(main.get("success")), False if one.failed else None)
    return {
        "time": one.ms,
        "serial": one.serial,
        "node": event.get("node"),
        "contid": event.get("contid"),
        **{column: about.get(name) for column, name in _ABOUT.items()},
        "entry": None if entry is None else str(entry),
        "targets": [target.get("contid") or "host" for target in event.get("targets", ())],
        "pid": one.pid if 0 <= one.pid <= MOST_PID else None,
        "ppid": one.ppid if 0 <= one.ppid <= MOST_PID else None,
        **{name: main[name] if isinstance(main.get(name), int) else None for name in _NUMBERS},
        "comm": one.comm or None,
        "exe": one.exe or None,
        "syscall": one.call or None,
        "success": success,
        "error": one.failed or None,
        "keys": [key for key in str(main.get("key") or "").split("\1") if key],
        "argv": list(one.argv),
        "files": [path for path, _ in one.files],
        "files_changed": [path for path, changed in one.files if changed],
        "addresses": list(one.addresses),
        "types": list(one.kinds),
        "records": [{"type": r["type"], "fields": _fields(r)} for r in event["records"]],
    }


def _fields(record: Event) -> list[tuple[str, str | None]]:
    return [(name, _word(value)) for name, value in record.items() if name != "type"]


def _word(value: Json) -> str | None:
    return value if value is None or isinstance(value, str) else json.dumps(value, separators=(",", ":"))


class ParquetFile:
    """Writes rows to ``file``, which need not be seekable."""

    def __init__(self, file: BinaryIO) -> None:
        self._pa = _module()
        import pyarrow.parquet

        self._schema = schema()
        self._writer = pyarrow.parquet.ParquetWriter(file, self._schema, compression="zstd")
        self._rows: list[JsonObject] = []

    def add(self, event: Event) -> None:
        """One event."""
        if event.get("records"):
            self._rows.append(row(event))
            if len(self._rows) >= _ROWS:
                self._flush()

    def _flush(self) -> None:
        self._writer.write_table(self._pa.Table.from_pylist(self._rows, self._schema))
        self._rows.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        if kind is None and self._rows:
            self._flush()
        self._writer.close()
