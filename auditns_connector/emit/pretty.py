"""An enriched event as one line for people: the container's name first, then what was done and by whom.

Every byte from outside that a terminal could take for more than text is shown escaped.
"""

import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from auditns_connector.daemon.terminal import HOST, NOT_KNOWN, clean, named
from auditns_connector.emit import words as w
from auditns_connector.emit.fields import Fields, flat
from auditns_connector.emit.json_objects import Who
from auditns_connector.errors import ConfigError
from auditns_connector.vocabulary import record_types as rectypes
from auditns_connector.vocabulary.syscall_names import call_name

_CONTAINER: Final = "\x1b[1;36m"
_UNKNOWN: Final = "\x1b[1;33m"
_FAILED: Final = "\x1b[31m"
_DIM: Final = "\x1b[2m"
_RESET: Final = "\x1b[0m"

_WIDTH: Final = 20
#: no line is cut to less
_LEAST: Final = 40
_PLACE: Final = re.compile(r"\{\{|\}\}|\{([a-z0-9_.-]*)(?::([0-9]{1,3}))?\}|[{}]")
_CLOCK: Final = "%H:%M:%S"
_NAMESPACES: Final = (rectypes.NS_INIT, rectypes.NS_CHANGE, rectypes.NS_DEL)


def label(who: Who) -> str:
    """What a container is called here: its name, else runtime and short id, else the contid."""
    if who.contid is None:
        return HOST
    if who.contid == NOT_KNOWN:
        return NOT_KNOWN
    container = who.container or {}
    runtime, number = str(container.get("runtime") or ""), str(container.get("id") or "")
    if container.get("kind") == "sandbox":
        # a namespace's inode, and what tells it from later ones; a unit may have several
        return named(f"{container.get('name') or runtime}/{number.partition('@')[0]}", 60)
    if container.get("name"):
        return named(str(container["name"]))
    if number:
        return named(f"{runtime}/{number[:12]}" if runtime else number[:12])
    return clean(who.contid, 40)


class Event(NamedTuple):
    """What a line is made of."""

    ms: int
    serial: int
    node: str
    who: Who
    targets: Sequence[tuple[int, int, Who]]
    records: Sequence[tuple[str, Fields]]

    @property
    def main(self) -> tuple[str, Fields]:
        """The record that says what was done: the SYSCALL, else the first."""
        return next((r for r in self.records if r[0] == "SYSCALL"), self.records[0] if self.records else ("", {}))


def _call(fields: Fields) -> str:
    number = fields.get("syscall")
    call = call_name(str(fields.get("arch")), number) if isinstance(number, int) else None
    return call or str(w.enriched(fields).get("SYSCALL") or f"syscall {number}")


def _objects(records: Sequence[tuple[str, Fields]]) -> str:
    """What a system call was about: the program and its arguments, the address, the files."""
    for kind, other in records:
        if kind == "EXECVE" and isinstance(other.get("argv"), list):
            return " ".join("…" if argument is None else argument for argument in flat(other["argv"]))
    for kind, other in records:
        if kind == "SOCKADDR" and (found := w.address(other)):
            return found
    return " ".join(w.paths(list(records)))


def _action(event: Event) -> str:
    """What was done: the system call and its objects, or the record's own words."""
    main, fields = event.main
    if main == "SYSCALL":
        return f"{clean(_call(fields))} {clean(_objects(event.records))}".rstrip()
    said = w.namespace(main, fields) or fields.get("msg")
    if said is None:
        said = " ".join(
            f"{name}={what}"
            for name, what in fields.items()
            if name not in ("enriched", "pid", "uid", "auid", "ses", "subj", "comm", "exe")
        )
    if main.startswith("NS_") and w.namespace(main, fields):
        return clean(str(said))
    return f"{clean(main, 40)} {clean(str(said))}".rstrip()


class Template:
    """A line's own columns: ``{container:20} {call} {exe}``; a number is the least width of a column, ``{f.NAME}`` any
    field of the event's main record, ``{{`` and ``}}`` are braces. Raises :class:`ConfigError` for what it does not
    know."""

    def __init__(self, text: str) -> None:
        self._text = text
        for match in _PLACE.finditer(text):
            name = match[1]
            if name is None and match[0] not in ("{{", "}}"):
                raise ConfigError(f"output template: {match[0]!r} at {match.start()} opens or closes nothing")
            if name is not None and name not in _COLUMNS and not name.startswith("f."):
                allowed = ", ".join(sorted(_COLUMNS))
                raise ConfigError(f"output template: {{{name}}} is not known; allowed are {allowed} and f.FIELD")

    def fill(self, pretty: "Pretty", event: Event) -> str:
        """The line of an event."""

        def column(match: re.Match[str]) -> str:
            name = match[1]
            if name is None:
                return match[0][0]
            found = event.main[1].get(name[2:]) if name.startswith("f.") else _COLUMNS[name](pretty, event)
            return f"{clean('' if found is None else str(found)):{int(match[2] or 0)}}"

        return _PLACE.sub(column, self._text)


class Pretty:
    """Lines for people. ``width``: how many characters fit, ``None`` for any number; ``live``: the ids in records are
    this host's; ``namespaces``: also how namespaces of the host itself come and go, not only those in the life of a
    container."""

    def __init__(
        self,
        *,
        colour: bool = False,
        live: bool = False,
        width: Callable[[], int | None] = lambda: None,
        template: Template | None = None,
        namespaces: bool = False,
    ) -> None:
        self._namespaces = namespaces
        self._colour, self._width, self._template = colour, width, template
        self.users = w.Users(live=live)
        #: the day of the last line that was shown, and of the last one that was made
        self._shown = self._day = ""
        #: the second of the last line, its day and its time of day
        self._second = (-1, "", "")

    def begin(self) -> None:
        """What is made next follows what was shown last."""
        self._day = self._shown
        self.users.refresh()

    def shown(self) -> None:
        """What was made since :meth:`begin` has been shown."""
        self._shown = self._day

    def event(self, event: Event) -> bytes:
        """One line, or nothing; times are those of the local time zone. The day stands where it is another than
        before."""
        if any(kind.startswith("UNKNOWN[") for kind, _ in event.records):
            event = event._replace(records=[(rectypes.plain(kind), fields) for kind, fields in event.records])
        if not self._namespaces and event.who.contid is None and rectypes.number(event.main[0]) in _NAMESPACES:
            return b""
        if self._template is not None:
            return self._encode(self._template.fill(self, event))
        fields = event.main[1]
        contid = event.who.contid
        tone = "" if contid is None else _UNKNOWN if contid == "?" else _CONTAINER
        parts = [(f"{label(event.who):{_WIDTH}}", tone), (self._clock(event.ms), _DIM), (_action(event), "")]
        parts += [(f"-> pid={pid} in {label(target)}", "") for _, pid, target in event.targets]
        parts += [(words, _DIM) for words in self._by(fields)]
        if fields.get("success") == "no":
            parts.insert(3, (f"failed ({clean(w.failure(fields), 30)})", _FAILED))
        return self._join(parts)

    def _by(self, fields: Fields) -> list[str]:
        """Who did it."""
        user, login = self.users.name(fields, "uid"), self.users.name(fields, "auid")
        found = {"pid": fields.get("pid"), "uid": user, "auid": login if login != user else None}
        found |= {name: fields.get(name) for name in ("comm", "key")}
        return [f"{name}={clean(str(what), 40)}" for name, what in found.items() if what is not None]

    def _clock(self, ms: int) -> str:
        seconds = ms // 1000
        if seconds != self._second[0]:
            local = time.localtime(seconds)
            self._second = (seconds, time.strftime("%Y-%m-%d", local), time.strftime(_CLOCK, local))
        _, day, clock = self._second
        clock += f".{ms % 1000:03d}"
        if day == self._day:
            return clock
        self._day = day
        return f"{day} {clock}"

    def _join(self, parts: Sequence[tuple[str, str]]) -> bytes:
        """The parts side by side, cut to the width, each in its colour."""
        width = self._width()
        left = None if width is None else max(width, _LEAST)
        out = []
        for words, colour in parts:
            if left is not None and len(words) > left:
                words = words[: left - 1] + "…" if left > 0 else ""
            if words:
                out.append(f"{colour}{words}{_RESET}" if self._colour and colour else words)
            if left is not None:
                left -= len(words) + 1
                if left <= 1:
                    break
        return self._encode(" ".join(out))

    @staticmethod
    def _encode(line: str) -> bytes:
        return line.encode("utf-8", "backslashreplace") + b"\n"


def _container(name: str) -> Callable[[Pretty, Event], Any]:
    return lambda _, event: (event.who.container or {}).get(name)


def _field(name: str) -> Callable[[Pretty, Event], Any]:
    return lambda _, event: event.main[1].get(name)


def _user(name: str) -> Callable[[Pretty, Event], Any]:
    return lambda pretty, event: pretty.users.name(event.main[1], name)


def _result(_: Pretty, event: Event) -> str | None:
    fields = event.main[1]
    if fields.get("success") is None:
        return None
    return "ok" if fields["success"] == "yes" else w.failure(fields)


#: what may stand in a template
_COLUMNS: Final[Mapping[str, Callable[[Pretty, Event], Any]]] = {
    "time": lambda _, e: time.strftime(_CLOCK, time.localtime(e.ms // 1000)) + f".{e.ms % 1000:03d}",
    "date": lambda _, e: time.strftime("%Y-%m-%d", time.localtime(e.ms // 1000)),
    "epoch": lambda _, e: f"{e.ms // 1000}.{e.ms % 1000:03d}",
    "serial": lambda _, e: e.serial,
    "node": lambda _, e: e.node,
    "type": lambda _, e: e.main[0],
    "container": lambda _, e: label(e.who),
    "contid": lambda _, e: "-" if e.who.contid is None else e.who.contid,
    **{name: _container(name) for name in ("runtime", "image", "pod", "origin")},
    "action": lambda _, e: _action(e),
    "call": lambda _, e: _call(e.main[1]) if e.main[0] == "SYSCALL" else None,
    "object": lambda _, e: _objects(e.records),
    "result": _result,
    "user": _user("uid"),
    "login": _user("auid"),
    **{name: _field(name) for name in ("pid", "ppid", "uid", "auid", "ses", "comm", "exe", "key")},
}


def event(
    ms: int,
    who: Who,
    targets: Iterable[tuple[int, int, Who]],
    records: Sequence[tuple[str, Fields]],
    colour: bool,
) -> bytes:
    """One line by itself: the same arguments as :func:`json_objects.event`."""
    return Pretty(colour=colour).event(Event(ms, 0, "", who, tuple(targets), records))


def foreign(line: str) -> bytes:
    """A line of the input that is no audit record."""
    return clean(line).encode() + b"\n"
