"""Cgroups: where a process is in each hierarchy, and which containers of runtimes that names."""

from collections.abc import Iterable, Iterator
from typing import Final

from auditns_connector.model.runtimes import Runtime, places, unit_of

_MAX_DECODED: Final = 8192


def cgroup_paths(raw: bytes) -> Iterator[tuple[str, str]]:
    """(hierarchy, path) of what /proc/PID/cgroup says, but for those at the root."""
    for line in raw.decode("utf-8", "surrogateescape").split("\n"):
        hierarchy, _, rest = line.partition(":")
        path = rest.partition(":")[2]
        if path != "/" and hierarchy.isdecimal():
            yield hierarchy, path


class CgroupSet:
    """The cgroups of a process, one path for each hierarchy where it is not the root; interned."""

    __slots__ = ("paths", "places", "runtimes", "unit")

    def __init__(self, paths: tuple[tuple[int, str], ...]) -> None:
        self.paths = paths
        #: the systemd unit that one of the paths names, cgroup v2's before all; "" where none does
        self.unit = next(filter(None, (unit_of(path) for _, path in paths)), "")
        named = [(root, places(path)) for root, path in paths]
        best = max((found for _, found in named), key=len, default=[])
        #: the runtimes' containers that the paths name, outermost first
        self.runtimes: tuple[Runtime, ...] = tuple(runtime for runtime, _ in best)
        #: for each of these the hierarchies that say so too, and the path of the container's own cgroup there
        self.places: tuple[dict[int, str], ...] = tuple({} for _ in best)
        for root, found in named:
            for level, ((runtime, place), wanted) in enumerate(zip(found, self.runtimes, strict=False)):
                if runtime[:2] != wanted[:2]:
                    break
                self.places[level][root] = place

    def path(self, root: int) -> str:
        """The path in hierarchy ``root`` (0: cgroup v2)."""
        for hierarchy, path in self.paths:
            if hierarchy == root:
                return path
        return "/"


class Cgroups:
    """Interned cgroup sets, and what path a cgroup id means."""

    def __init__(self) -> None:
        self._sets: dict[tuple[tuple[int, str], ...], CgroupSet] = {}
        self.root = self.of(())
        #: what /proc/PID/cgroup says -> its set: most processes share theirs
        self._decoded: dict[bytes, CgroupSet] = {}
        self.path_of: dict[int, str] = {}

    def of(self, paths: Iterable[tuple[int, str]]) -> CgroupSet:
        """The one set of these ``(hierarchy, path)`` pairs."""
        key = tuple(sorted((root, path) for root, path in paths if path and path != "/"))
        found = self._sets.get(key)
        if found is None:
            if len(self._sets) > 100_000:
                self._sets.clear()  # a cache only: processes keep the sets they point to
            found = self._sets[key] = CgroupSet(key)
        return found

    def decode(self, raw: bytes) -> CgroupSet:
        """The set that the text of /proc/PID/cgroup means."""
        found = self._decoded.get(raw)
        if found is None:
            if len(self._decoded) >= _MAX_DECODED:
                self._decoded.clear()
            found = self._decoded[raw] = self.of((int(root), path) for root, path in dict(cgroup_paths(raw)).items())
        return found

    def moved(self, old: CgroupSet, root: int, path: str) -> CgroupSet:
        """``old`` after a move to ``path`` in hierarchy ``root``."""
        if old.path(root) == (path or "/"):
            return old
        return self.of([*((r, p) for r, p in old.paths if r != root), (root, path)])
