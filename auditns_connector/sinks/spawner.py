"""Starts the child plugin with capabilities that we have given up (cdefs/process/spawner.c).

The process is forked at our start, before privileges are dropped, and can start that one program and nothing else:
whoever takes us over has gained no way to root's other capabilities by it.
"""

import errno
import os
import socket
from collections.abc import Mapping
from typing import Final, NamedTuple

from auditns_connector._native import ffi, lib
from auditns_connector.vocabulary.capabilities import mask

#: seconds; the program is local and only starts another
_TIMEOUT: Final = 10.0
#: all that a child finds in its environment
ENVIRONMENT: Final = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"}
_ANSWER: Final = ffi.sizeof("struct spawner_answer")


class Started(NamedTuple):
    """A child: its pid, and a pidfd that is the caller's to close."""

    pid: int
    pidfd: int


class Spawner:
    """For the program ``argv`` with ``capabilities`` as its bounding set and ``environment``. Raises OSError."""

    def __init__(
        self, argv: tuple[str, ...], capabilities: tuple[str, ...] = (), environment: Mapping[str, str] = ENVIRONMENT
    ) -> None:
        self.argv = argv
        self.capabilities = capabilities
        strings = [*argv, *(f"{name}={value}" for name, value in environment.items())]
        text = ffi.new("char[]", b"".join(os.fsencode(string) + b"\0" for string in strings))
        program = ffi.new(
            "struct spawner_program *",
            {"caps": mask(capabilities), "args": len(argv), "count": len(strings), "strings": text},
        )
        self._sock, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self.pid = lib.spawner_fork(theirs.fileno(), program)
        if self.pid < 0:
            self._sock.close()
            raise OSError(-self.pid, os.strerror(-self.pid))
        self._sock.settimeout(_TIMEOUT)

    def starts(self, argv: tuple[str, ...], capabilities: tuple[str, ...]) -> bool:
        """Whether this is what it starts."""
        return (self.argv, self.capabilities) == (argv, capabilities)

    def start(self, stdin: int, stderr: int) -> Started:
        """Start the program; its stdout is ``stderr`` too. Descriptors, signals and process group are its own.
        Raises OSError, also where it is the exec that failed."""
        answer, fds = self._ask(lib.SPAWNER_START, fds=(stdin, stderr))
        return Started(answer.pid, fds[0])

    def signal(self, pid: int, number: int) -> None:
        """Send a signal to a child that was not reaped yet. Raises OSError."""
        self._ask(lib.SPAWNER_SIGNAL, pid, number)

    def reap(self, pid: int) -> int | None:
        """The wait status of a child that has ended, once; ``None``: it lives. Raises OSError."""
        answer, _ = self._ask(lib.SPAWNER_REAP, pid)
        return int(answer.status) if answer.pid else None

    def _ask(self, what: int, pid: int = 0, number: int = 0, fds: tuple[int, ...] = ()) -> "tuple[_Answer, list[int]]":
        request = ffi.new("struct spawner_request *", {"what": what, "pid": pid, "number": number})
        socket.send_fds(self._sock, [ffi.buffer(request)[:]], list(fds))
        data, passed, _, _ = socket.recv_fds(self._sock, _ANSWER, 1)
        if len(data) != _ANSWER:
            raise OSError(errno.EPIPE, "the process that starts it has ended")
        answer = ffi.new("struct spawner_answer *")
        ffi.buffer(answer)[:] = data
        if answer.error:
            for fd in passed:
                os.close(fd)
            raise OSError(answer.error, os.strerror(answer.error))
        return _Answer(answer.pid, answer.status), passed

    def close(self) -> None:
        """End it; a child of it that lives stays."""
        if self.pid > 0:
            self._sock.close()
            os.waitpid(self.pid, 0)
            self.pid = 0


class _Answer(NamedTuple):
    pid: int
    status: int
