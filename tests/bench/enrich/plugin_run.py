"""The plugin as it is, but with the host of a journal in place of this one.

``python plugin_run.py JOURNAL CONFIG``; audit text on stdin, as auditd gives it.
"""

import sys
from typing import Any

from auditns_connector.cli import plugin
from auditns_connector.config import options as config
from auditns_connector.daemon.process import growing
from auditns_connector.host import open_sources as wiring
from auditns_connector.host.observer import Observer
from auditns_connector.journal.reader import JournalReader
from auditns_connector.model.apply.dispatch import Model


class Recorded(Observer):
    """Knows what the journal tells, all of it, from the start; nothing happens later."""

    _now = 0

    def start(self) -> None:
        (block,), self._now = JournalReader([sys.argv[1]]).upto(0)
        with growing():
            self.model.apply(block)
        self.model.outputs.clear()
        self.model.queries.clear()
        self.model.forget_questions()

    def sync(self, upto: int = 0) -> int:
        """Nothing is read: all of it is known."""
        return self._now

    def tick(self) -> None:
        """No clock and no /proc is looked at."""

    def prove(self) -> bool:
        return False

    def mark(self, now: int, serials: list[int], expire: int = 0) -> None:
        """Nobody is forgotten."""


def observer(**options: Any) -> tuple[Observer, list[str]]:
    """In place of the host's own."""
    return Recorded(Model(), perf=None, options=options["options"]), []


if __name__ == "__main__":
    wiring.host_observer = observer
    config.DEFAULT_PATH = sys.argv[2]
    plugin.run([])  # auditd gives it no arguments
