"""The join: points of audit text in, for each the number of the text to insert there out.

Nothing is read or asked here; what happened before must be in the model when :meth:`Correlator.answer` is called. Most
points are the plain case: one living process whose state began before the stamp. Those are answered by one look into a
dict; everything else goes the careful way through model/lookup.py.
"""

from array import array
from collections.abc import Collection, Sequence
from typing import Final

from .decode import points as pt
from .emit import text
from .model import lookup
from .model.containers import UNKNOWN, Container
from .model.namespaces import NsSet
from .model.process import NOT_KNOWN, Login, State
from .model.table import Model
from .reassemble import Points, Tails

#: flags of points that need more than the state of a process at a time
_CAREFUL: Final = pt.P_TARGET | pt.P_EXEC | pt.P_NETFILTER | pt.P_HAS_TARGET | pt.P_NODE | pt.P_OWN | pt.P_LATE
_MAX_TAILS: Final = 50_000
HOST: Final = State(0, None, None, "")
_IDLE: Final = State(0, None, None, "observed")

_TailKey = tuple[Container | None, NsSet | None, str, int, Login | None]


class Correlator:
    """Answers points from ``model``.

    ``spellings`` says how record types are spelled, once for each of :attr:`tails`: False by name, True as UNKNOWN[n]
    (the numbers of an answer hold for all of them); ``ns`` is "off", "containers" or "all" (for whom NS_INFO is added);
    ``info`` adds CONTAINER_INFO; ``nodes`` are the ``node=`` names that mean this host.
    """

    def __init__(
        self,
        model: Model,
        *,
        spellings: Sequence[bool] = (False,),
        ns: str = "off",
        info: bool = False,
        nodes: Collection[bytes] = (),
    ) -> None:
        self.model = model
        self.spellings = tuple(spellings)
        self.ns = ns
        self.info = info
        self.nodes = frozenset(nodes)
        self.tails = tuple(Tails() for _ in self.spellings)
        self._numbers: dict[_TailKey, int] = {}
        self._plain: dict[Container | None, int] = {}
        self._renames = 0
        self.answered = 0
        self.attributed = 0
        self.unknown = 0
        #: the state found for each point of the last answer, filled when ``keep_states`` is set
        self.states: list[State] = []
        self.keep_states = False

    def begin(self, points: Points) -> "array[int]":
        """An empty choice for ``points``; to be filled by :meth:`answer` before the next one is begun."""
        renames = self.model.registry.renames
        if self.tails[0].count > _MAX_TAILS or renames != self._renames:
            self._renames = renames
            for tails in self.tails:
                tails.clear()
            self._numbers.clear()
            self._plain.clear()
        self.states = [HOST] * points.n if self.keep_states else []
        return array("I", bytes(4 * points.n))

    def answer(
        self, points: Points, now: int, choice: "array[int] | None" = None, first: int = 0, end: int | None = None
    ) -> "array[int]":
        """One number of a text in :attr:`tails` for each point, 0 for nothing; ``now``: monotonic ns of the asking.

        With ``choice`` (from :meth:`begin`) only the points from ``first`` up to ``end`` are answered.
        """
        if choice is None:
            choice = self.begin(points)
        n = points.n if end is None else end
        keep, states = self.keep_states, self.states
        plain = self._plain if not self.info and self.ns == "off" and not keep else None
        model = self.model
        get, epoch = model.processes.get, model.epoch
        offset = model.clock.offset or 0
        stamps = points.ms[first:n].tolist()
        oldest, newest = (min(stamps) * 1_000_000, max(stamps) * 1_000_000) if stamps else (0, 0)
        careful, no_threads = _CAREFUL, self.ns != "off"
        if not stamps or not (model.clock.steady(oldest, now) and model.clock.steady(newest, now)):
            careful = -1
        # low: the earliest moment a stamp may mean; whoever began up to `span` after it was there within the window
        span = lookup.EPSILON + min(model.lag, now - newest + offset)
        offset += lookup.EPSILON
        attributed = unknown = 0
        rows = zip(points.pid[first:n].tolist(), points.flags[first:n].tolist(), stamps, strict=True)
        for i, (pid, flags, ms) in enumerate(rows, first):
            if not flags & careful:
                process = get(pid)
                if process is not None and process.epoch == epoch:
                    state = process.state
                    low = ms * 1_000_000 - offset
                    if (
                        (process.end is None or process.end >= low)
                        and (
                            state.since < low
                            or (process.past is None and process.prev is None and process.start <= low + span)
                        )
                        and not (no_threads and process.threads)
                    ):
                        container = state.container
                        if container is UNKNOWN:
                            unknown += 1
                        elif container is not None:
                            attributed += 1
                        number = plain.get(container) if plain is not None else None
                        if number is None:
                            number = self._number(state, 0)
                            if keep:
                                states[i] = state
                            elif plain is not None:
                                plain[container] = number
                        choice[i] = number
                        continue
            found = self._careful(points, i, pid, flags, ms, now)
            if found is None:
                continue
            if found.container is UNKNOWN:
                unknown += 1
            elif found.container is not None:
                attributed += 1
            choice[i] = self._number(found, self._record(points, i, flags))
            if keep:
                states[i] = found
        self.answered += n - first
        self.attributed += attributed
        self.unknown += unknown
        return choice

    @staticmethod
    def _record(points: Points, i: int, flags: int) -> int:
        """The number of the record that an answer belongs to, where the event has more than one process."""
        return points.recno[i] if flags & (pt.P_TARGET | pt.P_HAS_TARGET) else 0

    def _careful(self, points: Points, i: int, pid: int, flags: int, ms: int, now: int) -> State | None:
        """The state for a point that is no plain case; ``None`` where nothing is to be said."""
        if flags & (pt.P_OWN | pt.P_NETFILTER):
            return None
        if flags & pt.P_NODE and points.node(i)[5:-1] not in self.nodes:
            return lookup.NOBODY
        if pid < 0:
            return lookup.NOBODY if flags & (pt.P_SYSCALL | pt.P_TARGET) else None
        if pid == 0:
            return _IDLE  # the kernel itself
        model = self.model
        times = model.clock.candidates(ms * 1_000_000, now)
        ppid = points.ppid[i] if flags & pt.P_SYSCALL else -1
        if flags & pt.P_EXEC:
            name, comm = untrusted(points.path(i)), untrusted(points.comm(i))
            return lookup.find_exec(model, pid, ppid, times, now, name, comm)
        return lookup.find(model, pid, ppid, times, now)

    def _number(self, state: State, record: int) -> int:
        """The number of the text that says ``state``, about record ``record`` of the event (0: about the event)."""
        container = state.container
        wanted = self.ns == "all" or (self.ns == "containers" and container is not None)
        nsset = state.nsset if wanted else None
        origin = state.origin if self.info else ""
        login = state.login if self.info else None
        key = (container, nsset, origin, record, login)
        number = self._numbers.get(key)
        if number is None:
            number = 0
            if container is not None or wanted:
                for tails, numeric in zip(self.tails, self.spellings, strict=True):
                    number = tails.add(self._tail(key, wanted, numeric))
            self._numbers[key] = number
        return number

    def _tail(self, key: _TailKey, wanted: bool, numeric: bool) -> bytes:
        container, nsset, origin, record, login = key
        model, out = self.model, b""
        place = record or None
        if container is not None:
            contid = model.containers.text(container)
            out += text.container_id(contid, place, numeric)
            if self.info:
                out += text.container_info(
                    contid,
                    origin or NOT_KNOWN,
                    numeric,
                    runtime=container.runtime or None,
                    full_id=container.id or None,
                    name=container.name or None,
                    pod=container.pod or None,
                    image=container.image or None,
                    cauid=login.uid if login is not None else None,
                    cses=login.session if login is not None else None,
                )
        if wanted:
            serial = model.namespaces.serial
            insts = nsset.inst if nsset is not None else (None,) * 8
            out += text.ns_info([None if inst is None else serial(inst) for inst in insts], place, numeric)
        return out


def untrusted(raw: bytes) -> bytes | None:
    """The bytes behind a value that audit_log_untrustedstring() wrote; ``None`` where there is none."""
    if raw[:1] == b'"':
        return raw.strip(b'"')
    if not raw or raw == b"(null)":
        return None
    try:
        return bytes.fromhex(raw.decode("ascii"))
    except ValueError:
        return None
