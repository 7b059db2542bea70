"""The clients of one stream: readers (and lines from them) at ``sock``, requests at ``talk``."""

import contextlib
import errno
import select
import selectors
import socket
import time
from collections.abc import Callable
from typing import Final, NamedTuple

from auditns_connector.control.peer import peer_of
from auditns_connector.daemon.rate import RateLimit
from auditns_connector.model.places import Container
from auditns_connector.streams.backlog import Backlog, Entry, Gap
from auditns_connector.streams.listener import Listener
from auditns_connector.streams.messages import MAX_LINE
from auditns_connector.streams.peers import Who

SOCK: Final = "sock"
TALK: Final = "talk"
MAX_REQUEST: Final = 8192
MAX_TALKERS: Final = 32
_ACCEPTS: Final = 8
_EVENTS_A_TURN: Final = 128
_PIECE: Final = 256 * 1024
#: what a stream's clients may do in a second: connect, ask, write lines. Who does more is not heard for a while, and
#: feels it by the socket's being full; nothing is refused for it
_CONNECTS: Final = 100
_REQUESTS: Final = 100
_LINES: Final = 1000
_REST: Final = 0.05

LostLine = Callable[[Gap], bytes]


class Bounds(NamedTuple):
    """``talkers`` at a time; ``together``: the limit of readers is for those outside and in all containers together;
    ``connects``, ``requests``, ``lines`` are shared with the other streams of a user (None: the stream's own)."""

    talkers: int = MAX_TALKERS
    together: bool = False
    connects: RateLimit | None = None
    requests: RateLimit | None = None
    lines: RateLimit | None = None


OF_ROOT: Final = Bounds()


def of_user() -> Bounds:
    """What the clients of all streams of one ordinary user may do together."""
    return Bounds(4, True, RateLimit(_CONNECTS), RateLimit(_REQUESTS), RateLimit(_LINES))


class Reader:
    """One connection to ``sock``. ``home`` limits it to one container's events; None is all (a reader on the host)."""

    def __init__(
        self, server: "Server", sock: socket.socket, who: Who, home: Container | None, backlog: Backlog
    ) -> None:
        self.who, self.home, self.backlog = who, home, backlog
        self.closed = False
        self._server, self.sock = server, sock
        self._item: Entry | Gap | None = None
        self._rest = memoryview(b"")
        self._typed = b""
        self._deaf = self._resting = False
        self._events = selectors.EVENT_READ
        server.selector.register(sock, self._events, self._on_event)

    def _on_event(self) -> None:
        if self.closed:
            return
        if not self._deaf and not self._resting:
            self._read()
        if not self.closed:
            self.pump()

    def _read(self) -> None:
        try:
            data = self.sock.recv(MAX_REQUEST)  # without a buffer for them, passed descriptors are dropped
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            self._server.leave(self)
            return
        if not data:
            if hung_up(self.sock):
                self._server.leave(self)
            else:
                self._deaf = True  # it will say nothing more, but it listens
                self._watch_again()
            return
        *lines, self._typed = (self._typed + data).split(b"\n")
        for line in lines:
            if line.strip():
                self._server.on_line(self, line)
        if not self._server.lines.allows(len(lines), time.monotonic_ns()):
            self._resting = True
            self._server.rest(self._rested)
        if len(self._typed) > MAX_LINE + 64:
            self._server.leave(self)

    def _rested(self) -> None:
        self._resting = False
        if not self.closed:
            self._watch_again()

    def _watch_again(self) -> None:
        wait = selectors.EVENT_WRITE if self._rest or len(self.backlog) else 0
        self._watch(wait | (0 if self._deaf or self._resting else selectors.EVENT_READ))

    def pump(self) -> None:
        """Send what waits, as far as it is taken; the rest when the socket takes more."""
        for _ in range(_EVENTS_A_TURN):
            if not self._rest and not self._next():
                break
            try:
                count = self.sock.send(self._rest[:_PIECE], socket.MSG_NOSIGNAL | socket.MSG_DONTWAIT)
            except (BlockingIOError, InterruptedError):
                break
            except OSError:
                self._server.leave(self)
                return
            self._rest = self._rest[count:]
            if not self._rest:
                self._server.delivered(self._item)
                self._item = None
        self._watch_again()

    def _next(self) -> bool:
        while True:
            item = self.backlog.take()
            if item is None:
                return False
            lines = item.lines() if isinstance(item, Entry) else self._server.lost_line(item)
            if lines:
                self._item, self._rest = item, memoryview(lines)
                return True

    def _watch(self, events: int) -> None:
        if events == self._events or self.closed:
            return
        selector, registered = self._server.selector, self._events
        self._events = events
        if not events:
            selector.unregister(self.sock)
        elif not registered:
            selector.register(self.sock, events, self._on_event)
        else:
            selector.modify(self.sock, events, self._on_event)

    def check(self) -> None:
        """Notice that a reader which says nothing has gone."""
        if not self.closed and self._deaf and hung_up(self.sock):
            self._server.leave(self)

    def close(self) -> list[Entry | Gap]:
        """Let go; returns what it was not given, an event given in part included."""
        if self.closed:
            return []
        self.closed = True
        if self._events:
            self._server.selector.unregister(self.sock)
        self.sock.close()
        left = [] if self._item is None else [self._item]
        return left + self.backlog.items()

    @property
    def waiting(self) -> int:
        """Records not given yet."""
        return self.backlog.records + (self._item.records if self._item is not None else 0)


class Server:
    """Readers and talkers of one stream. ``admit`` gives a reader its home or raises PermissionError; ``on_line`` and
    ``on_request`` take what they say; ``lost_line`` makes the line that tells a loss."""

    def __init__(
        self,
        folder: int,
        private: int,
        selector: selectors.BaseSelector,
        *,
        mode: int,
        uid: int,
        gid: int,
        readers: int,
        bounds: Bounds = OF_ROOT,
        welcome: Callable[[int], bool] = lambda uid: True,
        admit: Callable[[socket.socket], tuple[Who, Container | None]],
        backlog: Callable[[Container | None], Backlog],
        leftover: Callable[[Reader, list[Entry | Gap]], None],
        on_line: Callable[[Reader, bytes], None],
        on_request: Callable[[socket.socket, bytes], bytes],
        lost_line: LostLine,
        delivered: Callable[[Entry | Gap | None], None],
    ) -> None:
        self.selector = selector
        self.limit = readers
        self.readers: list[Reader] = []
        self.counters = {"connections": 0, "refused": 0, "requests": 0}
        self.on_line, self.lost_line, self.delivered = on_line, lost_line, delivered
        self._admit, self._backlog, self._leftover, self._on_request = admit, backlog, leftover, on_request
        #: with whether it is listened to now
        self._talkers: dict[socket.socket, bool] = {}
        self._bounds, self._welcome = bounds, welcome
        self.connects = bounds.connects or RateLimit(_CONNECTS)
        self.requests = bounds.requests or RateLimit(_REQUESTS)
        self.lines = bounds.lines or RateLimit(_LINES)
        #: when who rests is listened to again (time.monotonic seconds), and how
        self.deadline: float | None = None
        self._resting: list[Callable[[], None]] = []
        self._where = (folder, private, mode, uid, gid)
        self._listeners = self._open()
        self._register()

    def _open(self) -> tuple[Listener, Listener]:
        folder, private, mode, uid, gid = self._where
        return (
            Listener(folder, private, SOCK, socket.SOCK_STREAM, mode, uid, gid),
            Listener(folder, private, TALK, socket.SOCK_SEQPACKET, mode, uid, gid),
        )

    def _register(self) -> None:
        sock, log = self._listeners
        self._listen(sock, self._on_reader)
        self._listen(log, self._on_talker)

    def _listen(self, listener: Listener, take: Callable[[socket.socket], None]) -> None:
        if listener in self._listeners:  # it may have been replaced meanwhile
            self.selector.register(listener.sock, selectors.EVENT_READ, lambda: self._accept(listener, take))
            listener.watched = True

    def _unlisten(self, listener: Listener) -> None:
        if listener.watched:
            self.selector.unregister(listener.sock)
            listener.watched = False

    def rest(self, then: Callable[[], None]) -> None:
        """Call ``then`` in a while: :meth:`go_on` does, when :attr:`deadline` has come."""
        self._resting.append(then)
        if self.deadline is None:
            self.deadline = time.monotonic() + _REST

    def go_on(self) -> None:
        """Listen again to who had to rest."""
        if self.deadline is not None and time.monotonic() >= self.deadline:
            resting, self._resting, self.deadline = self._resting, [], None
            for then in resting:
                then()

    def _accept(self, listener: Listener, take: Callable[[socket.socket], None]) -> None:
        for _ in range(_ACCEPTS):
            try:
                sock, _address = listener.sock.accept()
            except OSError as error:
                if error.errno not in (errno.EAGAIN, errno.EINTR, errno.EBADF):
                    self.counters["refused"] += 1
                return
            self.counters["connections"] += 1
            sock.setblocking(False)
            if self._welcome(peer_of(sock).uid):
                take(sock)
            else:
                self.counters["refused"] += 1
                sock.close()
            if not self.connects.allows(1, time.monotonic_ns()):
                self._unlisten(listener)
                self.rest(lambda: self._listen(listener, take))
                return

    def _on_reader(self, sock: socket.socket) -> None:
        try:
            who, home = self._admit(sock)
            # those outside and those of each container inside have places of their own
            if sum(self._bounds.together or reader.home is home for reader in self.readers) >= self.limit:
                raise PermissionError(errno.EUSERS, "too many readers")
        except PermissionError:
            self.counters["refused"] += 1
            sock.close()
            return
        reader = Reader(self, sock, who, home, self._backlog(home))
        self.readers.append(reader)
        reader.pump()

    def leave(self, reader: Reader) -> None:
        """``reader`` is gone."""
        if reader in self.readers:
            self.readers.remove(reader)
            self._leftover(reader, reader.close())

    def _on_talker(self, sock: socket.socket) -> None:
        while len(self._talkers) >= self._bounds.talkers:
            self._hang_up(next(iter(self._talkers)))  # who came first has had time enough
        self._talkers[sock] = False
        self._hear(sock)

    def _hear(self, sock: socket.socket) -> None:
        if self._talkers.get(sock) is False:
            self._talkers[sock] = True
            self.selector.register(sock, selectors.EVENT_READ, lambda: self._log(sock))

    def _log(self, sock: socket.socket) -> None:
        if sock not in self._talkers:
            return
        if not self.requests.allows(1, time.monotonic_ns()):
            self._talkers[sock] = False
            self.selector.unregister(sock)
            self.rest(lambda: self._hear(sock))
            return
        try:
            data = sock.recv(MAX_REQUEST + 1)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data = b""
        if data:
            self.counters["requests"] += 1
            answer = self._on_request(sock, data)
            with contextlib.suppress(OSError):
                sock.send(answer, socket.MSG_NOSIGNAL)
                return
        self._hang_up(sock)  # it has gone, or does not read its answers

    def _hang_up(self, sock: socket.socket) -> None:
        if sock in self._talkers:
            if self._talkers.pop(sock):
                self.selector.unregister(sock)
            sock.close()

    def check(self) -> bool:
        """Once in a while: put the sockets back where somebody took them away; True when that was so."""
        for reader in list(self.readers):
            reader.check()
        if all(listener.in_place() for listener in self._listeners):
            return False
        former = self._listeners
        self._listeners = self._open()
        self._register()
        for listener in former:
            self._unlisten(listener)
            listener.sock.close()
        return True

    def close(self) -> None:
        """Hang up on everybody and take the sockets away."""
        for reader in list(self.readers):
            reader.pump()
            self.leave(reader)
        for sock in list(self._talkers):
            self._hang_up(sock)
        self._resting.clear()
        for listener in self._listeners:
            self._unlisten(listener)
            listener.close()


def hung_up(sock: socket.socket) -> bool:
    """Whether the other side is closed altogether."""
    poll = select.poll()
    poll.register(sock, 0)
    return any(event & (select.POLLHUP | select.POLLERR) for _, event in poll.poll(0))
