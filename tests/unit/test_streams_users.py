"""What ordinary users may have of streams: names, numbers, room; and the socket that all of them may open."""

import array
import json
import os
import selectors
import socket
import stat
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from auditns_connector.cli.status import sections
from auditns_connector.config.streams import Definition
from auditns_connector.config.users import UserOptions
from auditns_connector.control import public
from auditns_connector.control.public import PublicServer
from auditns_connector.model.places import Container
from auditns_connector.state.directory import SafeDir
from auditns_connector.streams.server import Bounds
from auditns_connector.streams.stream import Stream
from auditns_connector.streams.users import MAX_USER_STREAMS, STATE, UserStreams
from auditns_connector.vocabulary.values import JsonObject

ONE = Container((("pidns", "1@1"),), "sandbox", 0, None)
ALICE, BOB = 4_000_001, 4_000_002


class Log:
    """Keeps what is said."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def warning(self, event: str, **more: object) -> None:
        self.said.append(f"{event} {more}")

    info = warning


class Host:
    """The manager of the streams, and the users' side of it."""

    def __init__(self, base: Path, **options: Any) -> None:
        self.base, self.log = base, Log()
        self.streams: dict[str, Stream] = {}
        self.changes = 0
        self.selector = selectors.DefaultSelector()
        (base / "private").mkdir(mode=0o700, exist_ok=True)
        self.private = os.open(base / "private", os.O_RDONLY | os.O_DIRECTORY)
        self.state = SafeDir(str(base))
        observer: Any = SimpleNamespace()
        log: Any = self.log
        self.users = UserStreams(self, str(base), self.state, self.selector, observer, log)
        self.users.configure(UserOptions(**options))
        self.users.load()

    def start(self, definition: Definition, folder: int, origin: str, user: int, bounds: Bounds) -> Stream:
        owner: Any = self
        definition = definition._replace(uid=os.getuid(), gid=os.getgid())
        stream = Stream(definition, folder, self.private, self.selector, owner, user, bounds)
        self.streams[stream.key] = stream
        return stream

    def stop(self, stream: Stream) -> None:
        self.streams.pop(stream.key).close()

    def changed(self) -> None:
        self.changes += 1

    def described(self, stream: Stream) -> JsonObject:
        return stream.status()

    def ask(self, who: int, do: str, name: Any = "web", /, **options: Any) -> JsonObject:
        options = {"name": ["*"], **options} if do == "create" else options
        return self.users.managed(who, {"op": "stream", "do": do, "name": name, "options": options})

    def error(self, who: int, do: str, name: Any = "web", /, **options: Any) -> str:
        answer = self.ask(who, do, name, **options)
        assert answer["ok"] is (not answer.get("error"))
        return str(answer.get("error", ""))

    def limit(self, uid: int, name: str = "web") -> int:
        return self.users.find(uid, name).definition.backlog_limit

    def close(self) -> None:
        self.users.close()
        for stream in list(self.streams.values()):
            stream.close()
        os.close(self.private)
        self.state.close()
        self.selector.close()


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    tmp_path.chmod(0o755)
    made = Host(tmp_path, quota=((str(ALICE), 100),), streams=3)
    yield made
    made.close()


def test_names_are_in_a_space_of_their_own_for_each_user(host: Host) -> None:
    assert [host.error(uid, "create") for uid in (ALICE, BOB, ALICE)] == ["", "", "EINVAL"]
    assert [s["user"] for s in host.ask(ALICE, "list")["streams"]] == [ALICE]
    assert host.error(BOB, "create", "own") == ""
    assert [host.error(ALICE, do, "own") for do in ("show", "set", "remove")] == ["ENOENT"] * 3
    assert host.error(ALICE, "remove") == ""
    assert sorted(host.streams) == [f"{BOB}/own", f"{BOB}/web"]
    assert not (host.base / "users" / str(ALICE)).exists()


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", "a/b", "../../etc", "/etc", "a\0b", "a\n", "A", "é", "-a", "a..b", "a.", "x" * 64, 7, None, ["a"]],
)
def test_odd_names_are_refused(host: Host, name: Any) -> None:
    for do in ("create", "show", "set", "remove"):
        assert host.error(ALICE, do, name) == "EINVAL"
    assert not host.streams
    assert not (host.base / "users").exists()


@pytest.mark.parametrize(
    "options",
    [
        {"view": "host"}, {"uid": 0}, {"gid": 0}, {"message_limit": 1}, {"readers": 5}, {"readers": 0},
        {"mode": "0660"}, {"mode": "0777"}, {"allowance": 9}, {"user": 0}, {"name": []}, {"name": ["x"] * 17},
        {"label": ["k" * 255] * 5}, {"name": ["\ud800"]}, {"name": ["\n"]}, {"backlog_limit": -1},
        {"backlog_limit": True}, {"contid": ["x"]},
    ],
)  # fmt: skip
def test_a_user_cannot_say_more_than_his_own(host: Host, options: dict[str, Any]) -> None:
    assert host.error(ALICE, "create", **options) == "EINVAL"
    assert host.error(ALICE, "create") == ""
    if "name" not in options or options["name"]:
        assert host.error(ALICE, "set", **options) == "EINVAL"
    assert (host.ask(ALICE, "show")["stream"]["view"], host.limit(ALICE)) == ("container", 0)


def test_the_numbers_of_streams_are_bounded(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    assert [host.error(BOB, "create", f"s{n}") for n in range(5)] == ["", "", "", "EDQUOT", "EDQUOT"]
    assert MAX_USER_STREAMS < 1000
    monkeypatch.setattr("auditns_connector.streams.users.MAX_USER_STREAMS", 4)
    assert [host.error(ALICE, "create", f"s{n}") for n in range(3)] == ["", "EDQUOT", "EDQUOT"]
    assert host.error(BOB, "remove", "s1") == ""
    assert host.error(ALICE, "create", "s1") == ""


def test_nothing_is_held_until_root_gives_room(host: Host) -> None:
    assert host.error(BOB, "create", backlog_limit=1) == "EDQUOT"
    assert host.error(BOB, "create") == ""
    stream = host.users.find(BOB, "web")
    assert not stream.active
    assert host.error(BOB, "set", backlog_limit=1) == "EDQUOT"
    host.users.grant(stream, {"backlog_limit": 50})
    assert stream.active
    # within what root gave he may have less, and as much again
    assert [host.error(BOB, "set", backlog_limit=n) for n in (10, 50, 51)] == ["", "", "EDQUOT"]
    assert host.limit(BOB) == 50
    host.users.grant(stream, {"backlog_limit": 0})
    assert (stream.active, host.error(BOB, "set", backlog_limit=1)) == (False, "EDQUOT")


def test_a_quota_is_for_all_streams_of_a_user(host: Host) -> None:
    assert host.error(ALICE, "create", "a", backlog_limit=60) == ""
    assert host.error(ALICE, "create", "b", backlog_limit=41) == "EDQUOT"
    assert host.error(ALICE, "create", "b", backlog_limit=40) == ""
    assert host.error(ALICE, "set", "a", backlog_limit=61) == "EDQUOT"
    host.users.grant(host.users.find(ALICE, "b"), {"backlog_limit": 5000})  # that is not of his quota
    assert host.error(ALICE, "set", "a", backlog_limit=100) == ""
    assert host.error(ALICE, "set", "b", backlog_limit=5001) == "EDQUOT"
    # another configuration: what is too much goes, what root gave stays
    host.users.configure(UserOptions(3, ((str(ALICE), 99),)))
    assert (host.limit(ALICE, "a"), host.limit(ALICE, "b")) == (0, 5000)


def test_what_users_made_comes_back_as_far_as_there_is_room(host: Host, tmp_path: Path) -> None:
    assert host.error(ALICE, "create", backlog_limit=100, mode="0666", readers=2, contid=["0x10"]) == ""
    assert host.error(BOB, "create", label=["k=é*"]) == ""
    host.users.grant(host.users.find(BOB, "web"), {"backlog_limit": 7, "message_limit": 10})
    assert stat.S_IMODE((tmp_path / STATE).stat().st_mode) == 0o600
    host.close()
    for quota, limit in ((100, 100), (99, 0), (100, 0)):
        again = Host(tmp_path, quota=((str(ALICE), quota),), streams=3)
        host.__dict__.update(again.__dict__)
        alice, bob = again.users.find(ALICE, "web"), again.users.find(BOB, "web")
        assert (alice.definition.backlog_limit, alice.definition.mode, alice.definition.readers) == (limit, 0o666, 2)
        assert (alice.definition.contid, alice.allowance) == ((16,), 0)
        assert (bob.definition.backlog_limit, bob.allowance, bob.definition.message_limit) == (7, 7, 10)
        assert bob.definition.label == ("k=é*",)
        if quota == 99:
            again.users.tick()  # writes down what was taken
        again.close()
    again = Host(tmp_path, streams=3)
    host.__dict__.update(again.__dict__)
    again.users.configure(UserOptions(streams=0))
    assert (again.streams, again.users.server) == ({}, None)


@pytest.mark.parametrize(
    "data",
    [
        b"{", b"[]", b'{"users": 7}', b'{"users": {"x": {"web": {"options": {"name": ["*"]}}}}}',
        b'{"users": {"0": {"web": {"options": {"name": ["*"]}}}}}', b'{"users": {"1": {"web": {}}}}', b"[" * 100_000,
        b'{"users": {"1": {"../x": {"options": {"name": ["*"]}}}}}',
        b'{"users": {"1": {"web": {"options": {"name": ["*"], "view": "host"}}}}}',
    ],
)  # fmt: skip
def test_a_spoilt_state_file_is_a_warning(tmp_path: Path, data: bytes) -> None:
    tmp_path.chmod(0o755)
    (tmp_path / STATE).write_bytes(data)
    host = Host(tmp_path, streams=3)
    assert not host.streams
    assert "cannot be read" in host.log.said[0]
    host.close()


@pytest.mark.parametrize("place", ["users", "users/{uid}", "users/{uid}/web"])
@pytest.mark.parametrize("kind", ["link", "file", "writable"])
def test_whatever_stands_in_place_of_a_directory_is_not_followed(
    host: Host, tmp_path: Path, place: str, kind: str
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir(mode=0o755)
    path = tmp_path / place.format(uid=ALICE)
    path.parent.mkdir(parents=True, exist_ok=True)
    for folder in (path.parent, path.parent.parent):
        folder.chmod(0o755)
    if kind == "link":
        path.symlink_to(elsewhere)
    elif kind == "file":
        path.touch()
    else:
        path.mkdir()
        path.chmod(0o777)
    with pytest.raises(Exception, match=f"users/{ALICE}/web"):
        host.ask(ALICE, "create")
    assert not list(elsewhere.iterdir())
    assert not host.streams


# -- who may connect to the sockets of a user's stream


def test_strangers_are_sent_away(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    assert host.error(ALICE, "create") == ""
    stream = host.users.find(ALICE, "web")
    assert [stream.welcome(uid) for uid in (0, ALICE, BOB)] == [True, True, False]
    assert host.error(ALICE, "set", mode="0666") == ""
    assert [stream.welcome(uid) for uid in (0, ALICE, BOB)] == [True, True, True]
    assert host.error(ALICE, "set", mode="0600") == ""
    monkeypatch.setattr("auditns_connector.streams.server.peer_of", lambda sock: SimpleNamespace(uid=BOB))
    for name, kind in (("sock", socket.SOCK_STREAM), ("talk", socket.SOCK_SEQPACKET)):
        with socket.socket(socket.AF_UNIX, kind) as sock:
            sock.connect(str(host.base / "users" / str(ALICE) / "web" / name))
            for key, _ in host.selector.select(5):
                key.data()
            sock.settimeout(5)
            assert sock.recv(1) == b""
    assert stream.server.counters["refused"] == 2


def test_the_clients_of_all_streams_of_a_user_are_counted_together(host: Host) -> None:
    for uid, name in ((ALICE, "a"), (ALICE, "b"), (BOB, "c")):
        assert host.error(uid, "create", name) == ""
    a, b, c = (host.users.find(uid, name).server for uid, name in ((ALICE, "a"), (ALICE, "b"), (BOB, "c")))
    assert (a.connects, a.requests, a.lines) == (b.connects, b.requests, b.lines)
    assert a.connects is not c.connects


# -- the socket for all


class Town:
    """The socket, and clients of it."""

    def __init__(self, path: Path) -> None:
        self.selector = selectors.DefaultSelector()
        self.asked: list[tuple[JsonObject, int]] = []
        self.server = PublicServer(str(path), self.selector, self.answer)
        self.path = path

    def answer(self, request: JsonObject, uid: int, sock: socket.socket) -> JsonObject:
        self.asked.append((request, uid))
        return {"ok": True, "n": len(self.asked)}

    def connect(self) -> socket.socket:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        sock.settimeout(5)
        sock.connect(str(self.path))
        return sock

    def turn(self) -> None:
        """One round."""
        for key, _ in self.selector.select(0):
            key.data()

    def ask(self, data: bytes) -> JsonObject:
        with self.connect() as sock:
            sock.send(data)
            self.turn()
            self.turn()
            found: JsonObject = json.loads(sock.recv(1 << 16))
            return found


@pytest.fixture
def town(tmp_path: Path) -> Iterator[Town]:
    made = Town(tmp_path / "user")
    yield made
    made.server.close()
    made.selector.close()
    assert not made.path.exists()


def test_everybody_may_open_it_and_is_asked_who_he_is(town: Town) -> None:
    assert stat.S_IMODE(town.path.stat().st_mode) == 0o666
    assert town.ask(b'{"op": "stream", "uid": 0}') == {"ok": True, "n": 1}
    assert town.asked == [({"op": "stream", "uid": 0}, os.getuid())]


@pytest.mark.parametrize(
    "data", [b"\xff\0", b"{", b"[]", b"7", b"null", b"[" * 8000, b'{"op": "' + b"x" * 8200 + b'"}']
)
def test_what_is_no_request_is_an_error(town: Town, data: bytes) -> None:
    assert town.ask(data)["error"] == "EINVAL"
    assert not town.asked
    assert town.server.counters["malformed"] == 1


def test_requests_of_a_user_are_few_a_second(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [10**9]
    monkeypatch.setattr(public.time, "monotonic_ns", lambda: now[0])
    answers = [town.ask(b"{}").get("error") for _ in range(public.REQUESTS_OF_USER + 3)]
    assert answers == [None] * public.REQUESTS_OF_USER + ["EAGAIN"] * 3
    now[0] += 10**9
    assert town.ask(b"{}")["ok"]


def test_silent_connections_keep_nobody_out(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    silent = [town.connect() for _ in range(public.MAX_CLIENTS_OF_USER + 3)]
    town.turn()
    assert town.server.counters["refused"] == 3
    assert silent[-1].recv(1) == b""
    clock = public.time.monotonic() + 60
    monkeypatch.setattr(public.time, "monotonic", lambda: clock)
    town.server.tick()
    assert [sock.recv(1) for sock in silent[: public.MAX_CLIENTS_OF_USER]] == [b""] * public.MAX_CLIENTS_OF_USER
    assert town.ask(b"{}")["ok"]


def test_connections_of_many_users_push_the_oldest_out(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    uids = iter(range(1, 10_000))
    monkeypatch.setattr(public, "peer_of", lambda sock: SimpleNamespace(uid=next(uids)))
    socks = []
    for _ in range(public.MAX_CLIENTS + 10):
        socks.append(town.connect())
        town.turn()
    assert len(town.selector.get_map()) <= public.MAX_CLIENTS + 1
    assert [sock.recv(1) for sock in socks[:10]] == [b""] * 10
    socks[-1].send(b"{}")
    town.turn()
    assert json.loads(socks[-1].recv(100))["ok"]


def test_a_flood_is_taken_in_pieces_and_rests(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(public, "_CONNECTS", 40)
    monkeypatch.setattr(public.time, "monotonic_ns", lambda: 5)
    monkeypatch.setattr(public.time, "monotonic", lambda: 1.0)
    flooded = Town(town.path.with_name("other"))
    socks = [flooded.connect() for _ in range(100)]
    flooded.turn()
    assert flooded.server.counters["connections"] == 32
    flooded.turn()
    assert flooded.server.counters["connections"] == 41
    assert flooded.server.deadline is not None
    for _ in range(10):
        flooded.turn()
    assert flooded.server.counters["connections"] == 41  # the others wait in the kernel
    monkeypatch.setattr(public.time, "monotonic", lambda: 2.0)
    flooded.server.go_on()
    flooded.turn()
    assert flooded.server.counters["connections"] > 41
    flooded.server.close()
    flooded.selector.close()
    for sock in socks:
        sock.close()


def test_one_that_goes_in_the_middle_is_let_go(town: Town) -> None:
    with town.connect():
        town.turn()
    town.turn()
    gone = town.connect()
    gone.send(b"{}")
    gone.close()
    town.turn()
    town.turn()
    assert len(town.selector.get_map()) == 1


def test_descriptors_that_are_passed_are_not_kept(town: Town) -> None:
    before = len(os.listdir("/proc/self/fd"))
    with town.connect() as sock:
        sock.sendmsg([b"{}"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [0] * 100))])
        town.turn()
        town.turn()
        assert json.loads(sock.recv(100))["ok"]
    assert len(os.listdir("/proc/self/fd")) == before


def test_something_else_in_its_place_is_left_alone(tmp_path: Path) -> None:
    for make in (lambda path: path.write_text("x"), lambda path: path.symlink_to("/etc/passwd")):
        path = tmp_path / f"user{len(list(tmp_path.iterdir()))}"
        make(path)
        with pytest.raises(Exception, match="something else"):
            Town(path)
        assert path.is_symlink() or path.read_text() == "x"


def test_a_stream_is_shown_without_the_verdict_of_a_program() -> None:
    assert sections({"stream": "web", "counters": {"events": 2}}) == ["stream  web", "", "counters", "  events  2"]
