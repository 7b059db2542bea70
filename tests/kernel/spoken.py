"""The truth of an exec stands in its arguments: ``/bin/true TOKEN-LABEL-NUMBER``, whatever started it.

A test says for each label whose execs these are; :meth:`Truth.errors` holds what a listener told against it.
"""

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from auditns_connector.model.runtimes import derive_contid
from tests.kernel.programs import contids, events

_ARGUMENTS: Final = rb'type=EXECVE .* a0="/bin/true" a1="%b-([a-z0-9.]+)-(\w+)"'


@dataclass
class Expected:
    """``right`` says whether a contid (None: the host) is right; ``count``: so many execs, 0: one or more."""

    right: Callable[[str | None], bool]
    count: int
    found: Counter[str | None] = field(default_factory=Counter)


class Truth:
    """Labels of one run, whose words begin with ``token``."""

    def __init__(self, token: str) -> None:
        self.token = token
        self.labels: dict[str, Expected] = {}

    def word(self, label: str, number: object = "") -> str:
        """The argument of an exec; without a number, what ``/bin/loop`` puts its numbers behind."""
        return f"{self.token}-{label}" + (f"-{number}" if number != "" else "")

    def of(self, label: str, ident: str, count: int) -> None:
        """These execs are of the container that its runtime calls ``ident``; "": of the host."""
        wanted = str(derive_contid("", ident)) if ident else None
        self.which(label, lambda found: found == wanted, count)

    def which(self, label: str, right: Callable[[str | None], bool], count: int) -> None:
        """The same with a test of one's own."""
        self.labels[label] = Expected(right, count)

    def read(self, text: bytes) -> None:
        """Take in all that a listener has written."""
        for expected in self.labels.values():
            expected.found.clear()
        pattern = re.compile(_ARGUMENTS % self.token.encode())
        for lines in events(text).values():
            ran = next(filter(None, map(pattern.search, lines)), None)
            if ran is not None and ran[1].decode() in self.labels:
                told = contids(lines)
                self.labels[ran[1].decode()].found[told[0] if told else None] += 1

    def complete(self, text: bytes) -> bool:
        """Whether every exec that is expected has come."""
        self.read(text)
        return all(expected.found.total() >= (expected.count or 1) for expected in self.labels.values())

    def errors(self, text: bytes) -> dict[str, object]:
        """What is wrong, missing or too much, by label."""
        self.read(text)
        found: dict[str, object] = {}
        for label, expected in self.labels.items():
            total = expected.found.total()
            if total != expected.count if expected.count else not total:
                found[label] = f"{total} execs, {expected.count} were made"
            elif not all(map(expected.right, expected.found)):
                found[label] = dict(expected.found)
        return found
