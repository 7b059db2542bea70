"""Who looks after a container, and where the daemons keep their files: by their command lines and configuration.

What a process's command line says is its own word, and its user's. It only says where to look: whose files count there
is decided by the real user of that process (owned_files.py), and a user's daemon is never asked about a container of
the system's.
"""

import os
import time
from collections.abc import Iterator
from typing import Final, NamedTuple

from auditns_connector.model.runtimes import chain
from auditns_connector.sources.owned_files import OwnedFiles

_MAX_WORDS: Final = 65536
_DOCKER_ROOT: Final = "/var/lib/docker"
_DOCKER_CONFIG: Final = "/etc/docker/daemon.json"
#: dockerd's options for its data; the older ones are still taken
_DATA_ROOT: Final = ("--data-root", "-g", "--graph")
#: so many processes are asked for their name in one search
_MOST: Final = 65536
#: seconds for which it holds which daemons there are: all processes are asked, and many containers may come at once
_FRESH: Final = 1.0
_USERS: Final = 64
#: processes between a container's first one and its conmon, both included
_GENERATIONS: Final = 4


class Monitor(NamedTuple):
    """The parent of a container's first process: conmon, containerd's shim or whoever else; ``uid`` -1: not known."""

    argv: tuple[str, ...] = ()
    uid: int = -1
    cwd: str = ""

    @property
    def name(self) -> str:
        """What program it is."""
        return os.path.basename(self.argv[0]) if self.argv else ""


def option(words: tuple[str, ...], *names: str) -> str:
    """The word behind one of ``names`` on a command line, or behind its equals sign."""
    for at, word in enumerate(words):
        name, equals, value = word.partition("=")
        if name in names:
            return value if equals else words[at + 1] if at + 1 < len(words) else ""
    return ""


def monitor_of(pid: int) -> Monitor:
    """The parent of process ``pid``; an empty one where either has gone."""
    try:
        return process(_parent(pid))
    except (OSError, IndexError, ValueError):
        return Monitor()  # it has gone: nobody tells any more


def conmon_of(pid: int) -> Monitor:
    """The conmon above process ``pid``: its parent, or while the runtime is at work the runtime's; an empty one where
    there is none."""
    try:
        for _ in range(_GENERATIONS):
            pid = _parent(pid)
            found = process(pid) if pid > 1 else Monitor()
            if found.name == "conmon" or not found.argv:
                return found
    except (OSError, IndexError, ValueError):
        pass  # somebody has gone: nobody tells any more
    return Monitor()


def _parent(pid: int) -> int:
    with open(f"/proc/{pid}/stat", "rb") as file:
        return int(file.read(4096).rpartition(b") ")[2].split()[1])


def process(pid: int) -> Monitor:
    """Process ``pid``. Raises OSError, ValueError where it has gone."""
    with open(f"/proc/{pid}/cmdline", "rb") as file:
        argv = tuple(word.decode("utf-8", "surrogateescape") for word in file.read(_MAX_WORDS).split(b"\0"))
    uid = real_uid(pid)
    try:
        cwd = os.readlink(f"/proc/{pid}/cwd")
    except OSError:
        cwd = ""  # it has gone, or its directory is not to be seen
    return Monitor(argv, uid, cwd)


def real_uid(pid: int) -> int:
    """The user of a process where it has but one; the owner of its folder in /proc may be another (a process can make
    that root)."""
    with open(f"/proc/{pid}/status", "rb") as file:
        for line in file:
            if line.startswith(b"Uid:"):
                uids = set(map(int, line.split()[1:]))
                return uids.pop() if len(uids) == 1 else -1
    raise ValueError("no uid")


class Daemons:
    """Where the Docker daemons of this host keep what they know, by the user they run as."""

    def __init__(self, files: OwnedFiles, proc: str = "/proc") -> None:
        self._files = files
        self._proc = proc
        #: by user: when they were read, and which there were
        self._roots: dict[int, tuple[float, list[str]]] = {}

    def docker_roots(self, uid: int) -> list[str]:
        """Data roots of dockerds that run as ``uid`` now, or did less than :data:`_FRESH` ago; of root the place where
        they are by default as well."""
        now = time.monotonic()
        read, roots = self._roots.get(uid, (0.0, []))
        if uid not in self._roots or now - read >= _FRESH:
            roots = self._read_roots(uid)
            if len(self._roots) >= _USERS:
                self._roots.clear()
            self._roots[uid] = now, roots
        return roots

    def _read_roots(self, uid: int) -> list[str]:
        found = dict.fromkeys(root for pid in self._named("dockerd") for root in self._root_of(pid, uid))
        if uid == 0:
            found.update(dict.fromkeys([self._configured(_DOCKER_CONFIG, 0) or _DOCKER_ROOT]))
        return list(found)

    def _named(self, name: str) -> Iterator[int]:
        wanted = name.encode() + b"\n"
        for pid in [entry for entry in os.listdir(self._proc) if entry.isdecimal()][:_MOST]:
            try:
                with open(f"{self._proc}/{pid}/comm", "rb") as file:
                    if file.read(64) == wanted:
                        yield int(pid)
            except OSError:
                continue  # it has gone

    def _root_of(self, pid: int, uid: int) -> Iterator[str]:
        try:
            daemon = process(pid)
            outside = uid != 0 or on_host(pid)
        except (OSError, ValueError):
            return  # it has gone
        if daemon.uid != uid or not outside:
            return
        root = option(daemon.argv, *_DATA_ROOT)
        config = option(daemon.argv, "--config-file")
        home = "" if uid == 0 else _home(pid)
        if not root and (config or uid == 0):
            root = self._configured(config or _DOCKER_CONFIG, uid)
        elif not root and home:
            root = self._configured(f"{home}/.config/docker/daemon.json", uid)
        if not root:
            root = _DOCKER_ROOT if uid == 0 else f"{home}/.local/share/docker" if home else ""
        if root.startswith("/"):
            yield root

    def _configured(self, path: str, uid: int) -> str:
        config = self._files.object(path, uid)
        root = config.get("data-root") or config.get("graph")
        return root if isinstance(root, str) and root.startswith("/") else ""


def on_host(pid: int) -> bool:
    """Whether ``pid`` is in no container: its root is ours, and its files are. Root in a container can call a process
    what it likes, and has files that are root's."""
    own = [os.readlink(f"/proc/{who}/ns/{name}") for who in (pid, "self") for name in ("user", "pid")]
    with open(f"/proc/{pid}/cgroup", "rb") as file:
        lines = file.read(_MAX_WORDS).decode("utf-8", "surrogateescape").split("\n")
    return own[:2] == own[2:] and not any(chain(line.partition(":")[2].partition(":")[2]) for line in lines)


def _home(pid: int) -> str:
    """HOME in the environment of ``pid``; its own word, as its command line is."""
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            words = file.read(_MAX_WORDS).split(b"\0")
    except OSError:
        return ""
    home = next((word[5:] for word in words if word.startswith(b"HOME=/")), b"")
    return home.decode("utf-8", "surrogateescape").rstrip("/")
