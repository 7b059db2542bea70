"""The plugin as it is, but with the host of a journal in place of this one.

``python plugin_run.py JOURNAL CONFIG``; audit text on stdin, as auditd gives it. The kernel's events are looked for as
ever, and there are none: on a host that is up for longer than the journal's was.
"""

import sys
from typing import Any

from auditns_connector._native import ffi, lib
from auditns_connector.cli import plugin
from auditns_connector.config import options as config
from auditns_connector.daemon.process import growing
from auditns_connector.host import open_sources as wiring
from auditns_connector.host.observer import Observer
from auditns_connector.journal.reader import JournalReader
from auditns_connector.model.apply.dispatch import Model


class NoRings:
    """Perf without a CPU: the C that drains it finds nothing."""

    began = 0
    features = frozenset(("task",))

    def __init__(self) -> None:
        self._set = ffi.gc(lib.perf_set_new(), lib.perf_set_free)
        self._parts = ffi.new("struct perf_counters *"), ffi.new("struct perf_layout *")

    def watch(self, clock: Any) -> Any:
        counters, layout = self._parts
        about = {"set": self._set, "layout": layout, "counters": counters, "clock": clock}
        self._look = ffi.new("struct perf_look *", about)
        return self._look

    def filenos(self) -> list[int]:
        return []

    def counters(self) -> dict[str, int]:
        return {}

    def refresh(self) -> bool:
        return False

    def close(self) -> None:
        """Nothing is open."""


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

    def tell_clock(self) -> None:
        """The journal's counts."""

    def absorb(self, cut: int, block: bytes) -> None:
        """There is nothing."""

    def prove(self) -> bool:
        return False

    def mark(self, now: int, serials: list[int], expire: int = 0) -> None:
        """Nobody is forgotten."""


def observer(**options: Any) -> tuple[Observer, list[str]]:
    """In place of the host's own."""
    return Recorded(Model(), perf=NoRings(), options=options["options"]), []  # type: ignore[arg-type]


if __name__ == "__main__":
    wiring.host_observer = observer
    config.DEFAULT_PATH = sys.argv[2]
    plugin.run([])  # auditd gives it no arguments
