"""The id maps of a user namespace, as /proc/PID/uid_map and gid_map tell them to the host (user_namespaces(7))."""

import json
import os
from typing import TYPE_CHECKING

from auditns_connector.vocabulary import frames as f
from auditns_connector.vocabulary.values import Json

if TYPE_CHECKING:
    from auditns_connector.model.places import Instance


def read_maps(pid: int, ino: int) -> dict[str, list[list[int]]] | None:
    """``{"uid": [[inside, outside, count] …], "gid": …}`` of the user namespace with inode ``ino``, through process
    ``pid`` in it; None where the process is gone or elsewhere, or the maps are not written yet."""
    found: dict[str, list[list[int]]] = {}
    try:
        folder = os.open(f"/proc/{pid}", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        for kind in ("uid", "gid"):
            fd = os.open(f"{kind}_map", os.O_RDONLY | os.O_CLOEXEC, dir_fd=folder)
            with open(fd, encoding="ascii") as file:
                found[kind] = [[int(number) for number in line.split()] for line in file]
        if os.readlink("ns/user", dir_fd=folder) != f"user:[{ino}]":
            return None
    except (OSError, ValueError):
        return None  # gone, or hidden
    finally:
        os.close(folder)
    return found if found["uid"] else None


def idmap_frame(inst: "Instance", maps: Json, now: int, pid: int = 0) -> bytes:
    """The IDMAP frame that gives ``inst`` its ``maps`` (as :func:`read_maps`, asked through ``pid`` at ``now``)."""
    payload = json.dumps(maps).encode()
    return f.pack(f.K_IDMAP, f.S_PROCFS, now, pid=pid, cgroup=inst.number, arg=inst.ino, payload=payload)
