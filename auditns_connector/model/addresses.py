"""Packets: which containers' network namespaces own the addresses that a NETFILTER_PKT record names.

Nothing else is known of a packet: the record has no process and no namespace. An address that one namespace owns
means every container with a process there, that of the source first. One that several own (127.0.0.1, the same private
network twice) is decided by the packet's mark, if the configuration maps it to a container or to the initial network
namespace; else the answer is unknown. One that none owns is elsewhere in the network, provided that the addresses of
all namespaces have been read; else it is unknown too.
"""

import json
from typing import TYPE_CHECKING, Final

from auditns_connector.model.places import UNKNOWN, Container, Instance
from auditns_connector.model.process import NOT_KNOWN, OBSERVED, State
from auditns_connector.vocabulary.namespaces import NET
from auditns_connector.vocabulary.values import JsonObject

if TYPE_CHECKING:
    from auditns_connector.model.tables import Tables

_MAX_GROUPS: Final = 10_000
#: bytes of a list in contid=: a record holds 8970, head and all (MAX_AUDIT_MESSAGE_LENGTH)
_MAX_LIST: Final = 8000
#: in place of a contid: every container in the initial network namespace
HOST_NETWORK: Final = -1
_LOOPBACK: Final = bytes(15) + b"\x01"
_MAPPED: Final = bytes(10) + b"\xff\xff"


def address(text: bytes | str) -> bytes | None:
    """An IPv4 or IPv6 address as 4 or 16 bytes (an IPv4 one mapped into IPv6 as 4); ``None`` for anything else."""
    from socket import AF_INET, AF_INET6, inet_pton  # slow to import, and few hosts log packets

    word = text.decode("latin-1") if isinstance(text, bytes) else text
    try:
        raw = inet_pton(AF_INET6 if ":" in word else AF_INET, word)
    except (OSError, ValueError):
        return None
    return raw[12:] if len(raw) == 16 and raw.startswith(_MAPPED) else raw


def listed(contids: list[str]) -> str:
    """A list of containers as contid= has it: whole ones up to :data:`_MAX_LIST` bytes, and how many more there are."""
    text = ",".join(contids)
    if len(text) <= _MAX_LIST:
        return text
    size = count = 0
    for contid in contids:
        size += len(contid) + 1
        if size + len(f"+{len(contids)}") > _MAX_LIST:
            break
        count += 1
    return ",".join([*contids[:count], f"+{len(contids) - count}"])


class Group(Container):
    """Several containers that one packet may belong to, as one thing to be printed and filtered."""

    __slots__ = ("containers",)

    def __init__(self, containers: tuple[Container, ...], text: str) -> None:
        super().__init__((("", ""),), "group", 0, None)
        self.containers = containers
        self.text = text

    def chain(self) -> list[Container]:
        """Every one of them with those around it."""
        return [link for container in self.containers for link in container.chain()]


class Packets:
    """Addresses of the network namespaces of ``model``, and what follows from them."""

    def __init__(self, model: "Tables") -> None:
        self._model = model
        #: a packet was asked for: addresses are followed only from then on
        self.wanted = False
        #: an address was asked for that no namespace is known to own
        self.missed = False
        #: netfilter mark -> contid, or HOST_NETWORK
        self.marks: dict[int, int] = {}
        self._of: dict[Instance, frozenset[bytes]] = {}
        self._owners: dict[bytes, set[Instance]] = {}
        self._groups: dict[tuple[Container, ...], Group] = {}
        self._cache: dict[Instance, list[tuple[Container, int | None]]] = {}
        self._epoch = -1

    # -- what is known

    def take(self, time: int, pid: int, tid: int, ppid: int, ptid: int, cgroup: int, arg: int, payload: bytes) -> None:
        """ADDRS frame: the addresses of one network namespace as they were at ``time``."""
        told: JsonObject = json.loads(payload.rstrip(b"\0"))
        inst = self._model.namespaces.current[NET].get(int(told["ino"]))
        if inst is None or (inst.dev and told["dev"] and inst.dev != int(told["dev"])):
            return
        self._forget(inst)
        if told["addrs"] is None:
            return
        found = frozenset(raw for text in told["addrs"] if (raw := address(str(text))) is not None)
        self._of[inst] = found
        for raw in found:
            self._owners.setdefault(raw, set()).add(inst)

    def _forget(self, inst: Instance) -> None:
        for raw in self._of.pop(inst, ()):
            holders = self._owners[raw]
            holders.discard(inst)
            if not holders:
                del self._owners[raw]

    def known(self, inst: Instance) -> bool:
        """Whether the addresses of ``inst`` have been read."""
        return inst in self._of

    def snapshot(self) -> list[JsonObject]:
        """What is known, as payloads of ADDRS frames."""
        from socket import AF_INET, AF_INET6, inet_ntop

        return [
            {
                "ino": inst.ino,
                "dev": inst.dev,
                "addrs": sorted(inet_ntop(AF_INET if len(a) == 4 else AF_INET6, a) for a in addrs),
            }
            for inst, addrs in self._of.items()
            if inst.live
        ]

    # -- answers

    def begin(self) -> None:
        """The table may have changed since the last packet: look again who is where."""
        self._cache.clear()
        for inst in [inst for inst in self._of if not inst.live and inst.ended is not None]:
            if inst.ended is not None and inst.ended < self._model.now - _KEEP:
                self._forget(inst)

    def answer(self, fields: dict[bytes, bytes], low: int) -> State | None:
        """The state to print for a packet stamped ``low`` (CLOCK_MONOTONIC ns); ``None`` where it is the host's."""
        self.wanted = True
        found: list[Container] = []
        doubt = False
        for name in (b"saddr", b"daddr"):
            raw = address(fields.get(name, b""))
            if raw is None:
                continue
            owners = self._owner(raw, low)
            if owners is None or len(owners) > 1:
                doubt = True
                continue
            for inst in owners:
                found += [c for c in self._inside(inst, low) if c not in found]
        if doubt:
            return self._marked(fields.get(b"mark", b""), low)
        return self._of_all(found)

    def _of_all(self, found: list[Container]) -> State | None:
        if not found:
            return None
        return State(0, found[0] if len(found) == 1 else self._group(tuple(found)), None, OBSERVED)

    def _owner(self, raw: bytes, low: int) -> list[Instance] | None:
        """The namespaces that own an address; ``None`` where that is not known."""
        model = self._model
        living = [inst for inst in model.namespaces.current[NET].values() if inst.live or inst.initial]
        if raw == _LOOPBACK or (len(raw) == 4 and raw[0] == 127):
            return living
        owners = [inst for inst in self._owners.get(raw, ()) if inst.ended is None or inst.ended >= low]
        if owners:
            return sorted(owners, key=lambda inst: inst.number)
        self.missed = True
        if all(inst in self._of for inst in living):
            return []
        return None

    def _inside(self, inst: Instance, low: int) -> list[Container]:
        """Every container with a process in ``inst``, or with one that was there at ``low``; the oldest first."""
        found = self._cache.get(inst)
        if found is None:
            seen: dict[Container, int | None] = {}
            model = self._model
            for nsset in model.namespaces.sets_of(inst):
                for tid in model.namespaces.tasks(nsset):
                    process = model.threads.get(tid) or model.processes.get(tid)
                    if process is not None and process.state.container is not None:
                        seen[process.state.container] = None
            for process in reversed(model.dead):
                container, nsset_ = process.state.container, process.state.nsset
                if process.end is not None and process.end < model.now - _RECENT:
                    break
                if container is not None and nsset_ is not None and nsset_.inst[NET] is inst:
                    seen.setdefault(container, process.end)
            found = sorted(seen.items(), key=lambda item: (item[0].born, item[0].key))
            self._cache[inst] = found
        return [container for container, end in found if end is None or end >= low]

    def _marked(self, mark: bytes, low: int) -> State | None:
        try:
            contid = self.marks.get(int(mark, 16) if mark[:2].lower() == b"0x" else int(mark or b"0"))
        except ValueError:
            contid = None
        if contid is None:
            return State(0, UNKNOWN, None, NOT_KNOWN)
        if contid == HOST_NETWORK:
            namespaces = self._model.namespaces.current[NET].values()
            return self._of_all([c for inst in namespaces if inst.initial for c in self._inside(inst, low)])
        known = self._model.containers.by_contid.get(contid)
        return State(0, known if known is not None else self._named(contid), None, OBSERVED)

    def _named(self, contid: int) -> Container:
        """A container that only the configuration knows."""
        key = (Container((("", str(contid)),), "group", 0, None),)
        for members, group in self._groups.items():
            if group.text == str(contid) and members[0].contid == contid:
                return group
        key[0].contid = contid
        return self._add(key, str(contid))

    def _group(self, members: tuple[Container, ...]) -> Group:
        found = self._groups.get(members)
        text = listed([self._model.containers.text(container) for container in members])
        if found is None or found.text != text:
            found = self._add(members, text)
        return found

    def _add(self, members: tuple[Container, ...], text: str) -> Group:
        if len(self._groups) >= _MAX_GROUPS:
            self._groups.clear()
        group = self._groups[members] = Group(members, text)
        return group


#: addresses of a namespace that has ended are kept this long (ns)
_KEEP: Final = 30_000_000_000
#: packets are asked for at most this long after they were sent (ns)
_RECENT: Final = 10_000_000_000
