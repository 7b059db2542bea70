"""Audit's control side: read and change the kernel's audit status and rules over NETLINK_AUDIT.

What ``auditctl`` does, as much of it as this project needs. Every request asks for an acknowledgement. The
kernel answers AUDIT_GET and AUDIT_LIST_RULES from a thread of its own, so the acknowledgement may come before,
between or after the data (kernel/audit.c, audit_send_reply, audit_send_list_thread): a request is done when
both have been seen. A receive queue that overflowed (ENOBUFS) makes the request be repeated; for a change, the
"exists" or "no such rule" of the repetition then says that the first one had been carried out.
"""

import errno
import os
import socket
import struct
import time
from types import TracebackType
from typing import Final, NamedTuple, Protocol, Self

from auditns_connector.auditrules import codec as auditrule
from auditns_connector.auditrules.codec import AuditStatus
from auditns_connector.errors import AuditnsError, DecodeError, NotPermittedError, NotSupportedError
from auditns_connector.sources import initns

NETLINK_AUDIT: Final = 9
AUDIT_GET: Final = 1000
AUDIT_SET: Final = 1001
AUDIT_ADD_RULE: Final = 1011
AUDIT_DEL_RULE: Final = 1012
AUDIT_LIST_RULES: Final = 1013
NLMSG_ERROR: Final = 2
NLMSG_DONE: Final = 3
NLM_F_REQUEST: Final = 1
NLM_F_ACK: Final = 4
_NLMSGHDR: Final = struct.Struct("=IHHII")
_U32: Final = struct.Struct("=I")
_S32: Final = struct.Struct("=i")
_RECEIVE: Final = 65536
_TRIES: Final = 4
#: a socket is looked at for so long at least (seconds)
_MOMENT: Final = 0.001
_STATUS: Final = "read the audit status"
_LIST: Final = "list the audit rules"

LOCKED_MESSAGE: Final = (
    "the audit configuration is immutable (auditctl -e 2) until the next boot: rules cannot be loaded or removed; "
    "put them before the '-e 2' line in /etc/audit/rules.d and reboot"
)


class NetlinkSocket(Protocol):
    """What is used of a socket (so that a scripted one can stand in for it)."""

    def sendto(self, data: bytes, address: tuple[int, int], /) -> int: ...
    def recvfrom(self, size: int, /) -> tuple[bytes, tuple[int, int]]: ...
    def settimeout(self, seconds: float | None, /) -> None: ...
    def fileno(self) -> int: ...
    def close(self) -> None: ...


class RequestError(AuditnsError):
    """The kernel answered a request with an error; ``errno`` is positive."""

    def __init__(self, number: int, what: str) -> None:
        super().__init__(f"{what}: {os.strerror(number)}")
        self.errno = number


def open_socket() -> NetlinkSocket:
    """A NETLINK_AUDIT socket of our own port id; :class:`NotSupportedError` on a kernel without audit."""
    try:
        sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETLINK_AUDIT)
    except OSError as error:
        if error.errno in (errno.EPROTONOSUPPORT, errno.EAFNOSUPPORT, errno.EINVAL):
            raise NotSupportedError("this kernel is built without audit (CONFIG_AUDIT)") from error
        raise AuditnsError(f"cannot open an audit netlink socket: {error}") from error
    try:
        sock.bind((0, 0))
    except OSError as error:
        sock.close()
        raise AuditnsError(f"cannot bind an audit netlink socket: {error}") from error
    return sock


class AuditControl:
    """Requests to the kernel's audit subsystem, one at a time. ``timeout``: seconds for one whole request."""

    def __init__(self, sock: NetlinkSocket | None = None, *, timeout: float = 10.0) -> None:
        self._sock = open_socket() if sock is None else sock
        self._timeout = timeout
        self._seq = 0

    def status(self) -> AuditStatus:
        """What ``auditctl -s`` shows."""
        return auditrule.parse_status(self._retry(_STATUS, AUDIT_GET, b"", AUDIT_GET)[0])

    def set_enabled(self, value: int) -> None:
        """``auditctl -e VALUE`` for 0 and 1; 2, which no one can take back, is not offered."""
        if value not in (auditrule.ENABLED_OFF, auditrule.ENABLED_ON):
            raise ValueError(f"audit enabled {value!r}: only 0 and 1 can be set")
        payload = auditrule.build_status(auditrule.STATUS_ENABLED, enabled=value)
        self._change("switch auditing on" if value else "switch auditing off", AUDIT_SET, payload)

    def set_backlog_limit(self, value: int) -> None:
        """``auditctl -b VALUE``: how many records may wait for the kernel's audit thread."""
        payload = auditrule.build_status(auditrule.STATUS_BACKLOG_LIMIT, backlog_limit=value)
        self._change("set the audit backlog limit", AUDIT_SET, payload)

    def list_rules(self) -> list[bytes]:
        """Every rule loaded, as ``struct audit_rule_data``, in the order of ``auditctl -l``."""
        return [auditrule.trim(data) for data in self._retry(_LIST, AUDIT_LIST_RULES, b"", -1)]

    def add_rule(self, rule: bytes, *, append: bool = True) -> bool:
        """Load ``rule`` behind all others of its list (or before them); False when the same one is loaded already."""
        if not append:
            (flags,) = _U32.unpack_from(rule)
            rule = _U32.pack(flags | auditrule.FILTER_PREPEND) + rule[_U32.size :]
        return self._change("add an audit rule", AUDIT_ADD_RULE, rule, (errno.EEXIST,))

    def delete_rule(self, rule: bytes) -> bool:
        """Remove ``rule``; False when there is no such rule."""
        return self._change("delete an audit rule", AUDIT_DEL_RULE, rule, (errno.ENOENT,))

    def fileno(self) -> int:
        """Readable when something has come."""
        return self._sock.fileno()

    def close(self) -> None:
        """Close the socket."""
        self._sock.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def _change(self, what: str, kind: int, payload: bytes, already: tuple[int, ...] = ()) -> bool:
        """Send a change; False when the kernel says, at the first try, that there is nothing to change."""
        for attempt in range(_TRIES):
            try:
                self._request(what, kind, payload, None)
            except _QueueOverflow:
                continue
            except RequestError as error:
                if error.errno in already:
                    return attempt > 0
                raise self._explain(error, what, change=True) from error
            return True
        raise _overflowed(what)

    def _retry(self, what: str, kind: int, payload: bytes, reply: int) -> list[bytes]:
        for _attempt in range(_TRIES):
            try:
                return self._request(what, kind, payload, reply)
            except _QueueOverflow:
                continue
            except RequestError as error:
                raise self._explain(error, what, change=False) from error
        raise _overflowed(what)

    def _request(self, what: str, kind: int, payload: bytes, reply: int | None) -> list[bytes]:
        """One request, waited for; ``reply`` as :class:`Question` has it."""
        deadline = time.monotonic() + self._timeout
        question = self._ask(what, kind, payload, reply, self._timeout)
        while not question.over:
            if time.monotonic() > deadline or not self._hear(question, deadline - time.monotonic()):
                raise AuditnsError(f"cannot {what}: the kernel did not answer within {self._timeout:g} s")
        return question.answers

    def _ask(self, what: str, kind: int, payload: bytes, reply: int | None, seconds: float) -> "Question":
        """Send a request, which takes so many ``seconds`` at most."""
        self._seq = seq = self._seq % 0x7FFFFFFF + 1
        head = _NLMSGHDR.pack(_NLMSGHDR.size + len(payload), kind, NLM_F_REQUEST | NLM_F_ACK, seq, 0)
        try:
            self._sock.settimeout(seconds)
            self._sock.sendto(head + payload, (0, 0))
        except OSError as error:
            raise _failed(what, error) from error
        return Question(seq, what, kind, reply)

    def _hear(self, question: "Question", seconds: float) -> bool:
        """Take the next message, which may be of ``question``; False where none comes for so long."""
        try:
            self._sock.settimeout(max(seconds, _MOMENT))
            data, address = self._sock.recvfrom(_RECEIVE)
        except TimeoutError:
            return False
        except OSError as error:
            raise _failed(question.what, error) from error
        if address[0] == 0 and len(data) >= _NLMSGHDR.size:  # only the kernel (port id 0) answers
            question.take(data)
        return True

    def ask_rules(self) -> "RulesQuestion":
        """:meth:`list_rules` and :meth:`status`, not waited for."""
        return RulesQuestion(self)

    def _explain(self, error: RequestError, what: str, *, change: bool) -> AuditnsError:
        """The exception to raise for the kernel's refusal: what it means, and what class of trouble it is."""
        number = error.errno
        if number == errno.EPERM:
            if change and self._locked():
                return NotSupportedError(f"cannot {what}: {LOCKED_MESSAGE}")
            return NotPermittedError(
                f"cannot {what}: it needs CAP_AUDIT_CONTROL in the host's user and pid namespaces: {initns.here()}"
            )
        if number == errno.ECONNREFUSED:
            return NotPermittedError(
                f"cannot {what}: the kernel refuses audit requests: "
                + (
                    f"it takes them from the host's user namespace alone: {initns.here()}"
                    if initns.in_initial("user") is False
                    else "audit is disabled by audit=0 on the kernel command line"
                )
            )
        if number in (errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS):
            return NotSupportedError(f"{error} (this kernel does not take it)")
        return error

    def _locked(self) -> bool:
        try:
            return self.status().enabled == auditrule.ENABLED_LOCKED
        except AuditnsError:
            return False  # not even the status may be read: it is the permission


class Question:
    """A request that was sent; ``reply``: None for the acknowledgement alone, -1 for a list ended by NLMSG_DONE, else
    the type of the single answer. Messages of another sequence number are left-overs of an earlier request."""

    def __init__(self, seq: int, what: str, kind: int, reply: int | None) -> None:
        self.what = what
        self.answers: list[bytes] = []
        self._seq, self._kind, self._reply = seq, kind, reply
        self._acked, self._done = False, reply is None

    @property
    def over(self) -> bool:
        """All of the answer is there."""
        return self._acked and self._done

    def take(self, data: bytes) -> None:
        """A message of the kernel's. Raises what it says is wrong with the request."""
        _length, kind, _flags, seq, _port = _NLMSGHDR.unpack_from(data)
        if seq != self._seq:
            return
        body = data[_NLMSGHDR.size :]
        if kind == NLMSG_ERROR:
            _check_acknowledgement(body, self.what)
            self._acked = True
        elif kind == NLMSG_DONE:
            self._done = True
        elif kind == self._reply:
            self.answers.append(body)
            self._done = True
        elif self._reply == -1 and kind == self._kind:
            self.answers.append(body)


class RulesQuestion:
    """The rules, and then the status, asked for by one who has other things to do: the kernel answers from a thread
    that it makes for that, which on a busy host may wait long for a CPU."""

    def __init__(self, control: AuditControl) -> None:
        self._control = control
        self._steps = ((_LIST, AUDIT_LIST_RULES, -1), (_STATUS, AUDIT_GET, AUDIT_GET))
        self._found: list[list[bytes]] = []
        self._question: Question | None = None
        self._lost = 0

    def answered(self, seconds: float = 0.0) -> "LoadedRules | None":
        """The answer, where it is there within so many ``seconds``. Raises :class:`AuditnsError` where there will be
        none."""
        what, deadline = _LIST, time.monotonic() + seconds
        try:
            while len(self._found) < len(self._steps):
                what, kind, reply = self._steps[len(self._found)]
                if self._question is None:
                    self._question = self._control._ask(what, kind, b"", reply, _MOMENT)
                elif not self._control._hear(self._question, deadline - time.monotonic()):
                    return None
                if self._question.over:
                    self._found.append(self._question.answers)
                    self._question = None
        except _QueueOverflow:
            self._question, self._lost = None, self._lost + 1
            if self._lost == _TRIES:
                raise _overflowed(what) from None
            return None
        except RequestError as error:
            raise self._control._explain(error, what, change=False) from error
        rules, (status,) = self._found
        return LoadedRules([auditrule.trim(rule) for rule in rules], auditrule.parse_status(status))


class LoadedRules(NamedTuple):
    """``rules`` as :meth:`AuditControl.list_rules` gives them, and the ``status`` of a moment later."""

    rules: list[bytes]
    status: AuditStatus


def _failed(what: str, error: OSError) -> Exception:
    """What is to be raised where the socket says so."""
    if isinstance(error, TimeoutError):
        return AuditnsError(f"cannot {what}: the kernel does not take it")
    if error.errno == errno.ENOBUFS:
        return _QueueOverflow()
    return RequestError(error.errno or errno.EIO, f"cannot {what}")


def _overflowed(what: str) -> AuditnsError:
    return AuditnsError(f"cannot {what}: the answers were lost {_TRIES} times (receive queue overflow)")


def _check_acknowledgement(body: bytes, what: str) -> None:
    """Raise what the kernel's acknowledgement says is wrong with the request to ``what``."""
    if len(body) < _S32.size:
        raise DecodeError(f"cannot {what}: the kernel's acknowledgement is cut short")
    (code,) = _S32.unpack_from(body)
    if code:
        raise RequestError(-code, f"cannot {what}")


class _QueueOverflow(Exception):
    """ENOBUFS: answers were dropped; the request is repeated."""
