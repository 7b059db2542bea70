"""Streams that ordinary users have made for containers of theirs (ownership.py), at a socket that all may open.

The names of each user's streams are in a space of their own, their directories in ``BASE/users/UID``: root's, like all
that is in them, so that nothing there can be put in place of anything. How many streams a user has is bounded, and so
are all users' together; what they may hold is nothing, until root of the host gives a stream room (its *allowance*) or
the configuration the user (his *quota*).
"""

import contextlib
import errno
import json
import os
import selectors
import socket
import stat
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final, Protocol

from auditns_connector.config.streams import GRANT_SCHEMA, USER_SCHEMA, Definition, bounded, change, read_of_user
from auditns_connector.config.streams import stream_name as name_of
from auditns_connector.config.users import UserOptions, resolve
from auditns_connector.control.public import PublicServer
from auditns_connector.daemon.log import Log
from auditns_connector.errors import AuditnsError, ConfigError
from auditns_connector.state.directory import SafeDir
from auditns_connector.state.paths import USER_SOCKET, USERS
from auditns_connector.streams.peers import identify
from auditns_connector.streams.server import Bounds, of_user
from auditns_connector.streams.stream import Stream
from auditns_connector.vocabulary.values import Json, JsonObject

if TYPE_CHECKING:
    from auditns_connector.host.observer import Observer

STATE: Final = "user-streams.json"
BY_USER: Final = "user"
#: of all users together
MAX_USER_STREAMS: Final = 128
#: users' requests are written down at once unless the last writing is not this long ago (seconds)
_SAVE_SOON: Final = 1.0
_BAD: Final = (ValueError, LookupError, AttributeError, TypeError, ArithmeticError, RecursionError)


class QuotaError(AuditnsError):
    """A user has as much as he may."""


class Manager(Protocol):
    """What is needed of the manager of all streams."""

    streams: dict[str, Stream]

    def start(self, definition: Definition, folder: int, origin: str, user: int, bounds: Bounds) -> Stream:
        """Run a stream in the directory ``folder``, which it takes over."""

    def stop(self, stream: Stream) -> None:
        """Stop one."""

    def changed(self) -> None:
        """Streams, or what they are for, are others."""

    def described(self, stream: Stream) -> JsonObject:
        """Definition, counters, readers, directory."""


class UserStreams:
    """The users' side of ``manager``, below the directory ``base``, whose state files are in ``state``."""

    def __init__(
        self,
        manager: Manager,
        base: str,
        state: SafeDir,
        selector: selectors.BaseSelector,
        observer: "Observer",
        log: Log,
    ) -> None:
        self.server: PublicServer | None = None
        self._manager, self._base, self._state = manager, base, state
        self._selector, self._observer, self._log = selector, observer, log
        self._options = UserOptions(streams=0)
        self._quotas: dict[int, int] = {}
        #: what the clients of each user's streams may do
        self._bounds: dict[int, Bounds] = {}
        self._saved, self._unsaved = float("-inf"), False

    # -- beginning and end

    def configure(self, options: UserOptions) -> None:
        """The configuration now says this. What no quota holds any more loses its room."""
        self._options = options
        quotas = resolve(options.quota)
        self._quotas = quotas.by_uid
        for name, why in quotas.unusable:
            self._log.warning("a quota cannot be used", user=name, reason=why)
        if not options.streams:
            for stream in self._all():
                self._remove(stream)
            self.close()
            return
        for uid in {stream.user for stream in self._all()}:
            self._fit(uid)
        if self.server is None:
            try:
                self.server = PublicServer(f"{self._base}/{USER_SOCKET}", self._selector, self.answer)
            except (AuditnsError, OSError) as error:
                self._log.warning("no socket for users", reason=str(error))

    def load(self) -> None:
        """Start the streams that users had before; what cannot be is said."""
        try:
            kept = json.loads(self._state.read(STATE) or b"{}").get("users", {})
            found = [
                (_uid(uid), read_of_user(name, about["options"]), about)
                for uid, streams in kept.items()
                for name, about in streams.items()
            ]
        except (AuditnsError, *_BAD) as error:
            self._log.warning("the users' streams kept from before cannot be read", file=STATE, reason=str(error))
            return
        for uid, definition, about in found:
            try:
                stream = self._start(uid, definition)
                self._restore(stream, about)
            except (AuditnsError, *_BAD) as error:
                name = f"{uid}/{definition.stream}"
                self._log.warning("a user's stream cannot be served", stream=name, reason=str(error))
        for uid in {stream.user for stream in self._all()}:
            self._fit(uid)

    def _restore(self, stream: Stream, about: JsonObject) -> None:
        granted = dict(about.get("granted", {}))
        allowance = granted.pop("allowance", 0)
        if type(allowance) is not int or allowance < 0:
            raise ValueError(f"an allowance of {allowance!r}")
        stream.allowance = allowance
        if granted:
            stream.change(change(stream.definition, granted, schema=GRANT_SCHEMA))
            self._manager.changed()

    def tick(self) -> None:
        """Once a second."""
        if self.server is not None:
            self.server.tick()
        if self._unsaved:
            self._save(at_once=True)

    def close(self) -> None:
        """Stop serving; the streams are the manager's to stop."""
        if self._unsaved:
            self._save(at_once=True)
        if self.server is not None:
            self.server.close()
            self.server = None

    def status(self) -> JsonObject:
        """Counters, for auditns status."""
        streams = self._all()
        return {
            "streams": len(streams),
            "active": sum(stream.active for stream in streams),
            "held_records": sum(stream.held.records for stream in streams),
            **({} if self.server is None else self.server.counters),
        }

    # -- requests of users

    def answer(self, request: JsonObject, uid: int, sock: socket.socket) -> JsonObject:
        """The answer to what the user ``uid`` asks over ``sock``."""
        if uid == 0:
            return _refused("EINVAL", "root has the control socket")
        self._observer.sync_within()
        if identify(sock, self._observer).container is not None:
            return _refused("EPERM", "a user's streams are managed from the host, and not in a container")
        if request.get("op") != "stream":
            return _refused("EINVAL", 'users may ask for "stream"')
        return self.managed(uid, request)

    def managed(self, uid: int, request: JsonObject) -> JsonObject:
        """The answer where it is settled who asks."""
        try:
            return {"ok": True, **self._manage(uid, request)}
        except QuotaError as error:
            return _refused("EDQUOT", str(error))
        except ConfigError as error:
            return _refused("EINVAL", str(error))
        except KeyError as error:
            return _refused("ENOENT", f"you have no stream {error.args[0]}")

    def _manage(self, uid: int, request: JsonObject) -> JsonObject:
        do = request.get("do")
        if do == "list":
            return {"streams": [self._manager.described(stream) for stream in self._of(uid)]}
        name = name_of(request.get("name"))
        if do == "create":
            return {"stream": self._manager.described(self._create(uid, name, request.get("options")))}
        stream = self.find(uid, name)
        if do == "set":
            self._change(stream, bounded(change(stream.definition, request.get("options"), schema=USER_SCHEMA)))
            self._save()
        elif do == "remove":
            self._remove(stream)
            self._save()
            return {}
        elif do != "show":
            raise ConfigError('do is "create", "list", "show", "set" or "remove"')
        return {"stream": self._manager.described(stream)}

    def _create(self, uid: int, name: str, options: Json) -> Stream:
        if f"{uid}/{name}" in self._manager.streams:
            raise ConfigError(f"you have a stream {name} already")
        if len(self._of(uid)) >= self._options.streams:
            raise QuotaError(f"you have {self._options.streams} streams already, and may have no more")
        if len(self._all()) >= MAX_USER_STREAMS:
            raise QuotaError(f"the users of this host have {MAX_USER_STREAMS} streams already")
        definition = read_of_user(name, options)
        self._check_room(uid, None, definition.backlog_limit)
        stream = self._start(uid, definition)
        self._save()
        return stream

    def _change(self, stream: Stream, definition: Definition) -> None:
        self._check_room(stream.user, stream, definition.backlog_limit)
        stream.change(definition)
        self._manager.changed()

    # -- requests of root

    def grant(self, stream: Stream, options: Json) -> None:
        """Root of the host gives a user's stream room, or takes it. Raises :class:`ConfigError`."""
        definition = change(stream.definition, options, schema=GRANT_SCHEMA)
        if isinstance(options, dict) and "backlog_limit" in options:
            stream.allowance = definition.backlog_limit
        stream.change(definition)
        self._manager.changed()
        self._save(at_once=True)

    def take_away(self, stream: Stream) -> None:
        """Root of the host removes a user's stream."""
        self._remove(stream)
        self._save(at_once=True)

    def find(self, uid: int, name: str) -> Stream:
        """The stream ``name`` of a user. Raises KeyError."""
        found = self._manager.streams.get(f"{uid}/{name}")
        if found is None:
            raise KeyError(name)
        return found

    # -- room

    def _used(self, uid: int, but: Stream | None) -> int:
        """Records of a user's quota that his streams but one take."""
        limits = [(s.definition.backlog_limit, s.allowance) for s in self._of(uid) if s is not but]
        return sum(limit for limit, allowance in limits if limit > allowance)

    def _check_room(self, uid: int, stream: Stream | None, limit: int) -> None:
        allowance = 0 if stream is None else stream.allowance
        quota = self._quotas.get(uid, 0)
        if limit <= allowance or limit + self._used(uid, stream) <= quota:
            return
        if not quota:
            raise QuotaError(
                "root of the host has given you no room: make the stream without --backlog-limit, and root sets it by "
                f"auditns stream set --user {uid}, or gives you a quota in the configuration"
            )
        free = max(0, quota - self._used(uid, stream))
        raise QuotaError(f"of your quota of {quota} records {free} are left")

    def _fit(self, uid: int) -> None:
        """Take the room that no quota holds from the streams of a user, the newest first."""
        left = self._quotas.get(uid, 0)
        for stream in self._of(uid):
            limit = stream.definition.backlog_limit
            if limit <= stream.allowance:
                continue
            if limit <= left:
                left -= limit
                continue
            self._log.info("a user's stream has lost its room", stream=stream.key, former=limit, now=stream.allowance)
            stream.change(stream.definition._replace(backlog_limit=stream.allowance))
            self._manager.changed()
            self._unsaved = True

    # -- directories and files

    def _all(self) -> list[Stream]:
        return [stream for stream in self._manager.streams.values() if stream.user]

    def _of(self, uid: int) -> list[Stream]:
        return [stream for stream in self._manager.streams.values() if stream.user == uid]

    def _start(self, uid: int, definition: Definition) -> Stream:
        where = f"{self._base}/{USERS}/{uid}"
        try:
            with _directory(USERS, self._state.fd) as users, _directory(str(uid), users) as mine:
                folder = _open_ours(definition.stream, mine)
        except OSError as error:
            raise AuditnsError(f"{where}/{definition.stream}: {error.strerror}") from error
        bounds = self._bounds.setdefault(uid, of_user())
        return self._manager.start(definition, folder, BY_USER, uid, bounds)

    def _remove(self, stream: Stream) -> None:
        self._manager.stop(stream)
        with contextlib.suppress(OSError):  # in use as a mount, or there are others
            users = f"{USERS}/{stream.user}"
            os.rmdir(f"{users}/{stream.definition.stream}", dir_fd=self._state.fd)
            os.rmdir(users, dir_fd=self._state.fd)
        if not self._of(stream.user):
            self._bounds.pop(stream.user, None)

    def _save(self, *, at_once: bool = False) -> None:
        now = time.monotonic()
        if not at_once and now < self._saved + _SAVE_SOON:
            self._unsaved = True  # the next tick does it
            return
        self._saved, self._unsaved = now, False
        users: dict[str, JsonObject] = {}
        for stream in self._all():
            options = stream.definition.as_dict()
            for name in ("message_limit", "uid", "gid"):  # which are not the user's to say
                options.pop(name, None)
            users.setdefault(str(stream.user), {})[stream.definition.stream] = {
                "options": options,
                "granted": {"allowance": stream.allowance, "message_limit": stream.definition.message_limit},
            }
        self._state.write(STATE, json.dumps({"v": 1, "users": users}).encode())


def _uid(text: str) -> int:
    uid = int(text)
    if not 0 < uid < 0xFFFFFFFF:
        raise ValueError(f"{uid} is no ordinary user")
    return uid


def _refused(error: str, message: str) -> JsonObject:
    return {"ok": False, "error": error, "message": message}


def _open_ours(name: str, parent: int) -> int:
    """The directory ``name``, made where it is not there, which nobody but us may change. Raises OSError."""
    with contextlib.suppress(FileExistsError):
        os.mkdir(name, 0o700, dir_fd=parent)
    fd = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
    info = os.fstat(fd)
    try:
        if info.st_uid != os.geteuid() or info.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise PermissionError(errno.EPERM, "the directory is somebody else's: remove it")
        os.fchmod(fd, 0o755)
    except OSError:
        os.close(fd)
        raise
    return fd


@contextlib.contextmanager
def _directory(name: str, parent: int) -> Iterator[int]:
    fd = _open_ours(name, parent)
    try:
        yield fd
    finally:
        os.close(fd)
