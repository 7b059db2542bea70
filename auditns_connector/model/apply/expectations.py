"""Registrations that are missing: containers of runtimes whose hook should have registered them, and that it did not.

A hook runs before a container's first program, so at the first exec in it a registration is there, unless the hook gave
up or nobody served it; GRACE is for what sets identifiers later. What is judged: a container that a cgroup path on the
host names, outside every other one and outside what users may write to, for there a name is anybody's word. When: GRACE
after its first exec, or at its end if that comes before; a container that was there when we began, GRACE after that.
Once a container. One that holds a pod's namespaces alone is excepted, so where a container may be such a one it waits
until its runtime's files have been read, at most PATIENCE.

A registration that comes after GRACE is accepted and reported as every other one; what was reported stays true for its
moment. Requests ("expect", "judge") come as REGISTER frames, so that a replay judges at the same moments.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from auditns_connector.model.outputs import ContainerOp
from auditns_connector.model.places import Container
from auditns_connector.model.runtimes import KUBERNETES
from auditns_connector.vocabulary.oci import PAUSE
from auditns_connector.vocabulary.values import JsonObject

if TYPE_CHECKING:
    from auditns_connector.model.tables import Tables

#: ns from the first exec until a registration is missing
GRACE: Final = 5_000_000_000
#: ns from the first exec for which it is waited what the runtime's files say: they are asked for up to 37.5 s
#: (host/runtime_metadata.py)
PATIENCE: Final = 40_000_000_000
#: runtimes whose containers may be a pod's pause container
_OF_PODS: Final = frozenset((KUBERNETES, "containerd", "crio"))


class Expectations:
    """Judges the containers of ``model``."""

    def __init__(self, model: "Tables") -> None:
        self._model = model
        #: words for runtimes, as records have them
        self.runtimes: frozenset[str] = frozenset()
        #: containers reported as missing; of these, registered later after all; ended before it was known what they are
        self.missing = self.late = self.unclear = 0

    # -- frames

    def expect(self, time: int, request: JsonObject) -> None:
        """From now on registrations of these runtimes' containers are expected; ``told`` are keys of those that are
        reported already."""
        self.runtimes = frozenset(map(str, request["runtimes"]))
        for key in request.get("told", ()):
            container = self._model.containers.by_key.get(tuple((str(runtime), str(ident)) for runtime, ident in key))
            if container is not None:
                container.missed = True

    def judge(self, time: int, request: JsonObject) -> None:
        """It is ``time``: tell of those that are due."""
        for container in list(self._due(time)):
            self._tell(container, time, self._oldest(container))

    # -- asked

    def due(self, now: int) -> bool:
        """Whether :meth:`judge` at ``now`` (CLOCK_MONOTONIC ns) would tell of any."""
        return next(self._due(now), None) is not None

    def snapshot(self) -> JsonObject | None:
        """The request that puts this back; ``None`` where there is nothing."""
        if not self.runtimes:
            return None
        missing = [container.key for container in self._model.containers.by_key.values() if container.missed]
        return {"op": "expect", "runtimes": sorted(self.runtimes), "told": missing}

    def counters(self) -> dict[str, int]:
        """For auditns status."""
        return {"missing": self.missing, "late": self.late, "unclear": self.unclear}

    # -- the rules

    def ended(self, container: Container, time: int) -> None:
        """The last process of ``container`` has gone, or belongs to a registered one now."""
        last = self._model.ending
        if container.key in self._model.containers.taken or last is None:
            self.late += container.missed
        elif self._expected(container) and container.ran is not None:
            if self._described(container):
                self._tell(container, time, last.pid)
            else:
                self.unclear += 1

    def _due(self, now: int) -> Iterator[Container]:
        if not self.runtimes:
            return
        for container in self._model.containers.by_key.values():
            since = self._since(container)
            if since is None or since + GRACE > now or not self._expected(container):
                continue
            if self._described(container) or since + PATIENCE <= now:
                yield container

    def _expected(self, container: Container) -> bool:
        """Whether a registration is expected, and that it is missing has not been reported."""
        return (
            container.kind == "runtime"
            and not container.missed
            and container.parent is None
            and not container.yields_id
            and container.role != PAUSE
            and not self.runtimes.isdisjoint(container.runtimes)
        )

    def _since(self, container: Container) -> int | None:
        """Its first exec; of one that was there before us, when we began to look."""
        began = self._model.began
        return began if container.ran is None and container.born <= began else container.ran

    @staticmethod
    def _described(container: Container) -> bool:
        """Whether it is known to be no pause container: its files have named it, or no such path is one's."""
        of_pod = bool(container.pod_uid) or not _OF_PODS.isdisjoint(container.runtimes)
        return bool(container.name) or not of_pod

    def _oldest(self, container: Container) -> int:
        """The pid of its first process, or of the oldest that lives; 0 where none is known."""
        if container.init is not None and self._model.incarnation(*container.init) is not None:
            return container.init[0]
        living = [(process.start, process.pid) for process in self._model.table.living_in([container])]
        return min(living)[1] if living else 0

    def _tell(self, container: Container, time: int, pid: int) -> None:
        container.missed = True
        self.missing += 1
        text = self._model.containers.text(container)
        number = str(self._model.containers.contid(container))
        self._model.tell(ContainerOp(time, "set", pid, number, text, {}, "ENOENT", None, container))
