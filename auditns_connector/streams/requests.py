"""What programs in a container may ask of their stream: its state, a pause, a message, a login. Nothing else.

A request is one JSON object over ``talk``, the answer another. Who asks is found out anew for each request.
"""

import json
import socket
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from auditns_connector.audittext.scanner import TextStream
from auditns_connector.errors import BehindError
from auditns_connector.model.inner_ids import NO_ID, translated
from auditns_connector.model.places import UNKNOWN, Container
from auditns_connector.model.process import Process
from auditns_connector.streams.messages import RefusedError, Sender, parse, record
from auditns_connector.streams.peers import Who, credentials, identify
from auditns_connector.streams.router import Router
from auditns_connector.streams.stream import Stream
from auditns_connector.vocabulary import frames as f
from auditns_connector.vocabulary.namespaces import USER
from auditns_connector.vocabulary.values import Json, JsonObject

if TYPE_CHECKING:
    from auditns_connector.pipeline.text_side import TextSide


class Keeper(Protocol):
    """What messages need of the streams' manager."""

    keep: Callable[[], None]

    def serial(self) -> int:
        """A serial for a record that is an event of its own."""


class Requests:
    """Answers for all streams. ``side`` is where messages enter as audit text, ``keeper`` numbers them and keeps
    what is to outlast a restart."""

    def __init__(self, side: "TextSide", router: Router, keeper: Keeper) -> None:
        self._side, self._router, self._keeper = side, router, keeper
        self._text = TextStream(64 * 1024, whole=True)
        self._operations = {
            "state": self._state,
            "pause": self._pause,
            "resume": self._resume,
            "send": self._send,
            "login": self._login,
        }

    def answer(self, stream: Stream, sock: socket.socket, data: bytes) -> bytes:
        """The answer to one request, as JSON."""
        try:
            try:
                request = json.loads(data)
                operation = self._operations.get(request["op"])
            except (ValueError, KeyError, TypeError, RecursionError):
                raise RefusedError("EINVAL", 'a request is a JSON object with a key "op"') from None
            if operation is None:
                raise RefusedError("EINVAL", "a stream can be asked for: " + ", ".join(self._operations))
            answer = {"ok": True, **operation(stream, sock, request)}
        except RefusedError as error:
            answer = {"ok": False, "error": error.error, "message": str(error)}
        return json.dumps(answer).encode()

    def line(self, stream: Stream, sock: socket.socket, line: bytes) -> None:
        """A line ``TYPE text`` on the readers' socket; there is no answer, what is refused is counted."""
        try:
            self._message(stream, sock, line)
        except RefusedError:
            stream.counters["messages_refused"] += 1

    # -- who

    def _who(self, stream: Stream, sock: socket.socket) -> tuple[Who, Container | None]:
        """The peer and the container that it is in for this stream; None for the host."""
        try:
            self._side.observer.sync_within()
        except BehindError as error:
            raise RefusedError("EAGAIN", str(error)) from None
        who = identify(sock, self._side.observer)
        container = who.container
        if container is None:
            if stream.user and who.uid not in (0, stream.user):
                raise RefusedError("EPERM", "the stream is another user's")
            return who, None
        home = None
        if container is not UNKNOWN:
            home = stream.home(self._side.observer.model.containers.contid, container)
        if home is None:
            raise RefusedError("EPERM", "the stream is not this container's")
        return who, home

    def _inside(self, stream: Stream, sock: socket.socket) -> tuple[Who, Process, Container]:
        who, home = self._who(stream, sock)
        if home is None or who.process is None:
            raise RefusedError("EPERM", "only a process inside the container may")
        return who, who.process, home

    def _inside_uid(self, who: Who, process: Process, home: Container) -> int | None:
        """The peer's user id as its container counts."""
        viewer = self._router.viewer
        user_ns = viewer.home_namespaces(home)[1]
        if user_ns is None and process.state.nsset is not None:
            user_ns = process.state.nsset.inst[USER]
        if user_ns is not None and user_ns.initial:
            return who.uid
        maps = viewer.id_map(user_ns, who.pid)
        return None if maps is None else translated(maps.uid, who.uid)

    # -- operations

    def _state(self, stream: Stream, sock: socket.socket, request: JsonObject) -> JsonObject:
        _, home = self._who(stream, sock)
        return {"state": stream.state_inside(home)}

    def _pause(self, stream: Stream, sock: socket.socket, request: JsonObject) -> JsonObject:
        who, process, home = self._inside(stream, sock)
        if self._inside_uid(who, process, home) != 0:
            raise RefusedError("EPERM", "only root of the container may")
        stream.pause(home)
        return {}

    def _resume(self, stream: Stream, sock: socket.socket, request: JsonObject) -> JsonObject:
        who, process, home = self._inside(stream, sock)
        if self._inside_uid(who, process, home) != 0:
            raise RefusedError("EPERM", "only root of the container may")
        stream.resume(home)
        return {}

    def _send(self, stream: Stream, sock: socket.socket, request: JsonObject) -> JsonObject:
        kind, text = request.get("type"), request.get("text")
        if not isinstance(kind, str) or not isinstance(text, str):
            raise RefusedError("EINVAL", "a message has a type and a text")
        try:
            raw = text.encode("utf-8", "surrogateescape")
            self._message(stream, sock, kind.encode("utf-8", "replace").replace(b" ", b"?") + b" " + raw)
        except RefusedError:
            stream.counters["messages_refused"] += 1
            raise
        except UnicodeEncodeError:
            raise RefusedError("EINVAL", "the text is no text") from None
        return {}

    def _message(self, stream: Stream, sock: socket.socket, line: bytes) -> None:
        kind, text = parse(line)
        if not stream.definition.message_limit or not stream.messages.allows(1, time.monotonic_ns()):
            raise RefusedError("EBUSY", f"more than {stream.definition.message_limit} messages a second")
        who, process, _ = self._inside(stream, sock)
        about = credentials(sock, who.pid)
        offset = self._side.observer.model.clock.offset or 0
        moment = time.monotonic_ns() if process.end is None else min(process.end, time.monotonic_ns())
        serial = self._keeper.serial()
        sender = Sender(who.pid, who.uid, about.auid, about.ses, about.exe)
        stream.counters["messages"] += 1
        self.inject(record(kind, text, sender, stream.definition.stream, (moment + offset) // 1_000_000, serial))

    def inject(self, line: bytes) -> None:
        """Let a record take the way that audit's own take: answered, written to every output, given to streams."""
        side = self._side
        points = self._text.push(line)
        if not points.n:
            points = self._text.flush()
        now = side.observer.sync()
        side.outputs.write(side.enricher.take(points, lambda p: side.correlator.answer(p, now)))
        self._router.take(points, side.correlator.states, now)

    def _login(self, stream: Stream, sock: socket.socket, request: JsonObject) -> JsonObject:
        uid, session, number = request.get("uid"), request.get("session"), request.get("pid")
        if type(uid) is not int or not 0 <= uid < NO_ID:
            raise RefusedError("EINVAL", "uid is a number from 0 to 4294967294")
        if stream.user and not stream.definition.message_limit:
            raise RefusedError("EPERM", "a user's stream takes logins where root of the host has set --message-limit")
        if session is not None and (type(session) is not int or not 0 <= session < NO_ID):
            raise RefusedError("EINVAL", "session is a number from 0 to 4294967294")
        if not stream.logins.allows(1, time.monotonic_ns()):
            raise RefusedError("EBUSY", f"more than {stream.logins.rate} logins a second")
        who, process, home = self._inside(stream, sock)
        if self._inside_uid(who, process, home) != 0:
            raise RefusedError("EPERM", "only root of the container may")
        target = self._target(process, home, number)
        if target is None:
            raise RefusedError("ESRCH", "no such process in this container")
        if target.state.login is not None:
            raise RefusedError("EPERM", "the login uid is set already, and is set once")
        arg = uid | (NO_ID if session is None else session) << 32
        self._side.observer.feed(
            f.pack(f.K_LOGIN, f.S_CONTROL, time.monotonic_ns(), pid=target.pid, tid=target.pid, arg=arg)
        )
        stream.counters["logins"] += 1
        self._keeper.keep()
        return {}

    def _target(self, process: Process, home: Container, number: Json) -> Process | None:
        """The process to be logged in: the asker's parent, or the one of that number inside."""
        model, viewer = self._side.observer.model, self._router.viewer
        found: Process | None = None
        if number is None:
            found = model.alive(parent_of(process.pid))
        elif type(number) is int and 0 < number < 1 << 31:
            pid_ns = viewer.home_namespaces(home)[0]
            found = self._router.called(number, pid_ns) if pid_ns is not None else None
        container = found.state.container if found is not None else None
        if container is None or container is UNKNOWN or home not in container.chain():
            return None
        return found


def parent_of(pid: int) -> int:
    """The present parent of ``pid`` by /proc; 0 where it has gone."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return int(file.read().rpartition(b") ")[2].split()[1])
    except (OSError, ValueError, IndexError):
        return 0
