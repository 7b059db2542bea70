"""A status as OpenMetrics text, by the client library of Prometheus, which is wanted only here.

Source: https://prometheus.io/docs/specs/om/open_metrics_spec/
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from auditns_connector.errors import NotSupportedError
from auditns_connector.metrics.names import FAMILIES, samples
from auditns_connector.vocabulary.values import JsonObject

if TYPE_CHECKING:
    from prometheus_client import Metric

CONTENT_TYPE: Final = "application/openmetrics-text; version=1.0.0; charset=utf-8"


def exposition(status: JsonObject | None) -> bytes:
    """The text, with its end mark; ``None``: no program answers, so auditns_up is 0 and nothing else is there.

    Raises :class:`NotSupportedError` where the library is missing.
    """
    try:
        from prometheus_client import CollectorRegistry
        from prometheus_client.openmetrics.exposition import generate_latest
    except ImportError:
        raise NotSupportedError(
            "metrics need a module that is missing: pip install 'auditns-connector[metrics]'"
        ) from None

    class Collected:
        def collect(self) -> "Iterator[Metric]":
            return _families(status)

    registry = CollectorRegistry()
    registry.register(Collected())
    return bytes(generate_latest(registry))  # type: ignore[no-untyped-call]


def _families(status: JsonObject | None) -> "Iterator[Metric]":
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

    yield GaugeMetricFamily("auditns_up", "1: a listener or plugin answers", value=float(status is not None))
    for family in FAMILIES if status is not None else ():
        found = samples(family, status or {})
        if not found:
            continue
        kind = CounterMetricFamily if family.kind == "counter" else GaugeMetricFamily
        metric = kind(family.name, family.text, labels=[family.label] if family.label else [])
        for label, value in found:
            metric.add_metric([label] if family.label else [], value)
        yield metric
