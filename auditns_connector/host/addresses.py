"""Follows the addresses of every network namespace, for NETFILTER_PKT records, by way of address_helper.py.

Nothing is done until a packet was seen. From then on a namespace is read as soon as it has appeared; each later change
is reported by a socket that the helper has made, which is emptied before any record is answered. So what was read holds
until something else is reported, and what is not known for sure is said to be so: a namespace whose addresses change
too often, or of which messages were lost, is unknown until it has been read again. All of it enters as ADDRS frames.

An address of loopback is everybody's. Before a packet with one is answered, the helper looks which namespaces cannot
have logged it (packet_rules.py): for that the record waits, a little and seldom enough.
"""

import json
import os
import select
import selectors
import socket
import struct
import sys
import time
from typing import TYPE_CHECKING, Final

from auditns_connector.attribution.objects import rivals
from auditns_connector.daemon.log import RateLimitedLog
from auditns_connector.host import rtnetlink
from auditns_connector.model.places import Instance
from auditns_connector.vocabulary import frames as f
from auditns_connector.vocabulary.namespaces import NET
from auditns_connector.vocabulary.timing import EPSILON
from auditns_connector.vocabulary.values import JsonObject

if TYPE_CHECKING:
    import subprocess

    from auditns_connector.audittext.scanner import InsertionPoints
    from auditns_connector.daemon.log import Log
    from auditns_connector.host.observer import Observer

#: seconds after an attempt to read a namespace at which it is tried again, then every _PERIOD
_DELAYS: Final = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
_PERIOD: Final = 30.0
#: a namespace whose addresses change is read again this much later (seconds), and is given up until then when it
#: changes so often meanwhile
_AGAIN: Final = 1.0
_MOST_CHANGES: Final = 200
#: so many messages are taken in at once; with more behind them, all is unknown
_MOST_MESSAGES: Final = 2000
#: so many namespaces are asked for at once
_MOST_ASKED: Final = 256
#: how long the helper is waited for while a packet is to be answered (seconds), and how many times as long as that took
#: no packet is waited with afterwards
_PATIENCE: Final = 0.1
_PAUSE: Final = 10
#: so often is looked whether namespaces have appeared meanwhile
_ROUNDS: Final = 3
_MAX_ANSWER: Final = 200_000
_MAX_BUFFER: Final = 1 << 24
_INT: Final = struct.Struct("=i")


class _Watched:
    """One namespace. It is followed from an answer of the helper on, until it is not ``sure`` any more."""

    __slots__ = ("changes", "due", "inst", "sure", "tries")

    def __init__(self, inst: Instance) -> None:
        self.inst = inst
        #: when it is to be read next (monotonic seconds; None: that is not needed)
        self.due: float | None = 0.0
        self.tries = self.changes = 0
        self.sure = False


#: what came, what went, and what came of broadcasts
_Changes = dict[_Watched, tuple[list[bytes], list[bytes], list[bytes]]]


class NetWatch:
    """Keeps ``observer``'s model informed of addresses; the helper's answers are waited for with ``selector``, whose
    data is what to call."""

    def __init__(self, observer: "Observer", selector: selectors.BaseSelector, log: "Log") -> None:
        self._observer, self._selector = observer, selector
        self._model = observer.model
        self._log = RateLimitedLog(log)
        self._process: subprocess.Popen[bytes] | None = None
        self._helper: socket.socket | None = None
        self._events: socket.socket | None = None
        self._buffer = b""
        self._asked = 0
        self._watched: dict[Instance, _Watched] = {}
        #: number of a namespace where the helper lives -> the namespace
        self._numbers: dict[int, _Watched] = {}
        #: numbers of which something was reported before it was known whose they are
        self._early: set[int] = set()
        #: when the socket was last empty (monotonic ns)
        self._emptied = 0
        self._created = self._ended = -1
        #: who was asked for, by inode
        self._pending: dict[int, _Watched] = {}
        self._failures = 0
        #: whose rules are asked for, by inode; what came of it; and until when nothing is asked (monotonic seconds)
        self._ruled: dict[int, Instance] = {}
        self._silent: list[tuple[Instance, JsonObject]] = []
        self._rest = 0.0

    # -- asking

    def tick(self) -> None:
        """Ask for what is due; called after every round of the pipeline, so it must be cheap when nothing is."""
        if not self._model.packets.wanted or self._asked or self._failures >= 3:
            return
        now, namespaces = time.monotonic(), self._model.namespaces
        if namespaces.created != self._created or namespaces.ended != self._ended:
            self._created, self._ended = namespaces.created, namespaces.ended
            living = {inst for inst in namespaces.current[NET].values() if inst.live or inst.initial}
            for inst in [inst for inst in self._watched if inst not in living]:
                del self._watched[inst]
            for inst in living:
                if inst not in self._watched:
                    self._watched[inst] = _Watched(inst)
        request: list[list[int]] = []
        for inst, watched in self._watched.items():
            if watched.due is None or watched.due > now or len(request) >= _MOST_ASKED:
                continue
            delay = _DELAYS[watched.tries] if watched.tries < len(_DELAYS) else _PERIOD
            watched.tries, watched.due = watched.tries + 1, now + delay
            pid = os.getpid() if inst.initial else self._member(inst)
            if pid:
                request.append([pid, inst.ino])
                self._pending[inst.ino], watched.changes = watched, 0
        if request:
            self._ask(request)

    def rule_out(self, points: "InsertionPoints", cut: int) -> None:
        """Have the model know which namespaces cannot have logged the packets of loopback among ``points``, which were
        read up to ``cut`` (CLOCK_MONOTONIC ns) and are to be answered."""
        began = time.monotonic()
        if began < self._rest or self._observer.pacing.heavy:
            return
        asked: set[Instance] = set()
        for _ in range(_ROUNDS):
            # those that have appeared meanwhile may have been there before
            new = rivals(points, cut, self._model) - asked
            asked |= new
            if not new or len(asked) > _MOST_ASKED or not self._ask_rules(new, began + _PATIENCE):
                break
        now = time.monotonic()
        self._rest = now + _PAUSE * (now - began)

    def _ask_rules(self, asked: set[Instance], until: float) -> bool:
        """Have the model know which namespaces of ``asked`` cannot have logged a packet; False where that is not known
        ``until`` then (monotonic seconds)."""
        if self._helper is None or self._events is None:
            return False
        pids = {inst: os.getpid() if inst.initial else self._member(inst) for inst in asked}
        self._ruled = {inst.ino: inst for inst, pid in pids.items() if pid}
        self._silent.clear()
        request = [[pid, inst.ino, 1] for inst, pid in pids.items() if pid]
        try:
            self._helper.sendall(json.dumps(request).encode() + b"\n")
        except OSError:
            self._lose()
            self._stop()
            return False
        while self._ruled and self._helper is not None and (left := until - time.monotonic()) > 0:
            if select.select([self._helper], [], [], left)[0]:
                self._read()
        late = bool(self._ruled)
        self._ruled.clear()
        # an inode may have become another namespace's before it was read: the kernel's events say so by now
        self._observer.sync()
        for inst, answer in self._silent:
            if self._model.namespaces.current[NET].get(inst.ino) is inst:
                self._feed(inst, dev=answer["dev"], silent=answer["silent"])
        return not late

    def _member(self, inst: Instance) -> int:
        for nsset in self._model.namespaces.sets_of(inst):
            for tid in self._model.namespaces.tasks(nsset):
                return tid
        return 0

    def _ask(self, request: list[list[int]]) -> None:
        if self._helper is None and not self._start():
            return
        assert self._helper is not None
        try:
            self._helper.sendall(json.dumps(request).encode() + b"\n")
        except OSError:
            self._lose()
            self._stop()
            return
        self._asked = len(request)

    def _start(self) -> bool:
        import subprocess

        path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "address_helper.py")
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        self._helper, theirs = socket.socketpair()
        try:
            with theirs:
                self._process = subprocess.Popen(
                    [sys.executable, "-P", path],
                    stdin=theirs.fileno(),
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    env=environment,
                )
        except OSError as error:
            self._helper.close()
            self._helper = None
            self._failed(str(error))
            return False
        self._helper.setblocking(False)
        self._selector.register(self._helper, selectors.EVENT_READ, self._read)
        return True

    def _failed(self, why: str) -> None:
        self._failures += 1
        if self._failures == 3:
            self._log.warning(
                "helper", "the addresses of network namespaces cannot be followed; packets are contid=?", reason=why
            )

    # -- answers

    def _read(self) -> None:
        assert self._helper is not None
        try:
            data, descriptors, _, _ = socket.recv_fds(self._helper, 1 << 16, 1)
        except BlockingIOError:
            return
        except OSError:
            data, descriptors = b"", []
        for descriptor in descriptors:
            self._follow(descriptor)
        if not data or len(self._buffer) > _MAX_BUFFER:
            if self._asked:
                self._failed(f"the helper ended ({self._process.poll() if self._process else None})")
            self._lose()
            self._stop()
            return
        # what was reported before an answer was given comes first
        self._empty()
        *lines, self._buffer = (self._buffer + data).split(b"\n")
        for line in lines:
            self._take(line)

    def _follow(self, descriptor: int) -> None:
        self._events = socket.socket(fileno=descriptor)
        self._events.setblocking(False)
        self._emptied = time.monotonic_ns()
        self._selector.register(self._events, selectors.EVENT_READ, self._empty)
        self._observer.followed.append(self._before_answers)

    def _take(self, line: bytes) -> None:
        try:
            answer: JsonObject = json.loads(line)
        except ValueError:
            return  # what is no answer teaches nothing
        if "error" in answer:
            if answer["error"]:
                self._failed(str(answer["error"]))
            return
        if "silent" in answer:
            inst = self._ruled.pop(int(answer["ino"]), None)
            if inst is not None and answer["silent"]:
                self._silent.append((inst, answer))
            return
        self._asked = max(0, self._asked - 1)
        watched = self._pending.pop(int(answer["ino"]), None)
        if watched is None or answer["addrs"] is None or len(line) > _MAX_ANSWER:
            return
        number = int(answer["nsid"])
        changed = watched.changes or number in self._early
        self._early.discard(number)
        self._numbers[number] = watched
        if changed:
            # it may have been read before or after that; what has changed since it was read first is known
            return
        if not watched.sure or watched.due is not None:
            self._feed(watched.inst, **{name: answer[name] for name in ("dev", "since", "addrs", "all")})
        watched.sure, watched.due, watched.tries = True, None, 0

    def _feed(self, inst: Instance, **about: object) -> None:
        payload = json.dumps({"ino": inst.ino, "dev": inst.dev, **about}).encode()
        self._observer.feed(f.pack(f.K_ADDRS, f.S_PROCFS, time.monotonic_ns(), payload=payload))

    # -- changes

    def _before_answers(self, cut: int) -> None:
        self._empty()

    def _empty(self) -> None:
        """Take in what has changed since this was last called."""
        if self._events is None:
            return
        since, self._emptied = self._emptied - EPSILON, time.monotonic_ns()
        changes: _Changes = {}
        whole = False
        for _ in range(_MOST_MESSAGES):
            try:
                data, ancillary, _, _ = self._events.recvmsg(1 << 16, 64)
            except BlockingIOError:
                whole = True
                break
            except OSError:
                break  # ENOBUFS: some were lost
            number = next((_INT.unpack(raw)[0] for _, _, raw in ancillary if len(raw) == _INT.size), -1)
            for kind, _, body in rtnetlink.messages(data):
                if kind == rtnetlink.DELNSID:
                    self._tell(changes, since)
                    self._gone(rtnetlink.nsid(body), since)
                elif kind in (rtnetlink.NEWADDR, rtnetlink.DELADDR):
                    self._change(number, kind, body, changes)
        self._tell(changes, since)
        if not whole:
            self._lose()

    def _change(self, number: int, kind: int, body: bytes, changes: _Changes) -> None:
        watched = self._numbers.get(number)
        if watched is None:
            self._early.add(number)
            return
        watched.changes += 1
        if not watched.sure:
            return
        new, old, all_of = changes.setdefault(watched, ([], [], []))
        one, broadcast = rtnetlink.addresses(body)
        if kind == rtnetlink.NEWADDR:
            new += one
            all_of += broadcast
        else:
            old += one

    def _tell(self, changes: _Changes, since: int) -> None:
        for watched, (new, old, all_of) in changes.items():
            if watched.changes > _MOST_CHANGES:
                self._unsure(watched)
                continue
            about = {"new": _words(new), "old": _words(old), "all": _words(all_of)}
            self._feed(watched.inst, since=since, **about)
            if old and watched.due is None:
                watched.due = time.monotonic() + _AGAIN  # it may have that address on another device too
        changes.clear()

    def _gone(self, number: int, since: int) -> None:
        self._early.discard(number)
        watched = self._numbers.pop(number, None)
        if watched is not None and watched.sure:
            self._feed(watched.inst, since=since, gone=True)
            watched.sure = False

    def _unsure(self, watched: _Watched) -> None:
        if watched.sure:
            self._feed(watched.inst, addrs=None)
            watched.sure, watched.due = False, time.monotonic() + _AGAIN

    def _lose(self) -> None:
        """Messages were lost, or are too many: nothing is certain."""
        self._early.clear()
        for watched in dict.fromkeys([*self._numbers.values(), *self._watched.values()]):
            watched.changes += 1
            self._unsure(watched)

    # -- the end

    def _stop(self) -> None:
        self._numbers.clear()
        process, self._process, self._asked, self._buffer = self._process, None, 0, b""
        if self._before_answers in self._observer.followed:
            self._observer.followed.remove(self._before_answers)
        for sock in (self._helper, self._events):
            if sock is not None:
                self._selector.unregister(sock)
                sock.close()
        self._helper = self._events = None
        self._pending.clear()
        if process is None:
            return
        import subprocess

        try:
            process.wait(0.2)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def close(self) -> None:
        """End the helper."""
        self._stop()


def _words(found: list[bytes]) -> list[str]:
    return [socket.inet_ntop(socket.AF_INET if len(a) == 4 else socket.AF_INET6, a) for a in found]
