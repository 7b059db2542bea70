"""The container that a cgroup path is in."""

from auditns_connector.model.runtimes import Runtime, chain


def recognise(path: str) -> Runtime | None:
    """The innermost container of ``path``; ``None`` where nothing tells."""
    found = chain(path)
    return found[-1] if found else None
