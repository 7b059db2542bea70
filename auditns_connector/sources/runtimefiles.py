"""What container runtimes have written down on this host about a container: its name, image, pod and labels.

For what no hook registered. Read when a container is new, never while audit events wait. A file that is not there or
makes no sense says nothing, and so does one that somebody else than the runtime's user can have written
(owned_files.py). Layouts: moby ``container/container.go`` (config.v2.json) and ``daemon/daemon.go`` (its place with
``--userns-remap``), containers/storage ``containers.json``, the OCI bundle's ``config.json`` with the annotations of
containerd's CRI plugin, nerdctl and CRI-O, containerd's shim (its command line; its directory is the bundle),
conmon(8)'s command line. Seen at work: Docker, containerd's CRI plugin, Podman.
"""

import json
import re
from collections.abc import Callable
from typing import Final, NamedTuple

from auditns_connector.model.runtimes import BY_NAME
from auditns_connector.sources.owned_files import OwnedFiles
from auditns_connector.sources.runtime_daemons import Daemons, Monitor, option
from auditns_connector.vocabulary.oci import LABELS, names_of
from auditns_connector.vocabulary.values import Json, JsonObject

_ID: Final = re.compile(r"[0-9a-f]{64}", re.ASCII)
#: the part of Docker's data root that belongs to a mapped user namespace
_REMAPPED: Final = re.compile(r"[0-9]{1,10}\.[0-9]{1,10}", re.ASCII)
_TASKS: Final = (
    "run/containerd/io.containerd.runtime.v2.task",
    "run/docker/containerd/daemon/io.containerd.runtime.v2.task",
)
_STORAGE: Final = "var/lib/containers/storage"
_BUNDLES: Final = ("run/containers/storage", "var/run/containers/storage", "var/lib/containers/storage")
_DRIVERS: Final = ("overlay", "vfs", "btrfs", "zfs", "overlay2")
#: Docker's namespace in containerd
_MOBY: Final = "moby"
_MANAGERS: Final = {row.manager: row.name for row in BY_NAME.values() if row.manager}


class Found(NamedTuple):
    """Names of a container: ``names`` by the names of model/container_names.py."""

    names: dict[str, str]
    labels: dict[str, str]

    def __bool__(self) -> bool:
        return bool(self.names)


NOTHING: Final = Found({}, {})
_Reader = Callable[[str, Monitor, int], Found]


class RuntimeFiles:
    """Looks below ``root``."""

    def __init__(self, root: str = "/") -> None:
        self._files = OwnedFiles(root)
        self._daemons = Daemons(self._files)
        self.counters = self._files.counters
        #: by the names that model/runtimes.py gives them
        self._readers: dict[str, _Reader] = {
            "docker": self._docker,
            "tasks": self._tasks,
            "storage": lambda ident, monitor, uid: _joined(
                self._conmon(ident, monitor, uid, _BUNDLES), self._storage(ident, _STORAGE, uid)
            ),
            "monitor": lambda ident, monitor, uid: self._conmon(ident, monitor, uid, ()),
        }

    def names(self, runtime: str, ident: str, monitor: Monitor, own: bool = True) -> Found:
        """The names of the container with the id ``ident`` that ``runtime``, as its path tells it, has made.
        ``monitor`` is the parent of its first process. A container that is not the host's ``own`` but a user's is in no
        file of the system's runtimes."""
        row = BY_NAME.get(runtime)
        if row is None or not _ID.fullmatch(ident) or not (own or monitor.uid > 0):
            return NOTHING
        if own and monitor.uid > 0:
            monitor = Monitor()  # no runtime of the system's
        uid = 0 if own else monitor.uid
        for reader in row.files if own else row.files_of_users:
            found = self._readers[reader](ident, monitor, uid)
            if found:
                return found
        return NOTHING

    def names_of_sandbox(self, monitor: Monitor) -> Found:
        """The names of a container that no path tells, as those of a rootless Podman without cgroups, by the
        conmon that looks after it."""
        ident = option(monitor.argv, "-c")
        if monitor.name != "conmon" or monitor.uid < 0 or not _ID.fullmatch(ident):
            return NOTHING
        return self._conmon(ident, monitor, monitor.uid, ())

    # -- Docker

    def _docker(self, ident: str, monitor: Monitor, uid: int) -> Found:
        for root in self._daemons.docker_roots(uid):
            mapped = [name for name in self._files.listed(root) if _REMAPPED.fullmatch(name)]
            for place in (root, *(f"{root}/{name}" for name in mapped)):
                config = self._files.object(f"{place}/containers/{ident}/config.v2.json", uid)
                if config and config.get("ID", ident) == ident:
                    return self._of_docker(config)
        return NOTHING

    @staticmethod
    def _of_docker(config: JsonObject) -> Found:
        inner = config.get("Config")
        inner = inner if isinstance(inner, dict) else {}
        labels = inner.get("Labels")
        labels = labels if isinstance(labels, dict) else {}
        described = names_of(labels)
        described.setdefault("name", _text(config.get("Name")).removeprefix("/"))
        names = _said({**described, "image": _text(inner.get("Image"))})
        return Found({"runtime": "docker", **names}, _strings(labels)) if names else NOTHING

    # -- containerd

    def _tasks(self, ident: str, monitor: Monitor, uid: int) -> Found:
        tops = list(_TASKS) if uid == 0 else []
        namespace = option(monitor.argv, "-namespace") if monitor.name.startswith("containerd-shim") else ""
        bundle, _, last = monitor.cwd.rpartition("/")
        if namespace and last == option(monitor.argv, "-id"):
            # a shim works in the bundle of the container that it was started for; those of its pod are beside it
            tops.insert(0, bundle.rpartition("/")[0])
        for top in tops:
            for name in dict.fromkeys([namespace] if namespace else self._files.listed(top)):
                found = self._annotated(f"{top}/{name}/{ident}/config.json", uid)
                if found is not None:
                    runtime = "docker" if name == _MOBY else "containerd"
                    return Found({"runtime": runtime, **found.names}, found.labels)
        return NOTHING

    # -- Podman and CRI-O

    def _conmon(self, ident: str, monitor: Monitor, uid: int, bundles: tuple[str, ...]) -> Found:
        """conmon -c ID … -b BUNDLE … -n NAME: right for whatever storage, another user's too."""
        if monitor.name != "conmon" or option(monitor.argv, "-c") != ident:
            for top in bundles:
                for driver in _DRIVERS:
                    found = self._annotated(f"{top}/{driver}-containers/{ident}/userdata/config.json", uid)
                    if found:
                        return found
            return NOTHING
        bundle = option(monitor.argv, "-b")
        annotated = self._annotated(f"{bundle}/config.json", uid) if bundle.startswith("/") else None
        stored = NOTHING
        driver, _, rest = bundle.rpartition(f"/{ident}/userdata")
        if driver.endswith("-containers") and not rest:
            stored = self._stored_in(driver, ident, uid)
        name = option(monitor.argv, "-n")
        return _joined(Found({"name": name} if name else {}, {}), annotated or NOTHING, stored)

    def _storage(self, ident: str, storage: str, uid: int) -> Found:
        for driver in _DRIVERS:
            found = self._stored_in(f"{storage}/{driver}-containers", ident, uid)
            if found:
                return found
        return NOTHING

    def _stored_in(self, folder: str, ident: str, uid: int) -> Found:
        for name in ("containers.json", "volatile-containers.json"):
            entries = self._files.json(f"{folder}/{name}", uid)
            for about in entries if isinstance(entries, list) else []:
                if isinstance(about, dict) and about.get("id") == ident:
                    return self._stored(about)
        return NOTHING

    @staticmethod
    def _stored(about: JsonObject) -> Found:
        names = about.get("names")
        more = _decoded(about.get("metadata"))
        image = _text(more.get("image-name"))
        name = _text(names[0]) if isinstance(names, list) and names else ""
        return Found(_said({"name": name, "image": image or _text(about.get("image"))}), {})

    # -- bundles

    def _annotated(self, path: str, uid: int) -> Found | None:
        """What a bundle's configuration says of its container; ``None`` where there is none."""
        config = self._files.object(path, uid)
        if not config:
            return None
        annotations = config.get("annotations")
        annotations = annotations if isinstance(annotations, dict) else {}
        names = names_of(annotations)
        if not names and not isinstance(config.get("ociVersion"), str):
            return None
        manager = _MANAGERS.get(_text(annotations.get("io.container.manager")))
        if manager:
            names["runtime"] = manager
        labels = next((found for key in LABELS if (found := _decoded(annotations.get(key)))), {})
        return Found(names, _strings(labels))


def _joined(*several: Found) -> Found:
    """What all of them say; the later word counts."""
    names: dict[str, str] = {}
    labels: dict[str, str] = {}
    for found in reversed(several):
        names = {**names, **{name: value for name, value in found.names.items() if name not in names}}
        labels = labels or found.labels
    return Found(names, labels)


def _decoded(value: Json) -> JsonObject:
    """The object that is written down as JSON in ``value``."""
    try:
        found = json.loads(_text(value) or "{}")
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _said(found: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in found.items() if value}


def _strings(found: JsonObject) -> dict[str, str]:
    return {key: value for key, value in found.items() if isinstance(value, str)}


def _text(value: Json) -> str:
    return value if isinstance(value, str) else ""
