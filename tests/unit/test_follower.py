"""The second program on a host takes over from the first."""

import os
from pathlib import Path

from auditns_connector.assembly import Parts, Program, build
from auditns_connector.attribution.attributor import Correlator
from auditns_connector.config.streams import Definition, read
from auditns_connector.daemon.log import Log
from auditns_connector.host.observer import Observer
from auditns_connector.model.apply.dispatch import Model
from auditns_connector.pipeline.text_stage import Enricher
from auditns_connector.streams.manager import Streams


def program(path: str, *streams: Definition) -> Program:
    observer = Observer(Model(), perf=None, connector=None, ns_source="procfs")
    observer.start()
    correlator = Correlator(observer.model)
    parts = Parts(observer, correlator, Enricher(correlator, []), {}, Log(quiet=True), path, streams=streams)
    return build(parts)


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
