"""What one container did that others did not: programs, files, addresses, system calls, users, failures. Pure."""

from collections.abc import Iterator
from typing import Final

from auditns_connector.query.facts import Event, facts_of
from auditns_connector.query.life import Bounded
from auditns_connector.query.page import Page, Table, moment

#: what is compared, and what it is called
ASPECTS: Final = {
    "programs": "Programs", "lines": "Command lines", "written": "Files changed", "read": "Files read",
    "addresses": "Addresses", "calls": "System calls", "users": "Users", "failures": "Failures", "types": "Records",
}  # fmt: skip


class Doings:
    """What some containers did, each thing once with how often."""

    def __init__(self) -> None:
        self.by: dict[str, Bounded[str]] = {aspect: Bounded() for aspect in ASPECTS}
        self.events = 0

    def take(self, event: Event) -> None:
        """One event of theirs."""
        if not event.get("records"):
            return
        one = facts_of(event)
        self.events += 1
        for aspect, what in self._things(event):
            self.by[aspect].use(what, one)

    @staticmethod
    def _things(event: Event) -> Iterator[tuple[str, str]]:
        one = facts_of(event)
        if one.call in ("execve", "execveat") and not one.failed:
            yield "programs", one.exe or (one.argv[0] if one.argv else "?")
            yield "lines", " ".join(one.argv)
        for path, changed in one.files if not one.failed else ():
            yield "written" if changed else "read", path
        for address in one.addresses:
            yield "addresses", address
        if one.call:
            yield "calls", one.call
        if one.auid:
            yield "users", one.auid
        if one.failed:
            yield "failures", f"{one.call or one.kinds[0]} {one.failed}"
        for kind in one.kinds:
            yield "types", kind

    @property
    def dropped(self) -> int:
        """How many things there was no room for."""
        return sum(table.dropped for table in self.by.values())


def only(one: Doings, other: Doings, prefix: str, called: str) -> list[Table]:
    """Tables of what ``one`` did and ``other`` did not."""
    tables = []
    for aspect, title in ASPECTS.items():
        mine, theirs = one.by[aspect].uses, other.by[aspect].uses
        found = sorted(
            ((what, uses) for what, uses in mine.items() if what not in theirs), key=lambda row: -row[1].count
        )
        rows = [
            (what, str(uses.count), moment(uses.first), moment(uses.last), " ".join(sorted(by for by in uses.by if by)))
            for what, uses in found
        ]
        tables.append(
            Table(f"{prefix}_{aspect}", f"{title} of {called} alone", ("what", "times", "first", "last", "by"), rows,
                  one.by[aspect].dropped, frozenset(("times",)))
        )  # fmt: skip
    return tables


def page(first: Doings, second: Doings, called: tuple[str, str]) -> Page:
    """Both ways."""
    facts = [(f"events of {name}", str(doings.events)) for name, doings in zip(called, (first, second), strict=True)]
    notes = []
    if first.dropped or second.dropped:
        notes.append(
            "Some things were not remembered, for there were too many: what is shown may be in the other as well."
        )
    tables = [*only(first, second, "first", called[0]), *only(second, first, "second", called[1])]
    return Page(f"{called[0]} and {called[1]}", tuple(facts), tuple(tables), notes=tuple(notes))
