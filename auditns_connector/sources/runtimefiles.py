"""What container runtimes have written down on this host about a container: its name, image and pod.

For what no hook told of. Read when a container is new, never while audit events wait. A file that is not there or
makes no sense says nothing. Layouts: moby ``container/container.go`` (config.v2.json), containers/storage
``containers.json``, the OCI bundle's ``config.json`` with the annotations of containerd's CRI plugin, nerdctl and
CRI-O, conmon(8)'s command line; seen at work: Podman.
"""

import json
import os
import re
import stat
from collections.abc import Callable
from typing import Final

from auditns_connector.model.runtimes import BY_NAME
from auditns_connector.vocabulary.oci import ANNOTATIONS
from auditns_connector.vocabulary.values import Json, JsonObject

MAX_FILE: Final = 8 << 20
_ID: Final = re.compile(r"[0-9a-f]{64}", re.ASCII)
_DOCKER: Final = "var/lib/docker/containers"
_TASKS: Final = (
    "run/containerd/io.containerd.runtime.v2.task",
    "run/docker/containerd/daemon/io.containerd.runtime.v2.task",
)
_STORAGE: Final = "var/lib/containers/storage"
_BUNDLES: Final = ("run/containers/storage", "var/run/containers/storage", "var/lib/containers/storage")
_DRIVERS: Final = ("overlay", "vfs", "btrfs", "zfs", "overlay2")
_LABELS: Final = {
    "pod": "io.kubernetes.pod.name",
    "namespace": "io.kubernetes.pod.namespace",
    "container": "io.kubernetes.container.name",
}


class RuntimeFiles:
    """Looks below ``root``."""

    def __init__(self, root: str = "/") -> None:
        self._root = root
        self.counters = {"read": 0, "malformed": 0}
        #: by the names that model/runtimes.py gives them
        self._readers: dict[str, Callable[[str, list[str]], dict[str, str]]] = {
            "docker": lambda ident, monitor: self._docker(ident),
            "tasks": lambda ident, monitor: self._tasks(ident),
            "storage": lambda ident, monitor: _said(self._conmon(ident, monitor)) | _said(self._storage(ident)),
            "monitor": lambda ident, monitor: self._conmon(ident, monitor, ()),
        }

    def names(self, runtime: str, ident: str, monitor: list[str], own: bool = True) -> dict[str, str]:
        """What is known of a container: any of name, image, pod, namespace. ``monitor`` is the command line of the
        parent of its first process, which for Podman and CRI-O is conmon's. A container that is not the host's
        ``own`` but a user's is in no file of the system's runtimes."""
        row = BY_NAME.get(runtime)
        if row is None or not _ID.fullmatch(ident):
            return {}
        for reader in row.files if own else row.files_of_users:
            found = _said(self._readers[reader](ident, monitor))
            if found:
                return found
        return {}

    def _docker(self, ident: str) -> dict[str, str]:
        config = self._json(f"{_DOCKER}/{ident}/config.v2.json")
        inner = config.get("Config")
        inner = inner if isinstance(inner, dict) else {}
        labels = inner.get("Labels")
        labels = labels if isinstance(labels, dict) else {}
        return {
            "name": _text(labels.get(_LABELS["container"])) or _text(config.get("Name")).removeprefix("/"),
            "image": _text(inner.get("Image")),
            "pod": _text(labels.get(_LABELS["pod"])),
            "namespace": _text(labels.get(_LABELS["namespace"])),
        }

    def _tasks(self, ident: str) -> dict[str, str]:
        for top in _TASKS:
            try:
                namespaces = os.listdir(os.path.join(self._root, top))
            except OSError:
                continue  # no containerd has run there
            for namespace in namespaces:
                found = self._annotations(f"{top}/{namespace}/{ident}/config.json")
                if found:
                    return found
        return {}

    def _conmon(self, ident: str, monitor: list[str], bundles: tuple[str, ...] = _BUNDLES) -> dict[str, str]:
        """conmon -c ID … -b BUNDLE … -n NAME: right for whatever storage, another user's too."""
        if not monitor or os.path.basename(monitor[0]) != "conmon" or _option(monitor, "-c") != ident:
            for top in bundles:
                for driver in _DRIVERS:
                    found = self._annotations(f"{top}/{driver}-containers/{ident}/userdata/config.json")
                    if found:
                        return found
            return {}
        bundle = _option(monitor, "-b")
        found = self._annotations(f"{bundle.lstrip('/')}/config.json") if bundle.startswith("/") else {}
        return {"name": _option(monitor, "-n")} | found

    def _storage(self, ident: str) -> dict[str, str]:
        for driver in _DRIVERS:
            for name in ("containers.json", "volatile-containers.json"):
                known = self._read(f"{_STORAGE}/{driver}-containers/{name}")
                for about in known if isinstance(known, list) else []:
                    if isinstance(about, dict) and about.get("id") == ident:
                        return self._stored(about)
        return {}

    def _stored(self, about: JsonObject) -> dict[str, str]:
        names = about.get("names")
        try:
            more = json.loads(_text(about.get("metadata")) or "{}")
        except (ValueError, RecursionError):
            more = {}
        image = _text(more.get("image-name")) if isinstance(more, dict) else ""
        name = _text(names[0]) if isinstance(names, list) and names else ""
        return {"name": name, "image": image or _text(about.get("image"))}

    def _annotations(self, path: str) -> dict[str, str]:
        found = self._json(path).get("annotations")
        if not isinstance(found, dict):
            return {}
        out = {}
        for name, keys in ANNOTATIONS.items():
            value = next((found[key] for key in keys if isinstance(found.get(key), str)), "")
            if value:
                out[name] = value
        return out

    # -- files

    def _json(self, path: str) -> JsonObject:
        found = self._read(path)
        return found if isinstance(found, dict) else {}

    def _read(self, path: str) -> Json:
        try:
            fd = os.open(os.path.join(self._root, path), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            return None  # it is not there, or not a file
        try:
            about = os.fstat(fd)
            if not stat.S_ISREG(about.st_mode) or about.st_size > MAX_FILE:
                return None
            self.counters["read"] += 1
            with open(fd, "rb", closefd=False) as file:
                return json.loads(file.read(MAX_FILE))
        except (OSError, ValueError, RecursionError):
            self.counters["malformed"] += 1
            return None
        finally:
            os.close(fd)


def _said(found: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in found.items() if value}


def _text(value: Json) -> str:
    return value if isinstance(value, str) else ""


def _option(words: list[str], name: str) -> str:
    """The word behind ``name`` on a command line."""
    at = words.index(name) + 1 if name in words else len(words)
    return words[at] if at < len(words) else ""


def command_line(pid: int) -> list[str]:
    """The command line of the parent of process ``pid``; empty when one of them has gone."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            parent = int(file.read(4096).rpartition(b") ")[2].split()[1])
        with open(f"/proc/{parent}/cmdline", "rb") as file:
            return [word.decode("utf-8", "surrogateescape") for word in file.read(65536).split(b"\0")]
    except (OSError, IndexError, ValueError):
        return []  # it has gone: nobody tells any more
