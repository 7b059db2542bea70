"""The container runtime interface (CRI) as a kubelet uses it, over gRPC, without generated code.

Only the fields that are needed are written and read; their numbers are those of k8s.io/cri-api
``pkg/apis/runtime/v1/api.proto``. Wire format: https://protobuf.dev/programming-guides/encoding/
"""

import itertools
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from tests.kernel.images import BUSY
from tests.kernel.support import unmet

#: a message: field number -> what is in it; lists are repeated fields
Message = Mapping[int, Any]
TIMEOUT: Final = 120.0
NAMESPACE: Final = "shop"
_SERVICE: Final = "/runtime.v1.RuntimeService/"
#: NamespaceMode
_POD, _CONTAINER, _NODE = 0, 1, 2
#: cgroup parents of pods, as a kubelet with the cgroupfs driver has them
_PARENTS: Final = {"guaranteed": "/kubepods", "burstable": "/kubepods/burstable", "besteffort": "/kubepods/besteffort"}


def encode(message: Message) -> bytes:
    """The bytes of a message."""
    return b"".join(
        _field(number, one)
        for number, value in message.items()
        for one in (value if isinstance(value, list) else [value])
    )


def _field(number: int, value: Any) -> bytes:
    if isinstance(value, int):
        return _varint(number << 3) + _varint(int(value))
    data = value.encode() if isinstance(value, str) else encode(value)
    return _varint(number << 3 | 2) + _varint(len(data)) + data


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def decode(data: bytes) -> dict[int, list[int | bytes]]:
    """The fields of a message; those inside others stay bytes."""
    found: dict[int, list[int | bytes]] = {}
    at = 0

    def varint() -> int:
        nonlocal at
        value = 0
        for shift in itertools.count(0, 7):
            byte, at = data[at], at + 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                break
        return value

    while at < len(data):
        number, kind = divmod(varint(), 8)
        assert kind in (0, 2), "this interface has no others"
        if kind == 0:
            found.setdefault(number, []).append(varint())
        else:
            size = varint()
            found.setdefault(number, []).append(data[at : at + size])
            at += size
    return found


def pairs(labels: Mapping[str, str]) -> list[Message]:
    """A map of strings."""
    return [{1: key, 2: value} for key, value in labels.items()]


@dataclass
class Pod:
    """A pod sandbox that runs; ``id`` is its pause container's."""

    id: str
    name: str
    uid: str
    config: Message
    namespaces: Message
    privileged: bool
    labels: dict[str, str]
    attempts: dict[str, int] = field(default_factory=dict)


class Kubelet:
    """Asks the runtime behind ``socket`` for pods and containers; logs go below ``logs``. ``systemd``: its driver is
    systemd's, which takes slices for the parents of pods."""

    def __init__(self, socket: str, logs: str, *, systemd: bool = False) -> None:
        try:
            import grpc
        except ImportError:
            unmet("grpcio (the test extra)")
        self._channel = grpc.insecure_channel(f"unix://{socket}")
        self._logs, self._systemd = logs, systemd
        self.pods: list[Pod] = []

    def __enter__(self) -> "Kubelet":
        return self

    def __exit__(self, *exc: object) -> None:
        try:
            for pod in list(self.pods):
                self.remove(pod)
        finally:
            self._channel.close()

    def call(self, method: str, request: Message) -> dict[int, list[int | bytes]]:
        """One request; the fields of the answer. Raises grpc.RpcError."""
        done = self._channel.unary_unary(
            _SERVICE + method, request_serializer=encode, response_deserializer=decode
        )(request, timeout=TIMEOUT)  # fmt: skip
        answer: dict[int, list[int | bytes]] = done
        return answer

    def _id(self, method: str, request: Message) -> str:
        found = self.call(method, request)[1][0]
        assert isinstance(found, bytes)
        return found.decode()

    def pod(
        self, name: str, qos: str = "besteffort", *, handler: str = "", static: bool = False, host: bool = False,
        privileged: bool = False, shared_pid: bool = False,
    ) -> Pod:  # fmt: skip
        """Run a pod's sandbox: of a quality of service, ``static`` with the uid of a file's pod, in the ``host``'s
        namespaces of network, processes and IPC, or with one pid namespace for all its containers."""
        uid = uuid.uuid4().hex if static else str(uuid.uuid4())
        network = ipc = _NODE if host else _POD
        namespaces = {1: network, 2: _NODE if host else _POD if shared_pid else _CONTAINER, 3: ipc}
        told = {"name": name, "namespace": NAMESPACE, "uid": uid}
        labels = {f"io.kubernetes.pod.{key}": value for key, value in told.items()}
        config: Message = {
            1: {1: name, 2: uid, 3: NAMESPACE},
            2: "" if host else name,
            3: f"{self._logs}/{name}",
            6: pairs({**labels, "app": name}),
            7: pairs({"kubernetes.io/config.source": "file" if static else "api"}),
            8: {1: self._parent(qos, uid), 2: {1: namespaces, 6: privileged}},
        }
        ident = self._id("RunPodSandbox", {1: config, 2: handler})
        made = Pod(ident, name, uid, config, namespaces, privileged, labels)
        self.pods.append(made)
        return made

    def _parent(self, qos: str, uid: str) -> str:
        """The cgroup of a pod, as a kubelet names it with either driver."""
        if not self._systemd:
            return f"{_PARENTS[qos]}/pod{uid}"
        slices = [part.replace("-", "_") for part in (*_PARENTS[qos].strip("/").split("/"), f"pod{uid}")]
        return "/" + "/".join(f"{'-'.join(slices[: depth + 1])}.slice" for depth in range(len(slices)))

    def start(self, pod: Pod, name: str, command: Sequence[str]) -> str:
        """Make a container of ``pod`` and start it; its id. Again with the same name: the next attempt, as of one that
        crashed."""
        attempt = pod.attempts[name] = pod.attempts.get(name, -1) + 1
        config: Message = {
            1: {1: name, 2: attempt},
            2: {1: BUSY},
            3: list(command[:1]),
            4: list(command[1:]),
            9: pairs({**pod.labels, "io.kubernetes.container.name": name}),
            11: f"{name}-{attempt}.log",
            15: {2: {2: pod.privileged, 3: pod.namespaces}},
        }
        ident = self._id("CreateContainer", {1: pod.id, 2: config, 3: pod.config})
        self.call("StartContainer", {1: ident})
        return ident

    def exec(self, ident: str, command: Sequence[str]) -> int:
        """Run a command in a container, and wait for it; its exit code."""
        code = self.call("ExecSync", {1: ident, 2: list(command), 3: int(TIMEOUT)}).get(3, [0])[0]
        assert isinstance(code, int)
        return code

    def remove_container(self, ident: str) -> None:
        """Remove a container, stopped or not."""
        self.call("StopContainer", {1: ident, 2: 0})
        self.call("RemoveContainer", {1: ident})

    def remove(self, pod: Pod) -> None:
        """End a pod with all its containers."""
        self.call("StopPodSandbox", {1: pod.id})
        self.call("RemovePodSandbox", {1: pod.id})
        self.pods.remove(pod)
