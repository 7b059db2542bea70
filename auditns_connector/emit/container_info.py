"""CONTAINER_INFO as an event of its own, so that a log says by itself what its containers are."""

from typing import TYPE_CHECKING

from auditns_connector.audittext import own_records as text
from auditns_connector.model.places import Container
from auditns_connector.model.runtimes import unit_of

if TYPE_CHECKING:
    from auditns_connector.model.apply.dispatch import Model

_MS = 1_000_000


def container_alone(model: "Model", container: Container, reason: str, numeric: bool, more: str = "") -> bytes:
    """CONTAINER_INFO of ``container``; b"" where it has no number yet (a sandbox whose namespace has no serial)."""
    contid = number_of(model, container)
    if not contid:
        return b""
    names = (
        ("runtime", container.runtime or None),
        ("ctr-id", container.id or None),
        ("ctr-name", container.name or None),
        ("pod", container.pod or None),
        ("pod-ns", container.namespace or None),
        ("image", container.image or None),
        ("pod-uid", container.pod_uid or None),
        ("role", container.role or None),
        ("labels", text.labels(container.labels)),
        ("unit", unit(container) or None),
    )
    return text.container_alone(
        reason, contid, container.kind, numeric, names=names, since=_since(model, container), first=container.init,
        more=more,
    )  # fmt: skip


def number_of(model: "Model", container: Container) -> str:
    """The text of its identifiers; "" while one of them is not known. Makes none: a serial that is asked for here would
    not be asked for in a replay."""
    for link in container.chain():
        if link.contid is None and (link.sandbox is None or link.sandbox.serial is None):
            return ""
    return model.containers.text(container)


def unit(container: Container) -> str:
    """The systemd unit that the container is, or is in."""
    home = container.home.unit if container.home is not None else ""
    return home or next(filter(None, map(unit_of, container.places.values())), "")


def _since(model: "Model", container: Container) -> str | None:
    """When it began, where that was seen."""
    if container.born < model.began or model.clock.offset is None:
        return None
    ms = (container.born + model.clock.offset) // _MS
    return f"{ms // 1000}.{ms % 1000:03d}"
