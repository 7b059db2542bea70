"""What is registered: living containers with an identifier that was set, and who may set more of them."""

from collections import OrderedDict

from auditns_connector.model.containers import Containers
from auditns_connector.model.places import Container
from auditns_connector.model.process import REGISTERED

#: (pid, start) of a process
Who = tuple[int, int]


class Registrations:
    """Registered ones among ``containers``."""

    def __init__(self, containers: Containers) -> None:
        self._containers = containers
        #: counts every change that is worth keeping over a restart
        self.changes = 0
        #: containers set since somebody last took this list away
        self.fresh: list[Container] = []
        #: who holds the delegated right, and the container (None: the host) it holds for
        self.delegates: dict[Who, Container | None] = {}
        #: registered ids whose container has ended: its owner and its last process
        self.ended: OrderedDict[int, tuple[Container | None, Who]] = OrderedDict()

    def living(self) -> list[Container]:
        """The registered containers alive now, those around others first."""
        found = [c for c in self._containers.by_key.values() if c.kind == REGISTERED and c.ended is None]
        return sorted(found, key=lambda c: (len(c.chain()), c.born, c.key))
