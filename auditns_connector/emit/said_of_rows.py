"""What JSON says of processes that are rows of the table: put together once for all of one profile that somebody has
made, without an object of any. Which of them it is the C puts in, in place of a byte of the text.
"""

from array import array
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, NamedTuple

from auditns_connector._native import ffi, lib
from auditns_connector.attribution import identity
from auditns_connector.attribution.entry_fields import ancestor_object
from auditns_connector.audittext.insertion import RecordTexts
from auditns_connector.emit import json_objects as jsonout
from auditns_connector.emit.json_native import WHICH
from auditns_connector.model.ancestry import boot_of
from auditns_connector.model.entry import Ancestor
from auditns_connector.model.places import UNKNOWN
from auditns_connector.vocabulary.values import CData

if TYPE_CHECKING:
    from auditns_connector.model.apply.dispatch import Model
    from auditns_connector.model.process import State
    from auditns_connector.model.profiles import Profile

_NO_MEMORY: Final = int(lib.AUDITNS_NO_MEMORY)
_MOST_ANCESTORS: Final = 4096


class Holder(NamedTuple):
    """What :mod:`identity` asks of a process."""

    pid: int
    start: int
    creator: tuple[int, int] | None


class RowNumbers:
    """Numbers of texts about rows, each made once."""

    def __init__(self) -> None:
        self.c: CData = ffi.gc(lib.row_texts_new(), lib.row_texts_free)
        if not self.c:
            raise MemoryError("no memory for JSON output")
        self._missed: CData = ffi.new("uint32_t[]", 64)
        #: by point of the last :meth:`put`: when the process of its row began (ns)
        self.starts: CData = ffi.new("uint64_t[]", 64)
        self._model: Model | None = None

    def clear(self) -> None:
        """Texts are numbered anew."""
        lib.row_texts_clear(self.c)

    def use(self, model: "Model") -> None:
        """The rows are those of ``model``."""
        if model is not self._model:
            self._model = model
            self.clear()

    def forget(self) -> None:
        """What :meth:`made` said does not hold any more."""
        lib.row_texts_forget(self.c)

    def made(self, row: int, model: "Model", number: int, first: tuple[int, int]) -> None:
        """All of the profile of ``row`` whom its creator has made have that number, but for the process ``first``."""
        lib.row_texts_made(self.c, model.table.c, row, number, *first)

    def all(self, row: int, model: "Model", number: int) -> None:
        """All of the profile of ``row`` have that number, until texts are numbered anew."""
        if not lib.row_texts_all(self.c, model.table.c, row, number):
            raise MemoryError("no memory for JSON output")

    def put(self, rows: CData, who: "array[int]", model: "Model", number_of: Callable[[int], int]) -> None:
        """Put into ``who``, for each point that ``rows`` has a row for, what ``number_of`` gives for it."""
        if rows is None or not who:
            return
        if len(self._missed) < len(who):
            self._missed = ffi.new("uint32_t[]", 2 * len(who))
            self.starts = ffi.new("uint64_t[]", 2 * len(who))
        self.use(model)
        found = ffi.from_buffer("uint32_t[]", who)
        while count := lib.row_texts_find(self.c, model.table.c, rows, len(who), found, self.starts, self._missed):
            if count == _NO_MEMORY:
                raise MemoryError("no memory for JSON output")
            for row in ffi.unpack(self._missed, count):
                lib.row_texts_put(self.c, row, number_of(row))


class SaidOfRows:
    """What is said of rows; ``who_of`` says of a state what there is to say."""

    def __init__(self, who_of: "Callable[[State], jsonout.Who]") -> None:
        self._who_of = who_of
        self._numbers = RowNumbers()
        self._row: CData = ffi.new("struct table_row *")
        #: by number of a profile: it, the text in front of the process, its unit, and the text behind
        self._parts: dict[int, tuple[Profile, str, str, str]] = {}
        self._ancestors: dict[Ancestor, str] = {}
        self._applied = (-1, 0)
        self._texts: dict[str, int] = {}

    def c(self, model: "Model") -> CData:
        """The ``struct row_texts`` that has the numbers, for rows of ``model``."""
        self._numbers.use(model)
        return self._numbers.c

    def clear(self) -> None:
        """Texts are numbered anew."""
        self._numbers.clear()
        self._parts.clear()
        self._texts.clear()

    def number(self, rows: CData, who: "array[int]", model: "Model", texts: RecordTexts) -> CData:
        """Put into ``who``, for each point that ``rows`` has a row for, the number of what is said of it. Returns, by
        point, when these processes began (ns)."""
        applied = model.applied, int(model.table.c.frames)
        if applied != self._applied:
            self._applied = applied
            self._numbers.forget()
        self._numbers.put(rows, who, model, lambda row: self._number_of(row, model, texts))
        return self._numbers.starts

    def _number_of(self, row: int, model: "Model", texts: RecordTexts) -> int:
        """The number of the text about ``row``: all of a profile outside containers have one. Inside, until a frame is
        applied, all of a profile whom somebody has made have the same parents, but for the first process of their
        container, which has none."""
        c = self._row
        lib.table_read(model.table.c, row, c)
        profile, front, unit, behind = self._of_profile(c.profile, model)
        holder = Holder(c.pid, c.start, (c.creator, c.creator_start) if c.creator else None)
        container = profile.state.container
        line = ",".join(map(self._ancestor, identity.parents(model, holder, container)))
        parents = f',"parents":[{line}]' if line else ""
        boot = jsonout.encode(boot_of(model.containers.boot_id))[:-1]
        text = f'{front},"process":{{"key":{boot}{WHICH}"{unit}{parents}}}{behind}'
        number = self._texts.get(text)
        if number is None:
            number = self._texts[text] = texts.add(text.encode("ascii"))
        if container is None or container is UNKNOWN:
            self._numbers.all(row, model, number)
            return number
        first = container.init
        if first != (c.pid, c.start):
            self._numbers.made(row, model, number, first or (0, 0))
        return number

    def _of_profile(self, number: int, model: "Model") -> "tuple[Profile, str, str, str]":
        profile = model.table.profiles[number]
        assert profile is not None
        parts = self._parts.get(number)
        if parts is None or parts[0] is not profile:
            front, behind = jsonout.around_process(self._who_of(profile.state))
            unit = identity.unit(profile.cgroups, profile.state)
            said = f',"unit":{jsonout.encode(unit)}' if unit else ""
            parts = self._parts[number] = (profile, front, said, behind)
        return parts

    def _ancestor(self, one: Ancestor | None) -> str:
        if one is None:
            return "null"
        text = self._ancestors.get(one)
        if text is None:
            if len(self._ancestors) > _MOST_ANCESTORS:
                self._ancestors.clear()
            text = self._ancestors[one] = jsonout.encode(ancestor_object(one))
        return text
