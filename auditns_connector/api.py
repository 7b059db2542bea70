"""Registration from Python: small functions over the control socket of the running listener or plugin.

::

    from auditns_connector import api

    api.set_contid(pid, 123456)           # raises api.RegistrationError, whose .name is "EBUSY" and so on
    api.get_contid(pid).contid            # "123456", "4,^2,^1" for nested ones, "?" unknown, "unset" on the host
"""

import errno
from collections.abc import Iterator
from typing import Final, NamedTuple

from auditns_connector.errors import AuditnsError
from auditns_connector.state.paths import CONTROL
from auditns_connector.vocabulary.values import JsonObject

#: what a command ends with for each refusal
EXIT_CODES: Final = {
    "EPERM": 3,
    "ESRCH": 10,
    "EINVAL": 11,
    "ERANGE": 12,
    "ENOPROTOOPT": 13,
    "EBUSY": 14,
    "EXDEV": 15,
    "EEXIST": 16,
    "ENOTUNIQ": 17,
    "EAGAIN": 18,
    "EMLINK": 19,
}


class RegistrationError(AuditnsError):
    """The program that serves the control socket refused a request. ``name`` is the errno's, ``number`` its value."""

    def __init__(self, name: str, message: str) -> None:
        super().__init__(f"{name}: {message}" if message else name)
        self.name = name
        self.number: int = getattr(errno, name, 0)
        self.exit_code = EXIT_CODES.get(name, 1)


class Found(NamedTuple):
    """The container of a process. ``contid`` as in records, "unset" on the host; ``origin`` says how it is known;
    ``container`` has kind, runtime, id, name, image, pod and so on, as far as they are known."""

    pid: int
    contid: str
    origin: str
    container: JsonObject


def set_contid(
    pid: int, contid: int | str, *, new: bool = False, names: dict[str, str] | None = None, control: str = CONTROL
) -> str:
    """Register ``contid`` (a number, or its text in decimal or 0x-hex) for process ``pid`` of the caller's pid
    namespace and all its descendants; returns the chain as records print it.

    ``new`` refuses an id that is alive anywhere on this host. ``names`` may have runtime, id, name, image, pod and
    namespace. It returns some 12 ms after the set: from then on no audit event of the process can be mistaken for one
    before it. Raises :class:`RegistrationError`, :class:`AuditnsError` where nobody serves ``control``.
    """
    request = {"op": "contid-set", "pid": pid, "id": str(contid), "new": new, "names": names or {}}
    answer = _ask(control, request)
    wait(answer)
    return str(answer["contid"])


def get_contid(pid: int, *, control: str = CONTROL) -> Found:
    """The container of process ``pid`` now. Raises as :func:`set_contid`."""
    answer = _ask(control, {"op": "contid-get", "pid": pid})
    return Found(pid, str(answer["contid"]), str(answer.get("origin", "")), answer.get("container") or {})


def list_containers(*, control: str = CONTROL) -> Iterator[JsonObject]:
    """Every living container: contid, kind, live (processes), names and more. Raises as :func:`set_contid`."""
    first: int | None = 0
    while first is not None:
        answer = _ask(control, {"op": "contid-list", "from": first})
        yield from answer["containers"]
        first = answer["more"]


def delegate(pid: int, *, socket: str | None = None, control: str = CONTROL) -> None:
    """Give process ``pid`` and what it starts the right to set identifiers inside its own container; ``socket`` is the
    absolute path of a control socket made for it, in a directory that root alone can write. Raises as
    :func:`set_contid`."""
    _ask(control, {"op": "contid-delegate", "pid": pid, "socket": socket})


def wait(answer: JsonObject) -> None:
    """Sleep until audit stamps behind a set are distinguished from those before it, as the answer says."""
    from time import sleep

    sleep(min(max(int(answer.get("wait_ms", 0)), 0), 50) / 1000)


def _ask(control: str, request: JsonObject) -> JsonObject:
    from auditns_connector.control.server import ask

    answer = ask(control, {"v": 1, **request})
    if not answer.get("ok"):
        raise RegistrationError(str(answer.get("error", "EIO")), str(answer.get("message", "")))
    return answer
