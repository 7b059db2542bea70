"""What the counters come to: one line that says whether all is well, and if not why, and what to do. Pure."""

from collections.abc import Iterator
from typing import Final, Literal, NamedTuple

from auditns_connector.metrics.names import walk
from auditns_connector.vocabulary.values import JsonObject

State = Literal["ok", "behind", "lost", "blind"]

#: an answer that is late by more is one that somebody notices (s)
LATE: Final = 1.0


class Verdict(NamedTuple):
    """``state`` in one word; why; and what to do, "" where nothing needs to be done."""

    state: State
    why: str
    remedy: str = ""

    def line(self) -> str:
        """All of it in one line."""
        return f"{self.state}: {self.why}" + (f" – {self.remedy}" if self.remedy else "")


def verdict(status: JsonObject) -> Verdict:
    """The worst that is true of ``status``: blind before lost before behind."""
    for judge in (_blind, _lost, _behind):
        if found := next(judge(status), None):
            return found
    seen, unknown = _number(status, "events.seen"), _number(status, "events.unknown")
    why = f"nothing lost, nothing waits; {seen:.0f} events, {unknown:.0f} unknown"
    return Verdict("ok", why)


def _blind(status: JsonObject) -> Iterator[Verdict]:
    if status.get("ns_source") == "procfs":
        yield Verdict(
            "blind",
            "no kernel events of namespaces arrive: /proc alone is read, and much stays unknown",
            "auditns doctor",
        )
    if _number(status, "sources.journal.failed"):
        yield Verdict("blind", "the journal could not be written on", "look for a full disk, then restart")


#: where something was lost -> what it was, and what helps
_LOSSES: Final = (
    ("sources.perf.lost", "kernel events (perf)", "raise sources.perf_buffer in auditns.toml"),
    ("sources.connector.lost", "kernel events (connector)", "raise sources.connector_buffer in auditns.toml"),
    ("sources.audit.dropped_events", "audit events above input_queue", "raise sources.input_queue in auditns.toml"),
    ("sources.audit.lost", "audit records before they came here", "raise the kernel's queue: auditctl -b 8192"),
)


def _lost(status: JsonObject) -> Iterator[Verdict]:
    parts = [(_number(status, path), what, remedy) for path, what, remedy in _LOSSES]
    for name, dropped in walk(status, ["sinks", "*", "dropped_records"]):
        parts.append((dropped, f"lines of output {name}", f"see why {name} is slow, or raise output.{name}.queue"))
    parts = [part for part in parts if part[0]]
    if parts:
        worst = max(parts)
        why = ", ".join(f"{count:.0f} {what}" for count, what, _ in parts)
        yield Verdict("lost", f"{why} since the start", worst[2])
    elif _number(status, "lost"):
        yield Verdict("lost", f"{_number(status, 'lost'):.0f} since the start")


def _behind(status: JsonObject) -> Iterator[Verdict]:
    late = _number(status, "behind_s")
    if late >= LATE:
        waiting = _number(status, "sources.audit.waiting") + _number(status, "sources.audit.spooled")
        yield Verdict(
            "behind", f"by {late:.1f} s, {waiting / (1 << 20):.1f} MiB of audit text wait",
            "nothing is lost; fewer audit rules, or less that is forked, lets it catch up",
        )  # fmt: skip


def _number(status: JsonObject, path: str) -> float:
    return sum(value for _, value in walk(status, path.split(".")))
