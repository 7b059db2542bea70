"""Which streams an event goes to."""

import json
import socket
import time
from types import SimpleNamespace
from typing import Any

import pytest

from auditns_connector.attribution.attributor import Correlator
from auditns_connector.audittext.scanner import TextStream
from auditns_connector.config.streams import Contid, Definition
from auditns_connector.daemon.log import Log
from auditns_connector.daemon.rate import RateLimit
from auditns_connector.model.apply.dispatch import Model
from auditns_connector.model.places import Container
from auditns_connector.streams.backlog import Entry
from auditns_connector.streams.requests import Requests
from auditns_connector.streams.router import Router
from auditns_connector.vocabulary.namespaces import PID
from tests.unit.test_streams_view import HOSTS, KILL, OTHER, Scene, _all, syscall
from tests.unit.world import REAL


@pytest.fixture(autouse=True)
def other_host(monkeypatch: pytest.MonkeyPatch) -> None:
    """The processes here are none of this host's, which may have some of the same numbers."""
    monkeypatch.setattr("auditns_connector.streams.router.read_maps", lambda pid, ino: None)


#: nobody is asked as long as no stream is a user's
OF_NOBODY: Any = None


class Taker:
    """A stream that keeps what it is given."""

    full, writes, user = False, True, 0

    def __init__(self, **definition: Any) -> None:
        self.definition = Definition("s", backlog_limit=10, **definition)
        self.entries: list[Entry] = []

    def home(self, contid: Contid, container: Container | None) -> Container | None:
        return self.definition.home(contid, container)

    def halted(self, home: Container) -> bool:
        return False

    def put(self, entry: Entry, now: int) -> None:
        self.entries.append(entry)

    def pump(self) -> None:
        """Nobody reads."""

    @property
    def text(self) -> list[str]:
        return [entry.lines().decode() for entry in self.entries]


class Town(Scene):
    """Two containers, of 200 and of 300, and a process of the host's, 101."""

    def __init__(self) -> None:
        super().__init__()
        self.fork(1, 101, 31)
        self.fork(1, 103, 31)
        self.attach(103, f"/podman/libpod-{OTHER}", 32)
        self.fork(103, 300, 33, mnt=6009, pid=5009)
        self.exec(300, 34)

    def route(self, streams: dict[str, Any], *records: str, at: float = 70) -> None:
        observer = SimpleNamespace(
            model=self.model, perf=None, insiders={}, ask_now=lambda pid: False, feed=self.model.apply
        )
        router = Router(observer, streams, Log(), OF_NOBODY)
        correlator = Correlator(self.model)
        correlator.keep_states = True
        ms, text = REAL // 1_000_000 + int(at), ""
        for record in records:
            kind, _, rest = record.partition(" ")
            text += f"type={kind} msg=audit({ms // 1000}.{ms % 1000:03d}:77): {rest}\n"
        stream, now = TextStream(whole=True), int(at * 1e6) + 200_000_000
        for points in _all(stream, text.encode()):
            correlator.answer(points, now)
            router.take(points, correlator.states, now)


def target(pid: int) -> str:
    return f'OBJ_PID opid={pid} oauid=-1 ouid=0 oses=-1 ocomm="t{pid}"'


def test_an_event_goes_to_the_streams_of_its_targets() -> None:
    town = Town()
    one, two = Taker(runtime=("docker",)), Taker(runtime=("podman",))
    kill = KILL.replace("pid=100", "pid=101")
    town.route({"one": one, "two": two}, kill, HOSTS[0], target(200), target(300), HOSTS[1])
    for taker, own, other in ((one, "t200", "t300"), (two, "t300", "t200")):
        (text,) = taker.text
        assert own in text
        for word in (other, "hostd", "strace", "pts4", "1000", "admin_t", "=101"):
            assert word not in text


def test_what_one_container_does_to_another_is_an_outsiders_deed_there() -> None:
    town = Town()
    one, two = Taker(runtime=("docker",)), Taker(runtime=("podman",))
    town.route({"one": one, "two": two}, syscall(200, 100, 62, 0), target(300))
    assert "OBJ_PID" not in one.text[0]
    assert " pid=1 " in one.text[0]
    assert " pid=0 " in two.text[0]
    assert "opid=1 " in two.text[0]


def test_in_the_hosts_view_a_stream_is_given_an_event_once() -> None:
    town = Town()
    both = Taker(runtime=("docker", "podman"), view="host")
    tailored = Taker(runtime=("docker", "podman"))
    town.route({"both": both, "tailored": tailored}, KILL.replace("pid=100", "pid=101"), target(200), target(300))
    assert len(both.entries) == 1
    assert both.text[0].count("UNKNOWN[1340]") == 2
    assert len(tailored.entries) == 2  # each container's reader is given its own


def test_a_host_process_that_strikes_nobody_goes_nowhere() -> None:
    town = Town()
    one = Taker(runtime=("docker",))
    town.route({"one": one}, KILL.replace("pid=100", "pid=101"), HOSTS[0])
    assert one.entries == []


def test_a_process_is_found_by_what_it_is_called_inside() -> None:
    town = Town()
    town.fork(200, 201, 40)
    town.inside(201, 7, 40)
    town.fork(300, 301, 41)
    town.inside(301, 7, 41, ino=5009)
    town.fork(201, 202, 42, pid=5002)
    town.inside(202, 8, 42)
    router = Router(SimpleNamespace(model=town.model, perf=None, insiders={}), {}, Log(), OF_NOBODY)
    ns = town.model.namespaces.current[PID]
    assert router.called(7, ns[5001]) is town.model.processes[201]
    assert router.called(7, ns[5009]) is town.model.processes[301]
    assert router.called(8, ns[5001]) is town.model.processes[202]  # in a namespace inside
    assert router.called(200, ns[5001]) is None


def test_logins_are_few_a_second() -> None:
    router = Router(SimpleNamespace(model=Model(), perf=None, insiders={}), {}, Log(), OF_NOBODY)
    requests = Requests(SimpleNamespace(), router, SimpleNamespace())
    stream: Any = SimpleNamespace(logins=RateLimit(1), user=0)
    stream.logins.allows(1, time.monotonic_ns())
    answer = json.loads(requests.answer(stream, socket.socket(), b'{"op": "login", "uid": 1000}'))
    assert (answer["ok"], answer["error"]) == (False, "EBUSY")
