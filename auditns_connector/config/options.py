"""The configuration of the plugin and the listener: a TOML file read into frozen, typed options.

What the file may hold is said once, in the schema at the end of this module and in auditns.toml(5). Every
complaint names the file, the key and what is allowed; a key that is not known is an error, never ignored.
"""

from collections.abc import Mapping
from typing import Final, NamedTuple

from auditns_connector import __version__
from auditns_connector.config import readers as v
from auditns_connector.config import rules
from auditns_connector.config.archive import SCHEMA as _ARCHIVE
from auditns_connector.config.archive import ArchiveOptions
from auditns_connector.config.hook import SCHEMA as _HOOK
from auditns_connector.config.hook import HookOptions
from auditns_connector.config.metrics import SCHEMA as _METRICS
from auditns_connector.config.metrics import MetricsOptions
from auditns_connector.config.readers import GIB, KIB, MIB, ContidTerm, Reader
from auditns_connector.config.rules import Rule
from auditns_connector.config.streams import Definition, read
from auditns_connector.config.text import read_text, toml
from auditns_connector.config.users import SCHEMA as _USERS
from auditns_connector.config.users import UserOptions
from auditns_connector.errors import ConfigError, reason
from auditns_connector.model.addresses import HOST_NETWORK
from auditns_connector.state.paths import CONTROL, RUN_DIR, USER_SOCKET, beside
from auditns_connector.vocabulary.namespaces import ALL_ORDER, SANDBOX
from auditns_connector.vocabulary.values import MOST_PARENTS, Json, JsonObject

DEFAULT_PATH: Final = "/etc/audit/auditns.toml"


class Sources(NamedTuple):
    """Where kernel events come from. ``perf`` and ``connector``: auto, on, off; sizes in bytes, ``input_queue`` in
    memory and on disk."""

    perf: str = "auto"
    connector: str = "auto"
    ns_source: str = "auto"
    perf_buffer: int = 16 * MIB
    connector_buffer: int = 64 * MIB
    input_queue: tuple[int, int] = v.INPUT_QUEUE


class Journal(NamedTuple):
    """The recording of kernel events; an empty ``path`` is none, ``max_size`` 0 never rotates."""

    path: str = ""
    max_size: int = 64 * MIB
    keep: int = 4


class FileOutput(NamedTuple):
    """The enriched log file; ``max_size`` 0 never rotates, ``keep`` old files beside the current one.
    An empty ``group``, which the file cannot say, leaves the group as it is."""

    enabled: bool = True
    path: str = "/var/log/auditns/audit.log"
    mode: int = 0o640
    group: str = "adm"
    max_size: int = 64 * MIB
    keep: int = 5
    queue: int = 8 * MIB


class SocketOutput(NamedTuple):
    """The unix stream socket that readers connect to; ``queue`` is per reader."""

    enabled: bool = False
    path: str = f"{RUN_DIR}/audit.sock"
    mode: int = 0o660
    group: str = "adm"
    queue: int = 4 * MIB
    readers: int = 16


class ChildOutput(NamedTuple):
    """A plugin of ours that is given the enriched stream on its stdin; ``argv[0]`` is absolute; it has at most
    ``capabilities``."""

    enabled: bool = False
    argv: tuple[str, ...] = ()
    record_names: str = "numeric"
    queue: int = 8 * MIB
    capabilities: tuple[str, ...] = ()


class EventFilter(NamedTuple):
    """Terms of an include or exclude filter; an empty tuple says nothing about its subject."""

    contid: tuple[ContidTerm, ...] = ()
    runtime: tuple[str, ...] = ()
    name: tuple[str, ...] = ()
    record: tuple[str, ...] = ()


class Config(NamedTuple):
    """All options. ``coalesce_ms`` None is adaptive; ``marks`` are (netfilter mark, contid or HOST_NETWORK) pairs.
    ``lifecycle_rate`` and ``lifecycle_total`` are NS_* lines a second of one maker and of all; 0: no limit."""

    record_names: str = "auto"
    placement: str = "event"
    ns: str = "off"
    info: bool = False
    parents: int = 0
    lifecycle: bool = True
    lifecycle_rate: int = 500
    lifecycle_total: int = 5000
    sandbox: tuple[str, ...] = SANDBOX
    coalesce_ms: float | None = None
    control: str = CONTROL
    other_users: bool = False
    journal: Journal = Journal()
    archive: ArchiveOptions = ArchiveOptions()
    metrics: MetricsOptions = MetricsOptions()
    hook: HookOptions = HookOptions()
    rules: tuple[Rule, ...] = ()
    sources: Sources = Sources()
    file: FileOutput = FileOutput()
    socket: SocketOutput = SocketOutput()
    child: ChildOutput = ChildOutput()
    include: EventFilter = EventFilter()
    exclude: EventFilter = EventFilter()
    marks: tuple[tuple[int, int], ...] = ()
    streams: tuple[Definition, ...] = ()
    users: UserOptions = UserOptions()

    @classmethod
    def default(cls) -> "Config":
        """What runs when nothing is configured."""
        return cls()


def load(path: str = DEFAULT_PATH, *, missing_ok: bool = False) -> Config:
    """Read the configuration file ``path``.

    Running as root, a file that somebody else could have written is refused: its child plugin runs as root.
    With ``missing_ok`` a file that does not exist is the default configuration. Raises :class:`ConfigError`.
    """
    try:
        text = read_text(path)
    except FileNotFoundError:
        if missing_ok:
            return Config.default()
        raise ConfigError(f"{path}: there is no such file") from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {reason(error)}") from error
    config = parse(text, path)
    if config.file.enabled:
        from auditns_connector.config.log_file import objection

        if why := objection(config.file.path):
            raise ConfigError(f"{path}: output.file.path: {config.file.path} is not allowed: {why}")
    return config


def parse(text: str, path: str = DEFAULT_PATH) -> Config:
    """Turn TOML ``text`` into options; ``path`` is only named in errors. Raises :class:`ConfigError`."""
    return _config(path, toml(text, path))


def reload(path: str, current: Config) -> tuple[Config, str]:
    """Read ``path`` again; returns (options, complaint): the ``current`` options beside what is wrong, or the
    new ones and an empty string."""
    try:
        return load(path), ""
    except ConfigError as error:
        return current, f"{error}; the former configuration stays in use"


def changed(old: Config, new: Config) -> list[str]:
    """The dotted names of the options that differ, for the message after a reload."""
    names: list[str] = []
    for field in old._fields:
        name, before, after = _DOTTED.get(field, field), getattr(old, field), getattr(new, field)
        if before == after:
            continue
        parts = getattr(before, "_fields", ())
        names += [f"{name}.{part}" for part in parts if getattr(before, part) != getattr(after, part)] or [name]
    return names


def at_next_start(names: list[str]) -> list[str]:
    """Those of ``names`` (see :func:`changed`) that a reload does not take into use."""
    late = ("control", "sandbox", "journal", "sources", "other_users")
    return [name for name in names if name.partition(".")[0] in late]


# --- the schema: key -> how its value is read; the fields of the option classes bear the same names ---

_SWITCH: Final = v.choice("auto", "on", "off")
_NAMES: Final = v.choice("symbolic", "numeric")
_MODE: Final = v.mode(0o660, '"0600", "0640" or "0660"')
_QUEUE: Final = v.size(64 * KIB, GIB)
_ROTATE: Final = v.size(64 * KIB, 1024 * GIB, zero=True)
_SOURCES: Final[Mapping[str, Reader]] = {
    "perf": _SWITCH,
    "connector": _SWITCH,
    "ns_source": v.choice("auto", "nm", "perf", "audit", "procfs"),
    "perf_buffer": v.size(64 * KIB, GIB, power=True),
    "connector_buffer": v.size(64 * KIB, GIB),
    "input_queue": v.input_queue,
}
_JOURNAL: Final[Mapping[str, Reader]] = {"path": v.path_name(empty=True), "max_size": _ROTATE, "keep": v.whole(0, 999)}
_FILE: Final[Mapping[str, Reader]] = {
    "enabled": v.boolean,
    "path": v.path_name(),
    "mode": _MODE,
    "group": v.group,
    "max_size": _ROTATE,
    "keep": v.whole(0, 999),
    "queue": _QUEUE,
}
_SOCKET: Final[Mapping[str, Reader]] = {
    "enabled": v.boolean,
    "path": v.path_name(longest=107),
    "mode": _MODE,
    "group": v.group,
    "queue": _QUEUE,
    "readers": v.whole(1, 1024),
}
_CHILD: Final[Mapping[str, Reader]] = {
    "enabled": v.boolean, "argv": v.argv, "record_names": _NAMES, "queue": _QUEUE, "capabilities": v.capabilities,
}  # fmt: skip
_WORD: Final = v.strings("words", lambda s: s.isprintable() and s != "" and " " not in s)
_FILTER: Final[Mapping[str, Reader]] = {
    "contid": v.contids,
    "runtime": _WORD,
    "name": v.strings("shell patterns", lambda s: s != "" and s.isprintable()),
    "record": v.strings(
        'record types, such as "SYSCALL" or "UNKNOWN[1340]"',
        lambda s: s != "" and s.isascii() and all(c.isupper() or c.isdigit() or c in "_[]" for c in s),
    ),
}
_NS_TYPES: Final = v.strings(f"namespace types ({', '.join(ALL_ORDER)})", lambda s: s in ALL_ORDER)
_TOP: Final[Mapping[str, Reader]] = {
    "record_names": v.choice("auto", "symbolic", "numeric"),
    "placement": v.choice("event", "apart"),
    "ns": v.choice("off", "containers", "all"),
    "info": v.boolean,
    "parents": v.whole(0, MOST_PARENTS),
    "lifecycle": v.boolean,
    "lifecycle_rate": v.whole(0, 1_000_000),
    "lifecycle_total": v.whole(0, 1_000_000),
    "other_users": v.boolean,
    "sandbox": _NS_TYPES,
    "coalesce_ms": v.coalesce,
    "control": v.path_name(longest=107),
}
_TABLES: Final[tuple[str, ...]] = (
    "journal", "archive", "metrics", "hook", "sources", "output", "filter", "netfilter", "stream", "rule",
    "users",
)  # fmt: skip
_DOTTED: Final = {
    "file": "output.file",
    "socket": "output.socket",
    "child": "output.child",
    "include": "filter.include",
    "exclude": "filter.exclude",
    "marks": "netfilter.marks",
    "streams": "stream",
    "rules": "rule",
}


def _config(path: str, data: JsonObject) -> Config:
    tables = {name: data.pop(name) for name in _TABLES if name in data}
    top = _options(path, "", data, _TOP, also=_TABLES)
    journal = tables.get("journal", {})
    if isinstance(journal, str):  # journal = "/path" for short
        journal = {"path": journal}
    output = _subtables(path, "output", tables, ("file", "socket", "child"))
    filters = _subtables(path, "filter", tables, ("include", "exclude"))
    netfilter = _subtables(path, "netfilter", tables, ("marks",))
    config = Config(
        **top,
        journal=Journal(**_options(path, "journal.", journal, _JOURNAL)),
        metrics=MetricsOptions(**_options(path, "metrics.", tables.get("metrics", {}), _METRICS)),
        hook=HookOptions(**_options(path, "hook.", tables.get("hook", {}), _HOOK)),
        archive=ArchiveOptions(**_options(path, "archive.", tables.get("archive", {}), _ARCHIVE)),
        sources=Sources(**_options(path, "sources.", tables.get("sources", {}), _SOURCES)),
        file=FileOutput(**_options(path, "output.file.", output["file"], _FILE)),
        socket=SocketOutput(**_options(path, "output.socket.", output["socket"], _SOCKET)),
        child=ChildOutput(**_options(path, "output.child.", output["child"], _CHILD)),
        include=EventFilter(**_options(path, "filter.include.", filters["include"], _FILTER)),
        exclude=EventFilter(**_options(path, "filter.exclude.", filters["exclude"], _FILTER)),
        marks=_marks(path, netfilter["marks"]),
        streams=_streams(path, tables.get("stream", {})),
        users=UserOptions(**_options(path, "users.", tables.get("users", {}), _USERS)),
        rules=rules.read(path, tables.get("rule", [])),
    )
    _together(path, config)
    return config


def _together(path: str, config: Config) -> None:
    """What single values cannot show."""
    if config.child.enabled and not config.child.argv:
        raise ConfigError(f"{path}: output.child.argv: empty; allowed while enabled: the program and its arguments")
    sources = config.sources
    if sources.perf == "off" and sources.ns_source == "perf":
        raise ConfigError(f'{path}: sources.ns_source: "perf" is not allowed while sources.perf is "off"')
    if sources.connector == "off" and sources.ns_source == "nm":
        raise ConfigError(f'{path}: sources.ns_source: "nm" is not allowed while sources.connector is "off"')
    if config.archive.path and config.file.enabled and config.file.max_size and config.file.keep < 2:
        raise ConfigError(
            f"{path}: output.file.keep: {config.file.keep} is not allowed with archive.path; allowed: from 2 on"
        )
    from auditns_connector.config.log_file import meet

    used = {"control": config.control, "the socket for users": beside(config.control, USER_SOCKET)}
    for name, output_path in (
        ("journal.path", config.journal.path),
        ("archive.path", config.archive.path),
        ("metrics.listen", config.metrics.listen.path if config.metrics.listen else ""),
        ("output.file.path", config.file.path if config.file.enabled else ""),
        ("output.socket.path", config.socket.path if config.socket.enabled else ""),
        *((f"rule {rule.name}", rule.path) for rule in config.rules),
    ):
        if not output_path:
            continue
        for other, taken in used.items():
            if meet(name, output_path, other, taken):
                raise ConfigError(f"{path}: {name}: {output_path} is not allowed, {other} uses it")
        used[name] = output_path


def _subtables(path: str, name: str, tables: JsonObject, keys: tuple[str, ...]) -> JsonObject:
    table = tables.get(name, {})
    if not isinstance(table, dict):
        raise ConfigError(f"{path}: {name}: is not a table; allowed: " + ", ".join(f"[{name}.{key}]" for key in keys))
    for key in table:
        if key not in keys:
            raise _unknown(path, f"{name}.", key, keys)
    return {key: table.get(key, {}) for key in keys}


def _options(
    path: str, where: str, table: Json, schema: Mapping[str, Reader], also: tuple[str, ...] = ()
) -> JsonObject:
    if not isinstance(table, dict):
        raise ConfigError(f"{path}: {where[:-1]}: is not a table; allowed: [{where[:-1]}] with {', '.join(schema)}")
    options = {}
    for key, value in table.items():
        reader = schema.get(key)
        if reader is None:
            raise _unknown(path, where, key, (*schema, *also))
        try:
            options[key] = reader(value)
        except ValueError as error:
            raise ConfigError(f"{path}: {where}{key}: {v.show(value)} is not allowed; allowed: {error}") from None
    return options


def _marks(path: str, table: Json) -> tuple[tuple[int, int], ...]:
    if not isinstance(table, dict):
        raise ConfigError(f'{path}: netfilter.marks: is not a table; allowed: mark = contid or "host" lines')
    marks: dict[int, int] = {}
    for key, value in table.items():
        try:
            mark = v.number(key, 32)
            contid = HOST_NETWORK if value == "host" else v.contid(value)
        except ValueError as error:
            where = f"netfilter.marks.{v.show(key)[1:-1]}"
            raise ConfigError(f"{path}: {where}: {v.show(value)} is not allowed; allowed: {error}") from None
        if mark in marks:
            raise ConfigError(f"{path}: netfilter.marks.{key}: mark {mark} is given twice")
        marks[mark] = contid
    return tuple(sorted(marks.items()))


def _streams(path: str, table: Json) -> tuple[Definition, ...]:
    if not isinstance(table, dict):
        raise ConfigError(f"{path}: stream: is not a table; allowed: [stream.NAME] tables")
    try:
        return tuple(read(name, options) for name, options in table.items())
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None


def _unknown(path: str, where: str, key: str, allowed: tuple[str, ...]) -> ConfigError:
    import difflib

    near = difflib.get_close_matches(key.lower().replace("-", "_"), allowed, n=1, cutoff=0.5)
    hint = f"this is auditns {__version__}, which knows: {', '.join(allowed)}"
    if near:
        hint = f'did you mean "{where}{near[0]}"?'
    return ConfigError(f"{path}: unknown key {v.show(where + key)}; {hint}")
