"""The sockets of a stream, with real connections: readers that are slow, rude, many; attacks on the directory."""

import array
import contextlib
import os
import selectors
import socket
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from auditns_connector.config.streams import read as read_definition
from auditns_connector.daemon.rate import RateLimit
from auditns_connector.errors import AuditnsError
from auditns_connector.model.places import Container
from auditns_connector.streams import client
from auditns_connector.streams.backlog import Backlog, Entry
from auditns_connector.streams.listener import Listener
from auditns_connector.streams.peers import Who
from auditns_connector.streams.server import MAX_TALKERS, Reader
from auditns_connector.streams.stream import Stream

ONE = Container((("podman", "a" * 64),), "runtime", 0, None)
TWO = Container((("docker", "b" * 64),), "runtime", 0, None)


class Host:
    """A stream and the loop that serves it."""

    def __init__(self, path: Path, **options: object) -> None:
        self.path = path
        self.selector = selectors.DefaultSelector()
        self.home: Container | None = None
        self.refuse = False
        self.lines: list[bytes] = []
        self.requests: list[bytes] = []
        self.serials = 0
        (path / "web").mkdir()
        (path / "private").mkdir(mode=0o700)
        self.private = os.open(path / "private", os.O_RDONLY | os.O_DIRECTORY)
        folder = os.open(path / "web", os.O_RDONLY | os.O_DIRECTORY)
        definition = read_definition("web", {"contid": [1], "backlog_limit": 100, **options})
        definition = definition._replace(uid=os.getuid(), gid=os.getgid())
        self.stream = Stream(definition, folder, self.private, self.selector, self)

    def admit(self, stream: Stream, sock: socket.socket) -> tuple[Who, Container | None]:
        if self.refuse:
            raise PermissionError
        return Who(None, 1, 0, 0), self.home

    def owns(self, user: int, container: Container) -> bool:
        return False

    def on_line(self, stream: Stream, reader: Reader, line: bytes) -> None:
        self.lines.append(line)

    def on_request(self, stream: Stream, sock: socket.socket, data: bytes) -> bytes:
        self.requests.append(data)
        return b'{"ok": true}'

    def serial(self) -> int:
        self.serials += 1
        return 1_000_000 + self.serials

    def turn(self, until: Callable[[], bool] | None = None) -> None:
        """Serve until ``until`` holds (None: until nothing is to be done)."""
        deadline = time.monotonic() + 10
        while True:
            if until is not None and until():
                return
            ready = self.selector.select(0 if until is None else 0.05)
            if not ready and until is None:
                return
            for key, _ in ready:
                key.data()
            assert time.monotonic() < deadline

    def put(self, *serials: int, home: Container = ONE, size: int = 0, records: int = 1) -> None:
        for serial in serials:
            text = b"E%d %b\n" % (serial, b"x" * size)
            self.stream.put(Entry(serial, serial, records, home, lambda text=text: text), serial)  # type: ignore[misc]
        self.stream.pump()

    def connect(self, name: str = "sock", kind: int = socket.SOCK_STREAM) -> socket.socket:
        sock = socket.socket(socket.AF_UNIX, kind)
        sock.settimeout(5)
        sock.connect(str(self.path / "web" / name))
        self.turn()
        return sock

    def close(self) -> None:
        self.stream.close()
        self.selector.close()
        os.close(self.private)


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    made = Host(tmp_path)
    yield made
    made.close()


def got(sock: socket.socket, count: int = 1 << 16) -> list[bytes]:
    sock.setblocking(False)
    try:
        return [line.split()[0] for line in sock.recv(count).splitlines()]
    except BlockingIOError:
        return []


def test_what_was_held_comes_first_and_in_order(host: Host) -> None:
    host.put(1, 2)
    reader = host.connect()
    host.put(3)
    assert got(reader) == [b"E1", b"E2", b"E3"]
    assert host.stream.held.records == 0


def test_several_readers_are_each_given_everything_from_then_on(host: Host) -> None:
    host.put(1)
    first, second = host.connect(), host.connect()
    host.put(2)
    assert (got(first), got(second)) == ([b"E1", b"E2"], [b"E2"])


def test_the_last_to_leave_leaves_what_it_was_not_given(host: Host) -> None:
    reader = host.connect()
    host.put(*range(1, 41), size=20_000)  # more than a socket holds
    assert 0 < host.stream.status()["readers_now"][0]["waiting_records"] < 40
    reader.close()
    host.turn()
    left = host.stream.held.records
    assert 0 < left < 40
    again = host.connect()
    host.turn(lambda: bool(got(again, 1 << 20)))


def test_a_reader_that_never_reads_costs_the_others_nothing(host: Host) -> None:
    slow, quick = host.connect(), host.connect()
    seen: list[bytes] = []
    for serial in range(1, 301):
        host.put(serial, size=5000)
        quick.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:
                seen += [line.split()[0] for line in quick.recv(1 << 20).splitlines() if line.startswith(b"E")]
    host.turn(lambda: (seen.extend(got(quick)), len(seen) >= 300)[1])
    assert seen == [b"E%d" % n for n in range(1, 301)]
    status = host.stream.status()
    assert status["readers_now"][0]["waiting_records"] <= 101
    assert status["counters"]["lost_records"] > 100
    slow.close()


def test_a_loss_is_told_in_its_place(host: Host) -> None:
    host.put(*range(1, 104))
    reader = host.connect()
    text = reader.recv(1 << 16)
    assert text.startswith(b"type=UNKNOWN[1343] msg=audit(0.003:1000001): source=stream cpu=? count=3 from=1 to=3\nE4 ")


def test_the_rate_limit_is_a_loss_that_is_told(tmp_path: Path) -> None:
    host = Host(tmp_path, rate_limit=2)
    host.put(1, 2, 3, 4)
    assert host.stream.counters["lost_by_rate"] == 2
    reader = host.connect()
    assert b"count=2 from=3 to=4" in reader.recv(1 << 16)
    host.close()


def test_a_reader_inside_is_given_its_containers_events_alone(host: Host) -> None:
    host.put(1)
    host.put(2, home=TWO)
    host.home = ONE
    reader = host.connect()
    host.put(3, home=TWO)
    host.put(4)
    assert got(reader) == [b"E1", b"E4"]
    assert host.stream.held.records == 2  # of the other, for its own reader
    host.home = TWO
    assert got(host.connect()) == [b"E2", b"E3"]


def test_who_is_not_admitted_is_hung_up_on(host: Host) -> None:
    host.put(1)
    host.refuse = True
    assert host.connect().recv(100) == b""
    assert host.stream.server.counters["refused"] == 1
    assert host.stream.held.records == 1


def test_lines_of_a_reader(host: Host) -> None:
    reader = host.connect()
    for piece in (b"USER_CM", b"D a\n\nUSER_", b"CMD b\nhalf"):
        reader.send(piece)
        host.turn()
    reader.shutdown(socket.SHUT_WR)
    host.turn()
    assert host.lines == [b"USER_CMD a", b"USER_CMD b"]
    host.put(1)
    assert got(reader) == [b"E1"]  # it says no more, but it listens
    reader.close()
    host.stream.server.check()
    assert host.stream.server.readers == []


def test_an_endless_line_ends_the_connection(host: Host) -> None:
    reader = host.connect()
    with contextlib.suppress(OSError):
        for _ in range(10):
            reader.send(b"x" * 4096)
            host.turn()
    assert host.stream.server.readers == []
    assert host.lines == []


def test_passed_descriptors_are_not_kept(host: Host) -> None:
    reader, talker = host.connect(), host.connect("talk", socket.SOCK_SEQPACKET)
    before = set(os.listdir("/proc/self/fd"))
    with open("/dev/null", "rb") as file:
        for sock in (reader, talker):
            fds = array.array("i", [file.fileno()] * 50)
            sock.sendmsg([b"USER_CMD x\n"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, fds)])
        host.turn()
    assert set(os.listdir("/proc/self/fd")) == before
    assert (host.lines, host.requests) == ([b"USER_CMD x"], [b"USER_CMD x\n"])


def test_ten_thousand_connects(host: Host) -> None:
    keeps = host.connect()
    for number in range(10_000):
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
            sock.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                sock.connect(str(host.path / "web" / "sock"))
            if number % 50 == 0:
                host.turn()
    host.turn()
    host.stream.server.check()
    assert len(host.stream.server.readers) <= host.stream.definition.readers
    host.put(1)
    assert got(keeps) == [b"E1"]


def test_talkers_that_say_nothing_do_not_keep_others_out(host: Host) -> None:
    silent = [host.connect("talk", socket.SOCK_SEQPACKET) for _ in range(MAX_TALKERS + 5)]
    late = host.connect("talk", socket.SOCK_SEQPACKET)
    late.send(b"{}")
    host.turn()
    assert late.recv(100) == b'{"ok": true}'
    assert silent[0].recv(100) == b""


class Few(RateLimit):
    """So many and no more, however long it takes."""

    def allows(self, records: int, now: int) -> bool:
        self.rate -= records
        return self.rate >= 0


def rested(host: Host) -> None:
    """The time of rest is over, and there is room again."""
    server = host.stream.server
    server.connects = server.requests = server.lines = RateLimit(0)
    assert server.deadline is not None
    assert server.deadline <= time.monotonic() + 1
    server.deadline = 0.0
    server.go_on()
    host.turn()


def test_who_asks_too_often_is_not_heard_for_a_while(host: Host) -> None:
    rude, other = (host.connect("talk", socket.SOCK_SEQPACKET) for _ in range(2))
    host.stream.server.requests = Few(3)
    for _ in range(5):
        rude.send(b"{}")
    host.turn()
    other.send(b"mine")
    host.turn()
    assert host.requests == [b"{}"] * 3
    host.put(1)
    assert got(host.connect()) == [b"E1"]  # readers are served meanwhile
    rested(host)
    assert sorted(host.requests) == [b"mine", *[b"{}"] * 5]  # nothing was refused


def test_who_goes_while_it_rests_is_forgotten(host: Host) -> None:
    host.stream.server.requests = Few(1)
    rude = host.connect("talk", socket.SOCK_SEQPACKET)
    for _ in range(3):
        rude.send(b"{}")
    host.turn()
    rude.close()
    rested(host)
    assert host.requests == [b"{}"]
    assert len(host.selector.get_map()) == 2  # the two that listen


def test_a_flood_of_lines_waits_in_its_socket(host: Host) -> None:
    reader = host.connect()
    host.stream.server.lines = Few(2)
    for text in (b"USER_CMD a\n" * 3, b"USER_CMD b\n"):
        reader.send(text)
        host.turn()
    assert host.lines == [b"USER_CMD a"] * 3
    host.put(1)
    assert got(reader) == [b"E1"]
    rested(host)
    assert host.lines == [b"USER_CMD a"] * 3 + [b"USER_CMD b"]


def test_a_flood_of_connects_waits_at_the_door(host: Host) -> None:
    host.stream.server.connects = Few(2)
    for _ in range(4):
        host.connect()
    assert host.stream.server.counters["connections"] == 3
    assert host.stream.server.check() is False
    rested(host)
    assert host.stream.server.counters["connections"] == 4


def test_sockets_put_back_while_others_rest(host: Host) -> None:
    host.stream.server.connects = Few(1)
    for _ in range(2):
        host.connect()
    (host.path / "web" / "sock").unlink()
    assert host.stream.server.check() is True
    rested(host)
    before = len(host.stream.server.readers)
    host.connect()
    assert len(host.stream.server.readers) == before + 1


def test_a_talker_that_never_reads_is_hung_up_on(host: Host) -> None:
    host.stream.server.requests = RateLimit(0)
    rude = host.connect("talk", socket.SOCK_SEQPACKET)
    with contextlib.suppress(OSError):
        for _ in range(2000):
            rude.send(b"{}", socket.MSG_DONTWAIT)
            host.turn()
    assert len(host.requests) < 2000


@pytest.mark.parametrize("what", ["symlink", "file", "directory", "other socket", "gone"])
def test_whatever_stands_in_the_sockets_place_goes(host: Host, what: str, tmp_path: Path) -> None:
    place, victim = host.path / "web" / "sock", tmp_path / "victim"
    victim.write_text("precious")
    victim.chmod(0o600)
    place.unlink()
    other = socket.socket(socket.AF_UNIX)
    if what == "symlink":
        place.symlink_to(victim)
    elif what == "file":
        place.write_text("x")
    elif what == "directory":
        (place / "full").mkdir(parents=True)
    elif what == "other socket":
        other.bind(str(place))
    assert host.stream.server.check() is True
    assert stat.S_ISSOCK(place.lstat().st_mode)
    assert (victim.read_text(), stat.S_IMODE(victim.stat().st_mode)) == ("precious", 0o600)
    host.put(1)
    assert got(host.connect()) == [b"E1"]
    assert host.stream.server.check() is False
    other.close()


def test_a_hard_link_elsewhere_leads_to_the_same_stream_and_no_further(host: Host) -> None:
    os.link(host.path / "web" / "sock", host.path / "linked")
    sock = socket.socket(socket.AF_UNIX)
    sock.connect(str(host.path / "linked"))
    host.refuse = True  # who connects is judged, not the way it came
    host.turn()
    assert sock.recv(10) == b""


def test_rights_are_set_before_anybody_can_reach_it(tmp_path: Path) -> None:
    host = Host(tmp_path, mode="0660")
    assert stat.S_IMODE((tmp_path / "web" / "sock").stat().st_mode) == 0o660
    assert os.listdir(tmp_path / "private") == []
    host.close()
    assert sorted(os.listdir(tmp_path / "web")) == []


def test_a_socket_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    folder = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with pytest.raises(AuditnsError, match="socket"):
            Listener(folder, 9999, "sock", socket.SOCK_STREAM, 0o600, 0, 0)
    finally:
        os.close(folder)


def test_changes_keep_readers_unless_rights_or_containers_change(host: Host) -> None:
    reader = host.connect()
    old = host.stream.definition
    host.stream.change(old._replace(backlog_limit=5))
    host.put(1)
    assert got(reader) == [b"E1"]
    host.stream.change(old._replace(contid=(2,)))
    reader.setblocking(True)
    assert reader.recv(10) == b""
    host.put(2)
    assert got(host.connect()) == [b"E2"]


def test_what_a_pause_cost_is_told_when_it_is_over(host: Host) -> None:
    reader = host.connect()
    host.put(1)
    host.stream.pause(ONE)
    host.put(2, 3, records=2)
    host.put(4, home=TWO)
    assert got(reader) == [b"E1", b"E4"]
    host.stream.resume(ONE)
    host.put(5)
    told = reader.recv(1 << 16).splitlines()
    assert told[0].endswith(b": source=stream-paused cpu=? count=4 from=2 to=3")
    assert told[1].startswith(b"E5 ")
    status = host.stream.status()["counters"]
    assert (status["paused_events"], status["told_losses"], status["lost_records"]) == (2, 1, 0)
    host.stream.resume(ONE)
    assert got(reader) == []


def test_a_pause_by_the_host_is_told_to_who_reads_later(host: Host) -> None:
    definition = host.stream.definition
    host.stream.change(definition._replace(paused=True))
    host.put(1)
    host.put(2, home=TWO)
    assert host.stream.held.lost_for(None) == 0
    host.stream.change(definition)
    host.put(3)
    host.home = ONE
    lines = host.connect().recv(1 << 16).splitlines()
    assert lines[0].endswith(b"count=1 from=1 to=1")
    assert lines[1].startswith(b"E3 ")
    assert len(lines) == 2


def test_the_pause_of_a_container_that_has_ended_is_told(host: Host) -> None:
    reader, ended = host.connect(), Container((("lxc", "x"),), "runtime", 0, None)
    host.stream.pause(ended)
    host.put(1, home=ended)
    host.stream.tell_pauses()
    assert got(reader) == []
    ended.ended = 5
    host.stream.tell_pauses()
    assert b"source=stream-paused" in reader.recv(1 << 16)
    assert host.stream.paused == set()


def test_a_limit_of_nothing_takes_nothing(tmp_path: Path) -> None:
    host = Host(tmp_path, backlog_limit=0)
    assert not host.stream.writes
    host.stream.skip()
    assert host.stream.status()["counters"]["unwritten_events"] == 1
    assert host.stream.full
    host.close()


def test_a_reader_on_the_host_is_not_taken_in(host: Host, tmp_path: Path) -> None:
    assert list(client.read(str(host.path / "web"), follow=False, server=os.getpid())) == []
    with pytest.raises(AuditnsError, match="somebody else"):
        list(client.read(str(host.path / "web"), server=os.getpid() + 1))
    assert client.control_server(str(tmp_path / "none")) == 0


def test_find(tmp_path: Path) -> None:
    with pytest.raises(AuditnsError, match="No such file"):
        client.find(base=str(tmp_path / "no"))
    (tmp_path / ".private").mkdir()
    (tmp_path / "web").mkdir()
    assert client.find(base=str(tmp_path)) == str(tmp_path / "web")
    (tmp_path / "db").mkdir()
    with pytest.raises(AuditnsError, match="which"):
        client.find(base=str(tmp_path))
    for name in ("../x", "/x", ".private"):
        with pytest.raises(AuditnsError, match="not the name"):
            client.find(name, str(tmp_path))


def test_backlogs_of_readers_are_bounded(host: Host) -> None:
    sock = host.connect()
    reader = host.stream.server.readers[0]
    assert isinstance(reader.backlog, Backlog)
    host.put(*range(1, 500), size=9000)
    assert reader.waiting <= host.stream.definition.backlog_limit + 1
    sock.close()


def test_readers_outside_and_of_each_container_have_places_of_their_own(tmp_path: Path) -> None:
    host = Host(tmp_path, readers=2)
    try:
        kept = []
        for home in (ONE, None, TWO):
            host.home = home
            readers = [host.connect() for _ in range(3)]
            kept += readers
            host.put(1, home=home or ONE)
            assert readers[2].recv(10) == b""  # one too many, whatever others hold
            assert all(got(reader) for reader in readers[:2])
        assert len(host.stream.server.readers) == 6
    finally:
        host.close()


def test_directories_in_the_sockets_place_are_mended_whatever_else_is_there(host: Host) -> None:
    folder = host.path / "web"
    for _ in range(3):
        (folder / "sock").unlink()
        (folder / "sock").mkdir()
        (folder / "sock" / "x").write_text("")
        for name in ("sock.moved", ".sock.moved"):
            (folder / name).mkdir(exist_ok=True)
            (folder / name / "x").write_text("")
        assert host.stream.server.check()
        assert stat.S_ISSOCK((folder / "sock").lstat().st_mode)
    host.home = ONE
    reader = host.connect()
    host.put(1)
    assert got(reader) == [b"E1"]


def test_on_the_host_only_who_serves_is_trusted(host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    control = str(tmp_path / "control")
    monkeypatch.setattr(client, "on_host", lambda: True)
    with pytest.raises(AuditnsError, match="does not tell who serves"):
        client.trusted_server(control)
    server = tmp_path / "server"
    for text, number in ((f"{os.getpid()}\n", os.getpid()), ("x", None), ("", None)):
        server.write_text(text)
        if number is None or os.getuid():
            with pytest.raises(AuditnsError):
                client.trusted_server(control)
        else:
            assert client.trusted_server(control) == number
    if not os.getuid():
        server.write_text("1\n")
        os.chown(server, 1000, -1)
        with pytest.raises(AuditnsError):
            client.trusted_server(control)
    monkeypatch.setattr(client, "on_host", lambda: False)
    assert client.trusted_server(control) == 0
