"""What ``auditns status`` shows: the counters of every source, table, queue and output."""

import time
from typing import TYPE_CHECKING

from auditns_connector.host.observer import Observer
from auditns_connector.pipeline.text_side import TextSide
from auditns_connector.vocabulary.values import JsonObject

if TYPE_CHECKING:
    from auditns_connector.model.apply.dispatch import Model


def status(observer: Observer, text: TextSide) -> JsonObject:
    """Counters as a JSON-able object."""
    correlator, enricher, streams = text.correlator, text.enricher, text.streams
    return {
        "events": {
            "seen": enricher.events,
            "shown": enricher.shown,
            "answered": correlator.answered,
            "attributed": correlator.attributed,
            "unknown": correlator.unknown,
            "contradicted": correlator.contradicted,
        },
        "lost": lost(observer, text),
        "behind_s": round(text.behind(time.monotonic_ns()) / 1e9, 3),
        "table": _table(observer.model),
        "sources": _sources(observer, text),
        "ns_source": observer.ns_source,
        "queue": {"pending_bytes": text.stream.pending},
        "sinks": text.outputs.status(),
        **({} if streams is None else {"streams": streams.status()}),
    }


def _table(model: "Model") -> JsonObject:
    return {
        "processes": len(model.processes),
        "ended": len(model.dead),
        "threads": len(model.threads),
        "containers": len(model.containers.by_key),
        "namespaces": sum(map(len, model.namespaces.current)),
        "losses": model.epoch,
        "unknown_frames": model.unknown_frames,
    }


def _sources(observer: Observer, text: TextSide) -> JsonObject:
    found: JsonObject = {}
    if observer.perf is not None:
        found["perf"] = observer.perf.counters()
    if observer.connector is not None:
        found["connector"] = observer.connector.counters()
    if text.audit is not None:
        found["audit"] = {
            "received": text.stream.lines,
            "cut": text.stream.cut,
            "divided": text.enricher.divided,
            **text.audit.counters(),
        }
        if text.standalone is not None:
            found["audit"]["lost"] += text.standalone.lost
    found["procfs"] = observer.counters
    if observer.journal is not None:
        found["journal"] = {"written": observer.journal.written, "failed": observer.journal.failed}
    return found


def lost(observer: Observer, text: TextSide) -> int:
    """Everything lost anywhere since the start: kernel events, audit records, lines dropped by outputs."""
    found = text.outputs.lost
    for source in (observer.perf, observer.connector, text.audit):
        if source is not None:
            found += source.counters().get("lost", 0)
    return found if text.standalone is None else found + text.standalone.lost
