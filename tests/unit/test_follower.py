"""The second program on a host takes over from the first."""

import os
from pathlib import Path

from auditns_connector.attribution.attributor import Correlator
from auditns_connector.config.streams import read
from auditns_connector.control.server import ControlServer
from auditns_connector.daemon.log import Talk
from auditns_connector.host.observer import Observer
from auditns_connector.model.table import Model
from auditns_connector.pipeline.loop import Pipeline
from auditns_connector.pipeline.text_stage import Enricher
from auditns_connector.registration.service import attach
from auditns_connector.streams.manager import open_streams
from auditns_connector.streams.priority import BOOSTED


def program() -> Pipeline:
    observer = Observer(Model(), perf=None, connector=None, ns_source="procfs")
    observer.start()
    correlator = Correlator(observer.model)
    return Pipeline(observer, correlator, Enricher(correlator, []), None, {}, Talk(quiet=True))


def test_who_takes_over_serves_the_streams_of_its_configuration(tmp_path: Path) -> None:
    path, priority = str(tmp_path / "control"), os.getpriority(os.PRIO_PROCESS, 0)
    first = program()
    control = ControlServer(path, first.selector)
    second = program()
    # the stream's socket is given to whoever runs this: only root can give it to root
    web = read("web", {"runtime": ["docker"], "backlog_limit": 5, "uid": os.geteuid(), "gid": os.getegid()})
    attach(second, None, path, second.talk)  # it cannot be followed either: nobody answers
    open_streams(second, None, path, second.talk, [web])
    for call in second.each_tick:
        call()
    assert second.streams is None
    control.close()
    for call in second.each_tick:
        call()
    assert [stream.definition for stream in second.streams.streams.values()] == [web]
    assert (tmp_path / "streams" / "web" / "sock").is_socket()
    assert os.getpriority(os.PRIO_PROCESS, 0) == (priority if os.geteuid() else min(priority, BOOSTED))
    for call in second.at_end:
        call()
    assert os.getpriority(os.PRIO_PROCESS, 0) == priority or os.geteuid()
    for pipeline in (first, second):
        pipeline.selector.close()
        pipeline.observer.close()
