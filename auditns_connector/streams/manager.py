"""All streams of a program: made, changed, removed and kept; tied to its pipeline and its control socket.

``BASE/streams/NAME`` is a stream's directory, kept when the program ends so that a bind mount of it stays good.
``BASE/streams.json`` holds the streams that were made by command; those of the configuration are in the configuration.
What ordinary users make is in users.py.
"""

import contextlib
import json
import os
import socket
import stat
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Final

from auditns_connector.config.streams import HOST, Definition, change, read, stream_name
from auditns_connector.config.users import UserOptions
from auditns_connector.control.peer import Peer
from auditns_connector.daemon.log import Log, RateLimitedLog
from auditns_connector.errors import AuditnsError, BehindError, ConfigError
from auditns_connector.model.places import UNKNOWN, Container
from auditns_connector.state.directory import SafeDir
from auditns_connector.state.event_serials import EventSerials
from auditns_connector.state.paths import SERVER, USERS
from auditns_connector.streams.ownership import Ownership
from auditns_connector.streams.peers import Who, identify
from auditns_connector.streams.requests import Requests
from auditns_connector.streams.router import Router
from auditns_connector.streams.server import OF_ROOT, Bounds, Reader
from auditns_connector.streams.stream import Stream, refused
from auditns_connector.streams.users import UserStreams
from auditns_connector.vocabulary.values import Json, JsonObject

if TYPE_CHECKING:
    from auditns_connector.audittext.scanner import InsertionPoints
    from auditns_connector.pipeline.selector import Selector
    from auditns_connector.pipeline.text_side import TextSide

STATE: Final = "streams.json"
MAX_STREAMS: Final = 256
CONFIGURED: Final = "configuration"
COMMANDED: Final = "command"
_NO_USERS: Final = UserOptions(streams=0)


class Streams:
    """The streams of ``text`` below ``base``. Raises :class:`AuditnsError` where that cannot be used."""

    def __init__(
        self, text: "TextSide", selector: "Selector", base: str, log: Log, keep: Callable[[], None] = lambda: None
    ) -> None:
        self.base = base
        #: called when there is something new to be kept over a restart
        self.keep = keep
        #: by :attr:`Stream.key`; and those of them that anything can come of
        self.streams: dict[str, Stream] = {}
        self.active: dict[str, Stream] = {}
        self._text, self._selector = text, selector
        self._log, self._rate_limited = log, RateLimitedLog(log)
        self._own_serials: EventSerials | None = None
        self._state = SafeDir(base)
        self._state.write(SERVER, b"%d\n" % os.getpid(), 0o644)
        try:
            SafeDir(os.path.join(base, "streams")).close()
            self._folder = os.open(f"{base}/streams", os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
            with contextlib.suppress(FileExistsError):
                os.mkdir(".private", 0o700, dir_fd=self._folder)
            self._private = _open_directory(".private", self._folder, 0o700)
        except OSError as error:
            raise AuditnsError(f"{base}/streams: {error.strerror}") from error
        self.ownership = Ownership(text.observer)
        self.router = Router(text.observer, self.active, log, self.ownership)
        self.requests = Requests(text, self.router, self)
        self.users = UserStreams(self, base, self._state, selector, text.observer, log)

    # -- the pipeline's side

    def take(self, points: "InsertionPoints", now: int) -> None:
        """Points that were just answered."""
        if self.active:
            self.router.take(points, self._text.correlator.states, now)

    @property
    def watched(self) -> bool:
        """Whether somebody reads, and wants events soon."""
        return any(stream.server.readers for stream in self.active.values())

    def needs_python_loop(self) -> bool:
        """Whether there is any that anything can come of."""
        return bool(self.active)

    def deadline(self) -> float | None:
        """When :meth:`go_on` is due (time.monotonic seconds); None: no such time."""
        public = self.users.server
        if not self.streams:
            return public.deadline if public is not None else None
        due = [self.router.deadline(), *(stream.server.deadline for stream in self.streams.values())]
        due.append(public.deadline if public is not None else None)
        return min((when for when in due if when is not None), default=None)

    def go_on(self) -> None:
        """Do what is due now; called in every round."""
        if self.users.server is not None:
            self.users.server.go_on()
        if not self.streams:
            return
        # not in the middle of frames that are being applied: who lives where is not settled there
        if not self._text.suspended and any(stream.user for stream in self.active.values()):
            self.ownership.look()
        self.router.go_on()
        for stream in self.streams.values():
            stream.server.go_on()

    def attach(self) -> None:
        """Have the pipeline's text side keep what streams need; to be called when that side or the streams change."""
        self._text.enricher.want_states(bool(self.active))
        if self.active:
            self._text.stream.want_whole()
            self._text.observer.model.inside.kept = True

    def serial(self) -> int:
        """A serial for a record that is an event of its own."""
        standalone = self._text.standalone
        if standalone is not None:
            return int(standalone.serials.take())
        if self._own_serials is None:
            self._own_serials = EventSerials(self.base, boot_id=self._text.observer.model.containers.boot_id)
        return self._own_serials.take()

    def tick(self) -> None:
        """Once a second: what was moved or left is put right."""
        self.users.tick()
        if not self.streams:
            return
        self.router.tick()
        self.ownership.tick()
        for name, stream in self.streams.items():
            stream.tell_pauses()
            try:
                if stream.server.check():
                    self._rate_limited.warning(
                        name, "the sockets of a stream were taken away and are back", stream=name
                    )
            except AuditnsError as error:
                self._rate_limited.warning(
                    name, "the sockets of a stream cannot be put back", stream=name, reason=str(error)
                )

    def close(self) -> None:
        """Stop all; the directories stay."""
        self.users.close()
        for stream in self.streams.values():
            stream.close()
        self.streams.clear()
        self.active.clear()
        self.router.close()
        os.close(self._folder)
        os.close(self._private)
        self._state.remove(SERVER)
        self._state.close()

    # -- coming and going

    def load(self, configured: Iterable[Definition] = (), users: UserOptions = _NO_USERS) -> None:
        """Start the streams of the configuration and those kept from before; what cannot be is said."""
        self.configure(configured)
        self._load_commanded()
        self.users.configure(users)
        if users.streams:
            self.users.load()

    def _load_commanded(self) -> None:
        try:
            data = json.loads(self._state.read(STATE) or b"{}")
            kept = [read(name, table) for name, table in dict(data.get("streams", {})).items()]
        except (
            AuditnsError,
            ValueError,
            LookupError,
            AttributeError,
            TypeError,
            ArithmeticError,
            RecursionError,
        ) as error:
            self._log.warning("the streams kept from before cannot be read", file=STATE, reason=str(error))
            return
        for definition in kept:
            if definition.stream not in self.streams:
                self._try_start(definition, COMMANDED)

    def configure(self, configured: Iterable[Definition], users: UserOptions | None = None) -> None:
        """The configuration's streams are now these, and this is what users may have."""
        if users is not None:
            self.users.configure(users)
        wanted = {definition.stream: definition for definition in configured}
        for name in [n for n, s in self.streams.items() if s.origin == CONFIGURED and n not in wanted]:
            self._stop(name)
        for name, definition in wanted.items():
            stream = self.streams.get(name)
            if stream is None:
                self._try_start(definition, CONFIGURED)
            else:
                stream.origin = CONFIGURED
                if stream.definition != definition:
                    stream.change(definition)
        self.changed()

    def _try_start(self, definition: Definition, origin: str) -> None:
        try:
            self._start(definition, origin)
        except AuditnsError as error:
            self._log.warning("a stream cannot be served", stream=definition.stream, reason=str(error))

    def _start(self, definition: Definition, origin: str) -> Stream:
        if sum(not stream.user for stream in self.streams.values()) >= MAX_STREAMS:
            raise AuditnsError(f"there are {MAX_STREAMS} streams already")
        try:
            with contextlib.suppress(FileExistsError):
                os.mkdir(definition.stream, 0o755, dir_fd=self._folder)
            folder = _open_directory(definition.stream, self._folder, 0o755)
        except OSError as error:
            raise AuditnsError(f"{self.base}/streams/{definition.stream}: {error.strerror}") from error
        return self.start(definition, folder, origin)

    def start(
        self, definition: Definition, folder: int, origin: str, user: int = 0, bounds: Bounds = OF_ROOT
    ) -> Stream:
        """Run a stream in the directory ``folder``, which it takes over."""
        try:
            stream = Stream(definition, folder, self._private, self._selector, self, user, bounds)
        except BaseException:
            os.close(folder)
            raise
        stream.origin = origin
        self.streams[stream.key] = stream
        if stream.active:
            self.changed()
        return stream

    def stop(self, stream: Stream) -> None:
        """Stop one; its directory is left."""
        self.streams.pop(stream.key).close()
        if stream.key in self.active:
            self.changed()

    def _stop(self, name: str) -> None:
        self.stop(self.streams[name])
        with contextlib.suppress(OSError):  # in use as a mount, or something was put there: it stays
            os.rmdir(name, dir_fd=self._folder)

    def changed(self) -> None:
        """Streams, or what they are for, are others."""
        self.active.clear()
        self.active.update((key, stream) for key, stream in self.streams.items() if stream.active)
        self.router.forget()
        self.attach()
        if self.active:
            self.router.prepare()  # numbers of short-lived processes are wanted from now on, not from the first event

    def _save(self) -> None:
        kept = {name: s.definition.as_dict() for name, s in self.streams.items() if s.origin == COMMANDED}
        self._state.write(STATE, json.dumps({"v": 1, "streams": kept}, indent=1).encode())

    # -- readers and talkers (see stream.Owner)

    def admit(self, stream: Stream, sock: socket.socket) -> tuple[Who, Container | None]:
        """Who may read: a process of the host whom the socket's mode lets in, or one of a container of the stream."""
        try:
            self._text.observer.sync_within()
        except BehindError as error:
            raise refused(str(error)) from None
        who = identify(sock, self._text.observer)
        container = who.container
        if container is None:
            if stream.user and who.uid not in (0, stream.user):
                raise refused("the stream is another user's")
            return who, None
        if container is UNKNOWN:
            raise refused("it is not known who that is")
        home = stream.home(self._text.observer.model.containers.contid, container)
        if home is not container:
            raise refused("the stream is not this container's")
        return who, None if stream.definition.view == HOST else container

    def owns(self, user: int, container: Container) -> bool:
        """Whether ``container`` is that of the ordinary user ``user``."""
        return self.ownership.owns(user, container)

    def on_line(self, stream: Stream, reader: Reader, line: bytes) -> None:
        """A line that a reader sent."""
        self.requests.line(stream, reader.sock, line)

    def on_request(self, stream: Stream, sock: socket.socket, data: bytes) -> bytes:
        """A request from inside."""
        return self.requests.answer(stream, sock, data)

    # -- administration

    def control(self, request: JsonObject, peer: Peer, sock: socket.socket) -> JsonObject:
        """The control socket's request "stream": ``do`` is create, list, show, set or remove. For root of the host."""
        who = identify(sock, self._text.observer)
        if peer.uid != 0 or who.container is not None:
            return {"ok": False, "error": "EPERM", "message": "streams are managed by root of the host alone"}
        try:
            return {"ok": True, **self._manage(request)}
        except ConfigError as error:
            return {"ok": False, "error": "EINVAL", "message": str(error)}
        except AuditnsError as error:
            return {"ok": False, "error": "EIO", "message": str(error)}
        except KeyError as error:
            return {"ok": False, "error": "ENOENT", "message": f"there is no stream {error.args[0]}"}

    def _manage(self, request: JsonObject) -> JsonObject:
        do = request.get("do")
        if do == "list":
            return {"streams": [self.described(stream) for stream in self.streams.values()]}
        name = stream_name(request.get("name"))
        user = request.get("user")
        if user is not None:
            return self._manage_of_user(do, user, name, request)
        if do == "create":
            if name in self.streams:
                raise AuditnsError(f"there is a stream {name} already")
            stream = self._start(read(name, request.get("options")), COMMANDED)
            self._save()
            return {"stream": self.described(stream)}
        stream = self.streams[name]
        if do == "set":
            stream.change(change(stream.definition, request.get("options")))
            self.changed()
            self._save()
        elif do == "remove":
            if stream.origin == CONFIGURED:
                raise AuditnsError(f"stream {name} is in the configuration: take it out there")
            self._stop(name)
            self._save()
            return {}
        elif do != "show":
            raise ConfigError('do is "create", "list", "show", "set" or "remove"')
        return {"stream": self.described(stream)}

    def _manage_of_user(self, do: Json, user: Json, name: str, request: JsonObject) -> JsonObject:
        """What root of the host may do with a user's stream."""
        if type(user) is not int:
            raise ConfigError("user is the number of a user")
        try:
            stream = self.users.find(user, name)
        except KeyError:
            raise KeyError(f"{name} of user {user}") from None
        if do == "set":
            self.users.grant(stream, request.get("options"))
        elif do == "remove":
            self.users.take_away(stream)
            return {}
        elif do != "show":
            raise ConfigError('with a user do is "show", "set" or "remove"')
        return {"stream": self.described(stream)}

    def described(self, stream: Stream) -> JsonObject:
        """Definition, counters, readers, directory."""
        where = f"{USERS}/{stream.key}" if stream.user else f"streams/{stream.key}"
        return {**stream.status(), "directory": f"{self.base}/{where}"}

    def status(self) -> JsonObject:
        """For ``auditns status``: counters of the streams, and of translation."""
        viewer, insiders = self.router.viewer, self._text.observer.insiders.values()
        tally = viewer.tally
        return {
            "withheld_events": viewer.withheld,
            "pids_translated": tally.pids,
            "pids_hidden": tally.hidden_pids,
            "ids_translated": tally.ids,
            "ids_hidden": tally.hidden_ids,
            "namespaces_entered": len(insiders),
            "forks_unmatched": self.router.unmatched + sum(ring.unmatched for ring in insiders),
            **{name: stream.status()["counters"] for name, stream in self.streams.items() if not stream.user},
        }


def _open_directory(name: str, parent: int, mode: int) -> int:
    """The directory ``name``, ours alone to change; whatever a container did to its rights is undone."""
    fd = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
    info = os.fstat(fd)
    if info.st_uid != os.geteuid() or stat.S_IMODE(info.st_mode) != mode:
        os.fchown(fd, os.geteuid(), os.getegid())
        os.fchmod(fd, mode)
    return fd
