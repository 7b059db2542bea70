"""What the parsers written in Python are given, and what must hold: the input is accepted, or refused by exactly the
errors that are meant for it. Each target takes bytes; python.py runs them under a coverage-guided fuzzer, the unit
tests go through seeds and regressions."""

import json
import os
import socket
import struct
import tempfile
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any, Final

from auditns_connector.attribution.attributor import Correlator
from auditns_connector.auditrules.lease import RuleLease
from auditns_connector.audittext.scanner import TextStream
from auditns_connector.config import options as conf
from auditns_connector.config import readers
from auditns_connector.control.peer import Peer
from auditns_connector.control.server import ControlServer
from auditns_connector.errors import AuditnsError, ConfigError, DecodeError
from auditns_connector.model.apply.restore_requests import requests_of
from auditns_connector.pipeline.offline import ReplayAnswers
from auditns_connector.registration.oci_state import BadState, request_of
from auditns_connector.registration.state_file import StateFile
from auditns_connector.state.directory import SafeDir
from auditns_connector.vocabulary import frames as f
from tests.fuzz import archives
from tests.unit.test_registry import TASK, Registering
from tests.unit.world import MS

Target = Callable[[bytes], None]
_SHIPPED: Final = Path(__file__).parents[2] / "audisp" / "auditns.toml"
_JOURNALS: Final = Path(__file__).parents[1] / "golden"


@cache
def folder() -> Path:
    """A directory of this process, for parsers that read files; on a file system in memory where there is one."""
    place = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    made = Path(tempfile.mkdtemp(prefix="auditns-fuzz-", dir=place))
    made.chmod(0o755)
    return made


# -- the control socket


class _Asked(ControlServer):
    """The server without its socket: only what it makes of a request."""

    def __init__(self) -> None:
        self.handlers = {
            "contid-get": lambda request, peer, sock: {"ok": True, "pid": request.get("pid")},
            "contid-set": lambda request, peer, sock: {"ok": True, "contid": str(request.get("id"))},
        }
        self.document_handlers = {"contid-state": self._state}
        self.counters = {"malformed": 0}
        self.client = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._clients = {self.client: Peer(1, 0, 0)}

    @staticmethod
    def _state(document: bytes, peer: Peer, sock: socket.socket) -> dict[str, Any]:
        try:
            return {"ok": True, "request": request_of(document, None)}
        except BadState as error:
            return {"ok": False, "error": "EINVAL", "message": str(error)}


@cache
def _server() -> _Asked:
    return _Asked()


def control(data: bytes) -> None:
    """A request, and from its first NUL on the document that is passed with it."""
    request, _, document = data.partition(b"\0")
    server = _server()
    memory = os.memfd_create("fuzz", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        os.write(memory, document)
        if not document.startswith(b"open"):
            import fcntl

            fcntl.fcntl(memory, 1033, 0xF)
        answer = server._answer(request, 0, server.client, [memory])
    finally:
        os.close(memory)
    assert answer.startswith((b"{", b"ok ", b"no "))


# -- journals


def journal(data: bytes) -> None:
    """A journal, with a log of two events to be answered from it."""
    path = folder() / "journal"
    path.write_bytes(data)
    text = b"".join(
        b'type=SYSCALL msg=audit(%d.%03d:%d): arch=c000003e syscall=59 success=yes exit=0 pid=%d comm="x"\n'
        % (at // 1000, at % 1000, serial, pid)
        for at, serial, pid in ((1, 1, 100), (1_700_000_000_000, 2, 5000))
    )
    try:
        with ReplayAnswers([str(path)]) as replay:
            correlator = Correlator(replay.model)
            stream = TextStream()
            for points in (stream.push(text), stream.flush(eof=True)):
                replay.answer(correlator, points)
    except AuditnsError:
        return


def register(data: bytes) -> None:
    """The same with a request of the control socket in it, whatever that says."""
    hello = f.pack(f.K_HELLO, f.S_PIPELINE, 1, payload=b'{"v": 1, "perf": true}')
    journal(hello + f.pack(f.K_REGISTER, f.S_CONTROL, 2, pid=1, payload=data))


# -- state files


def registrations(data: bytes) -> None:
    """registrations.json, and what is read of it given to the model, as at a start."""
    with SafeDir(str(folder())) as place:
        place.write("registrations.json", data)
    requests, sockets, complaint = StateFile(str(folder() / "control")).read("boot")
    assert not complaint or not (requests or sockets)
    world = Registering()
    for request in requests:
        world.put(f.K_REGISTER, 3000, f.S_CONTROL, payload=json.dumps(request).encode())


def lease(data: bytes) -> None:
    """The state of the audit rules on lease."""
    with SafeDir(str(folder())) as place:
        place.write("rules.json", data)
        try:
            made = RuleLease.__new__(RuleLease)
            made._directory, made._name, made._proc = str(folder()), "rules.json", "/proc"
            made._living(made._read(place))
        except (AuditnsError, DecodeError):
            return


# -- the configuration


def configuration(data: bytes) -> None:
    """auditns.toml."""
    path = folder() / "auditns.toml"
    path.write_bytes(data)
    path.chmod(0o640)
    try:
        config = conf.load(str(path))
    except ConfigError as error:
        assert str(path) in str(error)
        return
    for name in conf.changed(conf.Config.default(), config):
        assert name
    assert readers.show(config.ns)


# -- the archive


def segment(data: bytes) -> None:
    """A segment, alone in its archive; see archives.py."""
    archives.segment(data, folder())


def catalogue(data: bytes) -> None:
    """A catalogue, likewise."""
    archives.catalogue(data, folder())


TARGETS: Final[dict[str, Target]] = {
    "control": control,
    "journal": journal,
    "register": register,
    "registrations": registrations,
    "lease": lease,
    "configuration": configuration,
    "segment": segment,
    "catalogue": catalogue,
}


def seeds(target: str) -> Iterator[bytes]:
    """Inputs to begin with."""
    if target == "control":
        state = json.dumps(
            {"ociVersion": "1.0.2", "id": "ab" * 32, "pid": 5, "bundle": "/b", "annotations": {"a": "b"}}
        )
        yield b'{"v": 1, "op": "contid-state"}\0' + state.encode()
        yield b'{"v": 1, "op": "contid-set", "pid": 7, "id": "0x5"}'
        yield b'{"op": ["contid-get"]}\0open'
    elif target in ("register", "registrations"):
        world = Registering()
        world.set(TASK, 77, 10, names={"name": "x"})
        world.ask("delegate", TASK, 11)
        requests = requests_of(world.model, 2000 * MS)
        if target == "register":
            yield from (json.dumps(request).encode() for request in requests)
            yield b'{"op": "set", "start": 5, "id": "7", "caller": {"pid": 1, "start": 0, "privileged": true}}'
            yield b'{"op": "marks", "marks": [[1, 2]]}'
        else:
            state = {"v": 1, "boot_id": "boot", "requests": requests, "sockets": [[TASK, 5, "/s"]]}
            yield json.dumps(state).encode()
    elif target == "journal":
        for path in sorted(_JOURNALS.rglob("*.journal"))[:4]:
            yield path.read_bytes()[:4096]
        yield f.pack(f.K_HELLO, f.S_PIPELINE, 1, payload=b"{}") + f.pack(f.K_FORK, f.S_PERF, 2, pid=5, tid=5, ppid=1)
    elif target == "segment":
        yield from archives.segment_seeds()
    elif target == "catalogue":
        yield from archives.catalogue_seeds()
    elif target == "lease":
        yield b'{"version": 1, "rules": [], "holders": [[1, 2]], "enabled": 0, "auditd": 5, "boot_id": "x"}'
        yield struct.pack("<IIII", 1, 2, 3, 4)
    else:
        yield _SHIPPED.read_bytes()
        yield b'record_names = "numeric"\n[output.file]\npath = "/x"\n[[stream]]\nstream = "a"\n'
