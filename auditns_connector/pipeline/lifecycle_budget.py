"""How many NS_* lines are reported in a second, and what stands for those that are not. Pure; decided by event times.

Whoever makes namespaces as fast as he can makes hundreds of thousands of these lines, and nobody else's must be missing
for that. A *maker* is a user id and a container; a sandbox counts to the container around it, because every new pid
namespace is a sandbox of its own. In each second

1. the first :data:`CERTAIN` lines of a maker are reported, whatever others do: a life of a user and a pid namespace;
2. no more than ``each`` of one maker are;
3. when ``total`` have been reported, a maker that has had its share, ``total`` divided by the makers of this second,
   has to wait for the next one.

Beyond :data:`MAKERS` in a second, all others count as one. What is not reported is counted, and the second's count
becomes one :class:`Counted`. Seconds are those of the events; time never goes back.
"""

from typing import TYPE_CHECKING, Final, NamedTuple

from auditns_connector.model.outputs import NsChange, NsDel, NsInit, NsLeft

if TYPE_CHECKING:
    from auditns_connector.model.apply.dispatch import Model
    from auditns_connector.model.places import Container
    from auditns_connector.model.process import Process

#: lines of each maker that are reported whatever the others do
CERTAIN: Final = 8
#: makers that are distinguished in one second
MAKERS: Final = 1024
EACH: Final = 500
TOTAL: Final = 5000
#: a process whose user id nobody read has that of whom it descends from, as far back as this
_GENERATIONS: Final = 32
_SECOND: Final = 1_000_000_000


class Maker(NamedTuple):
    """Who made it: user id (None: not known) and contid text (None: the host)."""

    uid: int | None
    contid: str | None


OTHERS: Final = Maker(None, "?")


class Mark(NamedTuple):
    """A moment: CLOCK_MONOTONIC (ns), and the newest kernel serial seen by then (-1: none)."""

    time: int
    serial: int


class Counted(NamedTuple):
    """``number`` lines that were not reported, by ``makers`` makers; ``most`` of them by ``maker``, whose last process
    was called ``comm``."""

    number: int
    first: Mark
    last: Mark
    makers: int
    maker: Maker
    most: int
    comm: bytes


class LifecycleBudget:
    """``each`` and ``total`` are lines a second; 0: no limit."""

    def __init__(self, each: int = EACH, total: int = TOTAL) -> None:
        self.each, self.total = each, total
        self.admitted = self.counted = 0
        #: when the present second is over (CLOCK_MONOTONIC ns)
        self.until = 0
        self._admitted: dict[Maker, int] = {}
        self._all = 0
        #: of each maker: how many were not reported, and the name of the last one's process
        self._left: dict[Maker, tuple[int, bytes]] = {}
        self._first = self._last = (0, -1)

    def admits(self, time: int, serial: int, maker: Maker, comm: bytes) -> bool:
        """Whether a line about what happened at ``time`` (ns), when ``serial`` was the newest of the kernel's seen, is
        reported; counted when not. :meth:`over` was asked before where that is not before :attr:`until`."""
        had = self._admitted.get(maker)
        if had is None:
            had = 0
            if len(self._admitted) >= MAKERS:
                maker = OTHERS
                had = self._admitted.get(maker, 0)
        if self._lets(had):
            self._admitted[maker] = had + 1
            self._all += 1
            self.admitted += 1
            return True
        self._last = (time, serial)
        if not self._left:
            self._first = self._last
        self._left[maker] = self._left.get(maker, (0, b""))[0] + 1, comm
        self.counted += 1
        return False

    def full(self, maker: Maker) -> bool:
        """Whether no more lines of ``maker`` are reported until this second is over."""
        had = self._admitted.get(maker)
        if had is None:
            had = 0 if len(self._admitted) < MAKERS else self._admitted.get(OTHERS, 0)
        return not self._lets(had)

    def count(self, maker: Maker, number: int, first: tuple[int, int], last: tuple[int, int], comm: bytes) -> None:
        """``number`` lines of ``maker``, which is :meth:`full`, are not reported: from what happened ``first`` to what
        did ``last`` (time and serial), by a process called ``comm``."""
        if maker not in self._admitted and len(self._admitted) >= MAKERS:
            maker = OTHERS
        if not self._left:
            self._first = first
        self._last = last
        self._left[maker] = self._left.get(maker, (0, b""))[0] + number, comm
        self.counted += number

    def _lets(self, had: int) -> bool:
        if had < CERTAIN:
            return True
        if self.each and had >= self.each:
            return False
        return not self.total or self._all < self.total or had < self.total // len(self._admitted)

    def over(self, time: int) -> Counted | None:
        """Something happens at ``time`` (ns), or it is that late: what the seconds before it left out."""
        if time < self.until:
            return None
        self.until = (time // _SECOND + 1) * _SECOND
        self._admitted.clear()
        self._all = 0
        return self.rest()

    def rest(self) -> Counted | None:
        """What was left out and not handed over yet."""
        if not self._left:
            return None
        maker, (most, comm) = max(self._left.items(), key=lambda item: item[1][0])
        count = sum(number for number, _ in self._left.values())
        found = Counted(count, Mark(*self._first), Mark(*self._last), len(self._left), maker, most, comm)
        self._left.clear()
        return found


class MakerOf:
    """Says who caused an output of ``model``."""

    def __init__(self, model: "Model") -> None:
        self._model = model
        #: of processes that were asked about since :meth:`forget`
        self._makers: dict[tuple[Process, Container | None], Maker] = {}

    def forget(self) -> None:
        """What was said so far may have changed: the model has learned who has which user id, and who is one of
        ours."""
        self._makers.clear()
        self._model.own.forget()

    def of(self, output: NsInit | NsChange | NsLeft | NsDel) -> tuple[Maker, bytes]:
        """The maker, and what its process was called."""
        process = output.process
        if process is None:
            return OTHERS, b""
        if isinstance(output, NsDel):
            container, comm = process.state.container, process.comm
        else:
            container, comm = output.state.container, output.comm
        maker = self._makers.get((process, container))
        if maker is None:
            around = container
            while around is not None and around.kind == "sandbox":
                around = around.parent
            contid = None if around is None else self._model.containers.text(around)
            maker = self._makers[process, container] = Maker(self.uid_of(process), contid)
        return maker, comm

    def uid_of(self, process: "Process") -> int | None:
        """The user of ``process`` as /proc showed it last, of itself or of whom it descends from."""
        found: Process | None = process
        for _ in range(_GENERATIONS):
            if found is None:
                return None
            if found.ids is not None and found.ids[1] is not None:
                return found.ids[1]
            found = None if found.creator is None else self._model.incarnation(*found.creator)
        return None
