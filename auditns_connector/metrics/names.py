"""The names under which counters are exported, each with where it stands in what ``auditns status --json`` says.

Names follow the conventions of Prometheus (https://prometheus.io/docs/practices/naming/): a prefix, the unit, and
_total for what only grows, which the library adds. auditns-metrics(8), the alerts and the dashboard use these names.
"""

from collections.abc import Iterator
from typing import Final, Literal, NamedTuple

from auditns_connector.vocabulary.values import Json, JsonObject

Kind = Literal["counter", "gauge"]


class Family(NamedTuple):
    """One metric. ``paths`` are keys of the status separated by dots; a ``*`` stands for any key, and gives the value
    of the label ``label``; where there is a label and no ``*``, :attr:`values` has a value for each path."""

    name: str
    kind: Kind
    text: str
    paths: tuple[str, ...]
    label: str = ""
    values: tuple[str, ...] = ()


def _events(*names: str) -> tuple[str, ...]:
    return tuple(f"events.{name}" for name in names)


_OUTCOMES: Final = ("shown", "answered", "attributed", "unknown", "contradicted")

#: name, kind, what it says, where it stands, and by which label its values differ
FAMILIES: Final = (
    Family("auditns_uptime_seconds", "gauge", "time since the start", ("uptime_s",)),
    Family("auditns_behind_seconds", "gauge", "age of the oldest audit text without an answer", ("behind_s",)),
    Family("auditns_lost", "counter", "kernel events, audit records and lines lost anywhere", ("lost",)),
    Family("auditns_audit_events", "counter", "audit events that came", ("events.seen",)),
    Family("auditns_audit_events_outcome", "counter", "audit events by what became of them",
           _events(*_OUTCOMES), "outcome", _OUTCOMES),
    Family("auditns_source_received", "counter", "records or events received", ("sources.*.received",), "source"),
    Family("auditns_source_lost", "counter", "records or events lost before they came", ("sources.*.lost",), "source"),
    Family("auditns_source_refused", "counter", "input that is malformed, cut short, or of somebody else",
           ("sources.*.malformed", "sources.*.truncated", "sources.*.foreign"), "source"),
    Family("auditns_intake_waiting_bytes", "gauge", "audit text in memory without an answer",
           ("sources.audit.waiting",)),
    Family("auditns_intake_spooled_bytes", "gauge", "audit text on disk without an answer",
           ("sources.audit.spooled",)),
    Family("auditns_intake_dropped_events", "counter", "audit events dropped above both limits of input_queue",
           ("sources.audit.dropped_events",)),
    Family("auditns_resyncs", "counter", "times that /proc was read anew after a loss", ("sources.procfs.resyncs",)),
    Family("auditns_journal_written_bytes", "counter", "bytes of the journal", ("sources.journal.written",)),
    Family("auditns_journal_failed", "gauge", "1: the journal could not be written on", ("sources.journal.failed",)),
    Family("auditns_processes", "gauge", "tasks in the table",
           ("table.processes", "table.ended", "table.threads"), "state", ("known", "ended", "threads")),
    Family("auditns_containers", "gauge", "living containers", ("table.containers",)),
    Family("auditns_namespaces", "gauge", "living namespaces", ("table.namespaces",)),
    Family("auditns_kernel_losses", "counter", "losses of kernel events that made answers doubtful",
           ("table.losses",)),
    Family("auditns_output_written_records", "counter", "lines written", ("sinks.*.written_records",), "output"),
    Family("auditns_output_written_bytes", "counter", "bytes written", ("sinks.*.written_bytes",), "output"),
    Family("auditns_output_dropped_records", "counter", "lines dropped", ("sinks.*.dropped_records",), "output"),
    Family("auditns_output_dropped_audit_records", "counter", "lines dropped that are records of audit",
           ("sinks.*.dropped_audit",), "output"),
    Family("auditns_output_queued_bytes", "gauge", "bytes to be written", ("sinks.*.queued_bytes",), "output"),
    Family("auditns_output_errors", "counter", "failed writes", ("sinks.*.errors",), "output"),
    Family("auditns_stream_lost_records", "counter", "records lost", ("streams.*.lost_records",), "stream"),
    Family("auditns_stream_events", "counter", "events taken", ("streams.*.events",), "stream"),
    Family("auditns_lifecycle_records", "counter", "NS_ records written, and counted in their place",
           ("lifecycle.told", "lifecycle.counted"), "how", ("written", "counted")),
    Family("auditns_registrations", "counter", "requests to register a container",
           ("registrations.accepted", "registrations.refused"), "result", ("accepted", "refused")),
    Family("auditns_registered_containers", "gauge", "registered containers that live", ("registrations.living",)),
    Family("auditns_missing_registrations", "counter", "containers of expected runtimes not registered in time",
           ("registrations.missing",)),
    Family("auditns_control_requests", "counter", "requests on the control socket", ("control.requests",)),
)  # fmt: skip


class Sample(NamedTuple):
    """One value; ``label`` is that of its family, "" where it has none."""

    label: str
    value: float


def samples(family: Family, status: JsonObject) -> list[Sample]:
    """The values of ``family`` in a status; of several paths with one label value, the sum. Empty: it has none."""
    found: dict[str, float] = {}
    for number, path in enumerate(family.paths):
        for star, value in walk(status, path.split(".")):
            label = star or (family.values[number] if family.values else "")
            found[label] = found.get(label, 0) + float(value)
    return [Sample(label, value) for label, value in sorted(found.items())]


def walk(status: Json, path: list[str]) -> Iterator[tuple[str, float]]:
    """(the key that stood for ``*``, the number) for each number at ``path``; what is no number is left out."""
    if not path:
        if isinstance(status, (int, float)):
            yield "", status
        return
    if not isinstance(status, dict):
        return
    head, *rest = path
    for key in status if head == "*" else (head,):
        if key in status:
            for star, value in walk(status[key], rest):
                yield (key if head == "*" else star), value
