"""How often something may happen."""

from typing import Final

_SECOND: Final = 1_000_000_000


class RateLimit:
    """At most ``rate`` records a second, ``rate`` of them at once (0: no limit). Times in ns, given by the caller."""

    def __init__(self, rate: int) -> None:
        self.rate = rate
        self._left = rate * _SECOND
        self._at = 0

    def allows(self, records: int, now: int) -> bool:
        """Whether ``records`` more may pass at ``now``; takes them from the allowance when so."""
        if not self.rate:
            return True
        full = self.rate * _SECOND
        self._left = min(full, self._left + (now - self._at) * self.rate) if self._at else full
        self._at = now
        need = min(records * _SECOND, full)
        if self._left < need:
            return False
        self._left -= need
        return True
