"""Conditions on the values of whole events, each distinct value judged once."""

from collections.abc import Sequence
from typing import Final

from auditns_connector.audittext.grouping import inverted
from auditns_connector.audittext.scanner import InsertionPoints
from auditns_connector.matching.columns import ARGV, fields_of
from auditns_connector.matching.conditions import Condition
from auditns_connector.matching.native import Values

#: the same value may be judged for so many events
_MOST_VALUES: Final = 1 << 17


class _Judged:
    """The verdict of a condition on each distinct value."""

    def __init__(self, condition: Condition, column: int) -> None:
        self.condition, self.column = condition, column
        self.verdict = bytearray(1)


class Judges:
    """Which events fulfil ``conditions``; without any it is false."""

    def __init__(self, conditions: Sequence[Condition]) -> None:
        columns = sorted({condition.column for condition in conditions})
        self._judged = [_Judged(condition, columns.index(condition.column)) for condition in conditions]
        self._values: Values | None = None
        if columns:
            argv = columns.index(ARGV) if ARGV in columns else None
            self._values = Values(fields_of(columns), len(columns), argv)

    def __bool__(self) -> bool:
        return self._values is not None

    @property
    def conditions(self) -> list[Condition]:
        """As they were given."""
        return [judged.condition for judged in self._judged]

    def good(self, points: InsertionPoints, rows: int) -> list[bytearray]:
        """For each condition one byte for each of the ``rows`` events, as :func:`events_of` numbers them."""
        values = self._values
        if values is None or not rows:
            return []
        if any(len(values.strings[judged.column]) > _MOST_VALUES for judged in self._judged):
            self._forget(values)
        values.read(points)
        found = []
        for judged in self._judged:
            strings, verdict, judge = values.strings[judged.column], judged.verdict, judged.condition.judge
            verdict += bytes(judge(strings[number]) for number in range(len(verdict), len(strings) + 1))
            good = values.good(judged.column, verdict, rows)
            found.append(inverted(good) if judged.condition.negated else good)
        return found

    def _forget(self, values: Values) -> None:
        """Number values anew: there are too many."""
        for strings in values.strings:
            strings.clear()
        for judged in self._judged:
            judged.verdict = bytearray(1)


def by_number(good: bytes, numbers: Sequence[int], first: int, count: int) -> bytearray:
    """``good``, which is by row, by number of the event: one byte for each of ``count`` from number ``first`` on."""
    if len(numbers) == count and (not count or numbers[0] == first):
        return bytearray(good)  # they are numbered as they come
    kept = bytearray(count)
    for number, verdict in zip(numbers, good, strict=True):
        if 0 <= number - first < count:
            kept[number - first] = verdict
    return kept
