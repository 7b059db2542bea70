"""The texts of ours that answers consist of, by number: each is made once, and a point is answered with its number."""

from collections.abc import Sequence
from typing import Final

from auditns_connector.attribution.entry_fields import entry_fields
from auditns_connector.attribution.row_lookup import Numbered
from auditns_connector.audittext import own_records as text
from auditns_connector.audittext.insertion import RecordTexts
from auditns_connector.model.apply.dispatch import Model
from auditns_connector.model.entry import Entry
from auditns_connector.model.places import UNKNOWN, Container, NsSet
from auditns_connector.model.process import NOT_KNOWN, Login, State
from auditns_connector.vocabulary.namespaces import ALL_ORDER

_MAX_TAILS: Final = 50_000
#: how an answer is counted: about nobody in a container, about one, unknown
OF_NONE: Final = 0
OF_ONE: Final = 1
NOT_CLEAR: Final = 2
_TailKey = tuple[Container | None, NsSet | None, str, int, Login | None, int | None, Entry | None, str]


class RecordNumbers:
    """Numbers of texts about states of ``model``. ``spellings``, ``ns`` and ``info`` are as for
    :class:`attributor.Correlator`."""

    def __init__(self, model: Model, spellings: Sequence[bool], *, ns: str, info: bool) -> None:
        self._model = model
        self.spellings = tuple(spellings)
        self.ns = ns
        self.info = info
        self.tails = tuple(RecordTexts() for _ in self.spellings)
        self._numbers: dict[_TailKey, int] = {}
        #: by number: the container that the text speaks of
        self.holders: list[Container | None] = [None]
        #: by number: how it is counted
        self.kinds = bytearray(1)
        #: where a text depends on the container alone (_brief): its number by container
        self.by_container: dict[Container | None, int] = {}
        self._brief = ns == "off" and not info
        #: the number of no text, by the container that an event has in records of its own
        self._silent: dict[Container, int] = {}
        self._renames = 0
        #: counts how often all of it was dropped
        self.generation = 0

    def use(self, model: Model) -> None:
        """The states are those of ``model`` from now on; all texts are dropped."""
        self._model, self._renames = model, -1

    def refresh(self) -> bool:
        """Drop the texts where containers are called otherwise now, or there are too many; whether they were."""
        renames = self._model.containers.renames
        if self.tails[0].count <= _MAX_TAILS and renames == self._renames:
            return False
        self._renames = renames
        self.generation += 1
        for tails in self.tails:
            tails.clear()
        self._numbers.clear()
        del self.holders[1:]
        del self.kinds[1:]
        self.by_container.clear()
        self._silent.clear()
        return True

    def silent(self, container: Container | None) -> int:
        """The number of no text at all, for an event that says by itself that it is of ``container``, which counts."""
        number = 0 if container is None else self._silent.get(container, 0)
        if container is not None and not number:
            for tails in self.tails:
                number = tails.add(b"")
            self._silent[container] = number
            self.holders.append(container)
            self.kinds.append(NOT_CLEAR if container is UNKNOWN else OF_ONE)
        return number

    def plain(self, state: State) -> int:
        """:meth:`of` of a plain case, where the container mostly says all."""
        brief = self._brief and state.entry is None
        number = self.by_container.get(state.container) if brief else None
        if number is None:
            number = self.of(state, 0)
            if brief:
                self.by_container[state.container] = number
        return number

    def had(self, state: State) -> Numbered | None:
        """:meth:`plain`, and how it is counted, where there is a text already: to make one may mint serials,
        and only an answer does that."""
        nsset = state.nsset if self._wanted(state.container) else None
        number = self._numbers.get((state.container, nsset, "", 0, None, None, state.entry, ""))
        return None if number is None else self.lasting(state, number)

    def lasting(self, state: State, number: int) -> Numbered | None:
        """``number``, that of :meth:`plain`, and how it is counted, where it may be given to all in ``state``."""
        if state.container is not None and state.container.former:
            return None  # a question about a time before that has another answer
        return number, self.kinds[number]

    def _wanted(self, container: Container | None) -> bool:
        """Whether NS_INFO is."""
        return self.ns == "all" or (self.ns == "containers" and container is not None)

    def of(self, state: State, record: int, child: int | None = None, more: str = "") -> int:
        """The number of the text that says ``state``, about record ``record`` of the event (0: about the event);
        ``child`` is what a clone returned, as the host counts (0: not known, None: it is no clone); ``more`` are fields
        of CONTAINER_INFO about the process itself."""
        container = state.container
        wanted = self._wanted(container)
        nsset = state.nsset if wanted else None
        origin = state.origin if self.info else ""
        login = state.login if self.info else None
        key = (container, nsset, origin, record, login, child, state.entry, more if self.info else "")
        number = self._numbers.get(key)
        if number is None:
            number = 0
            if container is not None or wanted:
                for tails, numeric in zip(self.tails, self.spellings, strict=True):
                    number = tails.add(self._tail(key, wanted, numeric))
                self.holders.append(container)
                self.kinds.append(NOT_CLEAR if container is UNKNOWN else OF_NONE if container is None else OF_ONE)
            self._numbers[key] = number
        return number

    def _tail(self, key: _TailKey, wanted: bool, numeric: bool) -> bytes:
        container, nsset, origin, record, login, child, entry, more = key
        model, out = self._model, b""
        place = record or None
        if container is not None:
            contid = model.containers.text(container)
            out += text.container_id(contid, place, numeric)
            if entry is not None:
                more = entry_fields(model, entry) + more
            if not self.info and more:
                out += text.container_info(contid, "", numeric, more=more)
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
                    namespace=container.namespace or None,
                    pod_uid=container.pod_uid or None,
                    role=container.role or None,
                    cauid=login.uid if login is not None else None,
                    cses=login.session if login is not None else None,
                    exit_pid=child,
                    more=more,
                )
        if wanted:
            serial = model.namespaces.serial
            insts = nsset.inst if nsset is not None else (None,) * len(ALL_ORDER)
            out += text.ns_info([None if inst is None else serial(inst) for inst in insts], place, numeric)
        return out

    def reworded(self, number: int, changes: Sequence[tuple[bytes, bytes]]) -> int:
        """The number of a text that is that of ``number`` with all that is named in ``changes`` replaced."""
        new = 0
        for tails in self.tails:
            text = tails.text(number)
            for old, other in changes:
                text = text.replace(old, other)
            new = tails.add(text)
        self.holders.append(self.holders[number])
        self.kinds.append(self.kinds[number])
        return new
