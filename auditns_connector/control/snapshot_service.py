"""Snapshots of the running program over its control socket, and of this host by a scan where none is running.

A request ``{"op": "snapshot"}`` takes one and answers ``{"id", "parts", "part": 0, "data"}``; the further parts are
asked for by ``{"op": "snapshot", "id", "part"}``. One snapshot is kept: whoever comes too late asks anew.
"""

import gc
import time
from typing import TYPE_CHECKING

from auditns_connector.errors import AuditnsError, BehindError, NotPermittedError
from auditns_connector.vocabulary.values import JsonObject

if TYPE_CHECKING:
    import socket

    from auditns_connector.control.server import Peer
    from auditns_connector.control.snapshot import Snapshot
    from auditns_connector.host.observer import Observer


class SnapshotServer:
    """Answers snapshot requests about what ``observer`` knows."""

    def __init__(self, observer: "Observer") -> None:
        self._observer = observer
        self._id = 0
        self._parts: list[str] = []

    def answer(self, request: JsonObject, peer: "Peer", sock: "socket.socket") -> JsonObject:
        """One part of a snapshot."""
        from auditns_connector.control import snapshot

        number, part = request.get("id"), request.get("part", 0)
        if number is None:
            observer = self._observer
            now = observer.sync_within()
            self._id += 1
            self._parts = snapshot.pack(snapshot.take(observer.model, now, time.time(), live=True))
            number, part = self._id, 0
        if number != self._id or not isinstance(part, int) or not 0 <= part < len(self._parts):
            return {"ok": False, "error": "ESTALE", "message": "that snapshot is no longer kept: ask for a new one"}
        data = self._parts[part]
        return {"ok": True, "id": self._id, "parts": len(self._parts), "part": part, "data": data}


class Snapshots:
    """Where snapshots come from: the program behind the control socket ``path``, else a scan of our own."""

    def __init__(self, path: str) -> None:
        self._path = path
        #: nobody serves; what is shown comes from scans
        self.alone = False

    def take(self) -> "Snapshot":
        """One snapshot. Raises :class:`AuditnsError`."""
        if not self.alone:
            try:
                return self._ask()
            except (BehindError, NotPermittedError):
                raise
            except AuditnsError:
                self.alone = True
        return self.scan()

    def _ask(self) -> "Snapshot":
        from auditns_connector.control import snapshot
        from auditns_connector.control.server import ask

        for _ in range(3):
            answer = ask(self._path, {"v": 1, "op": "snapshot"})
            if answer.get("error") == "EAGAIN":
                raise BehindError  # a scan of ours would know less
            if not answer.get("ok"):
                raise AuditnsError(str(answer.get("message", "refused")))
            parts = [str(answer["data"])]
            while len(parts) < int(answer["parts"]):
                more = ask(self._path, {"v": 1, "op": "snapshot", "id": answer["id"], "part": len(parts)})
                if not more.get("ok"):
                    break  # somebody else asked meanwhile
                parts.append(str(more["data"]))
            else:
                try:
                    return snapshot.unpack(parts)
                except ValueError as error:
                    raise AuditnsError(f"{self._path}: the answer cannot be understood: {error}") from error
        raise AuditnsError(f"{self._path}: others ask for snapshots all the time; try again")

    def scan(self) -> "Snapshot":
        """One of this host as /proc and the runtimes' files show it now."""
        from auditns_connector.control import snapshot
        from auditns_connector.host.observer import Observer
        from auditns_connector.host.runtime_metadata import ReaderAtOnce, RuntimeMetadata
        from auditns_connector.model.apply.dispatch import Model
        from auditns_connector.sources.runtimefiles import RuntimeFiles

        observer = Observer(Model(), perf=None, connector=None, ns_source="procfs", all_serials=True)
        try:
            observer.start()
            metadata = RuntimeMetadata(observer, ReaderAtOnce(RuntimeFiles()))
            while metadata.ask_due():
                continue
            return snapshot.take(observer.model, time.monotonic_ns(), time.time(), live=False)
        finally:
            observer.close()
            del observer
            # a start exempts what it made from collection, which a daemon needs to its end; this model is gone now
            gc.unfreeze()
            gc.collect()
