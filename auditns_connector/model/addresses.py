"""Packets: which containers' network namespaces own the addresses that a NETFILTER_PKT record names.

A packet has nothing else: the record has no process and no namespace. An address that one namespace owned at
its time, and no other can have owned, means every container with a process there, that of the source first. One that
several owned (127.0.0.1, the same private network twice) is decided by the packet's mark, if the configuration maps it
to a container or to the initial network namespace; else the answer is unknown. It is unknown too where a namespace with
containers *may* have owned the address: one that was not followed yet at the packet's time, or that has changed about
then. So a packet is the host's only where it is proven that no such namespace can have had its addresses.

A packet of loopback never leaves its namespace: of it a namespace in which nothing can have logged it is no owner
(host/packet_rules.py).
"""

import json
from typing import TYPE_CHECKING, Final

from auditns_connector.model.address_times import (
    BROADCAST,
    EVER,
    MAYBE,
    SURE,
    AddressHistory,
    Hold,
    address,
    is_loopback,
    key_of,
    key_text,
    of_all_hosts,
    read_key,
    read_keys,
)
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
#: so often one namespace's having one address is remembered
_MAX_HOLDS: Final = 8


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
        #: when a packet was asked for first (ns)
        self._since: int | None = None
        #: netfilter mark -> contid, or HOST_NETWORK
        self.marks: dict[int, int] = {}
        self._of: dict[Instance, AddressHistory] = {}
        #: of those that have an inode, the last
        self._by_ino: dict[int, Instance] = {}
        #: address -> who had it at some time
        self._owners: dict[bytes, set[Instance]] = {}
        self._groups: dict[tuple[Container, ...], Group] = {}
        self._cache: dict[Instance, list[tuple[Container, int | None]]] = {}
        #: namespaces that are not followed and when they ended; those that have not been for long
        self._open: list[tuple[Instance, int]] | None = None
        self._young: list[tuple[Instance, AddressHistory]] = []
        #: until when no packet can have been logged in a namespace (ns)
        self._silent: dict[Instance, int] = {}

    # -- frames

    @property
    def wanted(self) -> bool:
        """A packet was asked for: addresses are followed only from then on."""
        return self._since is not None

    def want(self, now: int) -> None:
        """From ``now`` (CLOCK_MONOTONIC ns) on every network namespace is seen that has a task."""
        if self._since is None:
            self._since = now
            self._model.table.c.not_alone |= 1 << NET

    def take(self, time: int, pid: int, tid: int, ppid: int, ptid: int, cgroup: int, arg: int, payload: bytes) -> None:
        """ADDRS frame: what the addresses of one network namespace were, or how they changed until ``time``."""
        fields: JsonObject = json.loads(payload.rstrip(b"\0"))
        ino = int(fields["ino"])
        change = not {"new", "gone"}.isdisjoint(fields)
        inst = self._by_ino.get(ino) if change else self._model.namespaces.current[NET].get(ino)
        if inst is None or (inst.dev and fields["dev"] and inst.dev != int(fields["dev"])):
            return
        if change:
            self._changed(inst, fields, time)
        elif "silent" in fields:
            if len(self._silent) >= _MAX_GROUPS:
                self._silent.clear()
            self._silent[inst] = int(fields["silent"])
        elif "holds" in fields:
            self._forget(inst)
            history = self._history(inst, int(fields["since"]))
            for text, *times in fields["holds"]:
                if (key := read_key(str(text))) is not None:
                    self._hold(inst, history, key, Hold(*map(int, times)))
        elif fields.get("addrs") is None or "since" not in fields:
            self._forget(inst)  # a reading that nothing follows was true in its moment alone
        else:
            self._read(inst, fields)

    def _history(self, inst: Instance, since: int) -> AddressHistory:
        former = self._by_ino.get(inst.ino)
        if former is not None and former is not inst and self._of[former].gone is None:
            self._forget(former)
        self._by_ino[inst.ino] = inst
        return self._of.setdefault(inst, AddressHistory(since))

    def _read(self, inst: Instance, fields: JsonObject) -> None:
        since = int(fields["since"])
        history = self._history(inst, since)
        found = read_keys(fields["addrs"], fields.get("all", ()))
        for key, holds in history.holds.items():
            for hold in holds:
                if key not in found and hold.maybe_until == EVER:
                    hold.maybe_until = since
                    if hold.sure_until == EVER:
                        hold.sure_until = hold.sure_from
        self._prune(inst, history, since - _KEEP)
        for key in found:
            if all(hold.sure_until != EVER for hold in history.holds.get(key, ())):
                self._hold(inst, history, key, Hold(0, since, EVER, EVER))

    def _changed(self, inst: Instance, fields: JsonObject, time: int) -> None:
        history, since = self._of[inst], int(fields["since"])
        if fields.get("gone"):
            history.gone = time
            for holds in history.holds.values():
                for hold in holds:
                    hold.end(since, time)
            return
        for key in read_keys(fields["old"], ()):
            # another device may have it too: the next reading says whether it was the last
            for hold in history.holds.get(key, ()):
                hold.end(since, EVER)
        for key in read_keys(fields["new"], fields["all"]):
            if all(hold.sure_until != EVER for hold in history.holds.get(key, ())):
                self._hold(inst, history, key, Hold(since, time, EVER, EVER))

    def _hold(self, inst: Instance, history: AddressHistory, key: bytes, hold: Hold) -> None:
        holds = history.holds.setdefault(key, [])
        holds.append(hold)
        if len(holds) > _MAX_HOLDS:
            # one for the oldest two: what lies between is open
            first, second = holds[:2]
            holds[:2] = [Hold(first.maybe_from, second.sure_from, second.sure_until, second.maybe_until)]
        self._owners.setdefault(key, set()).add(inst)

    def _prune(self, inst: Instance, history: AddressHistory, before: int) -> None:
        """Forget what ``inst`` had until ``before``: of packets that are as old nobody asks."""
        for key, holds in list(history.holds.items()):
            holds[:] = [hold for hold in holds if hold.maybe_until >= before]
            if not holds:
                del history.holds[key]
                self._let_go(inst, key)

    def _let_go(self, inst: Instance, key: bytes) -> None:
        holders = self._owners[key]
        holders.discard(inst)
        if not holders:
            del self._owners[key]

    def _forget(self, inst: Instance) -> None:
        history = self._of.pop(inst, None)
        self._silent.pop(inst, None)
        if self._by_ino.get(inst.ino) is inst:
            del self._by_ino[inst.ino]
        for key in history.holds if history is not None else ():
            self._let_go(inst, key)

    def snapshot(self) -> list[JsonObject]:
        """All of it, as payloads of ADDRS frames."""
        return [
            {
                "ino": inst.ino,
                "dev": inst.dev,
                "since": history.since,
                "holds": [
                    [key_text(key), *hold.times()] for key, holds in sorted(history.holds.items()) for hold in holds
                ],
            }
            for inst, history in self._of.items()
            if history.gone is None
        ]

    # -- answers

    def begin(self) -> None:
        """The table may have changed since the last packet: look again who is where."""
        self._cache.clear()
        self._open = None

    def answer(self, fields: dict[bytes, bytes], low: int, high: int, read: int) -> State | None:
        """The state to print for a packet stamped between ``low`` and ``high`` whose record had come by ``read`` (all
        CLOCK_MONOTONIC ns); ``None`` where it is the host's."""
        self.want(self._model.now)
        found: list[Container] = []
        owned = everybody = False
        for name in (b"saddr", b"daddr"):
            raw = address(fields.get(name, b""))
            if raw is None or of_all_hosts(raw) or self._owners.get(BROADCAST + raw):
                everybody = True
                continue
            containers, owner = self._owner(raw, low, high, min(high, read))
            if containers is None:
                return self._marked(fields.get(b"mark", b""), low)
            # who receives what is sent to all is not known, but who sent it is
            owned = owned or (owner and name == b"saddr")
            found += [container for container in containers if container not in found]
        if everybody and not owned and not self._nobody_anywhere(low):
            return self._marked(fields.get(b"mark", b""), low)
        return self._of_all(found)

    def _of_all(self, found: list[Container]) -> State | None:
        if not found:
            return None
        return State(0, found[0] if len(found) == 1 else self._group(tuple(found)), None, OBSERVED)

    def rivals(self, fields: dict[bytes, bytes], low: int, high: int, read: int) -> set[Instance]:
        """The namespaces that may have logged a packet of loopback, where it matters which of them has; arguments as
        those of :meth:`answer`."""
        found: set[Instance] = set()
        for name in (b"saddr", b"daddr"):
            raw = address(fields.get(name, b""))
            if raw is not None and is_loopback(raw) and self._sees(low):
                sure, may = self._candidates(raw, low, high, min(high, read))
                if len({tuple(self._inside(inst, low)) for inst in sure | may}) > 1:
                    found |= sure | may
        return found

    def _candidates(self, raw: bytes, low: int, high: int, until: int) -> tuple[set[Instance], set[Instance]]:
        """The namespaces that owned an address, for sure and perhaps; one of loopback only those that can have logged a
        packet ``until`` then."""
        sure, may = set(), self._not_followed(low)
        for inst in self._owners.get(key_of(raw), ()):
            history = self._of[inst]
            how = history.had(key_of(raw), low, high)
            if how == SURE:
                sure.add(inst)
            elif how == MAYBE:
                may.add(inst)
        if self._silent and is_loopback(raw):
            silent = {inst for inst in sure | may if self._silent.get(inst, 0) >= until}
            sure, may = sure - silent, may - silent
        return sure, may - sure

    def _owner(self, raw: bytes, low: int, high: int, until: int) -> tuple[list[Container] | None, bool]:
        """The containers of the namespace that owned an address, ``None`` where that is not known; and whether one did
        for sure."""
        if not self._sees(low):
            return None, False
        sure, may = self._candidates(raw, low, high, until)
        outcomes = {tuple(self._inside(inst, low)) for inst in sure | may}
        if not sure:
            outcomes.add(())
        return (list(*outcomes), bool(sure)) if len(outcomes) == 1 else (None, False)

    def _sees(self, low: int) -> bool:
        """Whether every network namespace that a task was in at ``low`` is known: perf tells of each, but for what was
        lost."""
        model = self._model
        return self._since is not None and model.perf and low > max(self._since, model.now - _KEEP, model.gap_until)

    def _not_followed(self, low: int) -> set[Instance]:
        """The namespaces that may have had any address at ``low``. When one began is not asked: an event that tells of
        it may have been lost."""
        if self._open is None:
            namespaces, floor = self._model.namespaces, self._model.now - _KEEP
            for inst in [
                inst for inst, history in self._of.items() if history.gone is not None and history.gone < floor
            ]:
                self._forget(inst)
            found = [(inst, EVER) for inst in namespaces.current[NET].values() if inst.live or inst.initial]
            found += [(inst, ended) for inst, ended in namespaces.died if inst.index == NET]
            waiting = namespaces.unproven_ends.values()
            # no container has a process in one that had none then
            found += [(inst, inst.ended or 0) for inst in waiting if inst.index == NET]
            self._open = [(inst, ended) for inst, ended in found if inst not in self._of and ended >= floor]
            self._young = [(inst, history) for inst, history in self._of.items() if history.since > floor]
        may = {inst for inst, ended in self._open if ended >= low}
        return may | {inst for inst, history in self._young if history.since > low and not history.gone_before(low)}

    def _nobody_anywhere(self, low: int) -> bool:
        """Whether no container can have had any packet then."""
        if not self._sees(low):
            return False
        return not any(self._inside(inst, low) for inst in self._not_followed(low) | self._of.keys())

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
        container = self._model.containers.by_contid.get(contid)
        return State(0, container if container is not None else self._named(contid), None, OBSERVED)

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
