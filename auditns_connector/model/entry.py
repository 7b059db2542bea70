"""An entry into a container, as it is kept: see entries.py for when one begins."""

import re
from collections.abc import Iterator
from typing import Final, NamedTuple

#: an auid or ses that is none
UNSET: Final = 0xFFFFFFFF
SESSION: Final = "session"
DAEMON: Final = "daemon"
#: comm of those that start processes in containers for clients of theirs
DAEMONS: Final = re.compile(rb"(?:dockerd|containerd|crio|kubelet|lxd|incusd|buildkitd)(?:\Z|-)")
#: entries around one another that are remembered; of more than these the first one is
MOST_OUTER: Final = 16


class Session(NamedTuple):
    """Who logged in on the host: login uid and session as audit counts them, 4294967295 for none, and the stamp of the
    LOGIN record that said so ("procfs": /proc did)."""

    auid: int
    ses: int
    source: str


class Ancestor(NamedTuple):
    """A process that others descend from: ``file`` is the name that it gave to execve, ``exe`` the
    program as an audited exec reported it or, where ``procfs`` is set, /proc at our start; b"" is not known."""

    pid: int
    start: int
    comm: bytes
    file: bytes = b""
    exe: bytes = b""
    procfs: bool = False

    @property
    def program(self) -> bytes:
        """What it runs: exe, else what it gave to execve."""
        return self.exe or self.file


class Entry:
    """One entry into ``container``, by the process ``who`` was when it entered."""

    __slots__ = ("container", "depth", "how", "id", "outer", "parents", "session", "time", "unit", "who")

    def __init__(
        self, id_: str, container: object, how: str, time: int | None, who: Ancestor, session: Session | None,
        parents: tuple[Ancestor | None, ...], unit: str, outer: "Entry | None",
    ) -> None:  # fmt: skip
        self.id = id_
        #: the Container
        self.container = container
        self.how = how
        #: CLOCK_MONOTONIC ns; None: it was in there when we began to look
        self.time = time
        self.who = who
        self.session = session
        #: nearest first; None ends a chain of which more is not known
        self.parents = parents
        #: the systemd unit in which the chain ends
        self.unit = unit
        #: the entry that it had before, and how many there are
        self.outer = outer
        self.depth: int = 0 if outer is None else outer.depth + 1

    def __repr__(self) -> str:
        return f"<Entry {self.id} {self.how} {self.container!r}>"

    @property
    def came_from(self) -> str:
        """Whether somebody did it who has logged in ("session"), a daemon, or nobody of whom that is known ("unset": a
        shell on a host whose logins set no auid); "?": not known."""
        if self.session is None:
            return "?"
        if self.session.auid != UNSET:
            return SESSION
        behind = any(one is not None and DAEMONS.match(one.comm) for one in (self.who, *self.parents))
        return DAEMON if behind or self.unit.endswith(".service") else "unset"

    def around(self) -> "Iterator[Entry]":
        """The entries around it, the nearest first."""
        outer = self.outer
        while outer is not None:
            yield outer
            outer = outer.outer
