"""Who is on the other side of a stream's socket, by the kernel's word and the model's.

SO_PEERCRED is what held when the peer connected; SO_PEERPIDFD (Linux 6.5) is the very process, so that a number used
again is not taken for it. SCM_CREDENTIALS is not looked at: root of a user namespace may forge it.
"""

import os
import socket
from typing import TYPE_CHECKING, NamedTuple

from auditns_connector.control.peer import PidHandle, peer_of
from auditns_connector.model.places import UNKNOWN, Container
from auditns_connector.model.process import Process

if TYPE_CHECKING:
    from auditns_connector.host.observer import Observer


class Who(NamedTuple):
    """The peer: its process as the model knows it (None: not known), its number and ids as the host counts them."""

    process: Process | None
    pid: int
    uid: int
    gid: int

    @property
    def container(self) -> Container | None:
        """Its container; None is the host."""
        return UNKNOWN if self.process is None else self.process.state.container


class Credentials(NamedTuple):
    """What /proc says of a living peer; unset (4294967295) and None where it has gone."""

    auid: int = 0xFFFFFFFF
    ses: int = 0xFFFFFFFF
    exe: bytes | None = None


def identify(sock: socket.socket, observer: "Observer") -> Who:
    """The peer of ``sock``. The model must have caught up; a process it does not know is asked for.

    A peer that has ended since it connected is known where the model remembers just one process of its number.
    """
    peer = peer_of(sock)
    if not peer.pid:
        return Who(None, 0, peer.uid, peer.gid)  # not in our pid namespace
    model = observer.model
    with PidHandle.by_socket(sock) as held:
        process: Process | None = model.alive(peer.pid)
        if process is None and held.alive():
            observer.ask_now(peer.pid)
            process = model.alive(peer.pid)
        if not held.alive():
            process = model.processes.get(peer.pid)
            if process is not None and (process.end is None or process.prev is not None):
                process = None
    return Who(process, peer.pid, peer.uid, peer.gid)


def credentials(sock: socket.socket, pid: int) -> Credentials:
    """Login uid, session and program of the peer, process ``pid``."""
    with PidHandle.by_socket(sock) as held:
        try:
            found = Credentials(_number(pid, "loginuid"), _number(pid, "sessionid"), os.fsencode(_exe(pid)))
        except (OSError, ValueError):
            return Credentials()
        return found if held.alive() else Credentials()


def _number(pid: int, name: str) -> int:
    with open(f"/proc/{pid}/{name}", encoding="ascii") as file:
        return int(file.read())


def _exe(pid: int) -> str:
    return os.readlink(f"/proc/{pid}/exe")
