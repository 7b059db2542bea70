"""What a stream is: which containers it is for, what it may hold, who may read it and what they are shown.

Read from TOML (``[stream.NAME]``) and from the requests of ``auditns stream``, kept as JSON; the same keys everywhere.
"""

import re
from collections.abc import Callable, Mapping
from fnmatch import fnmatchcase
from typing import Final, NamedTuple

from auditns_connector.config import readers as v
from auditns_connector.errors import ConfigError
from auditns_connector.model.places import UNKNOWN, Container
from auditns_connector.vocabulary.values import Json, JsonObject

_NAME: Final = r"[a-z0-9](?:[a-z0-9_-]|\.(?!\.)){0,62}"
DROP_OLDEST: Final = "drop-oldest"
DROP_NEWEST: Final = "drop-newest"
#: tailored to the container; as the host sees it
CONTAINER: Final = "container"
HOST: Final = "host"
MAX_BACKLOG: Final = 1_000_000


class Definition(NamedTuple):
    """One stream. Of ``contid``, ``runtime``, ``name``, ``label`` and ``pod`` every list that is not empty must match
    the same container; limits are in records (``rate_limit``, ``message_limit``: a second; ``rate_limit`` 0: none)."""

    stream: str
    contid: tuple[int, ...] = ()
    runtime: tuple[str, ...] = ()
    name: tuple[str, ...] = ()
    label: tuple[str, ...] = ()
    pod: tuple[str, ...] = ()
    backlog_limit: int = 0
    rate_limit: int = 0
    message_limit: int = 10
    overflow: str = DROP_OLDEST
    view: str = CONTAINER
    record_names: str = "numeric"
    mode: int = 0o600
    uid: int = 0
    gid: int = 0
    readers: int = 8
    paused: bool = False

    def matches(self, contid: int | None, container: Container) -> bool:
        """Whether this very container, whose identifier is ``contid``, is meant; never one that only the cgroups inside
        another container tell of."""
        if container.inner:
            return False
        if self.contid and contid not in self.contid:
            return False
        if self.runtime and not set(container.runtimes) & set(self.runtime):
            return False
        if self.name and not _any(self.name, [word for word in (container.name, container.id) if word]):
            return False
        if self.pod and not (container.pod and _any(self.pod, [container.pod])):
            return False
        return not self.label or any(_label(term, _labels(container)) for term in self.label)

    def home(
        self, contid: "Contid", container: Container | None, owns: Callable[[Container], bool] | None = None
    ) -> Container | None:
        """The outermost of ``container`` and those around it that the stream is for (of those that ``owns`` allows);
        None: it is not for it."""
        if container is None or container is UNKNOWN:
            return None
        found = None
        for link in container.chain():
            if (owns is None or owns(link)) and self.matches(contid(link), link):
                found = link
        return found

    @property
    def terms(self) -> tuple[tuple[object, ...], ...]:
        """What says which containers it is for."""
        return self.contid, self.runtime, self.name, self.label, self.pod

    def as_dict(self) -> JsonObject:
        """The keys that differ from their defaults, as :func:`read` takes them; without the stream's own name."""
        plain = Definition(self.stream)._asdict()
        out: JsonObject = {}
        for key, value in self._asdict().items():
            if value != plain[key]:
                out[key] = list(value) if isinstance(value, tuple) else f"{value:04o}" if key == "mode" else value
        return out


Contid = Callable[[Container], int | None]


def _any(patterns: tuple[str, ...], words: list[str]) -> bool:
    return any(fnmatchcase(word, pattern) for word in words for pattern in patterns)


def _labels(container: Container) -> Mapping[str, str]:
    """A container's labels; the namespace of its pod is one of them, whatever the runtime says."""
    return {**container.labels, "namespace": container.namespace} if container.namespace else container.labels


def _label(term: str, labels: Mapping[str, str]) -> bool:
    key, equals, pattern = term.partition("=")
    return key in labels and (not equals or fnmatchcase(labels[key], pattern))


def _contids(value: Json) -> tuple[int, ...]:
    if not isinstance(value, list) or len(value) > 1000:
        raise ValueError("a list of container identifiers, decimal or in 0x-hex")
    return tuple(v.contid(term) for term in value)


_PRINTABLE: Final = v.strings("printable words", lambda s: 0 < len(s) < 256 and s.isprintable(), 1000)
_ID: Final = v.whole(0, 0xFFFFFFFE)
#: key -> how its value is read; also the keys of [stream.NAME]
SCHEMA: Final[Mapping[str, v.Reader]] = {
    "contid": _contids,
    "runtime": _PRINTABLE,
    "name": _PRINTABLE,
    "label": _PRINTABLE,
    "pod": _PRINTABLE,
    "backlog_limit": v.whole(0, MAX_BACKLOG),
    "rate_limit": v.whole(0, MAX_BACKLOG),
    "message_limit": v.whole(0, 10_000),
    "overflow": v.choice(DROP_OLDEST, DROP_NEWEST),
    "view": v.choice(CONTAINER, HOST),
    "record_names": v.choice("symbolic", "numeric"),
    "mode": v.mode(0o666, '"0600", "0660" or "0666"'),
    "uid": _ID,
    "gid": _ID,
    "readers": v.whole(1, 64),
    "paused": v.boolean,
}

#: readers at a time of a user's stream, on the host and in containers together
USER_READERS: Final = 4
MAX_USER_TERMS: Final = 16
MAX_USER_BYTES: Final = 1024


def _mode_of_user(value: Json) -> int:
    if value in ("0600", "0666"):
        return int(str(value), 8)
    raise ValueError('"0600" or "0666"')


#: what an ordinary user may say of his stream
USER_SCHEMA: Final[Mapping[str, v.Reader]] = {
    **{key: SCHEMA[key] for key in (
        "contid", "runtime", "name", "label", "pod", "backlog_limit", "rate_limit", "overflow", "record_names",
        "paused",
    )},
    "mode": _mode_of_user,
    "readers": v.whole(1, USER_READERS),
}  # fmt: skip
#: what root of the host may change of it
GRANT_SCHEMA: Final[Mapping[str, v.Reader]] = {
    **{key: SCHEMA[key] for key in ("backlog_limit", "message_limit")},
}


def stream_name(value: Json) -> str:
    """``value``, if it may be a stream's name: it becomes a directory. Raises :class:`ConfigError`."""
    if isinstance(value, str) and re.fullmatch(_NAME, value) and not value.endswith("."):
        return value
    raise ConfigError(
        f"stream name {v.show(value)} is not allowed; allowed: 1 to 63 of a-z, 0-9, _ - and single dots, a letter or "
        "digit first"
    )


def read(name: Json, table: Json, where: str = "stream") -> Definition:
    """The stream that ``table`` describes. Raises :class:`ConfigError` that names the key and what is allowed."""
    return change(Definition(stream_name(name)), table, where)


def read_of_user(name: Json, table: Json) -> Definition:
    """The stream that an ordinary user describes: nothing may be said from inside it. Raises :class:`ConfigError`."""
    plain = Definition(stream_name(name), message_limit=0, readers=USER_READERS)
    return bounded(change(plain, table, schema=USER_SCHEMA))


def bounded(definition: Definition) -> Definition:
    """``definition``, where it is no larger than a user's may be. Raises :class:`ConfigError`."""
    words = [str(word) for words in definition.terms for word in words]
    if len(words) > MAX_USER_TERMS or len("".join(words).encode("utf-8", "replace")) > MAX_USER_BYTES:
        raise ConfigError(
            f"stream.{definition.stream}: at most {MAX_USER_TERMS} values say for which containers a user's stream is, "
            f"of {MAX_USER_BYTES} bytes together"
        )
    return definition


def change(
    old: Definition, table: Json, where: str = "stream", *, schema: Mapping[str, v.Reader] = SCHEMA
) -> Definition:
    """``old`` with the keys in ``table``. Raises :class:`ConfigError`."""
    if not isinstance(table, dict):
        raise ConfigError(f"{where}.{old.stream}: is not a table; allowed: {', '.join(schema)}")
    found: JsonObject = {}
    for key, value in table.items():
        reader = schema.get(key)
        if reader is None:
            raise ConfigError(f"{where}.{old.stream}: unknown key {v.show(key)}; allowed: {', '.join(schema)}")
        try:
            found[key] = reader(value)
        except ValueError as error:
            raise ConfigError(f"{where}.{old.stream}.{key}: {v.show(value)} is not allowed; allowed: {error}") from None
    new = old._replace(**found)
    if not any(new.terms):
        raise ConfigError(f"{where}.{old.stream}: says for which containers? one of contid, runtime, name, label, pod")
    return new
