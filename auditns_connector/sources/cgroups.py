"""The cgroup hierarchies of this host, and which path a cgroup id stands for.

A hierarchy has a number: the first column of /proc/PID/cgroup, the second of /proc/cgroups, ``dst_root`` of the
tracepoint cgroup_attach_task. Cgroup v2 is 0. A cgroup's id is the inode of its folder and is unique within its
hierarchy only (every root is 1), so an id goes together with a hierarchy. PERF_SAMPLE_CGROUP and PERF_RECORD_CGROUP
speak of the hierarchy that has the perf_event controller: :func:`perf_hierarchy`.

Sources: cgroups(7); kernel/cgroup/cgroup.c ``proc_cgroup_show``, include/trace/events/cgroup.h; seen on Linux 6.18.
"""

import errno
import os
import re
from collections.abc import Iterator
from typing import Final, NamedTuple

from auditns_connector._native import ffi, lib

_PATH_MAX: Final = 8192
_OCTAL: Final = re.compile(rb"\\([0-7]{3})")


class Hierarchy(NamedTuple):
    """One mounted hierarchy: its number, ``""`` (v2) or its controllers, and the folder of its root cgroup."""

    id: int
    controllers: str
    mount: str


def hierarchies(proc: str = "/proc") -> list[Hierarchy]:
    """The hierarchies that are mounted with their root, by number; empty where none is."""
    numbers = {}
    for line in _lines(f"{proc}/self/cgroup"):
        number, _, rest = line.partition(b":")
        numbers[rest.partition(b":")[0].decode()] = int(number)
    found: dict[int, Hierarchy] = {}
    for line in _lines(f"{proc}/self/mountinfo"):
        # 36 35 98:0 /root /mount options [optional fields] - type source super-options
        fields, _, tail = line.partition(b" - ")
        kind, _, options = tail.split(b" ", 2)
        root, mount = fields.split(b" ")[3:5]
        if kind not in (b"cgroup", b"cgroup2") or root != b"/":
            continue
        controllers = _controllers(options.decode(), numbers) if kind == b"cgroup" else ""
        if controllers is not None and controllers in numbers:
            path = _OCTAL.sub(lambda match: bytes((int(match[1], 8),)), mount)
            hierarchy = Hierarchy(numbers[controllers], controllers, os.fsdecode(path))
            found.setdefault(hierarchy.id, hierarchy)
    return sorted(found.values())


def perf_hierarchy(proc: str = "/proc") -> int:
    """The hierarchy whose ids perf reports: that of the perf_event controller, 0 where that is in v2."""
    for line in _lines(f"{proc}/cgroups"):
        fields = line.split()
        if fields[:1] == [b"perf_event"]:
            return int(fields[1])
    return 0


def cgroup_path(hierarchy: Hierarchy, cgroup_id: int) -> str | None:
    """The path of one cgroup below its root ("/a/b"; "/" the root itself); None: gone, or a kernel without handles.

    Needs CAP_DAC_READ_SEARCH. Takes some 15 µs, whatever the number of cgroups.
    """
    try:
        mount = os.open(hierarchy.mount, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        room = ffi.new("char[]", _PATH_MAX)
        length = lib.nsid_cgroup_path(mount, cgroup_id, room, _PATH_MAX)
    finally:
        os.close(mount)
    if length < 0:
        return None
    return _below(hierarchy.mount, os.fsdecode(ffi.buffer(room, length)[:]))


def cgroup_paths(hierarchy: Hierarchy) -> dict[int, str]:
    """Id → path of every cgroup of ``hierarchy``; those that vanish meanwhile are left out."""
    found = {}
    for folder, inode in _walk(hierarchy.mount):
        found[inode] = _below(hierarchy.mount, folder)
    return found


def _walk(top: str) -> Iterator[tuple[str, int]]:
    try:
        yield top, os.stat(top).st_ino
    except OSError:
        return
    stack = [top]
    while stack:
        folder = stack.pop()
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        yield entry.path, entry.inode()
                        stack.append(entry.path)
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ENODEV):  # removed meanwhile
                raise


def _below(mount: str, path: str) -> str:
    return path[len(mount.rstrip("/")) :] or "/"


def _controllers(options: str, numbers: dict[str, int]) -> str | None:
    """The name by which /proc/PID/cgroup knows a v1 mount with these super-block options ("rw,cpu,cpuacct")."""
    words = set(options.split(","))
    for name in numbers:
        if name and words.issuperset(name.split(",")):
            return name
    return None


def _lines(path: str) -> list[bytes]:
    try:
        with open(path, "rb") as file:
            return file.read().splitlines()
    except OSError:
        return []
