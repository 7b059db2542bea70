"""What CONTAINER_INFO records in a text say of containers, and of those who came into them. Pure.

A record is one by itself (it begins with ``reason=``) or stands in an event of a process; both are joined by contid
and entry. A contid that comes back with another id of a runtime is another container, from that time on. What no record
says is not known, which is not the same as not there.
"""

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator
from typing import Final, NamedTuple

from auditns_connector.audittext.heads import read_head
from auditns_connector.audittext.own_records import UNKNOWN
from auditns_connector.emit.render import read_line
from auditns_connector.matching.conditions import text_of

#: field of a record -> what it is called in JSON and here
ABOUT: Final = {
    "kind": "kind", "runtime": "runtime", "ctr-id": "id", "ctr-name": "name", "image": "image", "pod": "pod",
    "pod-ns": "namespace", "pod-uid": "pod_uid", "role": "role", "unit": "unit", "labels": "labels", "since": "since",
}  # fmt: skip
_ENTRY: Final = "entry-"
#: what somebody else chose, in quotes or in hex
_UNTRUSTED: Final = frozenset(
    ("runtime", "ctr-id", "ctr-name", "image", "pod", "pod-ns", "pod-uid", "unit", "labels", "entry-comm", "entry-exe",
     "entry-unit")
)  # fmt: skip
#: containers and entries that are remembered; beyond, what is new has no name
MOST: Final = 1 << 20


class Life(NamedTuple):
    """A container from ``since`` (ms since 1970) on; ``about`` by the names of :data:`ABOUT`."""

    since: int
    about: dict[str, str]


class Names:
    """Fed with lines of CONTAINER_INFO records, in any order."""

    def __init__(self) -> None:
        self._lives: dict[str, list[Life]] = {}
        #: entry -> its fields, without their prefix
        self._entries: dict[str, dict[str, str]] = {}
        #: contids that were those of several containers
        self.several: set[str] = set()
        self.changes = 0
        #: containers and entries that there was no room for
        self.dropped = 0

    def read(self, lines: Iterable[bytes]) -> None:
        """Take in lines of CONTAINER_INFO records."""
        for line in lines:
            if read_head(line) is not None:
                record = read_line(line)
                self._take(record.head.ms, words_of(record.body))

    def _take(self, ms: int, words: dict[str, bytes]) -> None:
        contid = words.get("contid", b"").strip(b'"').decode("latin-1")
        fields = {name: value for name, raw in words.items() if (value := _value(name, raw)) is not None}
        about = {member: fields[field] for field, member in ABOUT.items() if field in fields}
        if contid and contid != UNKNOWN and about:
            self.add(ms, contid, about)
        if "entry" in fields:
            self.add_entry(fields["entry"], fields)

    def add_entry(self, entry: str, fields: dict[str, str]) -> None:
        """What a record says of an entry; of ``fields`` those count that begin with ``entry-``."""
        came = {name.removeprefix(_ENTRY): value for name, value in fields.items() if name.startswith(_ENTRY)}
        if came and self._room(self._entries, entry):
            self._entries.setdefault(entry, {"id": entry}).update(came)
            self.changes += 1

    def add(self, ms: int, contid: str, about: dict[str, str]) -> None:
        """What somebody knows of a container that had ``contid`` at ``ms``; ``about`` by the names of :data:`ABOUT`."""
        if not self._room(self._lives, contid):
            return
        lives = self._lives.setdefault(contid, [])
        self.changes += 1
        match = next((life for life in lives if same_container(life.about, about)), None)
        if match is None:
            lives.append(Life(ms, about))
            if len(lives) > 1:
                self.several.add(contid)
        else:
            newer = ms >= match.since
            merged = match.about | about if newer else about | match.about
            lives[lives.index(match)] = Life(min(ms, match.since), merged)
        lives.sort(key=lambda life: life.since)

    def _room(self, table: "dict[str, list[Life]] | dict[str, dict[str, str]]", key: str) -> bool:
        if key in table or len(table) < MOST:
            return True
        self.dropped += 1
        return False

    def lives(self, contid: str) -> list[Life]:
        """All that had this ``contid`` (as text, with those around it), oldest first."""
        return self._lives.get(contid, [])

    def at(self, contid: str, ms: int) -> dict[str, str]:
        """The fields of the container that had ``contid`` at ``ms``; before the first word of it, that one."""
        lives = self._lives.get(contid)
        if not lives:
            return {}
        return lives[max(bisect_right(lives, ms, key=lambda life: life.since) - 1, 0)].about

    def entry(self, entry: str) -> dict[str, str]:
        """The fields of an entry, by its id."""
        return self._entries.get(entry, {})

    def contids(self, match: Callable[[dict[str, str]], bool]) -> Iterator[str]:
        """Those with a life that ``match`` takes."""
        for contid, lives in self._lives.items():
            if any(match(life.about) for life in lives):
                yield contid

    def entries(self, match: Callable[[dict[str, str]], bool]) -> Iterator[str]:
        """The ids of the entries that ``match`` takes."""
        return (entry for entry, about in self._entries.items() if match(about))


def words_of(body: bytes) -> dict[str, bytes]:
    """The fields of a record of ours; of a repeated name the first counts."""
    words = body.partition(b"\x1d")[0].split()
    return {name.decode("latin-1"): value for name, _, value in (word.partition(b"=") for word in reversed(words))}


def _value(name: str, raw: bytes) -> str | None:
    """The string behind a value; ``None`` where it says "not known"."""
    if name in _UNTRUSTED:
        return text_of(raw)
    value = raw.strip(b'"').decode("utf-8", "backslashreplace")
    return value if value not in ("", "?", "(null)") else None


def same_container(one: dict[str, str], other: dict[str, str]) -> bool:
    """Whether both may be of one container: nothing that names it is another."""
    return all(one[name] == other[name] for name in ("runtime", "id") if name in one and name in other)
