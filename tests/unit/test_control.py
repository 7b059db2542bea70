"""The control socket: what its clients may do to it."""

import contextlib
import functools
import json
import os
import selectors
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from auditns_connector import api
from auditns_connector.control import server as control
from auditns_connector.control.peer import Peer
from auditns_connector.control.server import MAX_CLIENTS, MAX_REQUEST, ControlServer
from auditns_connector.errors import AuditnsError, BehindError
from auditns_connector.vocabulary.values import JsonObject


class Served:
    """A server in a thread of its own, as the pipeline would run it."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)
        self.selector = selectors.DefaultSelector()
        self.server = ControlServer(self.path, self.selector)
        self.server.handlers["echo"] = lambda request, peer, sock: {"ok": True, "peer": peer.pid, "said": request}
        self._reader, self._writer = os.pipe()
        self._jobs: list[Callable[[], None]] = []
        self.selector.register(self._reader, selectors.EVENT_READ, self._job)
        self._running = True
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while self._running:
            for key, _ in self.selector.select(5):
                key.data()

    def _job(self) -> None:
        os.read(self._reader, 1)
        self._jobs.pop(0)()

    def do(self, job: Callable[[], None]) -> None:
        """Run ``job`` in the server's thread and wait for it."""
        done = threading.Event()

        def both() -> None:
            job()
            done.set()

        self._jobs.append(both)
        os.write(self._writer, b"x")
        assert done.wait(5)

    def close(self) -> None:
        def end() -> None:
            self._running = False

        self.do(end)
        self._thread.join(5)
        self.server.close()
        self.selector.close()
        os.close(self._reader)
        os.close(self._writer)

    def connect(self) -> socket.socket:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        sock.connect(self.path)
        sock.settimeout(5)
        return sock

    def answers(self) -> bool:
        """Whether an honest client gets its answer."""
        return control.ask(self.path, {"op": "echo"})["ok"] is True


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    one = Served(tmp_path / "control")
    try:
        yield one
    finally:
        one.close()


def test_the_peer_is_who_the_kernel_says(served: Served) -> None:
    answer = control.ask(served.path, {"op": "echo", "pid": 1, "uid": 4711})
    assert answer["peer"] == os.getpid()
    assert oct(os.stat(served.path).st_mode & 0o777) == "0o600"


def test_one_that_does_not_answer_in_time_is_said_to_be_busy(served: Served) -> None:
    resume = threading.Event()
    served._jobs.append(lambda: (resume.wait(10), None)[1])
    os.write(served._writer, b"x")
    try:
        with pytest.raises(AuditnsError, match=r"no answer within 0\.1 s"):
            control.ask(served.path, {"op": "echo"}, 0.1)
    finally:
        resume.set()
    assert served.answers()


@pytest.mark.parametrize(
    "data",
    [
        b"x", b"\0" * 100, b"\xff\xfe", b"{}", b"[]", b"null", b'"op"', b'{"op": null}', b'{"op": []}', b'{"op": {}}',
        b'{"op": "none"}', b'{"op": "echo"', b"[" * 60_000, b'{"op": 5}', b"9" * 60_000,
        b'{"op": "' + b"x" * 60_000 + b'"}', b"x" * (MAX_REQUEST + 1), b'{"op": "\\ud800"}',
    ],
)  # fmt: skip
def test_garbage_is_answered_and_counted(served: Served, data: bytes) -> None:
    with served.connect() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        sock.send(data)
        answer = json.loads(sock.recv(1 << 20))
        assert (answer["ok"], answer["error"]) == (False, "EINVAL")
        sock.send(b'{"op": "echo"}')
        assert json.loads(sock.recv(1 << 20))["ok"] is True
    assert served.server.counters["malformed"] == 1


def test_nobody_keeps_others_out_by_holding_connections(served: Served) -> None:
    with contextlib.ExitStack() as stack:
        for _ in range(3 * MAX_CLIENTS):
            stack.enter_context(served.connect())
        assert served.answers()
    assert served.answers()


def test_ten_thousand_connections(served: Served) -> None:
    before = len(os.listdir("/proc/self/fd"))
    for i in range(10_000):
        with served.connect() as sock:
            if i % 3 == 0:
                sock.send(b"half a mess")
    assert served.answers()
    served.do(lambda: None)
    assert len(os.listdir("/proc/self/fd")) <= before + MAX_CLIENTS
    assert served.server.counters["connections"] >= 10_000


def test_a_client_that_never_reads_is_dropped(served: Served) -> None:
    with served.connect() as sock:
        sock.setblocking(False)
        with contextlib.suppress(BlockingIOError, BrokenPipeError, ConnectionResetError):
            for _ in range(100_000):
                sock.send(b'{"op": "echo", "filler": "' + b"x" * 1000 + b'"}')
        assert served.answers()


def test_a_subscriber_that_never_reads_holds_nobody_up(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "MAX_QUEUE", 1000)

    def subscribe(request: dict[str, Any], peer: Any, sock: socket.socket) -> dict[str, Any]:
        served.server.subscribe(sock, [{"n": n} for n in range(50)])
        return {"ok": True}

    served.server.handlers["subscribe"] = subscribe
    with served.connect() as lazy, served.connect() as keen:
        for sock in (lazy, keen):
            sock.send(b'{"op": "subscribe"}')
        found = [json.loads(keen.recv(4096)) for _ in range(51)]
        assert found == [{"ok": True}, *({"n": n} for n in range(50))]
        for number in range(2000):
            served.do(functools.partial(served.server.publish, {"published": number}))
            assert json.loads(keen.recv(4096)) == {"published": number}
        assert served.answers()
        served.do(lambda: None)
        lazy.setblocking(False)
        read = 0
        with contextlib.suppress(ConnectionError):
            while lazy.recv(4096):
                read += 1
        assert read < 2000


def test_descriptors_sent_along_are_closed(served: Served) -> None:
    before = len(os.listdir("/proc/self/fd"))
    with served.connect() as sock:
        for _ in range(100):
            socket.send_fds(sock, [b'{"op": "echo"}'], [0, 1, 2])
            assert json.loads(sock.recv(4096))["ok"] is True
        assert len(os.listdir("/proc/self/fd")) <= before + 2


def test_one_serves_at_a_time(served: Served) -> None:
    with pytest.raises(AuditnsError, match="another"):
        ControlServer(served.path, served.selector)
    assert served.answers()


def test_refusals_have_their_errno_and_exit_code(served: Served) -> None:
    served.server.handlers["contid-set"] = lambda request, peer, sock: {
        "ok": False, "error": str(request["id"]), "message": "m",
    }  # fmt: skip
    codes = set()
    for name, code in api.EXIT_CODES.items():
        with pytest.raises(api.RegistrationError) as caught:
            api.set_contid(1, name, control=served.path)
        assert (caught.value.name, caught.value.exit_code) == (name, code)
        assert os.strerror(caught.value.number) != "Success"
        codes.add(code)
    assert len(codes) == len(api.EXIT_CODES)


def test_nobody_serves(tmp_path: Path) -> None:
    with pytest.raises(AuditnsError, match="nobody serves"):
        api.get_contid(1, control=str(tmp_path / "none"))


def test_a_program_that_is_behind_says_so_and_is_asked_again(served: Served) -> None:
    asked: list[JsonObject] = []

    def behind(request: JsonObject, peer: Peer, sock: socket.socket) -> JsonObject:
        asked.append(request)
        if len(asked) < 3:
            raise BehindError
        return {"ok": True}

    served.server.handlers["thing"] = behind
    assert control.ask(served.path, {"op": "thing"}, timeout=60.0) == {"ok": True}
    assert len(asked) == 3
    asked.clear()
    answer = control.ask(served.path, {"op": "thing"}, timeout=0.05)
    assert answer["error"] == "EAGAIN"
    assert "ask again" in answer["message"]
