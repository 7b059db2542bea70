"""One running stream: what it holds, who reads it, what it has counted."""

import errno
import os
import selectors
import socket
from collections.abc import Iterable
from typing import Final, Protocol

from auditns_connector.audittext import own_records as text
from auditns_connector.config.streams import Contid, Definition
from auditns_connector.daemon.rate import RateLimit
from auditns_connector.model.places import Container
from auditns_connector.streams.backlog import Backlog, Entry, Gap
from auditns_connector.streams.peers import Who
from auditns_connector.streams.server import OF_ROOT, Bounds, Reader, Server
from auditns_connector.vocabulary.values import JsonObject

#: logins a second; each looks at the processes of the container
_LOGINS: Final = 10
#: of a user's socket: who connects is looked at when he does
_FOR_ALL: Final = 0o666
_OTHERS: Final = 0o006


class Owner(Protocol):
    """What a stream needs of the manager."""

    def admit(self, stream: "Stream", sock: socket.socket) -> tuple[Who, Container | None]:
        """Who may read, and whose events; raises PermissionError."""

    def on_line(self, stream: "Stream", reader: Reader, line: bytes) -> None:
        """A line that a reader sent."""

    def on_request(self, stream: "Stream", sock: socket.socket, data: bytes) -> bytes:
        """A request over ``talk``; the answer."""

    def serial(self) -> int:
        """A serial for a record that is an event of its own."""

    def owns(self, user: int, container: Container) -> bool:
        """Whether ``container`` is that of the ordinary user ``user``."""


class Stream:
    """Runs ``definition``; ``folder`` is its directory and ``private`` one for making sockets (descriptors). ``user``:
    the ordinary user that it is of (0: root's), whose clients have ``bounds``."""

    def __init__(
        self, definition: Definition, folder: int, private: int, selector: selectors.BaseSelector, owner: Owner,
        user: int = 0, bounds: Bounds = OF_ROOT,
    ) -> None:  # fmt: skip
        self.definition = definition
        self.user, self._bounds = user, bounds
        #: up to this backlog limit root has given a user's stream, beside his quota
        self.allowance = 0
        self.origin = "control"
        self._owner = owner
        self._folder, self._private, self._selector = folder, private, selector
        #: containers that paused their own share
        self.paused: set[Container] = set()
        #: what each container's pause has cost and no reader has seen yet
        self._missed: dict[Container, Gap] = {}
        self._rate = RateLimit(definition.rate_limit)
        self.messages = RateLimit(definition.message_limit)
        self.logins = RateLimit(_LOGINS)
        self.held = Backlog(definition.backlog_limit, definition.overflow)
        self.counters = {
            "events": 0, "unwritten_events": 0, "paused_events": 0, "lost_records": 0, "lost_by_rate": 0,
            "delivered_events": 0, "told_losses": 0, "messages": 0, "messages_refused": 0, "logins": 0,
        }  # fmt: skip
        self.server = self._serve()

    def _serve(self) -> Server:
        definition, owner = self.definition, self._owner
        return Server(
            self._folder,
            self._private,
            self._selector,
            mode=_FOR_ALL if self.user else definition.mode,
            uid=definition.uid,
            gid=definition.gid,
            readers=definition.readers,
            bounds=self._bounds,
            welcome=self.welcome,
            admit=lambda sock: owner.admit(self, sock),
            backlog=self._join,
            leftover=self._leave,
            on_line=lambda reader, line: owner.on_line(self, reader, line),
            on_request=lambda sock, data: owner.on_request(self, sock, data),
            lost_line=self.lost_line,
            delivered=self._delivered,
        )

    # -- whose

    @property
    def key(self) -> str:
        """Its name among all: root's and those of each user are in spaces of their own."""
        return f"{self.user}/{self.definition.stream}" if self.user else self.definition.stream

    @property
    def active(self) -> bool:
        """Whether anything can come of it. A user's stream that root has given no room to costs nothing."""
        return not self.user or self.writes or self.definition.message_limit > 0

    def home(self, contid: Contid, container: Container | None) -> Container | None:
        """The container that events of ``container`` are reported for; see :meth:`Definition.home`."""
        owns = (lambda link: self._owner.owns(self.user, link)) if self.user else None
        return self.definition.home(contid, container, owns)

    def welcome(self, uid: int) -> bool:
        """Whether a process with this user id may connect. The sockets of root's streams say so by their mode; a user's
        have none of his, for that would take the right to give files away."""
        return not self.user or uid in (0, self.user) or self.definition.mode & _OTHERS != 0

    # -- events

    @property
    def writes(self) -> bool:
        """Whether anything is kept at all: the limit is above 0."""
        return self.definition.backlog_limit > 0

    def halted(self, home: Container) -> bool:
        """Whether events of ``home`` are not taken now, for a pause."""
        return self.definition.paused or home in self.paused

    @property
    def full(self) -> bool:
        """Whether what comes next would be dropped, whoever reads: the making of it can be spared."""
        return not self.server.readers and self.held.refuses

    def skip(self) -> None:
        """An event that the stream, having no room at all, does not take."""
        self.counters["events"] += 1
        self.counters["unwritten_events"] += 1

    def put(self, entry: Entry, now: int) -> None:
        """Take one event; ``now`` in ns. Readers are served by :meth:`pump`."""
        self.counters["events"] += 1
        home = entry.home
        if home is not None and self.halted(home):
            self.counters["paused_events"] += 1
            gap, former = Gap.of(entry, paused=True), self._missed.get(home)
            self._missed[home] = gap if former is None else former.joined(gap)
            return
        takers = self._takers(home)
        if not self._rate.allows(entry.records, now):
            self.counters["lost_by_rate"] += entry.records
            for backlog in takers:
                backlog.lose(entry)
            return
        for backlog in takers:
            backlog.push(entry)

    def _takers(self, home: Container | None) -> list[Backlog]:
        return [r.backlog for r in self.server.readers if r.home is None or r.home is home] or [self.held]

    def pause(self, home: Container) -> None:
        """Take no events of ``home`` until :meth:`resume`."""
        self.paused.add(home)

    def resume(self, home: Container) -> None:
        """Take events of ``home`` again; what did not come meanwhile is reported."""
        self.paused.discard(home)
        self.tell_pauses()

    def tell_pauses(self) -> None:
        """Tell what pauses that are over, and those of containers that have ended, have cost."""
        for home in [home for home in self._missed if not self.halted(home) or home.ended is not None]:
            gap = self._missed.pop(home)
            for backlog in self._takers(home):
                backlog.append(gap)
        self.paused = {home for home in self.paused if home.ended is None}
        self.pump()

    def pump(self) -> None:
        """Give the readers what waits for them."""
        for reader in list(self.server.readers):
            reader.pump()

    def _delivered(self, item: Entry | Gap | None) -> None:
        if isinstance(item, Entry):
            self.counters["delivered_events"] += 1
        else:
            self.counters["told_losses"] += 1

    def lost_line(self, gap: Gap) -> bytes:
        """The record that tells a loss: how many, between which serials."""
        numeric = self.definition.record_names == "numeric"
        source = "stream-paused" if gap.paused else "stream"
        tail = text.container_lost(source, None, gap.records or None, str(gap.first), str(gap.last), numeric)
        return text.stamp(tail, gap.ms, self._owner.serial())

    # -- readers

    def _join(self, home: Container | None) -> Backlog:
        """What a new reader is given first; a reader of all takes everything."""
        if home is not None:
            return self.held.extract(home)
        found, self.held = self.held, self._new_backlog()
        return found

    def _new_backlog(self) -> Backlog:
        return Backlog(self.definition.backlog_limit, self.definition.overflow)

    def _leave(self, reader: Reader, left: Iterable[Entry | Gap]) -> None:
        self.counters["lost_records"] += reader.backlog.lost
        others = self.server.readers
        kept = [
            item for item in left if not any(r.home is None or r.home is item.home for r in others)
        ]  # another reader has its own copy
        self.held.prepend(kept)

    # -- administration

    def change(self, definition: Definition) -> None:
        """Go on as ``definition`` says; readers stay unless the socket's rights are others."""
        old, self.definition = self.definition, definition
        self.held.resize(definition.backlog_limit, definition.overflow)
        for reader in self.server.readers:
            reader.backlog.resize(definition.backlog_limit, definition.overflow)
        if old.rate_limit != definition.rate_limit:
            self._rate = RateLimit(definition.rate_limit)
        if old.message_limit != definition.message_limit:
            self.messages = RateLimit(definition.message_limit)
        self.server.limit = definition.readers
        narrower = old.terms != definition.terms or old.view != definition.view
        if (old.mode, old.uid, old.gid) != (definition.mode, definition.uid, definition.gid) or narrower:
            self.server.close()
            if narrower:
                self.held = self._new_backlog()  # it was for other containers, or in another view
                self._missed.clear()
            self.server = self._serve()
        self.tell_pauses()

    def status(self) -> JsonObject:
        """Definition, counters, what is held and who reads."""
        readers = [
            {"pid": r.who.pid, "uid": r.who.uid, "waiting_records": r.waiting, "lost_records": r.backlog.lost}
            for r in self.server.readers
        ]
        counters = dict(self.counters)
        counters["lost_records"] += self.held.lost + sum(r.backlog.lost for r in self.server.readers)
        return {
            "origin": self.origin,
            **({"user": self.user, "allowance": self.allowance} if self.user else {}),
            **self.definition._asdict(),
            "mode": f"{self.definition.mode:04o}",
            "held_records": self.held.records,
            "counters": {**counters, **self.server.counters},
            "readers_now": readers,
        }

    def state_inside(self, home: Container | None) -> JsonObject:
        """What a reader inside may know: its own share."""
        readers = [r for r in self.server.readers if r.home is home]
        backlogs = [self.held, *(r.backlog for r in readers)]
        return {
            "backlog_limit": self.definition.backlog_limit,
            "rate_limit": self.definition.rate_limit,
            "overflow": self.definition.overflow,
            "paused": self.definition.paused or home in self.paused,
            "held_records": sum(backlog.held_for(home) for backlog in backlogs),
            "lost_records": sum(backlog.lost_for(home) for backlog in backlogs),
        }

    def close(self) -> None:
        """Stop; the directory stays."""
        self.server.close()
        os.close(self._folder)


def refused(why: str) -> PermissionError:
    """The error that turns a reader away."""
    return PermissionError(errno.EACCES, why)
