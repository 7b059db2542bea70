"""Registration as the control socket serves it: requests in, REGISTER frames to the model, answers out.

Nothing is decided here. What only this moment can tell (who asks, whether the process lives, whether audit is on) is
put into the frame; the model decides by model/apply/registration.py, live and in a replay alike.
"""

import contextlib
import json
import os
import socket
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from auditns_connector.control.peer import Peer, PidHandle, describe_caller, translate
from auditns_connector.control.server import ControlServer, Handler
from auditns_connector.daemon.log import Log, RateLimitedLog
from auditns_connector.errors import AuditnsError
from auditns_connector.model.apply import inner_ids_state as insidestate
from auditns_connector.model.apply.requests import Refused, number
from auditns_connector.model.apply.restore_requests import requests_of
from auditns_connector.model.container_names import MAX_NAME, NAMES
from auditns_connector.model.places import UNKNOWN, Container
from auditns_connector.model.runtimes import derive_contid
from auditns_connector.registration.oci_state import BadState, request_of
from auditns_connector.registration.requests import feed_request
from auditns_connector.registration.state_file import StateFile
from auditns_connector.sources.procfs import Procfs
from auditns_connector.vocabulary import frames as f
from auditns_connector.vocabulary.values import JsonObject

if TYPE_CHECKING:
    from auditns_connector.host.observer import Observer

#: containers in one answer of "contid-list"
PAGE: Final = 200
#: how often the members of containers that only their processes tell are written down anew (seconds)
_SAVE_EVERY: Final = 2.0
#: a change is written at once unless the last writing is not this long ago; then with the next tick (seconds)
_SAVE_SOON: Final = 0.1
_MAX_DELEGATED: Final = 1024
_AGAIN: Final = 50_000_000


def audit_is_on() -> bool:
    """Whether the kernel makes audit records; taken for granted where it cannot be asked."""
    from auditns_connector.auditrules.netlink import AuditControl

    try:
        with AuditControl(timeout=1.0) as control:
            return control.status().enabled != 0
    except AuditnsError:
        return True


class Registrar:
    """Serves registrations on ``control`` for ``observer`` and keeps them over a restart in ``state``."""

    def __init__(
        self,
        observer: "Observer",
        control: ControlServer,
        log: "Log",
        *,
        state: StateFile | None = None,
        audit_on: Callable[[], bool] = audit_is_on,
    ) -> None:
        self._observer = observer
        self._model = observer.model
        self._control = control
        self._log, self._rate_limited = log, RateLimitedLog(log)
        self._state = state
        self._audit_on = audit_on
        self._procfs = Procfs()
        self._saved = float("-inf")
        self._kept = 0
        #: sockets given with the delegated right: (pid, start) of the holder -> its server
        self.delegated: dict[tuple[int, int], ControlServer] = {}
        self.counters = {"accepted": 0, "refused": 0}
        self.handlers: dict[str, Handler] = {
            "contid-set": self._set,
            "contid-get": self._get,
            "contid-list": self._list,
            "contid-delegate": self._delegate,
            "contid-hook": self._hook,
            "contid-stopped": self._stopped,
            "subscribe": self._subscribe,
        }
        control.handlers.update(self.handlers)
        control.document_handlers["contid-state"] = self._state_document
        control.keep = self.keep

    # -- requests

    def _ask(self, op: str, request: JsonObject, peer: Peer, sock: socket.socket, **more: object) -> JsonObject:
        """Feed one REGISTER frame and return what the model made of it."""
        pid = request.get("pid")
        with PidHandle.by_socket(sock) as caller_held:
            caller = describe_caller(self._procfs, caller_held, peer)
            found = translate(pid, caller)
            with PidHandle.by_pid(found) as held:
                about = self._procfs.describe(found) if found else None
                self._observer.sync_within()
                self._observer.name_namespaces(found)
                now = self._observer.sync_within()
                alive = about is not None and held.alive()
                how = "" if alive else held.ended()
                frame = {
                    "op": op,
                    "start": about["start"] if about is not None and alive else None,
                    "caller": caller,
                    "audit": self._audit_on(),
                    **more,
                }
                payload = json.dumps(frame).encode()
                self._observer.feed(f.pack(f.K_REGISTER, f.S_CONTROL, now, pid=found, payload=payload))
        outcome = self._model.registry.last
        self.counters["refused" if outcome.error else "accepted"] += 1
        self.keep()
        if outcome.error:
            return {
                "ok": False,
                "error": outcome.error,
                "message": f"{outcome.message}: {how}" if how and outcome.error == "ESRCH" else outcome.message,
                "contid": self._text(outcome.container),
            }
        # stamps of audit records are coarse: only after this time is an event distinguished from those before the set
        return {"ok": True, "contid": self._text(outcome.container), "wait_ms": self._model.lag // 1_000_000}

    def _set(self, request: JsonObject, peer: Peer, sock: socket.socket) -> JsonObject:
        asked = request.get("id")
        asked = str(asked) if isinstance(asked, (int, str)) and not isinstance(asked, bool) else ""
        more = {"id": asked[:4096], "new": bool(request.get("new")), "names": names(request.get("names"))}
        return self._ask("set", request, peer, sock, unreaped=self._unreaped(asked), **more)

    def _state_document(self, document: bytes, peer: Peer, sock: socket.socket) -> JsonObject:
        """A runtime's hook has passed the state of a container as it got it."""
        self._observer.sync_within()
        process = self._model.alive(peer.pid)
        # the bundle of somebody in a container is not looked for: its path could lead into the host's files
        on_host = process is not None and process.state.container is None
        try:
            request = request_of(document, f"/proc/{peer.pid}/root" if on_host else None, peer.pid)
        except BadState as error:
            return {"ok": False, "error": "EINVAL", "message": str(error)}
        if request["op"] == "contid-stopped":
            return self._stopped(request, peer, sock, image=request.get("image"))
        return self.handlers[request["op"]](request, peer, sock)

    def _hook(self, request: JsonObject, peer: Peer, sock: socket.socket, **restored: str) -> JsonObject:
        """A runtime's hook: the id is made from the runtime's own, the whole thread group is meant; ``restored`` is the
        dump that it is restored from."""
        labels = names(request.get("names"))
        runtime, full_id = labels.get("runtime", ""), labels.get("id", "")
        wanted = str(derive_contid(runtime, full_id)) if full_id else ""
        more = {"id": wanted, "new": True, "hook": True, "rehash": True, "names": labels, **restored}
        answer = self._ask("set", request, peer, sock, **more)
        container = self._model.registry.last.container
        if answer.get("error") == "EEXIST" and container is not None and container.id == full_id:
            return {**answer, "ok": True, "again": True}
        if answer["ok"] and answer["contid"].partition(",")[0] != wanted:
            self._rate_limited.warning(
                "taken", "an identifier was taken", id=full_id, wanted=wanted, given=answer["contid"]
            )
        return answer

    def _stopped(
        self, request: JsonObject, peer: Peer, sock: socket.socket, *, image: JsonObject | None = None
    ) -> JsonObject:
        """A runtime says that a container has ended; how many of its processes live on is reported. One with a process
        is being restored; ``image`` is what was read of the image with which its runtime works."""
        self._observer.sync_within()
        with PidHandle.by_socket(sock) as held:
            caller = describe_caller(self._procfs, held, peer)
        pid, ident = request.get("pid"), names({"id": request.get("id")}).get("id", "")
        found = translate(pid, caller)
        process, checkpoints = self._model.alive(found) if found else None, self._model.checkpoints
        run = str(image["run"]) if image is not None else ""
        if process is not None and checkpoints.may_be_restored(process, ident, run):
            return self._hook(request, peer, sock, restored=run)
        if image is not None:
            dumped = {"op": "dumped", "id": ident, "caller": caller, **image}
            feed_request(self._observer, time.monotonic_ns(), dumped)
        meant = [c for c in self._model.registry.living() if ident and c.id == ident and self._may_see(caller, c)]
        living = sum(c.live for c in meant)
        self.keep()
        return {"ok": True, "processes": living}

    def _unreaped(self, asked: str) -> bool:
        """Whether the last process that had this id is a zombie still."""
        try:
            gone = self._model.registry.ended.get(number(asked))
        except Refused:
            return False
        if gone is None or gone[1][0] == 0:
            return False
        pid, start = gone[1]
        found = self._procfs.describe(pid)
        return found is not None and found["start"] is not None and abs(found["start"] - start) < _AGAIN

    def _get(self, request: JsonObject, peer: Peer, sock: socket.socket) -> JsonObject:
        pid = request.get("pid")
        self._observer.sync_within()
        with PidHandle.by_socket(sock) as held:
            caller = describe_caller(self._procfs, held, peer)
        found = translate(pid, caller)
        process = self._model.alive(found)
        if process is None:
            return {"ok": False, "error": "ESRCH", "message": "no such process"}
        state = process.state
        if not self._may_see(caller, state.container):
            return {"ok": False, "error": "EPERM", "message": "the process is not in the caller's container"}
        answer = {"ok": True, "pid": pid, "contid": self._text(state.container), "origin": state.origin}
        if state.container is not None and state.container is not UNKNOWN:
            answer["container"] = self._about(state.container)
        return answer

    def _may_see(self, caller: JsonObject, container: Container | None) -> bool:
        """A caller in a container sees what is inside it, one on the host sees all (the socket is root's)."""
        process = self._model.alive(int(caller["pid"]))
        inside = UNKNOWN if process is None else self._model.registry.standing(process, caller)
        if inside is UNKNOWN:
            return False
        return inside is None or (container is not None and inside in container.chain())

    def _list(self, request: JsonObject, peer: Peer, sock: socket.socket) -> JsonObject:
        self._observer.sync_within()
        with PidHandle.by_socket(sock) as held:
            caller = describe_caller(self._procfs, held, peer)
        first = request.get("from", 0)
        first = first if isinstance(first, int) and first >= 0 else 0
        containers = self._model.containers
        found = sorted(
            (c for c in containers.by_key.values() if c.live > 0 and self._may_see(caller, c)),
            key=lambda c: (c.born, c.key),
        )
        page = [self._about(container) for container in found[first : first + PAGE]]
        return {"ok": True, "containers": page, "more": first + PAGE if len(found) > first + PAGE else None}

    def _about(self, container: Container) -> JsonObject:
        about: JsonObject = {"contid": self._text(container), "kind": container.kind, "live": container.live}
        for field in NAMES:
            if getattr(container, field):
                about[field] = getattr(container, field)
        if container.labels:
            about["labels"] = container.labels
        if container.first is not None:
            about["first"] = container.first[0]
        if container.rehashed:
            about["rehashed"] = True
        if container.owner is not None:
            about["owner"] = self._text(container.owner)
        return about

    def _text(self, container: Container | None) -> str:
        return "unset" if container is None else self._model.containers.text(container)

    # -- the delegated right

    def _delegate(self, request: JsonObject, peer: Peer, sock: socket.socket) -> JsonObject:
        path = request.get("socket")
        if path is not None and (not isinstance(path, str) or not path.startswith("/") or "\0" in path):
            return {"ok": False, "error": "EINVAL", "message": "the path of a socket is absolute"}
        if path is not None and len(self.delegated) >= _MAX_DELEGATED:
            return {"ok": False, "error": "EMFILE", "message": "too many delegated sockets"}
        answer = self._ask("delegate", request, peer, sock)
        if not answer["ok"] or path is None:
            return answer
        who = next(reversed(self._model.registry.delegates))
        try:
            self.open_delegated(who, path)
        except (AuditnsError, OSError) as error:
            return {"ok": False, "error": "EIO", "message": f"the right is given, but there is no socket: {error}"}
        self.keep(force=True)
        return {**answer, "socket": path}

    def open_delegated(self, who: tuple[int, int], path: str) -> None:
        """Serve ``path`` for the holder of the delegated right ``who``. Raises OSError, :class:`AuditnsError`.

        The directory must be root's alone to write: nobody may lead us astray in it."""
        from auditns_connector.state.directory import SafeDir

        with SafeDir(os.path.dirname(path), create=False):
            server = ControlServer(path, self._control.selector, locked=False)
        about = self._procfs.describe(who[0])
        uid = (about.get("uids") or [0])[0] if about is not None else 0
        os.chown(path, uid, -1, follow_symlinks=False)
        for op in ("contid-set", "contid-get", "contid-list", "contid-hook", "contid-stopped"):
            server.handlers[op] = self.handlers[op]
        server.document_handlers["contid-state"] = self._state_document
        server.handlers["contid-delegate"] = self._delegate_right_alone
        former = self.delegated.pop(who, None)
        if former is not None and former.path != path:
            former.close()
        self.delegated[who] = server

    def _delegate_right_alone(self, request: JsonObject, peer: Peer, sock: socket.socket) -> JsonObject:
        """From inside a container: the right can be handed on, but no socket is made for one who asks there."""
        return self._delegate({**request, "socket": None}, peer, sock)

    # -- others on this host, and our own next run

    def _subscribe(self, request: JsonObject, peer: Peer, sock: socket.socket) -> JsonObject:
        self._observer.sync_within()
        self._control.subscribe(sock, requests_of(self._model, time.monotonic_ns()))
        return {"ok": True, "boot_id": self._model.containers.boot_id}

    def keep(self, *, force: bool = False) -> None:
        """Write the state down where it changed, and tell subscribers what is new."""
        registry, now = self._model.registry, time.monotonic()
        fresh, registry.fresh = registry.fresh, []
        if fresh and self._control.subscribed:
            for request in requests_of(self._model, time.monotonic_ns(), only=fresh)[:-1]:
                self._control.publish(request)
        inside = self._model.inside
        logins, inside.fresh = inside.fresh, []
        if logins and self._control.subscribed:
            for request in insidestate.requests(self._model, time.monotonic_ns(), only=logins):
                self._control.publish(request)
        changes = registry.changes + self._model.checkpoints.changes
        changed = changes != self._kept
        # a host that starts hundreds of containers at once is not to write everything down for each
        due = now >= self._saved + (_SAVE_SOON if changed else _SAVE_EVERY)
        lasting = registry.living() or inside.logged or self._model.entries.kept
        if not (force or logins) and not (due and (changed or lasting)):
            return
        self._kept, self._saved = changes, now
        if self._state is not None:
            requests = requests_of(self._model, time.monotonic_ns())
            paths = {who: server.path for who, server in self.delegated.items()}
            complaint = self._state.write(self._model.containers.boot_id, requests, paths)
            if complaint:
                self._rate_limited.warning("state", "registrations cannot be kept over a restart", reason=complaint)

    def restore(self) -> None:
        """Take up what a former run has left."""
        if self._state is None:
            return
        requests, sockets, complaint = self._state.read(self._model.containers.boot_id)
        if complaint:
            self._log.warning(complaint)
        now = self._observer.sync()
        for request in requests:
            payload = json.dumps(request).encode()
            self._observer.feed(f.pack(f.K_REGISTER, f.S_CONTROL, now, payload=payload))
        for who, path in sockets.items():
            if who in self._model.registry.delegates:
                with contextlib.suppress(AuditnsError, OSError):
                    self.open_delegated(who, path)
        if self._model.registry.living():
            self._log.info("registrations taken up", containers=len(self._model.registry.living()))
        self.keep(force=bool(requests))

    def tick(self) -> None:
        """Once in a while: state to disk, sockets of holders that are gone closed."""
        for who, server in list(self.delegated.items()):
            process = self._model.alive(who[0])
            if process is None or process.start != who[1]:
                server.close()
                del self.delegated[who]
        self._judge()
        self.keep()

    def _judge(self) -> None:
        """Registrations that are missing by now."""
        now = time.monotonic_ns()
        if self._model.expectations.due(now):
            feed_request(self._observer, now, {"op": "judge"})

    def status(self) -> JsonObject:
        """Counters, for auditns status."""
        registry = self._model.registry
        living, sockets = len(registry.living()), len(self.delegated)
        expected = self._model.expectations.counters()
        return {**self.counters, **expected, "living": living, "delegated": len(registry.delegates), "sockets": sockets}

    def close(self) -> None:
        """The last state is written; delegated sockets are closed."""
        self.keep(force=bool(self._model.registry.living()) or self._model.inside.kept)
        for server in self.delegated.values():
            server.close()
        self.delegated.clear()


def names(raw: object) -> dict[str, str]:
    """What a request says of its container, as far as it makes sense."""
    if not isinstance(raw, dict):
        return {}
    return {name: raw[name][:MAX_NAME] for name in NAMES if isinstance(raw.get(name), str) and raw[name]}
