"""The second program on a host takes over from the first."""

import contextlib
import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from auditns_connector.assembly import Parts, Program, build
from auditns_connector.attribution.attributor import Correlator
from auditns_connector.config.streams import Definition, read
from auditns_connector.control.peer import Peer
from auditns_connector.control.server import line_of
from auditns_connector.daemon.log import Log
from auditns_connector.emit.events import EventWriter
from auditns_connector.host.observer import Observer
from auditns_connector.model.apply.dispatch import Model
from auditns_connector.pipeline.text_stage import Enricher
from auditns_connector.streams.manager import Streams


def program(path: str, *streams: Definition, events: bool = False) -> Program:
    observer = Observer(Model(), perf=None, connector=None, ns_source="procfs")
    observer.start()
    correlator = Correlator(observer.model)
    shown = EventWriter(observer.model) if events else None
    log = Log(quiet=True)
    return build(Parts(observer, correlator, Enricher(correlator, []), {}, log, path, streams=streams, events=shown))


def test_who_takes_over_serves_the_streams_of_its_configuration(tmp_path: Path) -> None:
    path = str(tmp_path / "control")
    first = program(path)
    control = first.control
    assert control is not None
    # it does not answer, and cannot be followed
    control.handlers.clear()
    # the stream's socket is given to whoever runs this: only root can give it to root
    web = read("web", {"runtime": ["docker"], "backlog_limit": 5, "uid": os.geteuid(), "gid": os.getegid()})
    second = program(path, web)
    assert second.control is None
    for call in second.pipeline.each_tick:
        call()
    assert second.pipeline.text.streams is None
    control.close()
    for call in list(second.pipeline.each_tick):
        call()
    streams = second.pipeline.text.streams
    assert isinstance(streams, Streams)
    assert [stream.definition for stream in streams.streams.values()] == [web]
    assert (tmp_path / "streams" / "web" / "sock").is_socket()
    for one in (second, first):
        for call in one.pipeline.at_end:
            call()
    for one in (first, second):
        one.pipeline.selector.close()
        one.pipeline.observer.close()


@contextlib.contextmanager
def serving(one: Program) -> Iterator[None]:
    """Who asks meanwhile is answered."""
    over = threading.Event()

    def serve() -> None:
        while not over.is_set():
            one.pipeline.selector.poll_once(0.01)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def test_who_is_a_program_of_ours_is_told_to_who_follows(tmp_path: Path) -> None:
    """Also to one that shows events alone, which never serves instead."""
    path = str(tmp_path / "control")
    first = program(path)
    control = first.control
    assert control is not None
    with serving(first):
        second, third = program(path), program(path, events=True)
    assert (second.control, third.control) == (None, None)
    pid, start = os.getpid(), first.pipeline.observer.model.processes[os.getpid()].start
    for message in ({"op": "own", "pid": pid, "start": start}, {"op": "own", "pid": "x", "saved": 1}):
        control.publish(message)  # they are passed over
    control.publish({"v": 1, "op": "own", "pid": pid, "start": start, "saved": time.monotonic_ns()})
    for one in (second, third):
        one.pipeline.observer.sync()
        model = one.pipeline.observer.model
        assert [process.pid for process in model.processes.values() if model.own.other(process)] == [pid]
    for call in first.pipeline.at_end:
        call()
    control.close()
    for call in third.pipeline.each_tick:
        call()
    assert not Path(path).exists()
    for one in (third, second):
        for call in one.pipeline.at_end:
            call()
    for one in (first, second, third):
        one.pipeline.selector.close()
        one.pipeline.observer.close()


def test_the_hook_is_told_that_nothing_is_registered_where_events_are_shown(tmp_path: Path) -> None:
    shows = program(str(tmp_path / "control"), events=True)
    assert shows.control is not None
    handler = shows.control.document_handlers["contid-state"]
    one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with one, other:
        answer = handler(b"{}", Peer(os.getpid(), 0, 0), one)
    assert line_of(answer) == b"no EOPNOTSUPP: only process events are shown here, nothing is registered"
    shows.close()
    shows.pipeline.selector.close()
    shows.pipeline.observer.close()
