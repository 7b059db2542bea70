"""Which events go to which stream, and what a container must have before its numbers can be translated."""

import time
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Final

from auditns_connector.audittext.scanner import InsertionPoints
from auditns_connector.config.streams import CONTAINER, HOST
from auditns_connector.daemon.log import Log, RateLimitedLog
from auditns_connector.daemon.rate import RateLimit
from auditns_connector.errors import NotSupportedError
from auditns_connector.model.apply.inner_ids_state import set_up_by_runtime
from auditns_connector.model.places import UNKNOWN, Container, Instance
from auditns_connector.model.process import Process, State
from auditns_connector.sources.idmaps import idmap_frame, read_maps
from auditns_connector.sources.pidns import PAGES, PidnsRing
from auditns_connector.streams.backlog import Entry
from auditns_connector.streams.ownership import Ownership
from auditns_connector.streams.stream import Stream
from auditns_connector.streams.view import Viewer, Wanted, group, lies_in
from auditns_connector.vocabulary import audit_text as pt
from auditns_connector.vocabulary.namespaces import PID

if TYPE_CHECKING:
    from auditns_connector.host.observer import Observer

#: points that no stream is given an event for
_NOT_COPIED: Final = pt.P_LATE | pt.P_NETFILTER | pt.P_OWN
#: while a container is being set up, its pid namespace is looked for this often, and for so long (seconds)
_HURRY: Final = 0.002
_HURRY_FOR: Final = 3.0
#: rings for users' streams at a time, new ones a second, and the pages of each
_USER_RINGS: Final = 16
_USER_ENTRIES: Final = 4
_USER_PAGES: Final = 32
_Plan = tuple[tuple[Stream, Container], ...]


def _nothing() -> bytes:
    return b""


def _of_nothing(points: InsertionPoints, wanted: Wanted, states: "Sequence[State]", home: Container) -> Entry:
    """What a full backlog counts as lost of the event: how many records it would have been, and no text."""
    i = wanted.subject
    inside = lies_in(states[i].container, home)
    records = len(wanted.lines) + 1 if inside else 2 + 2 * len(wanted.targets)
    return Entry(points.serial[i], points.ms[i], records, home, _nothing)


class Router:
    """Hands events to ``streams`` (shared with the manager, by key), which are the active ones; ``ownership`` knows
    which containers are an ordinary user's."""

    def __init__(self, observer: "Observer", streams: dict[str, Stream], log: Log, ownership: Ownership) -> None:
        self._ownership = ownership
        self._observer, self._streams, self._log = observer, streams, RateLimitedLog(log)
        self._model = observer.model
        self.viewer = Viewer(self._model, self.ask)
        self._plans: dict[Container, tuple[tuple[object, ...], _Plan]] = {}
        self._seen = -1
        self._of_users = False
        #: numbers of pid namespaces with a ring that users' streams alone want
        self._rings_of_users: set[int] = set()
        self._entered = RateLimit(_USER_ENTRIES)
        self._unsettled = False
        self._failed: set[int] = set()
        self._hurry_until = 0.0
        self._homeless: set[Container] = set()
        self.unmatched = 0

    def forget(self) -> None:
        """Definitions changed: decide anew which container is whose."""
        self._of_users = any(stream.user for stream in self._streams.values())
        self._plans.clear()
        self._seen = -1

    # -- events

    def _about(self, container: Container) -> tuple[object, ...]:
        """What decides which streams ``container`` is for."""
        chain = container.chain()
        names = tuple((c.name, c.pod, c.image, len(c.labels), c.contid) for c in chain)
        return (names, tuple(self._ownership.place(c) for c in chain)) if self._of_users else (names,)

    def plan(self, container: Container) -> _Plan:
        """The streams that events of ``container`` go to, each with the container whose event it is there."""
        about = self._about(container)
        former = self._plans.get(container)
        if former is not None and former[0] == about:
            return former[1]
        contid = self._model.containers.contid
        found = []
        for stream in self._streams.values():
            home = stream.home(contid, container)
            if home is not None:
                found.append((stream, home))
        if len(self._plans) > 10_000:
            self._plans.clear()
        self._plans[container] = (self._about(container), tuple(found))  # asking for contids has fixed some
        return tuple(found)

    def take(self, points: InsertionPoints, states: "Sequence[State]", now: int) -> None:
        """Answered points: each event of a container goes to the streams that are for it."""
        if len(states) != points.n:
            return
        self.prepare()
        plans = self._plans_of(points, states)
        if not plans:
            return
        touched: set[Stream] = set()
        for i, wanted in group(points, plans).items():
            made: dict[tuple[Container, str, bool], Entry | None] = {}
            whole = set()
            for stream, home in plans[i]:
                if stream.definition.view == HOST:
                    if stream in whole:
                        continue  # its readers have seen the whole event
                    whole.add(stream)
                if not stream.writes:
                    stream.skip()
                elif stream.full and not stream.halted(home):
                    stream.put(_of_nothing(points, wanted, states, home), now)
                elif (entry := self._entry(points, wanted, states, stream, home, now, made)) is not None:
                    stream.put(entry, now)
                    touched.add(stream)
        for stream in touched:
            stream.pump()

    def _plans_of(self, points: InsertionPoints, states: "Sequence[State]") -> dict[int, _Plan]:
        """For each point that is the subject of an event: who is to have the event, and for which container."""
        plans: dict[int, _Plan] = {}
        struck: dict[int, _Plan] = {}
        flags = points.flags
        for i, state in enumerate(states):
            container = state.container
            if container is None or container is UNKNOWN or flags[i] & _NOT_COPIED:
                continue
            plan = self.plan(container)
            if self._of_users and plan:
                plan = tuple(
                    (stream, home)
                    for stream, home in plan
                    if not stream.user or self._ownership.inside(stream.user, home, state)
                )
            if not plan:
                continue
            if flags[i] & pt.P_TARGET:
                struck[points.event[i]] = (*struck.get(points.event[i], ()), *plan)
            else:
                plans[i] = plan
        if struck:
            self._add_struck(points, plans, struck)
        return plans

    def _entry(
        self, points: InsertionPoints, wanted: Wanted, states: "Sequence[State]", stream: Stream, home: Container,
        now: int, made: dict[tuple[Container, str, bool], Entry | None],
    ) -> Entry | None:  # fmt: skip
        """The event as ``stream`` shows it; streams that show it alike share what is ``made``."""
        definition = stream.definition
        key = (home, definition.view, definition.record_names == "numeric")
        if not stream.user and definition.view == CONTAINER and self.viewer.home_namespaces(home)[0] is None:
            self._expect(home)
        if key not in made:
            made[key] = self.viewer.entry(points, wanted, states, *key, now)
        return made[key]

    @staticmethod
    def _add_struck(points: InsertionPoints, plans: dict[int, _Plan], struck: dict[int, _Plan]) -> None:
        """Events go to the streams of their targets too; those that have them for their subject come first."""
        for i in range(points.n):
            if points.flags[i] & pt.P_HAS_TARGET and not points.flags[i] & (_NOT_COPIED | pt.P_TARGET):
                also = struck.get(points.event[i])
                if also:
                    plans[i] = tuple(dict.fromkeys((*plans.get(i, ()), *also)))

    # -- what a container must have

    def _expect(self, home: Container) -> None:
        """A runtime is at work for ``home``: its pid namespace is about to be, and its ring should be open before the
        first program runs."""
        if home not in self._homeless and self._observer.perf is not None and set_up_by_runtime(home):
            self._homeless.add(home)
            self._hurry_until = time.monotonic() + _HURRY_FOR

    def deadline(self) -> float | None:
        """When :meth:`go_on` wants to be called at the latest (time.monotonic seconds)."""
        now = time.monotonic()
        return now + _HURRY if now < self._hurry_until else None

    def go_on(self) -> None:
        """Look for the pid namespaces of containers that are being set up."""
        if self._hurry_until and time.monotonic() < self._hurry_until:
            self._observer.sync_unless_applying()
            self.prepare()
            if all(self.viewer.home_namespaces(home)[0] is not None for home in self._homeless):
                self._hurry_until = 0.0

    def ask(self, pid: int, user_ns: Instance | None) -> bool:
        """Ask /proc about process ``pid``, or for the maps of its user namespace; the answer enters as a frame."""
        if user_ns is None:
            return bool(self._observer.ask_now(pid))
        maps = read_maps(pid, user_ns.ino)
        if maps is None:
            return False
        self._observer.feed(idmap_frame(user_ns, maps, time.monotonic_ns(), pid))
        return True

    def prepare(self) -> None:
        """Open rings inside the pid namespaces of containers that a stream is for, and read what /proc knows there."""
        namespaces = self._model.namespaces
        if self._seen == namespaces.created and not self._unsettled:
            return
        self._seen, self._unsettled = namespaces.created, False
        for inst in list(namespaces.current[PID].values()):
            if inst.initial or inst.number in self._observer.insiders or inst.number in self._failed:
                continue
            owner = inst.owner
            if owner is None or owner is UNKNOWN:
                self._unsettled = True
            elif wanted := [
                stream
                for stream, home in self.plan(owner)
                if stream.definition.view == CONTAINER
                and stream.definition.backlog_limit
                and self.viewer.home_namespaces(home)[0] is inst
            ]:
                if not all(stream.user for stream in wanted):
                    self._enter(inst, PAGES)
                elif self._room_for_user():
                    self._rings_of_users.add(inst.number)
                    self._enter(inst, _USER_PAGES)

    def _room_for_user(self) -> bool:
        """Whether a ring may be opened for a user's stream now: he can make namespaces as fast as he likes. Without one
        short-lived processes have no number in the stream."""
        self._rings_of_users &= self._observer.insiders.keys()
        return len(self._rings_of_users) < _USER_RINGS and self._entered.allows(1, time.monotonic_ns())

    def _enter(self, inst: Instance, pages: int) -> None:
        pids = sorted(self._members(inst))
        if not pids:
            self._unsettled = True
            return
        if self._observer.perf is not None:
            try:
                self._observer.insiders[inst.number] = PidnsRing(inst.number, pids[0], inst.ino, pages)
            except NotSupportedError as error:
                self._failed.add(inst.number)
                self._log.warning(
                    "ring", "short-lived processes of a container will have no number in its stream", reason=error
                )
            else:
                self._observer.sync()  # the ring's first word tells what was born before it
        else:
            self._failed.add(inst.number)
        for pid in pids:
            process = self._model.alive(pid)
            if process is not None and process.nspid is None:
                self._observer.ask_now(pid)
        owner = inst.owner
        if owner is not None:
            self.viewer.id_map(self.viewer.home_namespaces(owner)[1], pids[0])

    def _members(self, inst: Instance) -> Iterable[int]:
        found = set()
        for nsset in self._model.namespaces.sets_of(inst):
            for tid in self._model.namespaces.tasks(nsset):
                process = self._model.threads.get(tid) or self._model.alive(tid)
                if process is not None:
                    found.add(process.pid)
        return found

    def called(self, number: int, ns: Instance) -> Process | None:
        """The living process that is ``number`` in pid namespace ``ns``; only those in it are looked at."""
        inside = self._model.inside
        for inst in list(self._model.namespaces.current[PID].values()):
            if inside.within(inst, ns):
                for pid in self._members(inst):
                    process: Process | None = self._model.alive(pid)
                    if process is not None and inside.number(process, ns) == number:
                        return process
        return None

    def tick(self) -> None:
        """Close the rings of namespaces that are gone."""
        living = {inst.number for inst in self._model.namespaces.current[PID].values()}
        for number in [n for n in self._observer.insiders if n not in living]:
            ring = self._observer.insiders.pop(number)
            self.unmatched += ring.unmatched
            ring.close()
        self._failed &= living
        self._homeless = {home for home in self._homeless if home.ended is None}
        self._unsettled = True

    def close(self) -> None:
        """Close all rings."""
        for ring in self._observer.insiders.values():
            ring.close()
        self._observer.insiders.clear()
