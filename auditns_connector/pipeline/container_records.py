"""Stand-alone CONTAINER_INFO: what is new about containers, and what a new log file begins with.

Written whatever ``info`` says. Containers that an unprivileged user can make as fast as he likes (sandboxes, and what
only a cgroup inside a user's part of the tree tells of) share the budget of the records of namespaces; those beyond it
are counted, and reported when the next log file begins.

The kernel's events are read before audit's text, which gathers for some milliseconds: whoever logs in and goes into a
container at once would be reported with the session that he had before. So entries wait for the text of their time.
"""

from collections.abc import Callable
from itertools import chain
from typing import TYPE_CHECKING, Final, Protocol, runtime_checkable

from auditns_connector._native import lib
from auditns_connector.attribution.entry_fields import entry_fields
from auditns_connector.emit.container_info import container_alone, number_of
from auditns_connector.model.containers import ENTRY, PRESENT, SEEN
from auditns_connector.model.outputs import ContainerInfo, Output
from auditns_connector.model.places import Container
from auditns_connector.pipeline.lifecycle_budget import Maker

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from auditns_connector.model.apply.dispatch import Model
    from auditns_connector.model.process import Process

#: news that wait, for the number of their container or for the text of their time, and are remembered
_MOST_WAITING: Final = 4096
#: audit's records of what came before an entry have been read when text of so much later has been (ns)
SETTLED: Final = 2 * int(lib.COALESCE_LONG)


class ContainerRecords:
    """The lines about the containers of ``model``."""

    def __init__(self, model: "Model") -> None:
        self._model = model
        #: news of containers without a number
        self._waiting: list[ContainerInfo] = []
        #: news of entries that are not reported yet
        self._entries: dict[str, ContainerInfo] = {}

    def ready(self, outputs: "Iterable[Output]", read: int) -> "Iterator[Output]":
        """``outputs``, with news of containers as soon as these have a number, and of entries when all text up to
        ``read`` (CLOCK_MONOTONIC ns) has been read."""
        waiting, self._waiting = self._waiting, []
        for output in chain(self._settled(read), waiting, outputs):
            if isinstance(output, ContainerInfo):
                if not self._living(output.container) and output.reason not in (SEEN, ENTRY):
                    continue  # it has ended since: nothing more is to be said of it
                if self._waits_for_text(output, read):
                    continue
                if not number_of(self._model, output.container):
                    if self._living(output.container):
                        self._waiting.append(output)
                        del self._waiting[:-_MOST_WAITING]
                    continue
            yield output

    def _settled(self, read: int) -> "Iterator[Output]":
        """News of entries that wait no longer: in the order in which they came."""
        for id_, info in list(self._entries.items()):
            if info.time + SETTLED <= read:
                del self._entries[id_]
                yield info

    def _waits_for_text(self, info: ContainerInfo, read: int) -> bool:
        """Whether ``info`` is of an entry whose time has not been read yet; what is said of one meanwhile is said
        once."""
        entry = info.state.entry
        if info.reason != ENTRY or entry is None or info.time + SETTLED <= read:
            return False
        if len(self._entries) < _MOST_WAITING:
            self._entries.setdefault(entry.id, info)
        return entry.id in self._entries

    @property
    def waits(self) -> bool:
        """Whether there are any."""
        return bool(self._waiting or self._entries)

    @property
    def due(self) -> int:
        """When the next entry is to be reported, at the earliest (CLOCK_MONOTONIC ns); 0: there is none."""
        return next((info.time + SETTLED for info in self._entries.values()), 0)

    @staticmethod
    def _living(container: Container) -> bool:
        return container.ended is None

    def maker(self, info: ContainerInfo, uid_of: "Callable[[Process], int | None]") -> Maker | None:
        """Whose budget the line is written from; None: nobody's, it is written in any case."""
        container = info.container
        of_anybody = container.kind != "registered" and (container.sandbox is not None or container.yields_id)
        if info.reason not in (SEEN, ENTRY) or not of_anybody:
            return None
        around = container.parent
        while around is not None and around.kind == "sandbox":
            around = around.parent
        who = container.sandbox.first if container.sandbox is not None else container.init
        if info.state.entry is not None:
            who = info.state.entry.who[:2]
        process = self._model.incarnation(*who) if who is not None else None
        uid = uid_of(process) if process is not None else None
        return Maker(uid, None if around is None else number_of(self._model, around) or "?")

    def line(self, info: ContainerInfo, numeric: bool) -> bytes:
        """The line, with the places for stamp and node left open."""
        entry = info.state.entry
        more = "" if entry is None else entry_fields(self._model, entry)
        return container_alone(self._model, info.container, info.reason, numeric, more)

    def present(self, numeric: bool) -> list[tuple[Container, bytes]]:
        """Of every container that lives now, those around others first."""
        living = sorted(
            (c for c in list(self._model.containers.by_key.values()) if c.live > 0),
            key=lambda c: (len(c.key), c.born, c.key),
        )
        made = ((c, container_alone(self._model, c, PRESENT, numeric)) for c in living)
        return [(container, line) for container, line in made if line]


@runtime_checkable
class Headed(Protocol):
    """A sink whose files begin with lines of ours."""

    header: Callable[[], bytes]


#: formats of all events; the file of a rule has those that it matches alone, and no heads
_WHOLE: Final = ("raw", "numeric")


class Heads(Protocol):
    """Whoever makes these lines."""

    def header(self, name: str) -> Callable[[], bytes]:
        """Makes those of format ``name``."""


def give_headers(outputs: "Mapping[str, Sequence[object]]", heads: Heads | None) -> None:
    """Have the log files among ``outputs`` (by format) begin with the containers that live."""
    for name, sinks in outputs.items():
        for sink in sinks:
            if heads is not None and isinstance(sink, Headed) and name in _WHOLE:
                sink.header = heads.header(name)
