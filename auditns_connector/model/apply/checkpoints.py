"""Containers that were dumped to an image, and those that were restored from one: CONTAINER_OP checkpoint and restore.

What joins the two is the UUID of the dump (registration/criu_image.py), on one host or on several. On this host a
container that is restored has had an identifier before, which is reported where its dump was seen here.

A runtime says "stopped" of a container that has ended and of one that is being restored alike; the latter has a
process. Whether a process is its first one is not for the runtime's word alone to say: a pid that was written down
earlier may be somebody else's by now. See :meth:`Checkpoints.may_be_restored`.
"""

from collections import OrderedDict
from typing import TYPE_CHECKING, Final

from auditns_connector.model.outputs import ContainerOp
from auditns_connector.model.places import UNKNOWN, Container
from auditns_connector.model.process import Process
from auditns_connector.vocabulary.namespaces import MNT
from auditns_connector.vocabulary.values import JsonObject

if TYPE_CHECKING:
    from auditns_connector.model.tables import Tables

#: containers that have ended, and dumps, that are remembered
MOST_GONE: Final = 1024
MOST_DUMPS: Final = 1024
_UNKNOWN_TEXT: Final = "?"


class Checkpoints:
    """Dumps and restores of the containers of ``model``."""

    def __init__(self, model: "Tables") -> None:
        self._model = model
        #: the newest container that had a runtime's identifier, of those that have ended
        self._gone: OrderedDict[str, Container] = OrderedDict()
        #: UUID of a dump -> the identifier of the container that was dumped
        self.dumps: OrderedDict[str, str] = OrderedDict()
        #: counts what is worth keeping over a restart
        self.changes = 0

    # -- asked

    def may_be_restored(self, process: Process, ident: str, run: str = "") -> bool:
        """Whether ``process`` may be the first of the container that its runtime calls ``ident`` and restores from the
        dump ``run``: it has mounts of its own, and nothing says that it is in another container. The cgroup may be
        called as that of the container that was dumped."""
        nsset, container = process.state.nsset, process.state.container
        mounts = nsset.inst[MNT] if nsset is not None else None
        if mounts is None or mounts.initial:
            return False
        if container is None or container is UNKNOWN or container.kind == "sandbox" or container.id == ident:
            return True
        return container.kind == "runtime" and self.dumps.get(run) == self._model.containers.text(container)

    # -- outputs

    def ended(self, container: Container, time: int) -> None:
        """``container`` has no process any more."""
        if container.kind in ("runtime", "registered") and container.id and container.contid is not None:
            self._gone.pop(container.id, None)
            self._gone[container.id] = container
            while len(self._gone) > MOST_GONE:
                self._gone.popitem(last=False)

    def restored(self, time: int, container: Container, request: JsonObject) -> None:
        """``container`` has just been registered, and is a restored one; ``request`` says of which dump."""
        run = str(request["restored"])
        pid = container.first[0] if container.first is not None else 0
        old = self.dumps.get(run, _UNKNOWN_TEXT) if run else _UNKNOWN_TEXT
        text = self._model.containers.text(container)
        caller = request.get("caller") or {}
        out = ContainerOp(time, "restore", pid, text, old, caller, "", None, container, run or _UNKNOWN_TEXT)
        self._model.tell(out)

    def dumped(self, time: int, request: JsonObject) -> None:
        """A container has ended, and there is an image with a dump's UUID where its runtime puts it. An image that is
        older than the container is not of it: what it was restored from lies there as well."""
        run, container = str(request["run"]), self._newest(str(request["id"]))
        if container is None or container.contid is None:
            return
        began = container.born + (self._model.clock.offset or 0)
        text = self._model.containers.text(container)
        if int(request["written"]) < began or self.dumps.get(run) == text:
            return
        self.take(run, text)
        who = container.first or container.init
        pid = who[0] if who is not None else 0
        out = ContainerOp(time, "checkpoint", pid, text, text, request.get("caller") or {}, "", None, container, run)
        self._model.tell(out)

    def take(self, run: str, text: str) -> None:
        """The dump ``run`` is of the container ``text``."""
        self.dumps.pop(run, None)
        self.dumps[run] = text
        self.changes += 1
        while len(self.dumps) > MOST_DUMPS:
            self.dumps.popitem(last=False)

    def _newest(self, ident: str) -> Container | None:
        living = [c for c in self._model.containers.by_key.values() if c.id == ident and c.parent is None]
        return max(living, key=lambda c: (c.kind == "registered", c.born), default=self._gone.get(ident))

    # -- kept over a restart

    def snapshot(self) -> JsonObject:
        """The request that puts this back."""
        return {"op": "dumps", "dumps": list(map(list, self.dumps.items()))}

    def put_back(self, time: int, request: JsonObject) -> None:
        """What :meth:`snapshot` has given."""
        for run, text in request["dumps"]:
            self.take(str(run), str(text))
