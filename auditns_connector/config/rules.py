"""``[[rule]]`` of the configuration: what is done with events that match."""

from collections.abc import Mapping
from typing import Final, NamedTuple

from auditns_connector.config import readers as v
from auditns_connector.errors import ConfigError
from auditns_connector.vocabulary.values import Json, JsonObject

#: what a rule may look at; see pipeline/rules.py
FIELDS: Final = (
    "key", "contid", "name", "runtime", "pid", "exe", "comm", "auid", "syscall", "success", "record", "sockaddr",
)  # fmt: skip
#: a bit for each says where an event went, for what comes of it later; one is that of the other outputs
MOST_LOGS: Final = 63
ACTIONS: Final = ("keep", "drop", "log")
_KEYS: Final = ("name", "match", "action", "path")


class Rule(NamedTuple):
    """Events for which all of ``match`` (field -> values, any of which will do, ``!=`` in front for none) are kept,
    dropped, or written to the file ``path`` as well."""

    name: str
    action: str
    match: Mapping[str, tuple[str, ...]]
    path: str = ""


def read(path: str, data: Json) -> tuple[Rule, ...]:
    """The rules of the configuration ``path``; raises :class:`ConfigError`."""
    if not isinstance(data, list):
        raise ConfigError(f"{path}: rule: allowed: tables, [[rule]]")
    rules = tuple(_rule(path, number, one) for number, one in enumerate(data, 1))
    for what, values in (("name", [rule.name for rule in rules]), ("path", [rule.path for rule in rules if rule.path])):
        if len(set(values)) < len(values):
            raise ConfigError(f"{path}: rule.{what}: two rules have the same")
    if sum(rule.action == "log" for rule in rules) > MOST_LOGS:
        raise ConfigError(f"{path}: rule: at most {MOST_LOGS} rules may log")
    return rules


def _rule(path: str, number: int, data: Json) -> Rule:
    where = f"{path}: rule {number}"
    if not isinstance(data, dict):
        raise ConfigError(f"{where}: allowed: a table")
    unknown = [key for key in data if key not in _KEYS]
    if unknown:
        raise ConfigError(f"{where}: {unknown[0]}: no such option; allowed: {', '.join(_KEYS)}")
    name = data.get("name", str(number))
    if not isinstance(name, str) or not name or not name.isprintable() or len(name) > 64:
        raise ConfigError(f"{where}: name: allowed: up to 64 printable characters")
    action = data.get("action")
    if action not in ACTIONS:
        raise ConfigError(f"{where}: action: {action!r} is not allowed; allowed: {', '.join(ACTIONS)}")
    log = data.get("path", "")
    try:
        log = v.path_name(empty=True)(log)
    except ValueError as error:
        raise ConfigError(f"{where}: path: allowed: {error}") from None
    if bool(log) is not (action == "log"):
        raise ConfigError(f'{where}: path: the file that action = "log" writes to, and no other action has one')
    return Rule(name, str(action), _match(where, data.get("match", {})), log)


def _match(where: str, data: Json) -> dict[str, tuple[str, ...]]:
    if not isinstance(data, dict) or not data:
        raise ConfigError(f"{where}: match: allowed: a table with at least one of {', '.join(FIELDS)}")
    found: JsonObject = {}
    for field, values in data.items():
        if field not in FIELDS:
            raise ConfigError(f"{where}: match.{field}: no such field; allowed: {', '.join(FIELDS)}")
        listed = values if isinstance(values, list) else [values]
        words = [str(one) if isinstance(one, int) and not isinstance(one, bool) else one for one in listed]
        words = [{True: "yes", False: "no"}[one] if isinstance(one, bool) else one for one in words]
        if not words or not all(isinstance(one, str) and one.removeprefix("!=") for one in words):
            raise ConfigError(
                f"{where}: match.{field}: allowed: a value or a list of values, with != in front for none"
            )
        found[field] = tuple(words)
    return found
