"""The stand-alone records of a run, opened."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from auditns_connector.pipeline.lifecycle_budget import EACH, TOTAL, LifecycleBudget
from auditns_connector.pipeline.standalone_records import StandaloneRecords
from auditns_connector.pipeline.text_stage import NUMERIC, RAW
from auditns_connector.state.event_serials import EventSerials
from auditns_connector.state.paths import RUN_DIR

if TYPE_CHECKING:
    from auditns_connector.attribution.attributor import Correlator
    from auditns_connector.emit.pretty import Pretty
    from auditns_connector.host.observer import Observer
    from auditns_connector.pipeline.filters import LiveFilter


def open_standalone(
    observer: "Observer", formats: Sequence[str], *, correlator: "Correlator | None" = None, colour: bool = False,
    lines: "Pretty | None" = None, wanted: "LiveFilter | None" = None, track: bool = False, joined: int = 0,
    directory: str | None = RUN_DIR, each: int = EACH, total: int = TOTAL,
) -> StandaloneRecords:  # fmt: skip
    """The stand-alone records of a run; ``correlator`` is needed for JSON and lines for people."""
    renderer = None
    if correlator is not None and not {RAW, NUMERIC}.issuperset(formats):
        from auditns_connector.emit.render import Renderer

        renderer = Renderer(correlator, colour, lines)
    serials = EventSerials(directory, boot_id=observer.model.containers.boot_id)
    return StandaloneRecords(
        observer.model,
        serials,
        formats,
        renderer=renderer,
        wanted=wanted,
        track=track,
        joined=joined,
        budget=LifecycleBudget(each, total),
    )
