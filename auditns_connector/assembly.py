"""How a live program is put together, once for all that are: ``listen``, ``listen --events`` and the auditd plugin.

A command opens what is its own (sources, outputs, the text side) and hands it over as :class:`Parts`; :func:`build`
makes the pipeline, the control socket and whatever is served on it, always in one order: who asks is known before
anybody is answered, registrations of a former run before records of namespaces, and streams come last, for they need
all of it.
"""

import os
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from auditns_connector.config.users import UserOptions
from auditns_connector.control.own_programs import OwnPrograms
from auditns_connector.control.server import ControlServer
from auditns_connector.control.snapshot_service import SnapshotServer
from auditns_connector.daemon.privileges import held
from auditns_connector.emit.container_op import container_op
from auditns_connector.errors import AuditnsError
from auditns_connector.host.addresses import NetWatch
from auditns_connector.host.runtime_metadata import ReaderThread, RuntimeMetadata
from auditns_connector.model.outputs import ContainerOp
from auditns_connector.pipeline.loop import Pipeline
from auditns_connector.pipeline.resume import resume
from auditns_connector.registration.follower import Follower
from auditns_connector.registration.requests import feed_expected, feed_marks
from auditns_connector.registration.service import Registrar
from auditns_connector.registration.state_file import StateFile
from auditns_connector.sources.runtimefiles import RuntimeFiles
from auditns_connector.streams.manager import Streams
from auditns_connector.vocabulary.record_types import NS_INIT
from auditns_connector.vocabulary.values import JsonObject

if TYPE_CHECKING:
    import socket

    from auditns_connector.attribution.attributor import Correlator
    from auditns_connector.config.streams import Definition
    from auditns_connector.control.peer import Peer
    from auditns_connector.daemon.log import Log
    from auditns_connector.emit.events import EventWriter
    from auditns_connector.host.observer import Observer
    from auditns_connector.pipeline.coalescing import Coalescer
    from auditns_connector.pipeline.standalone_records import StandaloneRecords
    from auditns_connector.pipeline.text_stage import Enricher
    from auditns_connector.sinks.base import Sink
    from auditns_connector.sources.base import AuditSource


class Parts(NamedTuple):
    """What a command brings with it."""

    observer: "Observer"
    correlator: "Correlator"
    enricher: "Enricher"
    #: format -> where it goes
    outputs: "dict[str, list[Sink]]"
    log: "Log"
    #: path of the control socket
    control: str
    audit: "AuditSource | None" = None
    #: makes stand-alone records of what the model has to say
    standalone: "StandaloneRecords | None" = None
    #: shows kernel events; status is then all that is served
    events: "EventWriter | None" = None
    coalescer: "Coalescer | None" = None
    #: (netfilter mark, contid) pairs
    marks: Sequence[tuple[int, int]] = ()
    #: runtimes whose containers are expected to be registered
    expect: Sequence[str] = ()
    #: streams of the configuration
    streams: "Sequence[Definition]" = ()
    #: what ordinary users may have of streams
    users: UserOptions = UserOptions()
    #: records of how namespaces come and go are wanted
    lifecycle: bool = False
    #: seconds until it ends by itself
    duration: float | None = None
    on_hup: Callable[[], None] | None = None
    #: the program by whose name its position is kept, and the log that all events are written to ("": none); see
    #: pipeline/resume.py
    resumes: tuple[str, str] | None = None
    #: signals that came before; handlers append to it
    early: list[int] | None = None


class Program:
    """A live program. ``control`` is None where another program serves its path."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._streams, self._users, self._expect = list(parts.streams), parts.users, list(parts.expect)
        self._registrar: Registrar | None = None
        self._own = OwnPrograms(parts.observer)
        self.pipeline = Pipeline(
            parts.observer, parts.correlator, parts.enricher, parts.audit, parts.outputs, parts.log,
            standalone=parts.standalone, events=parts.events, coalescer=parts.coalescer, early=parts.early,
            duration=parts.duration, on_hup=parts.on_hup,
        )  # fmt: skip
        self.control = ControlServer.open(parts.control, self.pipeline.selector, parts.log)
        if self.control is not None:
            self._serve_status(self.control)
        if parts.events is None:
            self._attach()
        elif self.control is None:
            self._follow(None)

    def _attach(self) -> None:
        parts, pipeline = self._parts, self.pipeline
        model, standalone = parts.observer.model, parts.standalone
        if standalone is not None:
            standalone.formatters[ContainerOp] = lambda output, numeric: container_op(model, output, numeric)
            pipeline.more_status["lifecycle"] = standalone.lifecycle
        pipeline.more_status["privileges"] = held
        if parts.resumes is not None:
            resume(pipeline, os.path.dirname(parts.control) or ".", *parts.resumes)
        if parts.marks:
            feed_marks(parts.observer, parts.marks)
        addresses = NetWatch(parts.observer, pipeline.selector, parts.log)
        pipeline.each_round.append(addresses.tick)
        pipeline.text.before_packets = addresses.rule_out
        pipeline.at_end.append(addresses.close)
        metadata = RuntimeMetadata(parts.observer, ReaderThread(RuntimeFiles()))
        pipeline.each_tick.append(metadata.tick)
        pipeline.each_round.append(metadata.each_round)
        if self.control is None:
            self._follow(self._take_over)
            self._tell_initial_namespaces()
            return
        registrar = self._serve_registrations(self.control)
        self._tell_initial_namespaces()
        self._keep_serials()
        self._serve_streams(self.control, registrar)

    def _follow(self, take_over: "Callable[[ControlServer], None] | None") -> None:
        """Follow the program that serves the control socket; see :class:`Follower`."""
        parts, pipeline = self._parts, self.pipeline
        follower = Follower(parts.observer, pipeline.selector, parts.control, parts.log, take_over)
        pipeline.each_tick.append(follower.tick)
        pipeline.at_end.append(follower.close)

    def _tell_initial_namespaces(self) -> None:
        """Records of the namespaces that were there before anybody could see them begin."""
        parts = self._parts
        standalone, model = parts.standalone, parts.observer.model
        if not parts.lifecycle or standalone is None:
            return
        if standalone.wanted is None or standalone.wanted.tells(model.containers, NS_INIT, 0, None):
            for blocks in standalone.emit_initial_namespaces(time.monotonic_ns()):
                self.pipeline.outputs.write(blocks)

    def _keep_serials(self) -> None:
        """Have the serials of namespaces that we mint kept for the next run."""
        observer, store = self._parts.observer, self._parts.observer.store
        if store is not None:
            self.pipeline.each_tick.append(lambda: store.save(observer.model))
            self.pipeline.at_end.append(lambda: store.save(observer.model, last=True))

    def _take_over(self, control: ControlServer) -> None:
        """Serve what another program has served until now."""
        self.pipeline.at_end.append(control.close)
        self._serve_status(control)
        self._serve_streams(control, self._serve_registrations(control))

    def _serve_status(self, control: ControlServer) -> None:
        pipeline = self.pipeline
        control.handlers["status"] = lambda request, peer, sock: {"ok": True, "status": pipeline.status()}
        control.handlers["own"] = self._own.answer
        self._own.publish = control.publish
        if self._parts.events is not None:
            control.document_handlers["contid-state"] = self._own.noting(_nothing_registered)

    def _serve_registrations(self, control: ControlServer) -> Registrar:
        parts, pipeline = self._parts, self.pipeline
        registrar = Registrar(parts.observer, control, parts.log, state=StateFile(parts.control))
        registrar.restore()
        self._registrar = registrar
        if self._expect:
            feed_expected(parts.observer, self._expect)
        pipeline.more_status["registrations"] = registrar.status
        pipeline.more_status["control"] = lambda: dict(control.counters)
        pipeline.each_tick.append(registrar.tick)
        pipeline.at_end.append(registrar.close)
        control.handlers["snapshot"] = SnapshotServer(parts.observer).answer
        for op, handler in control.document_handlers.items():  # the OCI hook's
            control.document_handlers[op] = self._own.noting(handler)
        return registrar

    def _serve_streams(self, control: ControlServer, registrar: Registrar) -> None:
        parts, pipeline = self._parts, self.pipeline
        try:
            streams = Streams(
                pipeline.text, pipeline.selector, os.path.dirname(parts.control) or ".", parts.log, registrar.keep
            )
        except AuditnsError as error:
            parts.log.warning("no streams", reason=str(error))
            return
        pipeline.text.streams = streams
        pipeline.each_tick.append(streams.tick)
        pipeline.at_end.append(streams.close)
        streams.load(self._streams, self._users)
        pipeline.more_status["users"] = streams.users.status
        control.handlers["stream"] = streams.control

    def configure_streams(self, streams: "Sequence[Definition]", users: UserOptions) -> None:
        """The configuration's streams are now these, and this is what users may have."""
        self._streams, self._users = list(streams), users
        if self.pipeline.text.streams is not None:
            self.pipeline.text.streams.configure(self._streams, users)

    def configure_expected(self, expect: Sequence[str]) -> None:
        """Registrations are expected of these runtimes' containers now. Who does not serve registrations does not know
        which are missing."""
        if list(expect) != self._expect:
            self._expect = list(expect)
            if self._registrar is not None:
                feed_expected(self._parts.observer, self._expect)

    def close(self) -> None:
        """Close the control socket; the pipeline ends by itself."""
        if self.control is not None:
            self.control.close()


def _nothing_registered(document: bytes, peer: "Peer", sock: "socket.socket") -> JsonObject:
    """What the OCI hook is answered where only events are shown."""
    return {"ok": False, "error": "EOPNOTSUPP", "message": "only process events are shown here, nothing is registered"}


def build(parts: Parts) -> Program:
    """The program that ``parts`` make: everything is in its place, nothing has begun."""
    return Program(parts)
