"""The catalogue: what is in which segment, in one SQLite file. All of it can be made again from the segments.

Times are ms since 1970. A *holder* is whose events are: a container of a host, a host, and so on
(vocabulary/archive.py). ``holders`` has a row for each that has events in the archive, ``holdings`` which blocks of a
segment have events of it.
"""

import sqlite3
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Final, NamedTuple

from auditns_connector.audittext.values import untrusted
from auditns_connector.errors import AuditnsError
from auditns_connector.vocabulary import archive as numbers
from auditns_connector.vocabulary.values import JsonObject

_SCHEMA: Final = """
CREATE TABLE segments (seq INTEGER PRIMARY KEY, previous TEXT NOT NULL, digest TEXT NOT NULL, first_ms INTEGER,
    last_ms INTEGER, length INTEGER NOT NULL, bytes INTEGER NOT NULL, events INTEGER NOT NULL, records INTEGER NOT NULL,
    blocks INTEGER NOT NULL, sealed_ms INTEGER NOT NULL, host TEXT NOT NULL, boot TEXT NOT NULL);
CREATE TABLE pruned (seq INTEGER PRIMARY KEY, previous TEXT NOT NULL, digest TEXT NOT NULL, last_ms INTEGER,
    reason TEXT NOT NULL);
CREATE TABLE holders (number INTEGER PRIMARY KEY, holder INTEGER NOT NULL, node TEXT NOT NULL, contid TEXT NOT NULL,
    runtime TEXT, full_id TEXT, name TEXT, pod TEXT, pod_ns TEXT, image TEXT, first_ms INTEGER NOT NULL,
    last_ms INTEGER NOT NULL, events INTEGER NOT NULL, records INTEGER NOT NULL, execs INTEGER NOT NULL,
    failures INTEGER NOT NULL, UNIQUE (holder, node, contid));
CREATE TABLE holdings (holder INTEGER NOT NULL, segment INTEGER NOT NULL, grp INTEGER NOT NULL, low INTEGER NOT NULL,
    high INTEGER NOT NULL, first_ms INTEGER NOT NULL, last_ms INTEGER NOT NULL, PRIMARY KEY (holder, segment))
    WITHOUT ROWID;
CREATE INDEX holdings_of ON holdings (segment, grp, holder);
CREATE TABLE aggregates (holder INTEGER NOT NULL, kind INTEGER NOT NULL, value TEXT NOT NULL, count INTEGER NOT NULL,
    first_ms INTEGER NOT NULL, last_ms INTEGER NOT NULL);
CREATE UNIQUE INDEX aggregates_of ON aggregates (holder, kind, value);
CREATE TABLE serials (segment INTEGER NOT NULL, node TEXT NOT NULL, low INTEGER NOT NULL, high INTEGER NOT NULL,
    events INTEGER NOT NULL, first_ms INTEGER NOT NULL, last_ms INTEGER NOT NULL);
CREATE INDEX serials_of ON serials (segment);
CREATE TABLE parts (head TEXT NOT NULL, segment INTEGER NOT NULL, at INTEGER NOT NULL, start INTEGER NOT NULL,
    length INTEGER NOT NULL, path TEXT NOT NULL, dev INTEGER NOT NULL, ino INTEGER NOT NULL);
CREATE INDEX parts_of ON parts (head);
"""
#: value of what was too rare to be counted by name
OTHERS: Final = b"\0others"
TALLY_NAMES: Final[dict[int, str]] = {
    value: name.removeprefix("TALLY_").lower() for name, value in vars(numbers).items() if name.startswith("TALLY_")
}
HOLDER_NAMES: Final[dict[int, str]] = {
    value: name.removeprefix("HOLDER_").lower() for name, value in vars(numbers).items() if name.startswith("HOLDER_")
}
#: of these tallies the value stands in the text as an untrusted string
_UNTRUSTED: Final = frozenset((numbers.TALLY_EXEC, numbers.TALLY_KEY, numbers.TALLY_FAILED))
_INFO: Final = {"runtime": b"runtime", "full_id": b"ctr-id", "name": b"ctr-name", "pod": b"pod", "pod_ns": b"pod-ns",
                "image": b"image"}  # fmt: skip
#: times of what has no event
_NEVER: Final = 0


class SegmentRow(NamedTuple):
    """A segment: ``length`` bytes of text in a file of ``bytes``; digests in hexadecimal."""

    seq: int
    previous: str
    digest: str
    first_ms: int
    last_ms: int
    length: int
    bytes: int
    events: int
    records: int
    blocks: int
    sealed_ms: int
    host: str
    boot: str


class PrunedRow(NamedTuple):
    """A segment that is no longer there."""

    seq: int
    previous: str
    digest: str
    last_ms: int
    reason: str


class ContainerRow(NamedTuple):
    """A container of a host, or what else events may be of: ``kind`` is container, host, unknown (``contid=?``),
    several (a packet of more than one), or text (no record). ``contid`` is the whole chain, empty for others."""

    number: int
    kind: str
    node: bytes
    contid: str
    runtime: str | None
    full_id: str | None
    name: str | None
    pod: str | None
    pod_ns: str | None
    image: str | None
    first_ms: int
    last_ms: int
    events: int
    records: int
    execs: int
    failures: int


class AggregateRow(NamedTuple):
    """How often ``value`` came in a container; ``kind`` is one of TALLY_NAMES' values."""

    container: int
    kind: str
    value: bytes
    times: int
    first_ms: int
    last_ms: int


class Part(NamedTuple):
    """``length`` bytes of a file from ``start`` on stand in a segment's text at ``at``."""

    segment: int
    at: int
    start: int
    length: int
    dev: int
    ino: int


class Serials(NamedTuple):
    """A run of the serials of a host's kernel: between its boots they only go up."""

    node: bytes
    low: int
    high: int
    events: int
    first_ms: int
    last_ms: int


class Catalogue:
    """The file ``path``; ``None`` is one in memory. ``write``: it is made where it is not there, and its changes are
    durable when :meth:`commit` returns."""

    def __init__(self, path: str | None, *, write: bool = False) -> None:
        try:
            if path is None:
                self._db = sqlite3.connect(":memory:")
            else:
                mode = "rwc" if write else "ro"
                quoted = path.replace("%", "%25").replace("?", "%3f").replace("#", "%23")
                self._db = sqlite3.connect(f"file:{quoted}?mode={mode}", uri=True, timeout=20)
            if write:
                self._db.execute("PRAGMA synchronous = FULL")
            if (path is None or write) and not self._rows("SELECT 1 FROM sqlite_master"):
                self._db.executescript(f"BEGIN;{_SCHEMA}COMMIT;")
            self._rows("SELECT count(*) FROM segments, pruned, holders, holdings, parts WHERE 0")
        except sqlite3.Error as error:
            raise CatalogueError(f"{path}: {error}") from error

    def _rows(self, query: str, values: Iterable[object] = ()) -> list[tuple[object, ...]]:
        try:
            return self._db.execute(query, tuple(values)).fetchall()
        except sqlite3.Error as error:
            raise CatalogueError(f"the catalogue: {error}") from error

    # -- what is there

    def segments(self) -> list[SegmentRow]:
        """The segments, in their order."""
        return [SegmentRow._make(row) for row in self._rows("SELECT * FROM segments ORDER BY seq")]

    def pruned(self) -> list[PrunedRow]:
        """Those that were removed."""
        return [PrunedRow._make(row) for row in self._rows("SELECT * FROM pruned ORDER BY seq")]

    def last(self) -> tuple[int, str]:
        """Number and digest of the segment that was made last, whether it is there or not; (0, "") where none was."""
        ends = [(row.seq, row.digest) for row in self.segments()[-1:]]
        ends += [(row.seq, row.digest) for row in self.pruned()[-1:]]
        return max(ends, default=(0, ""))

    def containers(self) -> list[ContainerRow]:
        """Whose events are in the archive."""
        return [
            ContainerRow(number, HOLDER_NAMES.get(holder, "unknown"), node.encode("latin-1"), *rest)
            for number, holder, node, *rest in self._db.execute("SELECT * FROM holders ORDER BY first_ms, number")
        ]

    def aggregates(self, kinds: Collection[str] = (), containers: Collection[int] | None = None) -> list[AggregateRow]:
        """What was counted when segments were made, the most frequent first."""
        wanted = [number for number, name in TALLY_NAMES.items() if name in kinds or not kinds]
        query = "SELECT holder, kind, value, count, first_ms, last_ms FROM aggregates"
        query += f" WHERE kind IN ({','.join(map(str, wanted))})"
        if containers is not None:
            query += f" AND holder IN ({','.join(str(int(one)) for one in containers)})"
        return [
            AggregateRow(holder, TALLY_NAMES[kind], value.encode("latin-1"), *rest)
            for holder, kind, value, *rest in self._db.execute(query + " ORDER BY count DESC, value")
        ]

    def serials(self) -> list[tuple[int, Serials]]:
        """Runs of serials by segment."""
        rows = self._db.execute("SELECT * FROM serials ORDER BY segment, rowid")
        return [(segment, Serials(node.encode("latin-1"), *rest)) for segment, node, *rest in rows]

    def parts(self, head: str) -> list[Part]:
        """Where text of files that begin so is."""
        query = "SELECT segment, at, start, length, dev, ino FROM parts WHERE head = ? ORDER BY start, segment"
        return [Part._make(row) for row in self._rows(query, (head,))]

    def groups(self, segment: int) -> list[tuple[int, int]]:
        """(group, number of the container) of a segment."""
        query = "SELECT grp, holder FROM holdings WHERE segment = ?"
        return [(int(str(grp)), int(str(holder))) for grp, holder in self._rows(query, (segment,))]

    def holding(self, containers: Collection[int]) -> set[int]:
        """The segments that have events of any of these."""
        marks = ",".join(str(int(one)) for one in containers)
        return {int(str(row[0])) for row in self._rows(f"SELECT segment FROM holdings WHERE holder IN ({marks})")}

    # -- changes

    def add(self, about: JsonObject, digest: str, size: int) -> None:
        """A segment, by what it says of itself; it is there when :meth:`commit` returns."""
        seq = about["seq"]
        times = [(group[8], group[9]) for group in about["groups"] if group[3]]
        first, last = min((t[0] for t in times), default=_NEVER), max((t[1] for t in times), default=_NEVER)
        row = SegmentRow(
            seq, about["previous"], digest, first, last, about["length"], size, about["events"], about["records"],
            about["blocks"], about["sealed"], about["host"], about["boot"],
        )  # fmt: skip
        try:
            self._insert("segments", [row])
            holders = self._add_groups(seq, about)
            self._insert("serials", [(seq, *run) for run in about["serials"]])
            self._insert(
                "parts",
                [
                    (p["head"], seq, p["at"], p["start"], p["length"], p["path"], p["dev"], p["ino"])
                    for p in about["parts"]
                ],
            )
            self._db.executemany(
                "INSERT INTO aggregates VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (holder, kind, value) DO UPDATE SET "
                "count = count + excluded.count, first_ms = min(first_ms, excluded.first_ms), "
                "last_ms = max(last_ms, excluded.last_ms)",
                self._aggregates(about, holders),
            )
        except sqlite3.Error as error:
            self._db.rollback()
            raise CatalogueError(f"the catalogue: {error}") from error

    def _insert(self, table: str, rows: Sequence[tuple[object, ...]]) -> None:
        if rows:
            self._db.executemany(f"INSERT INTO {table} VALUES ({','.join('?' * len(rows[0]))})", rows)

    def _add_groups(self, seq: int, about: JsonObject) -> list[int]:
        """The groups as holders and holdings; the number of each."""
        found_numbers = []
        for grp, (holder, node, contid, events, records, execs, failures, _, first, last, low, high) in enumerate(
            about["groups"]
        ):
            if not events:  # they were another container's after all
                found_numbers.append(-1)
                continue
            found = self._db.execute(
                "INSERT INTO holders (holder, node, contid, first_ms, last_ms, events, records, execs, failures) "
                "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (holder, node, contid) DO UPDATE SET "
                "first_ms = min(first_ms, excluded.first_ms), last_ms = max(last_ms, excluded.last_ms), "
                "events = events + excluded.events, records = records + excluded.records, "
                "execs = execs + excluded.execs, failures = failures + excluded.failures RETURNING number",
                (holder, node, contid, first, last, events, records, execs, failures),
            ).fetchone()[0]
            found_numbers.append(found)
            self._db.execute(
                "INSERT INTO holdings VALUES (?, ?, ?, ?, ?, ?, ?)", (found, seq, grp, low, high, first, last)
            )
        for grp, text in about["infos"]:
            self._note_info(about["groups"][grp][1], text)
        return found_numbers

    def _note_info(self, node: str, text: str) -> None:
        """What a CONTAINER_INFO says; what it does not say stays as it was."""
        fields = dict(word.partition("=")[::2] for word in reversed(text.split()))
        values = {column: untrusted(fields.get(name.decode(), "").encode("latin-1")) for column, name in _INFO.items()}
        said = {column: value.decode("utf-8", "replace") for column, value in values.items() if value is not None}
        if said and fields.get("contid"):
            self._db.execute(
                f"UPDATE holders SET {', '.join(f'{column} = ?' for column in said)} "
                f"WHERE holder = {numbers.HOLDER_CONTAINER} AND node = ? AND contid = ?",
                (*said.values(), node, fields["contid"].strip('"')),
            )

    @staticmethod
    def _aggregates(about: JsonObject, holders: list[int]) -> Iterator[tuple[object, ...]]:
        """The tallies with values decoded; different spellings of one value are one."""
        sums: dict[tuple[int, int, str], list[int]] = {}
        for grp, kind, value, count, first, last in about["tallies"]:
            if value is None:
                value = OTHERS.decode()
            elif kind in _UNTRUSTED:
                value = (untrusted(value.encode("latin-1")) or b"").decode("latin-1")
            one = sums.setdefault((holders[grp], kind, value), [0, first, last])
            one[0] += count
            one[1], one[2] = min(one[1], first), max(one[2], last)
        return ((*key, *one) for key, one in sums.items())

    def remove(self, about: JsonObject | None, row: SegmentRow, reason: str) -> None:
        """A segment is to go; of what cannot be read any more (``about`` is None) the counts stay."""
        try:
            self._db.execute("DELETE FROM segments WHERE seq = ?", (row.seq,))
            self._insert("pruned", [PrunedRow(row.seq, row.previous, row.digest, row.last_ms, reason)])
            if about is not None:
                self._subtract(about)
            for table in ("holdings", "serials", "parts"):
                self._db.execute(f"DELETE FROM {table} WHERE segment = ?", (row.seq,))
        except sqlite3.Error as error:
            self._db.rollback()
            raise CatalogueError(f"the catalogue: {error}") from error

    def tidy(self) -> None:
        """Forget whose events are all gone, and set right when the others were first seen; after :meth:`remove`."""
        try:
            self._db.execute("DELETE FROM holders WHERE number NOT IN (SELECT holder FROM holdings)")
            self._db.execute("DELETE FROM aggregates WHERE count <= 0 OR holder NOT IN (SELECT number FROM holders)")
            self._db.execute(
                "UPDATE holders SET first_ms = (SELECT min(first_ms) FROM holdings WHERE holder = number), "
                "last_ms = (SELECT max(last_ms) FROM holdings WHERE holder = number)"
            )
        except sqlite3.Error as error:
            self._db.rollback()
            raise CatalogueError(f"the catalogue: {error}") from error

    def _subtract(self, about: JsonObject) -> None:
        by_group = dict(self.groups(about["seq"]))
        holders = [by_group.get(grp, -1) for grp in range(len(about["groups"]))]
        self._db.executemany(
            "UPDATE holders SET events = events - ?, records = records - ?, execs = execs - ?, "
            "failures = failures - ? WHERE number = ?",
            [(*group[3:7], holder) for group, holder in zip(about["groups"], holders, strict=True)],
        )
        self._db.executemany(
            "UPDATE aggregates SET count = count - ? WHERE holder = ? AND kind = ? AND value = ?",
            [(count, *key) for *key, count, _, _ in self._aggregates(about, holders)],
        )

    def copied(self) -> "Catalogue":
        """A copy in memory, which may be changed; this one is closed."""
        copy = Catalogue(None)
        self._db.backup(copy._db)
        self._db.close()
        return copy

    def commit(self) -> None:
        """Make it durable."""
        try:
            self._db.commit()
        except sqlite3.Error as error:
            self._db.rollback()
            raise CatalogueError(f"the catalogue: {error}") from error

    def close(self) -> None:
        """Close it; what was not committed is lost."""
        self._db.close()


class CatalogueError(AuditnsError):
    """The catalogue cannot be read or written."""
