"""Follows the addresses of every network namespace, for NETFILTER_PKT records, by way of address_helper.py.

Nothing is done until a packet was seen. From then on a namespace is read soon after it appeared, more often while it is
young, and all of them when a packet names an address that none is known to own. The answers enter as ADDRS frames.
"""

import contextlib
import json
import os
import selectors
import sys
import time
from typing import TYPE_CHECKING, Final

from auditns_connector.daemon.log import RateLimitedLog
from auditns_connector.model.places import Instance
from auditns_connector.vocabulary import frames as f
from auditns_connector.vocabulary.namespaces import NET
from auditns_connector.vocabulary.values import JsonObject

if TYPE_CHECKING:
    import subprocess

    from auditns_connector.daemon.log import Log
    from auditns_connector.host.observer import Observer

#: seconds after the first reading of a namespace at which it is read again, then every _PERIOD
_AGES: Final = (0.3, 1.0, 3.0, 10.0)
_PERIOD: Final = 30.0
#: an address nobody owns makes all be read, at most this often (seconds)
_MISSED: Final = 1.0
_MAX_ANSWER: Final = 200_000


class NetWatch:
    """Keeps ``observer``'s model informed of addresses; the helper's answers are waited for with ``selector``, whose
    data is what to call."""

    def __init__(self, observer: "Observer", selector: selectors.BaseSelector, log: "Log") -> None:
        self._observer, self._selector = observer, selector
        self._model = observer.model
        self._log = RateLimitedLog(log)
        self._process: subprocess.Popen[bytes] | None = None
        self._buffer = b""
        self._asked = 0
        #: namespace -> how often it was read, and when it is due again
        self._due: dict[Instance, tuple[int, float]] = {}
        self._missed = 0.0
        self._failures = 0

    def tick(self) -> None:
        """Ask for what is due; called after every round of the pipeline, so it must be cheap when nothing is."""
        packets = self._model.packets
        if not packets.wanted or self._asked:
            return
        now = time.monotonic()
        if packets.missed:
            packets.missed = False
            if now >= self._missed + _MISSED:
                self._missed = now
                self._due = dict.fromkeys(self._due, (0, now))
        living = [inst for inst in self._model.namespaces.current[NET].values() if inst.live or inst.initial]
        if len(self._due) > len(living):
            self._due = {inst: self._due[inst] for inst in living if inst in self._due}
        request = []
        for inst in living:
            times, due = self._due.get(inst, (0, 0.0))
            if due > now:
                continue
            pid = os.getpid() if inst.initial else self._member(inst)
            if pid:
                request.append([pid, inst.ino])
                self._due[inst] = times + 1, now + (_AGES[times] if times < len(_AGES) else _PERIOD)
        if request:
            self._ask(request)

    def _member(self, inst: Instance) -> int:
        for nsset in self._model.namespaces.sets_of(inst):
            for tid in self._model.namespaces.tasks(nsset):
                return tid
        return 0

    def _ask(self, request: list[list[int]]) -> None:
        if self._process is None and not self._start():
            return
        assert self._process is not None
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(request).encode() + b"\n")
            self._process.stdin.flush()
        except OSError:
            self._stop()
            return
        self._asked = len(request)

    def _start(self) -> bool:
        if self._failures >= 3:
            return False
        import subprocess

        path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "address_helper.py")
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        try:
            self._process = subprocess.Popen(
                [sys.executable, path],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env=environment,
            )
        except OSError as error:
            self._failed(str(error))
            return False
        assert self._process.stdout is not None
        os.set_blocking(self._process.stdout.fileno(), False)
        self._selector.register(self._process.stdout, selectors.EVENT_READ, self._read)
        return True

    def _failed(self, why: str) -> None:
        self._failures += 1
        if self._failures == 3:
            self._log.warning(
                "helper", "the addresses of network namespaces cannot be read; packets are contid=?", reason=why
            )

    def _read(self) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        data = b""
        with contextlib.suppress(BlockingIOError):
            data = os.read(self._process.stdout.fileno(), 1 << 16)
            if not data:
                if self._asked:
                    self._failed(f"the helper ended ({self._process.poll()})")
                self._stop()
                return
        *lines, self._buffer = (self._buffer + data).split(b"\n")
        now = time.monotonic_ns()
        for line in lines:
            self._asked = max(0, self._asked - 1)
            self._take(line, now)

    def _take(self, line: bytes, now: int) -> None:
        try:
            told: JsonObject = json.loads(line)
        except ValueError:
            return  # what is no answer teaches nothing
        if len(line) > _MAX_ANSWER:
            told["addrs"] = None
        payload = json.dumps({"ino": told["ino"], "dev": told["dev"], "addrs": told["addrs"]}).encode()
        self._observer.feed(f.pack(f.K_ADDRS, f.S_PROCFS, now, payload=payload))

    def _stop(self) -> None:
        process, self._process, self._asked, self._buffer = self._process, None, 0, b""
        if process is None:
            return
        import subprocess

        if process.stdout is not None:
            with contextlib.suppress(KeyError, ValueError, RuntimeError):
                self._selector.unregister(process.stdout)
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(0.2)
            return
        process.kill()
        process.wait()

    def close(self) -> None:
        """End the helper."""
        self._stop()
