"""Metrics over HTTP, by the standard library's server: one request at a time, on a unix socket or a loopback port.

Nobody can make it hold more than one connection's worth of memory or wait for longer than :data:`PATIENCE`; the
counters come from the control socket of the program that is watched, which is asked once a request.
"""

import os
import select
import socket
import stat
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from socketserver import TCPServer, UnixStreamServer
from typing import TYPE_CHECKING, Final

from auditns_connector.errors import AuditnsError
from auditns_connector.metrics.exposition import CONTENT_TYPE

if TYPE_CHECKING:
    from auditns_connector.config.metrics import Endpoint
    from auditns_connector.daemon.process import Signals

    Server = TCPServer | UnixStreamServer

#: seconds that somebody may take to send a request and to read the answer
PATIENCE: Final = 5.0


def serve(where: "Endpoint", answer: Callable[[], bytes]) -> int:
    """Answer GET /metrics with ``answer()`` until a signal ends it; returns the exit code."""

    class Handler(BaseHTTPRequestHandler):
        timeout = PATIENCE
        server_version, sys_version = "auditns", ""

        def do_GET(self) -> None:
            if self.path.partition("?")[0] not in ("/metrics", "/"):
                self.send_error(404)
                return
            data = answer()
            self.send_response(200)
            self.send_header("Content-Type", CONTENT_TYPE)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: object) -> None:
            """Nothing: who asks how often is no news."""

        def address_string(self) -> str:
            return ""

    from auditns_connector.daemon.notify import notify
    from auditns_connector.daemon.process import Stopped, stoppable, woken

    try:
        with _server(where, Handler) as server, stoppable() as signals, woken() as signal_came:
            try:
                notify("READY=1")
                _answer_requests(server, signal_came, signals)
            finally:
                if where.path:
                    os.unlink(where.path)
    except Stopped:
        pass  # this is how it ends
    return 0


def _answer_requests(server: "Server", signal_came: socket.socket, signals: "Signals") -> None:
    """One after the other until a signal comes, wherever that is: serve_forever() would wait for the next one."""
    server.timeout = 0.0  # there is somebody; should he have gone, nobody is waited for
    server.socket.setblocking(False)
    ready = select.poll()
    for one in (server, signal_came):
        ready.register(one, select.POLLIN)
    while not signals.came:
        if any(fd == server.fileno() for fd, _ in ready.poll()):
            server.handle_request()


def _server(where: "Endpoint", handler: type[BaseHTTPRequestHandler]) -> "Server":
    try:
        if where.path:
            _remove_socket(where.path)
            server: Server = UnixStreamServer(where.path, handler)
            os.chmod(where.path, 0o666)  # counters are no secret; they hold no names of ours but outputs and streams
            return server
        kind = type("Loopback", (TCPServer,), {"allow_reuse_address": True, "address_family": _family(where.host)})
        return kind((where.host, where.port), handler)  # type: ignore[no-any-return]
    except OSError as error:
        raise AuditnsError(f"{where}: {error.strerror or error}") from error


def _family(host: str) -> int:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def _remove_socket(path: str) -> None:
    """A socket that a former run left; anything else stays, and binding will fail."""
    try:
        left = stat.S_ISSOCK(os.lstat(path).st_mode)
    except FileNotFoundError:
        return
    if left:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
            if sock.connect_ex(path) == 0:
                raise AuditnsError(f"{path}: another program serves it")
        os.unlink(path)
