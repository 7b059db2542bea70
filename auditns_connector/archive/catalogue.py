"""The catalogue: what is in which segment, in one SQLite file. All of it can be made again from the segments.

Times are ms since 1970. A *holder* is whose events are: a container of a host, a host, and so on
(vocabulary/archive.py). ``holders`` has a row for each that has events in the archive, ``holdings`` which blocks of a
segment have events of it.
"""

import sqlite3
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from itertools import chain, cycle
from string import hexdigits
from typing import Final, NamedTuple, TypeVar, get_type_hints

from auditns_connector.archive.catalogue_schema import SCHEMA, Holding, Number
from auditns_connector.archive.files import CATALOGUE
from auditns_connector.archive.segment_layout import DIGEST, MAX_GROUPS, Damaged
from auditns_connector.audittext.values import untrusted
from auditns_connector.errors import AuditnsError
from auditns_connector.vocabulary import archive as numbers
from auditns_connector.vocabulary.values import Column, JsonObject

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
#: holders are counted in 32 bits by whoever reads blocks
_MOST_HOLDERS: Final = (1 << 32) - 1
_DAMAGED: Final = f"the catalogue is damaged; without {CATALOGUE} one is made anew from the segments"
#: what SQLite raises where a file is damaged: its own message may not be UTF-8 then
_UNREADABLE: Final = (sqlite3.Error, UnicodeDecodeError)
_Row = TypeVar("_Row", bound=tuple[Column, ...])
_Change = Callable[[tuple[Column, ...]], Iterable[Column]]


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


def _bytes(text: str) -> bytes:
    """Bytes of audit text, which stand in the catalogue as a string."""
    return text.encode("latin-1")


def _checked(kind: type[_Row], rows: Iterable[Iterable[Column]]) -> list[_Row]:
    """``rows`` as ``kind``. SQLite keeps whatever is put into a column, and a damaged file may have anything there."""
    wanted = tuple(get_type_hints(kind).values())
    try:
        found = [kind(*row) for row in rows]
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        raise CatalogueError(f"{_DAMAGED} ({error})") from error
    if not all(map(isinstance, chain.from_iterable(found), cycle(wanted))):
        raise CatalogueError(f"{_DAMAGED} (a column has what it cannot have)")
    return found


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
                self._db.executescript(f"BEGIN;{SCHEMA}COMMIT;")
            self._rows("SELECT count(*) FROM segments, pruned, holders, holdings, parts WHERE 0")
        except _UNREADABLE as error:
            raise CatalogueError(f"{path}: {error}") from error

    def _rows(self, query: str, values: Iterable[object] = ()) -> list[tuple[Column, ...]]:
        try:
            return self._db.execute(query, tuple(values)).fetchall()
        except _UNREADABLE as error:
            raise CatalogueError(f"the catalogue: {error}") from error

    def _read(
        self, kind: type[_Row], query: str, values: Iterable[object] = (), *, change: _Change = tuple
    ) -> list[_Row]:
        """Rows as ``kind``, with columns as ``change`` returns them."""
        return _checked(kind, map(change, self._rows(query, values)))

    # -- what is there

    def segments(self) -> list[SegmentRow]:
        """The segments, in their order."""
        return self._read(SegmentRow, "SELECT * FROM segments ORDER BY seq")

    def pruned(self) -> list[PrunedRow]:
        """Those that were removed."""
        return self._read(PrunedRow, "SELECT * FROM pruned ORDER BY seq")

    def last(self) -> tuple[int, str]:
        """Number and digest of the segment that was made last, whether it is there or not; (0, "") where none was."""
        ends = [(row.seq, row.digest) for row in self.segments()[-1:]]
        ends += [(row.seq, row.digest) for row in self.pruned()[-1:]]
        seq, digest = max(ends, default=(0, ""))
        if len(digest) not in (0, 2 * DIGEST) or not set(digest) <= set(hexdigits):
            raise CatalogueError(f"{_DAMAGED} (a digest is none)")
        return seq, digest

    def containers(self) -> list[ContainerRow]:
        """Whose events are in the archive."""
        return self._read(
            ContainerRow, "SELECT * FROM holders ORDER BY first_ms, number",
            change=lambda row: (row[0], HOLDER_NAMES.get(row[1], "unknown"), _bytes(row[2]), *row[3:]),
        )  # fmt: skip

    def aggregates(self, kinds: Collection[str] = (), containers: Collection[int] | None = None) -> list[AggregateRow]:
        """What was counted when segments were made, the most frequent first."""
        wanted = [number for number, name in TALLY_NAMES.items() if name in kinds or not kinds]
        query = "SELECT holder, kind, value, count, first_ms, last_ms FROM aggregates"
        query += f" WHERE kind IN ({','.join(map(str, wanted))})"
        if containers is not None:
            query += f" AND holder IN ({','.join(str(int(one)) for one in containers)})"
        return self._read(
            AggregateRow, query + " ORDER BY count DESC, value",
            change=lambda row: (row[0], TALLY_NAMES[row[1]], _bytes(row[2]), *row[3:]),
        )  # fmt: skip

    def serials(self) -> list[tuple[int, Serials]]:
        """Runs of serials by segment."""
        rows = self._rows("SELECT * FROM serials ORDER BY segment, rowid")
        segments = _checked(Number, (row[:1] for row in rows))
        runs = _checked(Serials, ((_bytes(row[1]), *row[2:]) for row in rows))
        return [(segment, run) for (segment,), run in zip(segments, runs, strict=True)]

    def parts(self, head: str) -> list[Part]:
        """Where text of files that begin so is."""
        query = "SELECT segment, at, start, length, dev, ino FROM parts WHERE head = ? ORDER BY start, segment"
        return self._read(Part, query, (head,))

    def groups(self, segment: int) -> list[tuple[int, int]]:
        """(group, number of the container) of a segment."""
        found = self._read(Holding, "SELECT grp, holder FROM holdings WHERE segment = ?", (segment,))
        if not all(0 <= grp < MAX_GROUPS and 0 <= holder <= _MOST_HOLDERS for grp, holder in found):
            raise CatalogueError(f"{_DAMAGED} (a group has a number that none has)")
        return [(one.grp, one.holder) for one in found]

    def holding(self, containers: Collection[int]) -> set[int]:
        """The segments that have events of any of these."""
        marks = ",".join(str(int(one)) for one in containers)
        return {one.number for one in self._read(Number, f"SELECT segment FROM holdings WHERE holder IN ({marks})")}

    # -- changes

    def add(self, seq: int, about: JsonObject, digest: str, size: int) -> None:
        """Segment ``seq``, by what it says of itself; it is there when :meth:`commit` returns. Raises :class:`Damaged`
        where that makes no sense."""
        if about.get("seq") != seq:
            raise Damaged("it says that it is another segment")
        try:
            self._add(seq, about, digest, size)
        except _UNREADABLE as error:
            self._db.rollback()
            raise CatalogueError(f"the catalogue: {error}") from error
        except (AttributeError, LookupError, TypeError, ValueError, OverflowError) as error:
            self._db.rollback()
            raise Damaged(f"what it says of itself makes no sense ({error})") from error

    def _add(self, seq: int, about: JsonObject, digest: str, size: int) -> None:
        times = [(group[8], group[9]) for group in about["groups"] if group[3]]
        first, last = min((t[0] for t in times), default=_NEVER), max((t[1] for t in times), default=_NEVER)
        row = SegmentRow(
            seq, about["previous"], digest, first, last, about["length"], size, about["events"], about["records"],
            about["blocks"], about["sealed"], about["host"], about["boot"],
        )  # fmt: skip
        self._insert("segments", [row])
        holders = self._add_groups(seq, about)
        self._insert("serials", [(seq, *run) for run in about["serials"]])
        self._insert(
            "parts",
            [(p["head"], seq, p["at"], p["start"], p["length"], p["path"], p["dev"], p["ino"]) for p in about["parts"]],
        )
        self._db.executemany(
            "INSERT INTO aggregates VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (holder, kind, value) DO UPDATE SET "
            "count = count + excluded.count, first_ms = min(first_ms, excluded.first_ms), "
            "last_ms = max(last_ms, excluded.last_ms)",
            self._aggregates(about, holders),
        )

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
        try:
            self._db.backup(copy._db)
        except _UNREADABLE as error:
            raise CatalogueError(f"the catalogue: {error}") from error
        finally:
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
